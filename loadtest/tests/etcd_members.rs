//! Edges that name themselves in etcd: found, forgotten, and served on with whatever becomes of etcd.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_loadtest::ports::Port;
use sluice_loadtest::process::{Process, Signal, binary};
use sluice_loadtest::{Cluster, client, wait_until, wait_until_within};

fn value_in_etcd(cluster: &mut Cluster, key: &str) -> anyhow::Result<Option<String>> {
    cluster.etcd().member(0).value(key)
}

fn put_in_etcd(cluster: &mut Cluster, key: &str, value: &str) -> anyhow::Result<()> {
    cluster.etcd().member(0).put(key, value)
}

fn download(cluster: &Cluster) -> anyhow::Result<()> {
    let answer = client::get(&cluster.download_url("a.bin"))?;
    ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text());
    cluster.content("a.bin").check_whole(&answer.body)?;
    Ok(())
}

fn etcd_up(cluster: &Cluster) -> anyhow::Result<f64> {
    cluster.coordinators()[0].metric("sluice_etcd_up")
}

#[test]
fn edges_name_themselves_and_are_forgotten_when_they_leave_or_die() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(3).etcd(1).file("a.bin", 100_000).ready()?;
    download(&cluster)?;
    ensure!(etcd_up(&cluster)? == 1.0);
    ensure!(cluster.coordinators()[0].metric("sluice_registry_stale_seconds")? < 30.0);
    // Terminated: its record is taken back as draining begins.
    let status = cluster.terminate(0)?;
    ensure!(status.success(), "{status}");
    ensure!(value_in_etcd(&mut cluster, "edges/edge-1")?.is_none());
    // At once: far sooner than one that was only lost.
    let limit = Duration::from_secs(10);
    wait_until_within(limit, "the coordinator lists two edges", || Ok(cluster.edge_statuses()?.len() == 2))?;
    // Killed: its health tells before its record does, and no client is sent there.
    let offer = cluster.request_download("a.bin")?;
    let victim = cluster.edge_index(&offer.edge)?;
    let survivor = 3 - victim;
    cluster.kill(victim)?;
    cluster.wait_until_up(&[survivor])?;
    ensure!(cluster.request_download("a.bin")?.edge == cluster.edges()[survivor].id());
    download(&cluster)?;
    let key = format!("edges/{}", offer.edge);
    wait_until("its record ends with its lease", || Ok(value_in_etcd(&mut cluster, &key)?.is_none()))?;
    // One that comes back is found by itself.
    cluster.restart(victim)?;
    cluster.restart(0)?;
    cluster.wait_until_up(&[0, 1, 2])
}

/// A coordinator that lists anew just as an edge leaves finds its last word in the list.
#[test]
fn the_farewell_of_an_edge_stands_for_a_while() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).etcd(1).ready()?;
    let begun = Instant::now();
    cluster.edge(0).process().signal(Signal::TERM)?;
    wait_until("the coordinator takes it off its list", || Ok(cluster.edge_statuses()?.len() == 1))?;
    let mut last = None;
    wait_until("its record is taken back", || {
        let record = value_in_etcd(&mut cluster, "edges/edge-1")?;
        let is_gone = record.is_none();
        last = record.or(last.take());
        Ok(is_gone)
    })?;
    let stood = begun.elapsed();
    ensure!(stood > Duration::from_millis(1900), "it stood for {stood:?}");
    ensure!(last.is_none_or(|last| last.contains("\"draining\"")), "the edge left with another word");
    Ok(())
}

