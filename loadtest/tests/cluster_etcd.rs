//! etcd whose members die or are cut off, that is away as a whole, and that comes back without leases, without history
//! or with older contents, under constant load: no download fails, clients are sent by the last state that was known,
//! metrics tell how old that is, and all comes right by itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::hosts::Cut;
use sluice_loadtest::load::{self, Load};
use sluice_loadtest::{Cluster, wait_until, wait_until_within};

const CLIENTS: usize = 4;
const FILES: usize = 28;
/// A record's life.
const RECORD_TTL: f64 = 15.0;
/// An edge whose record vanished without a word stays listed for 30 s.
const VANISHED: Duration = Duration::from_secs(60);
/// An old lease has to end, and etcd gives leases a new life when it starts.
const OLD_LEASES_END: Duration = Duration::from_secs(90);

fn cluster() -> Builder {
    let cluster = Cluster::start().hosts().edges(4).coordinators(2).redis().etcd(3);
    load::files(FILES)
        .fold(cluster, |cluster, (name, size)| cluster.file(&name, size))
        .coordinator(|coordinator| coordinator.toml("routing.slow_start = \"0s\""))
}

/// Waits until both coordinators follow etcd, or until neither does.
fn wait_until_followed(cluster: &Cluster, is_followed: bool) -> anyhow::Result<()> {
    let expected = if is_followed { 1.0 } else { 0.0 };
    for coordinator in cluster.coordinators() {
        wait_until(&format!("{}: sluice_etcd_up is {expected}", coordinator.id()), || {
            Ok(coordinator.metric("sluice_etcd_up")? == expected)
        })?;
        // What is revoked there is followed by itself, and may come a moment later.
        wait_until("its readiness notes it", || {
            let notes = coordinator.readiness()?;
            ensure!(notes.status() == 200, "{}", notes.text());
            Ok(notes.text().contains("etcd is away") != is_followed)
        })?;
    }
    Ok(())
}

fn staleness(cluster: &Cluster, coordinator: usize) -> anyhow::Result<f64> {
    cluster.coordinators()[coordinator].metric("sluice_registry_stale_seconds")
}

/// An edge leaves and comes back, and both coordinators hear of it by etcd.
fn news_pass(cluster: &mut Cluster, edge: usize) -> anyhow::Result<()> {
    cluster.terminate(edge)?;
    for coordinator in cluster.coordinators() {
        // One that was about to follow another member finds a record gone, and gives it time to come back.
        wait_until_within(VANISHED, &format!("{} does not list it", coordinator.id()), || {
            let statuses = cluster.edge_statuses_at(coordinator)?;
            Ok(statuses.iter().all(|status| status.id != cluster.edges()[edge].id()))
        })?;
    }
    cluster.restart(edge)
}

#[test]
fn a_leader_may_die_and_a_minority_or_all_be_cut_off() -> anyhow::Result<()> {
    let mut cluster = cluster().edges(5).edges_waiting(1).ready()?;
    let load = Load::start(&cluster, CLIENTS);
    load.wait_for(20)?;

    let leader = cluster.etcd().leader()?;
    cluster.etcd().member(leader).kill()?;
    wait_until("there is another leader", || Ok(cluster.etcd().leader().is_ok()))?;
    wait_until_followed(&cluster, true)?;
    news_pass(&mut cluster, 0)?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    cluster.etcd().member(leader).start()?;

    if cluster.can_be_cut()? {
        let leader = cluster.etcd().leader()?;
        let minority = cluster.etcd().member(leader).host().clone();
        minority.cut(Cut::Both)?;
        wait_until("the others have a leader", || Ok(cluster.etcd().leader().is_ok()))?;
        wait_until_followed(&cluster, true)?;
        // Whoever was at the member that is cut off goes to another, and hears of an edge that joins.
        cluster.restart(4)?;
        cluster.wait_until_up(&[0, 1, 2, 3, 4])?;

        // With another one cut off, the third is no majority.
        let other = cluster.etcd().member((leader + 1) % 3).host().clone();
        other.cut(Cut::Both)?;
        wait_until_followed(&cluster, false)?;
        // Health needs no etcd.
        cluster.kill(2)?;
        cluster.wait_until_up(&[0, 1, 3, 4])?;
        load.wait_for(20)?;
        wait_until("the list is old", || Ok(staleness(&cluster, 0)? > 5.0 && staleness(&cluster, 1)? > 5.0))?;
        minority.mend()?;
        other.mend()?;
        wait_until_followed(&cluster, true)?;
        cluster.restart(2)?;
        cluster.wait_until_up(&[0, 1, 2, 3, 4])?;
    }
    load.wait_for(20)?;
    load.finish()?;
    Ok(())
}

