//! What operators order of edges: heeded by every coordinator, whatever becomes of the edge, and of etcd.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::load::{self, Load};
use sluice_loadtest::{Cluster, wait_until, wait_until_within};

/// Heeded within about a second; a machine that is busy with other tests may take longer.
const SOON: Duration = Duration::from_secs(10);

fn cluster() -> Builder {
    Cluster::start().edges(3).coordinators(2).redis().etcd(1).file("a.bin", 1000)
}

/// Runs a command that is expected to be done.
fn operate(cluster: &Cluster, coordinator: usize, arguments: &[&str]) -> anyhow::Result<String> {
    let (code, said, fault) = cluster.operate(coordinator, arguments)?;
    ensure!(code == Some(0), "{arguments:?}: {code:?} {said}{fault}");
    Ok(said)
}

/// The sentence of a command that is expected to be refused with a code.
fn refused(cluster: &Cluster, arguments: &[&str], expected: i32) -> anyhow::Result<String> {
    let (code, said, fault) = cluster.operate(0, arguments)?;
    ensure!(code == Some(expected) && said.is_empty(), "{arguments:?}: {code:?} {said}{fault}");
    Ok(fault)
}

/// What a coordinator says of an edge.
fn edge(cluster: &Cluster, coordinator: usize, id: &str) -> anyhow::Result<Value> {
    let json = cluster.admin_at(coordinator, "GET", "/admin/v1/edges", "")?.json()?;
    let edges = json["edges"].as_array().context("a list")?;
    edges.iter().find(|edge| edge["id"] == id).cloned().with_context(|| format!("{id} in {json}"))
}

fn wait_for_share(cluster: &Cluster, id: &str, is_wanted: impl Fn(f64) -> bool) -> anyhow::Result<()> {
    for coordinator in [0, 1] {
        wait_until_within(SOON, &format!("coordinator {coordinator} gives {id} its share"), || {
            Ok(is_wanted(edge(cluster, coordinator, id)?["share"].as_f64().context("a share")?))
        })?;
    }
    Ok(())
}

#[test]
fn a_drained_edge_gets_nobody_until_it_is_undrained_however_often_it_starts() -> anyhow::Result<()> {
    let cluster = load::files(14).fold(cluster(), |cluster, (name, size)| cluster.file(&name, size));
    let mut cluster = cluster.ready()?;
    let load = Load::start(&cluster, 4);
    load.wait_for_redirect_to(1)?;
    let said = operate(&cluster, 0, &["edges", "drain", "edge-2"])?;
    ensure!(said.contains("nobody is sent to edge 'edge-2'"), "{said}");
    wait_for_share(&cluster, "edge-2", |share| share == 0.0)?;
    let begun = Instant::now();
    load.wait_for(60)?;
    ensure!(load.redirects_since(begun).iter().all(|redirect| redirect.edge != 1));
    // It is well, serves who has a token, and does not know of it.
    ensure!(cluster.edges()[1].readiness()?.status() == 200);
    for coordinator in [0, 1] {
        let table = operate(&cluster, coordinator, &["edges", "list"])?;
        let row = table.lines().find(|line| line.starts_with("edge-2")).context("a row")?;
        let cells: Vec<&str> = row.split_whitespace().collect();
        ensure!(cells[1] == "up" && cells[2] == "drain" && cells[6] == "0.0%", "{table}");
        let drained = cluster.coordinators()[coordinator].metric("sluice_edge_orders{order=\"drain\"}")?;
        ensure!(drained == 1.0);
    }
    let explained = operate(&cluster, 1, &["explain", "a.bin", "--client", "127.0.0.1"])?;
    ensure!(explained.contains("2 of its 3 edges get requests"), "{explained}");
    cluster.restart(1)?;
    wait_until("it is up again", || Ok(edge(&cluster, 0, "edge-2").is_ok_and(|edge| edge["state"] == "up")))?;
    let begun = Instant::now();
    load.wait_for(60)?;
    ensure!(load.redirects_since(begun).iter().all(|redirect| redirect.edge != 1), "after its restart");
    operate(&cluster, 1, &["edges", "undrain", "edge-2"])?;
    wait_for_share(&cluster, "edge-2", |share| share > 0.1)?;
    load.wait_for_redirect_to(1)?;
    load.finish().map(drop)
}