#[test]
fn downloads_go_on_without_etcd_and_members_come_back_to_an_empty_one() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).etcd(1).file("a.bin", 100_000).ready()?;
    cluster.etcd().kill_all()?;
    wait_until("the coordinator notices", || Ok(etcd_up(&cluster)? == 0.0))?;
    download(&cluster)?;
    let answer = cluster.coordinators()[0].readiness()?;
    ensure!(answer.status() == 200 && answer.text().contains("etcd is away"), "{}", answer.text());
    wait_until("the list is older than a record lives", || {
        download(&cluster)?;
        Ok(cluster.coordinators()[0].metric("sluice_registry_stale_seconds")? > 16.0)
    })?;
    ensure!(cluster.edge_statuses()?.iter().all(|edge| edge.is_settled(true)));
    cluster.etcd().wipe()?;
    cluster.etcd().member(0).start()?;
    wait_until("both edges have put their records back", || {
        // With no moment in which nobody would be served.
        download(&cluster)?;
        Ok(value_in_etcd(&mut cluster, "edges/edge-1")?.is_some()
            && value_in_etcd(&mut cluster, "edges/edge-2")?.is_some()
            && etcd_up(&cluster)? == 1.0)
    })?;
    cluster.wait_until_up(&[0, 1])
}

#[test]
fn an_edge_s_record_says_how_loaded_it_is() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(1)
        .etcd(1)
        .every_edge(|settings| settings.toml("capacity = \"1GB\"\nweight = 70"))
        // More than the sockets of a connection hold: unread, it stays under way.
        .file("a.bin", 64 << 20)
        .ready()?;
    let offer = cluster.request_download("a.bin")?;
    let record = |cluster: &mut Cluster| -> anyhow::Result<serde_json::Value> {
        let value = value_in_etcd(cluster, "edges/edge-1")?.context("the edge's record")?;
        Ok(serde_json::from_str(&value)?)
    };
    let idle = record(&mut cluster)?;
    ensure!(idle["load"]["transfers"] == 0 && idle["capacity"] == 1_000_000_000u64, "{idle}");
    ensure!(idle["weight"] == 70 && idle["zone"] == "a" && idle["state"] == "serving", "{idle}");
    let (_head, connection) = client::Request::new("GET", &offer.download_url).open()?;
    wait_until("the record tells of the transfer", || Ok(record(&mut cluster)?["load"]["transfers"] == 1))?;
    drop(connection);
    wait_until("the record tells of its end", || Ok(record(&mut cluster)?["load"]["transfers"] == 0))
}

#[test]
fn one_member_of_three_may_die_or_freeze() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).etcd(3).file("a.bin", 100_000).ready()?;
    cluster.etcd().member(0).kill()?;
    cluster.restart(0)?;
    cluster.wait_until_up(&[0, 1])?;
    cluster.etcd().member(0).start()?;
    cluster.etcd().member(1).freeze()?;
    cluster.terminate(0)?;
    // Whoever is at the frozen member goes to another: to take a record back, and to hear of it.
    let limit = Duration::from_secs(10);
    wait_until_within(limit, "the edge that left has taken its record back", || {
        Ok(value_in_etcd(&mut cluster, "edges/edge-1")?.is_none())
    })?;
    cluster.wait_until_up(&[1])?;
    wait_until("the coordinator follows another member", || Ok(etcd_up(&cluster)? == 1.0))?;
    cluster.etcd().member(1).thaw()?;
    download(&cluster)
}

#[test]
fn hostile_records_are_named_and_take_nobody_down() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(1).etcd(1).file("a.bin", 100_000).ready()?;
    let good = value_in_etcd(&mut cluster, "edges/edge-1")?.context("the edge's record")?;
    let as_edge = |id: &str| good.replace("\"edge-1\"", &format!("{id:?}"));
    put_in_etcd(
        &mut cluster,
        "edges/evil",
        &as_edge("evil").replace("http://127.0.0.1", "http://evil.example"),
    )?;
    put_in_etcd(&mut cluster, "edges/twin", &good)?;
    put_in_etcd(&mut cluster, "edges/zero", &as_edge("zero").replace("\"weight\":100", "\"weight\":0"))?;
    put_in_etcd(&mut cluster, "edges/huge", &"x".repeat(1_000_000))?;
    put_in_etcd(&mut cluster, "edges/later", &as_edge("later").replace("\"format\":1", "\"format\":7"))?;
    put_in_etcd(&mut cluster, "edges/", "{}")?;
    put_in_etcd(&mut cluster, "edges/\u{1b}[31m", "{}")?;
    wait_until("all are named", || {
        let answer = cluster.admin("GET", "/admin/v1/edges")?;
        let skipped = answer.json()?["skipped"].as_array().map_or(0, Vec::len);
        Ok(skipped == 7)
    })?;
    let named = cluster.admin("GET", "/admin/v1/edges")?.text();
    for expected in ["allow_urls", "of 'edge-1'", "weight is a whole number", "too large", "format 7"] {
        ensure!(named.contains(expected), "no {expected:?} in {named}");
    }
    cluster.wait_until_up(&[0])?;
    download(&cluster)
}

