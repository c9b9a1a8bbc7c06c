//! An edge whose public URL leads nowhere, or elsewhere: coordinators find it out by themselves, say so with what to do,
//! and go on sending clients there, for their network is not the clients'.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Cluster, client, wait_until_within};

/// Until a wrong URL is named, on a machine that is as busy as tests make it; 3 s were seen, and 10 are promised.
const NAMED_WITHIN: Duration = Duration::from_secs(30);
const MENDED_WITHIN: Duration = Duration::from_secs(60);

/// Starts the first edge again with this URL for clients.
fn advertise(cluster: &mut Cluster, url: &str) -> anyhow::Result<()> {
    let config = cluster.folder().join("edge-1.toml");
    let text = fs::read_to_string(&config)?;
    let lines = text.lines().map(|line| {
        if line.starts_with("advertise_url = ") {
            format!("advertise_url = {url:?}")
        } else {
            line.to_owned()
        }
    });
    fs::write(&config, lines.collect::<Vec<_>>().join("\n"))?;
    cluster.restart(0)
}

/// How the first coordinator sees the first edge.
fn seen(cluster: &Cluster) -> anyhow::Result<Value> {
    let told = cluster.admin("GET", "/admin/v1/edges")?.json()?;
    let edges = told["edges"].as_array().context("a list of edges")?;
    let found = edges.iter().find(|edge| edge["id"] == "edge-1").cloned();
    Ok(found.unwrap_or_default())
}

fn until_fault(cluster: &Cluster, fault: &str) -> anyhow::Result<Value> {
    wait_until_within(NAMED_WITHIN, &format!("the fault {fault} is named"), || {
        Ok(seen(cluster)?["url_fault"]["fault"] == fault)
    })?;
    seen(cluster)
}

#[test]
fn a_url_that_clients_cannot_use_is_named_with_what_to_do_and_takes_no_edge_out() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).etcd(1).file("a.bin", 1000).ready()?;
    let right = cluster.edges()[0].url();
    let nobody = Port::take()?;
    let wrong = [
        (nobody.url(), "refused"),
        (cluster.coordinators()[0].url(), "not-an-edge"),
        (cluster.edges()[1].url(), "another-edge"),
    ];
    for (url, fault) in &wrong {
        advertise(&mut cluster, url)?;
        let edge = until_fault(&cluster, fault)?;
        ensure!(edge["url"] == **url, "{edge}");
        let remedy = edge["url_fault"]["remedy"].as_str().context("a remedy")?;
        // In the log once, by name; in what operators look at; and counted.
        let log = cluster.coordinators()[0].log()?;
        let lines = log.lines().filter(|line| line.contains("not reached where clients are sent"));
        let named: Vec<&str> =
            lines.filter(|line| line.contains(&format!("\"fault\":\"{fault}\""))).collect();
        ensure!(named.len() == 1 && named[0].contains("edge-1") && named[0].contains(remedy), "{named:?}");
        let status = cluster.admin("GET", "/admin/v1/status")?.json()?;
        let findings = status["findings"].as_array().context("findings")?;
        ensure!(findings.iter().any(|finding| finding["remedy"] == *remedy), "{status}");
        let metric = format!("sluice_edge_url_faults{{fault=\"{fault}\"}}");
        ensure!(cluster.coordinators()[0].metric(&metric)? == 1.0, "{metric}");
        for command in ["status", "edges list"] {
            let words: Vec<&str> = command.split(' ').collect();
            let (code, out, err) = cluster.operate(0, &words)?;
            ensure!(code == Some(0) && format!("{out}{err}").contains(remedy), "{command}: {out}{err}");
        }
        // Its health decides, and nothing else.
        ensure!(edge["state"] == "up" && edge["share"].as_f64() > Some(0.0), "{edge}");
        let ready = cluster.coordinators()[0].readiness()?;
        ensure!(ready.status() == 200, "{}", ready.text());
    }
    advertise(&mut cluster, &right)?;
    wait_until_within(MENDED_WITHIN, "the right URL is no fault", || {
        let edge = seen(&cluster)?;
        Ok(edge["url"] == *right && edge["state"] == "up" && edge["url_fault"].is_null())
    })?;
    let answer = client::get(&cluster.download_url("a.bin"))?;
    ensure!(answer.status() == 200, "{}", answer.text());
    Ok(())
}

/// With a static list it is the coordinator's configuration that is wrong.
#[test]
fn a_wrong_url_in_a_static_list_is_named() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).file("a.bin", 1000).ready()?;
    let config = cluster.folder().join("coordinator-1.toml");
    let (right, text) = (cluster.edges()[0].url(), fs::read_to_string(&config)?);
    let listed = |url: &str| text.replace(&format!("\nurl = {right:?}"), &format!("\nurl = {url:?}"));
    let wrong = [
        (right.replace("127.0.0.1", "no-such-host.invalid"), "name"),
        (right.replace("http://", "https://"), "not-tls"),
    ];
    for (url, fault) in wrong {
        fs::write(&config, listed(&url))?;
        cluster.coordinator().restart()?;
        let edge = until_fault(&cluster, fault)?;
        ensure!(edge["url"] == *url && edge["state"] == "up", "{edge}");
    }
    Ok(())
}