#[test]
fn a_weight_is_an_edge_s_share_until_its_own_is_wanted_again() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    operate(&cluster, 1, &["edges", "weight", "edge-1", "10"])?;
    wait_for_share(&cluster, "edge-1", |share| share < 0.15)?;
    let told = edge(&cluster, 0, "edge-1")?;
    ensure!(told["weight"] == 10 && told["own_weight"] == 100 && told["order"]["weight"] == 10, "{told}");
    ensure!(told["order"]["by"].is_string() && told["order"]["drain"] == false, "{told}");
    // Each order is changed by itself.
    operate(&cluster, 0, &["edges", "drain", "edge-1"])?;
    operate(&cluster, 1, &["edges", "undrain", "edge-1"])?;
    ensure!(edge(&cluster, 1, "edge-1")?["order"]["weight"] == 10);
    for (weight, told) in [("0", "edges drain"), ("-1", "edges drain"), ("10001", "from 1 to 10000")] {
        let said = refused(&cluster, &["edges", "weight", "edge-1", weight], 2)?;
        ensure!(said.contains(told), "{said}");
        let body = format!("{{\"weight\":{weight}}}");
        let answer = cluster.admin_at(0, "POST", "/admin/v1/edges/edge-1/weight", &body)?;
        ensure!(answer.status() == 400 && answer.text().contains("drain the edge"), "{}", answer.text());
    }
    ensure!(refused(&cluster, &["edges", "drain", "edge-9"], 1)?.contains("there is no edge 'edge-9'"));
    // An etcd that comes back empty gets the order back, and the edge keeps its weight.
    cluster.etcd().kill_all()?;
    cluster.etcd().wipe()?;
    cluster.etcd().member(0).start()?;
    wait_until("the order is back", || {
        Ok(cluster
            .etcd()
            .member(0)
            .value("orders/edge-1")?
            .is_some_and(|order| order.contains("\"weight\":10")))
    })?;
    cluster.wait_until_up(&[0, 1, 2])?;
    ensure!(edge(&cluster, 0, "edge-1")?["weight"] == 10);
    operate(&cluster, 0, &["edges", "weight", "edge-1", "own"])?;
    wait_for_share(&cluster, "edge-1", |share| share > 0.2)?;
    ensure!(edge(&cluster, 1, "edge-1")?["order"].is_null());
    Ok(())
}

#[test]
fn orders_that_are_none_are_named_and_change_nothing() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    operate(&cluster, 0, &["edges", "drain", "edge-1"])?;
    wait_for_share(&cluster, "edge-1", |share| share == 0.0)?;
    let order = cluster.etcd().member(0).value("orders/edge-1")?.context("an order")?;
    let of = |id: &str, weight: &str| {
        order.replace("edge-1", id).replace("\"drain\":true", &format!("\"weight\":{weight}"))
    };
    let hostile = [
        ("orders/edge-1", "\u{1b}[2J".to_owned()),
        ("orders/edge-2", of("edge-2", "0")),
        ("orders/edge-3", of("edge-3", "-1")),
        ("orders/twin", order.clone()),
        ("orders/later", of("later", "5").replace("\"format\":1", "\"format\":7")),
        ("orders/huge", "x".repeat(1_000_000)),
    ];
    for (key, value) in &hostile {
        cluster.etcd().member(0).put(key, value)?;
    }
    for coordinator in [0, 1] {
        wait_until("all are named", || {
            let json = cluster.admin_at(coordinator, "GET", "/admin/v1/edges", "")?.json()?;
            Ok(json["skipped"].as_array().map_or(0, Vec::len) == hostile.len())
        })?;
        ensure!(edge(&cluster, coordinator, "edge-1")?["share"] == 0.0, "the order before stands");
        ensure!(edge(&cluster, coordinator, "edge-2")?["weight"] == 100);
    }
    let (_, _, named) = cluster.operate(1, &["edges", "list"])?;
    for expected in ["weight of 0", "weight of -1", "edges drain", "about 'edge-1'", "format 7", "too large"]
    {
        ensure!(named.contains(expected), "no {expected:?} in {named}");
    }
    ensure!(!named.contains('\u{1b}'), "{named:?}");
    // A new order mends what was written by hand.
    operate(&cluster, 0, &["edges", "weight", "edge-2", "50"])?;
    wait_until("it is heeded", || Ok(edge(&cluster, 1, "edge-2")?["weight"] == 50))?;
    operate(&cluster, 0, &["edges", "undrain", "edge-1"])?;
    wait_for_share(&cluster, "edge-1", |share| share > 0.0)
}

#[test]
fn orders_are_audited_and_seen_where_their_edge_is_gone() -> anyhow::Result<()> {
    let cluster = cluster().coordinator(|coordinator| coordinator.toml("log.audit_file = \"audit.jsonl\""));
    let mut cluster = cluster.ready()?;
    operate(&cluster, 0, &["edges", "weight", "edge-3", "7"])?;
    operate(&cluster, 0, &["edges", "drain", "edge-3"])?;
    refused(&cluster, &["edges", "drain", "edge-9"], 1)?;
    let lines = std::fs::read_to_string(cluster.folder().join("audit.jsonl"))?;
    let noted: Vec<String> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).map(|line| format!("{} {}", line["action"], line["subject"]))
        })
        .collect::<Result<_, _>>()?;
    let expected = ["\"edges.weight\" \"edge-3 7\"", "\"edges.drain\" \"edge-3\""];
    ensure!(noted == [expected[0], expected[0], expected[1], expected[1]], "{lines}");
    cluster.terminate(2)?;
    wait_until_within(SOON, "the edge is off the list", || Ok(cluster.edge_statuses()?.len() == 2))?;
    let (_, _, told) = cluster.operate(0, &["edges", "list"])?;
    ensure!(told.contains("edge 'edge-3' is not there, and ordered is: drain,weight=7"), "{told}");
    operate(&cluster, 0, &["edges", "undrain", "edge-3"])?;
    Ok(())
}

#[test]
fn where_edges_are_in_the_configuration_orders_need_etcd() -> anyhow::Result<()> {
    let cluster = Cluster::start().edges(1).ready()?;
    for arguments in [&["edges", "drain", "edge-1"][..], &["edges", "weight", "edge-1", "5"]] {
        let said = refused(&cluster, arguments, 1)?;
        ensure!(said.contains("kept in etcd") && said.contains("registry.edges"), "{said}");
    }
    operate(&cluster, 0, &["edges", "list"])?;
    Ok(())
}