#[test]
fn the_second_edge_with_an_id_is_told_by_name() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).etcd(1).file("a.bin", 100_000).ready()?;
    cluster.terminate(1)?;
    let config = cluster.folder().join("edge-2.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("id = \"edge-2\"", "id = \"edge-1\""))?;
    cluster.edge(1).process().start()?;
    wait_until("the second is told", || {
        Ok(cluster.edges()[1].log()?.contains("another process that lives has this id"))
    })?;
    let first = cluster.edges()[0].url();
    let answer = cluster.edges()[1].readiness()?;
    ensure!(answer.text().contains("another edge has this id"), "{}", answer.text());
    ensure!(cluster.request_download("a.bin")?.download_url.starts_with(&first));
    // When the first leaves, the id is the second's.
    cluster.terminate(0)?;
    let second = cluster.edges()[1].url();
    wait_until("the second gets the downloads", || {
        Ok(cluster.request_download("a.bin").is_ok_and(|offer| offer.download_url.starts_with(&second)))
    })?;
    download(&cluster)
}

#[test]
fn a_second_coordinator_with_state_of_its_own_is_refused() -> anyhow::Result<()> {
    let refused = Cluster::start().edges(1).etcd(1).coordinators(2).ready();
    let fault = format!("{:#}", refused.err().context("two coordinators with state of their own")?);
    ensure!(
        fault.contains("keeps state in a file of its own") && fault.contains("[state] source"),
        "{fault}"
    );
    // With state that they share, both are welcome.
    let cluster = Cluster::start().edges(1).etcd(1).redis().coordinators(2).file("a.bin", 100_000).ready()?;
    download(&cluster)
}

#[test]
fn a_coordinator_that_was_killed_takes_its_record_back_at_once() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(1).etcd(1).file("a.bin", 100_000).ready()?;
    let first = value_in_etcd(&mut cluster, "coordinators/coordinator-1")?;
    cluster.coordinator().process().kill()?;
    cluster.coordinator().restart()?;
    wait_until("its record is the new process's", || {
        let now = value_in_etcd(&mut cluster, "coordinators/coordinator-1")?;
        Ok(now.is_some() && now != first)
    })?;
    cluster.wait_until_up(&[0])?;
    download(&cluster)
}

#[test]
fn a_second_coordinator_with_an_id_that_lives_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::start().edges(1).etcd(1).file("a.bin", 100_000).ready()?;
    let first = &cluster.coordinators()[0];
    let (public, admin) = (Port::take()?, Port::take()?);
    let text = fs::read_to_string(cluster.folder().join("coordinator-1.toml"))?
        .replace(&first.address(), &public.address())
        .replace(first.admin_url().trim_start_matches("http://"), &admin.address())
        .replace("coordinator-1.redb", "another.redb");
    let config = cluster.folder().join("second.toml");
    fs::write(&config, text)?;
    let log = cluster.folder().join("second.log");
    let mut second = Process::new("second", binary("sluice-coordinator")?, config, log);
    second.start()?;
    let status = second.wait()?;
    ensure!(!status.success(), "it ended as if nothing were wrong");
    let said = second.log()?;
    ensure!(said.contains("another coordinator with the id 'coordinator-1' is alive"), "{said}");
    download(&cluster)
}