#[test]
fn a_coordinator_that_missed_what_was_compacted_hears_of_it_all() -> anyhow::Result<()> {
    let mut cluster = cluster().edges(5).edges_waiting(1).ready()?;
    if !cluster.can_be_cut()? {
        return Ok(());
    }
    let load = Load::start(&cluster, CLIENTS);
    let members: Vec<Ipv4Addr> = (0..3).map(|index| cluster.etcd().member(index).host().address()).collect();
    let host = cluster.coordinators()[1].host().clone();
    host.cut_from(&members)?;
    cluster.restart(4)?;
    // History goes on, and is forgotten, while nobody tells the second coordinator.
    for number in 0..100 {
        cluster.etcd().member(0).put("edges/noise", &number.to_string())?;
    }
    cluster.etcd().compact()?;
    let [first, second] = cluster.coordinators() else { anyhow::bail!("two coordinators") };
    cluster.wait_until_up_at(first, &[0, 1, 2, 3, 4])?;
    wait_until("the second notices that it hears nothing", || Ok(second.metric("sluice_etcd_up")? == 0.0))?;
    ensure!(cluster.edge_statuses_at(second)?.len() == 4, "it goes by what it knows");
    load.wait_for(20)?;
    host.mend()?;
    cluster.wait_until_up_at(second, &[0, 1, 2, 3, 4])?;
    wait_until_followed(&cluster, true)?;
    load.finish()?;
    Ok(())
}

#[test]
fn all_of_etcd_may_be_away_for_longer_than_leases_live() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    let load = Load::start(&cluster, CLIENTS);
    load.wait_for(20)?;
    cluster.etcd().kill_all()?;
    wait_until_followed(&cluster, false)?;
    wait_until("the list is older than a record lives", || {
        Ok(staleness(&cluster, 0)? > RECORD_TTL + 5.0 && staleness(&cluster, 1)? > RECORD_TTL + 5.0)
    })?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    // One dies meanwhile, and one is started anew.
    cluster.kill(0)?;
    cluster.wait_until_up(&[1, 2, 3])?;
    cluster.kill(1)?;
    cluster.restart(1)?;
    cluster.wait_until_up(&[1, 2, 3])?;
    cluster.etcd().start_all()?;
    wait_until_followed(&cluster, true)?;
    cluster.restart(0)?;
    for edge in 1..=4 {
        wait_until_within(OLD_LEASES_END, &format!("edge-{edge} holds its record"), || {
            Ok(cluster.edges()[edge - 1].metric("sluice_edge_registered")? == 1.0)
        })?;
    }
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    ensure!(staleness(&cluster, 0)? < 30.0);
    load.wait_for(20)?;
    load.finish()?;
    Ok(())
}

#[test]
fn an_etcd_restored_from_an_older_snapshot_comes_right_by_itself() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    let load = Load::start(&cluster, CLIENTS);
    let snapshot = cluster.folder().join("snapshot.db");
    cluster.etcd().save(&snapshot)?;
    // Of this the snapshot knows nothing: one leaves for good, another is a new process.
    cluster.terminate(3)?;
    cluster.restart(0)?;
    cluster.wait_until_up(&[0, 1, 2])?;
    let own = cluster.etcd().member(0).value("edges/edge-1")?;
    let instance = |record: Option<String>| -> anyhow::Result<Option<String>> {
        let record = record.map(|record| serde_json::from_str::<serde_json::Value>(&record)).transpose()?;
        Ok(record.and_then(|record| record["instance"].as_str().map(str::to_owned)))
    };
    let own = instance(own)?;
    ensure!(own.is_some());
    cluster.etcd().restore(&snapshot)?;
    ensure!(cluster.etcd().member(0).value("edges/edge-4")?.is_some(), "the snapshot has who has left");
    wait_until_within(OLD_LEASES_END, "the first edge's record is its own again", || {
        load.wait_for(1)?;
        Ok(instance(cluster.etcd().member(0).value("edges/edge-1")?)? == own)
    })?;
    wait_until_within(OLD_LEASES_END, "the record of the edge that left ends with its lease", || {
        load.wait_for(1)?;
        Ok(cluster.etcd().member(0).value("edges/edge-4")?.is_none())
    })?;
    wait_until_followed(&cluster, true)?;
    for edge in cluster.edges()[..3].iter() {
        wait_until("it holds its record", || Ok(edge.metric("sluice_edge_registered")? == 1.0))?;
    }
    // And news pass.
    cluster.restart(3)?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    news_pass(&mut cluster, 2)?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    load.finish()?;
    Ok(())
}
