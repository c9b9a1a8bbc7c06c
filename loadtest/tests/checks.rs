//! `sluicectl check` of a cluster that runs, with etcd and Redis: nothing fails; and what operators get wrong there does.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_loadtest::Cluster;
use sluice_shared::private_file;

const OTHER_KEY: &str = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=";

/// The findings about the configuration `name`, each as `LEVEL WHAT: FOUND`.
fn check(cluster: &Cluster, name: &str) -> anyhow::Result<Vec<String>> {
    let path = cluster.folder().join(name).display().to_string();
    let (_, json, told) = cluster.operate(0, &["check", "--config", &path, "--output", "json"])?;
    let json: Value = serde_json::from_str(&json).with_context(|| format!("{json}{told}"))?;
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let line = |finding: &Value| {
        format!("{} {}: {}", text(finding, "level"), text(finding, "what"), text(finding, "found"))
    };
    Ok(json["findings"].as_array().context("a list")?.iter().map(line).collect())
}

/// Writes a configuration beside another, with some of it changed.
fn changed(cluster: &Cluster, name: &str, new: &str, from: &str, to: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(cluster.folder().join(name))?;
    ensure!(text.contains(from), "no {from} in {text}");
    fs::write(cluster.folder().join(new), text.replace(from, to))?;
    Ok(())
}

#[test]
fn a_cluster_that_runs_is_found_well_and_what_is_wrong_with_it_is_found() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(2)
        .etcd(1)
        .keys_in_etcd("propagation = \"1s\"")
        .redis()
        .file("a.bin", 1000)
        .ready()?;
    for name in ["coordinator-1.toml", "edge-1.toml"] {
        let found = check(&cluster, name)?;
        ensure!(found.iter().all(|line| !line.starts_with("fail")), "{name}: {found:#?}");
        for expected in ["ok etcd: ", "ok token keys: ", "ok clock: ", "warn listen: "] {
            ensure!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
        }
    }
    let found = check(&cluster, "coordinator-1.toml")?;
    let edges = found.iter().filter(|line| line.starts_with("ok edge: ")).count();
    ensure!(edges == 2 && found.contains(&"ok Redis: answers".to_owned()), "{found:#?}");
    let found = check(&cluster, "edge-1.toml")?;
    ensure!(found.iter().any(|line| line.starts_with("ok root: ")), "{found:#?}");

    // Another cluster's key.
    private_file::write_new(&cluster.folder().join("other.key"), OTHER_KEY)?;
    changed(&cluster, "edge-1.toml", "wrong.toml", "cluster.key", "other.key")?;
    let found = check(&cluster, "wrong.toml")?;
    let expected = "fail token keys: no key in etcd opens with etcd.cluster_key";
    ensure!(found.iter().any(|line| line == expected), "{found:#?}");
    // An edge that has gone, and stores that have.
    cluster.edge(1).process().kill()?;
    let found = check(&cluster, "coordinator-1.toml")?;
    ensure!(found.iter().any(|line| line.starts_with("fail edge: ")), "{found:#?}");
    cluster.etcd().kill_all()?;
    cluster.redis().kill()?;
    let found = check(&cluster, "coordinator-1.toml")?;
    for expected in ["fail etcd: ", "fail Redis: "] {
        ensure!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
    let (code, screen, told) = cluster.operate(0, &["status"])?;
    ensure!(code == Some(0) && screen.contains("etcd         AWAY"), "{screen}{told}");
    Ok(())
}
