//! A Prometheus with the configuration that is shipped, beside a cluster: it scrapes everybody under the jobs that the
//! rules expect, takes every rule, and has an alert fire.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_loadtest::client;
use sluice_loadtest::ports::Port;
use sluice_loadtest::process::Process;
use sluice_loadtest::{Cluster, wait_until};

use crate::stage::{rules_path, usual};

/// A Prometheus, its data in a folder that goes when it does.
struct Prometheus {
    process: Process,
    port: Port,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes, in place of the targets of the shipped configuration, a cluster's programs.
    fn start(cluster: &mut Cluster) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let shipped = rules_path();
        let shipped = shipped.parent().context("rules are in a folder")?;
        fs::copy(rules_path(), folder.path().join("sluice.rules.yml"))?;
        let plain = |url: String| format!("{:?}", url.trim_start_matches("http://"));
        let all = |urls: Vec<String>| urls.into_iter().map(plain).collect::<Vec<_>>().join(",");
        let coordinators = all(cluster.coordinators().iter().map(|member| member.admin_url()).collect());
        let edges = all(cluster.edges().iter().map(|member| member.admin_url()).collect());
        let etcd = all(cluster.etcd().endpoints());
        let mut text = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n".to_owned();
        text += &fs::read_to_string(shipped.join("prometheus.yml"))?;
        for (shown, ours) in
            [("127.0.0.1:8081", coordinators), ("127.0.0.1:9101", edges), ("127.0.0.1:2379", etcd)]
        {
            let shown = format!("[{shown:?}]");
            ensure!(text.contains(&shown), "no target {shown}: {text}");
            text = text.replace(&shown, &format!("[{ours}]"));
        }
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, text)?;
        let port = Port::take()?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={}", port.address()),
        ];
        let arguments = arguments.into_iter().map(Into::into).collect();
        let log = folder.path().join("prometheus.log");
        let mut process = Process::with_arguments("prometheus", "prometheus".into(), arguments, log);
        process.start().context("deploy/needs.sh test installs prometheus")?;
        let mut prometheus = Self { process, port, _folder: folder };
        let url = format!("{}/-/ready", prometheus.port.url());
        wait_until("Prometheus is ready", || {
            ensure!(prometheus.process.is_running()?, "{}", prometheus.process.log_tail());
            Ok(client::get_here(&url).is_ok_and(|answer| answer.status() == 200))
        })?;
        Ok(prometheus)
    }

    /// What it answers to a question of its API.
    fn ask(&self, question: &str) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/{question}", self.port.url());
        // Not our client: long answers come in chunks.
        let told = sluice_loadtest::tool::run("curl", &["-fsS", &url])?;
        Ok(serde_json::from_str::<Value>(&told)?["data"].take())
    }

    /// Alerts and their states.
    fn alerts(&self) -> anyhow::Result<Vec<(String, String)>> {
        let alerts = self.ask("alerts")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = alerts["alerts"].as_array().context("a list")?;
        Ok(alerts.iter().map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["state"]))).collect())
    }
}

#[test]
fn a_prometheus_with_what_is_shipped_scrapes_everybody_and_has_an_alert_fire() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(3).etcd(1).keys_in_etcd("").file("a.bin", 200_000).ready()?;
    let prometheus = Prometheus::start(&mut cluster)?;
    wait_until("every target is scraped", || {
        let targets = prometheus.ask("targets")?;
        let targets = targets["activeTargets"].as_array().context("a list")?;
        Ok(targets.len() == 5 && targets.iter().all(|target| target["health"] == "up"))
    })?;
    wait_until("every rule was evaluated, and none failed", || {
        let rules = prometheus.ask("rules")?;
        let groups = rules["groups"].as_array().context("a list")?;
        let rules: Vec<&Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        ensure!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        let known = fs::read_to_string(rules_path())?.matches("- alert:").count();
        Ok(rules.len() == known && rules.iter().all(|rule| rule["health"] == "ok"))
    })?;
    usual(&cluster)?;
    ensure!(prometheus.alerts()?.is_empty(), "{:?}", prometheus.alerts()?);
    // The one alert that waits for nothing, and one that does.
    for edge in cluster.edges() {
        (0..5).try_for_each(|_| client::get_here(&format!("{}/download", edge.url())).map(drop))?;
    }
    let connections = "query?query=min(sluice_edge_connections_total)";
    wait_until("the connections were seen", || {
        Ok(prometheus.ask(connections)?["result"][0]["value"][1].as_str().is_some_and(|value| value != "0"))
    })?;
    for edge in [0, 1] {
        cluster.kill(edge)?;
        cluster.restart(edge)?;
    }
    cluster.kill(2)?;
    let has = |alert: &str, state: &str| -> anyhow::Result<bool> {
        Ok(prometheus.alerts()?.contains(&(alert.to_owned(), state.to_owned())))
    };
    wait_until("the restarts are told at once", || has("SluiceEdgesRestartTogether", "firing"))?;
    wait_until("the edge that is down is waited for", || has("SluiceEdgeDown", "pending"))?;
    Ok(())
}
