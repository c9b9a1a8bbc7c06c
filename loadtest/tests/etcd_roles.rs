//! The roles that are shipped, in an etcd that lets nobody in without a password: everything works under them, and an edge
//! that is broken into tells and changes no more than it has to.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::cluster::{Builder, PREFIX, token_of};
use sluice_loadtest::{Cluster, client, wait_until, wait_until_within};

const SOON: Duration = Duration::from_secs(10);

fn cluster() -> Builder {
    Cluster::start()
        .edges(2)
        .coordinators(2)
        .redis()
        .etcd(1)
        .etcd_locked()
        .keys_in_etcd("rotate_every = \"3s\"\npropagation = \"1s\"")
        .file("a.bin", 1000)
}

/// Whether a user may read, write or remove a key; or all keys under it, where it ends with a slash.
fn may(cluster: &mut Cluster, user: &str, act: &str, key: &str) -> anyhow::Result<bool> {
    let path = format!("{PREFIX}{key}");
    let more: &[&str] = match act {
        "get" if path.ends_with('/') => &["--prefix", "--keys-only"],
        "put" => &["{}"],
        _ => &[],
    };
    let command: Vec<&str> = [act, &path].into_iter().chain(more.iter().copied()).collect();
    cluster.etcd().member(0).may(user, &command)
}

#[test]
fn an_edge_s_user_reads_and_writes_nothing_but_what_an_edge_needs() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    for place in ["keys/", "revoked/", "blocked/", "edges/edge-1"] {
        ensure!(may(&mut cluster, "edge-1", "get", place)?, "{place} is to be read");
    }
    let secret =
        ["clients/", "clients/AK1", "ticket-keys/", "orders/", "coordinators/", "election/", "edges/", ""];
    for place in secret {
        ensure!(!may(&mut cluster, "edge-1", "get", place)?, "{place} is not to be read");
    }
    let foreign = [
        "edges/edge-2",
        "edges/edge-10",
        "keys/x",
        "revoked/x",
        "blocked/x",
        "clients/x",
        "orders/edge-1",
        "x",
    ];
    for (act, place) in foreign.iter().flat_map(|place| [("put", place), ("del", place)]) {
        ensure!(!may(&mut cluster, "edge-1", act, place)?, "{act} {place}");
    }
    // A coordinator says nothing in an edge's name, and nobody but root makes users.
    for place in ["edges/edge-1", "x"] {
        ensure!(!may(&mut cluster, "coordinator", "put", place)?, "{place}");
    }
    for user in ["edge-1", "coordinator"] {
        ensure!(!cluster.etcd().member(0).may(user, &["user", "list"])?, "{user}");
    }
    Ok(())
}

#[test]
fn coordinators_and_edges_do_all_that_they_do_under_the_shipped_roles() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    let kid = |cluster: &Cluster| -> anyhow::Result<String> {
        let keys = cluster.admin("GET", "/admin/v1/keys")?.json()?;
        let current = keys["keys"].as_array().context("keys")?.iter().find(|key| key["state"] == "current");
        Ok(current.context("a current key")?["kid"].to_string())
    };
    let first = kid(&cluster)?;
    wait_until("keys are exchanged", || Ok(kid(&cluster)? != first))?;
    let offer = cluster.request_download("a.bin")?;
    ensure!(client::get_here(&offer.download_url)?.status() == 200);
    // Revocations and blocks reach edges.
    let new = json!({ "what": "user", "value": "tester" }).to_string();
    ensure!(cluster.admin_at(1, "POST", "/admin/v1/revocations", &new)?.status() == 201);
    let token = token_of(&offer.download_url)?.to_owned();
    for edge in cluster.edges() {
        let url = format!("{}/download?token={token}", edge.url());
        wait_until_within(SOON, "the edge refuses it", || Ok(client::get_here(&url)?.status() == 403))?;
    }
    // Clients and orders are changed, and known to the other.
    let new = json!({ "access_key": "AK1", "scheme": "signature", "prefixes": [] }).to_string();
    ensure!(cluster.admin_at(0, "POST", "/admin/v1/clients", &new)?.status() == 201);
    ensure!(cluster.admin_at(0, "POST", "/admin/v1/edges/edge-1/drain", "")?.status() == 204);
    wait_until_within(SOON, "the other knows both", || {
        let clients = cluster.admin_at(1, "GET", "/admin/v1/clients", "")?.json()?;
        let edges = cluster.admin_at(1, "GET", "/admin/v1/edges", "")?.json()?;
        let order = edges["edges"][0]["order"]["drain"] == true;
        Ok(clients["clients"][0]["access_key"] == "AK1" && order)
    })?;
    // An edge takes its record back, and puts it there again.
    cluster.terminate(1)?;
    ensure!(cluster.etcd().member(0).value("edges/edge-2")?.is_none());
    cluster.restart(1)?;
    wait_until("its record is there", || Ok(cluster.etcd().member(0).value("edges/edge-2")?.is_some()))?;
    // A coordinator that was killed comes back, and so does its record.
    cluster.coordinator().process().kill()?;
    cluster.coordinator().restart()?;
    let record = |cluster: &mut Cluster| cluster.etcd().member(0).value("coordinators/coordinator-1");
    wait_until("its record is there", || Ok(record(&mut cluster)?.is_some()))?;
    for (name, log) in cluster.logs()? {
        ensure!(!log.contains("permission denied") && !log.contains("shipped roles"), "{name}: {log}");
        ensure!(!log.contains("-s-password"), "{name} logs a password");
    }
    Ok(())
}

#[test]
fn who_has_another_s_password_is_told_what_to_do() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    cluster.terminate(0)?;
    let config = cluster.folder().join("edge-1.toml");
    let text = std::fs::read_to_string(&config)?;
    let stranger = text.replace("user = \"edge-1\"", "user = \"edge-2\"");
    ensure!(stranger != text, "{text}");
    std::fs::write(&config, stranger.replace("edge-1-s-password", "edge-2-s-password"))?;
    cluster.edge(0).process().start()?;
    wait_until("the edge says what is wrong", || {
        Ok(cluster.edges()[0].log()?.contains("grant its role what the shipped roles have"))
    })?;
    let told: Value = cluster.edges()[0].readiness()?.json()?;
    ensure!(told["notes"].to_string().contains("not in etcd"), "{told}");
    Ok(())
}
