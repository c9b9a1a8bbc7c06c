//! A coordinator that dies, freezes or is cut off from etcd under constant load: who asks the other notices nothing, what
//! both must remember is remembered, and it comes right by itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use sluice_loadtest::caller::Caller;
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::crowd::{request_of, target_of};
use sluice_loadtest::load::{self, Load};
use sluice_loadtest::process::Signal;
use sluice_loadtest::{Cluster, client, wait_until, wait_until_within};

const CLIENTS: &str =
    "[[clients]]\naccess_key = \"AK\"\nsecret = \"s\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
const MINE: &str = "/api/request-download?file_id=load%2F0.bin&user_id=tester";
const DOWNLOADS_MAX: u32 = 10;

#[test]
fn clients_of_the_other_coordinator_notice_nothing_and_counts_and_nonces_hold() -> anyhow::Result<()> {
    let usual = "public_prefixes = [\"load\"]\ntrusted_proxies = [\"127.0.0.0/8\", \"198.18.0.0/16\"]\n\
                 auth.schemes = [\"signature\"]";
    let cluster = Cluster::start().hosts().edges(4).coordinators(2).redis().etcd(3).clients(CLIENTS);
    let cluster = load::files(28).fold(cluster, |cluster, (name, size)| cluster.file(&name, size));
    let mut cluster = cluster.coordinator(|coordinator| coordinator.toml(usual)).ready()?;
    let everywhere = Load::start(&cluster, 3);
    let at_the_other = Load::start_at(&cluster, 3, &[1]);
    at_the_other.wait_for(20)?;

    let callers = [0, 1].map(|index| Caller::new(&cluster.coordinators()[index].url(), "AK", "s"));
    let used = callers[0].sign("GET", MINE, "");
    assert_eq!(callers[0].request("GET", MINE, "", &used).send()?.status(), 200);
    let link = callers[0].link(&json!({ "file_id": "load/0.bin", "max_downloads": DOWNLOADS_MAX }))?;
    let redeem = |person: u32, coordinator: usize| -> anyhow::Result<u16> {
        let url = format!("{}{}", callers[coordinator].url, target_of(&link.url)?);
        Ok(request_of(person, &url).send()?.status())
    };
    for person in 0..4 {
        assert_eq!(redeem(person, 0)?, 302);
    }

    cluster.coordinator().process().kill()?;
    let refused = callers[1].request("GET", MINE, "", &used).send()?;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("Specified nonce was used already."), "{}", refused.text());
    for person in 0..DOWNLOADS_MAX {
        assert_eq!(redeem(person, 1)?, 302, "person {person}");
    }
    assert_eq!(redeem(DOWNLOADS_MAX, 1)?, 403);
    at_the_other.wait_for(50)?;
    everywhere.wait_for(50)?;

    cluster.coordinator().restart()?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    let refused = callers[0].request("GET", MINE, "", &used).send()?;
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert_eq!(redeem(0, 0)?, 302);
    assert_eq!(redeem(DOWNLOADS_MAX, 0)?, 403);
    everywhere.wait_for(20)?;
    let report = at_the_other.finish()?;
    assert_eq!(report.breaks, 0, "{report:?}");
    let report = everywhere.finish()?;
    assert!(report.breaks > 0, "{report:?}");
    Ok(())
}

/// Four edges of which one waits, keys that are exchanged every few seconds.
fn changing() -> Builder {
    let cluster = Cluster::start().hosts().edges(4).edges_waiting(1).coordinators(2).redis().etcd(3);
    let cluster = cluster.keys_in_etcd("rotate_every = \"4s\"\npropagation = \"1s\"");
    load::files(28).fold(cluster, |cluster, (name, size)| cluster.file(&name, size))
}

/// Has the second coordinator hear of what the first does not: an edge that joins, a user that is revoked.
fn go_on_without_the_first(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.restart(3)?;
    cluster.wait_until_up_at(&cluster.coordinators()[1], &[0, 1, 2, 3])?;
    let new = json!({ "what": "user", "value": "ann" }).to_string();
    ensure!(cluster.admin_at(1, "POST", "/admin/v1/revocations", &new)?.status() == 201);
    Ok(())
}

/// Waits until the first knows all of it.
fn wait_until_the_first_is_back(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    wait_until("it refuses who was revoked", || {
        let url = format!("{}/download/load/0.bin?user_id=ann", cluster.coordinators()[0].url());
        Ok(client::get_here(&url)?.status() == 403)
    })?;
    wait_until("it follows etcd, and says nothing else", || {
        let readiness = cluster.coordinators()[0].readiness()?;
        let is_followed = cluster.coordinators()[0].metric("sluice_etcd_up")? == 1.0;
        Ok(readiness.status() == 200 && readiness.json()?["notes"] == json!([]) && is_followed)
    })
}

/// Whether etcd has the record of the first coordinator.
fn is_recorded(cluster: &mut Cluster) -> anyhow::Result<bool> {
    Ok(cluster.etcd().member(0).value("coordinators/coordinator-1")?.is_some())
}

/// A record of a coordinator that is not renewed is gone by then, on a machine that is busy.
const RECORD_ENDS: Duration = Duration::from_secs(40);

#[test]
fn a_coordinator_that_freezes_costs_the_clients_of_the_other_nothing_and_goes_on() -> anyhow::Result<()> {
    let mut cluster = changing().ready()?;
    let everywhere = Load::start(&cluster, 3);
    let at_the_other = Load::start_at(&cluster, 3, &[1]);
    at_the_other.wait_for(20)?;
    cluster.coordinator().process().signal(Signal::STOP)?;
    go_on_without_the_first(&mut cluster)?;
    // For longer than its record and its office last: another exchanges keys meanwhile.
    wait_until_within(RECORD_ENDS, "its record is gone", || Ok(!is_recorded(&mut cluster)?))?;
    at_the_other.wait_for(50)?;
    everywhere.wait_for(10)?;
    cluster.coordinator().process().signal(Signal::CONT)?;
    wait_until_the_first_is_back(&cluster)?;
    wait_until("its record is back", || is_recorded(&mut cluster))?;
    everywhere.wait_for(20)?;
    at_the_other.wait_for(20)?;
    let report = at_the_other.finish()?;
    assert_eq!(report.breaks, 0, "{report:?}");
    let report = everywhere.finish()?;
    assert!(report.breaks > 0, "{report:?}");
    Ok(())
}

#[test]
fn a_coordinator_that_is_cut_off_from_etcd_costs_nobody_anything_and_catches_up() -> anyhow::Result<()> {
    let mut cluster = changing().ready()?;
    if !cluster.can_be_cut()? {
        return Ok(());
    }
    let everywhere = Load::start(&cluster, 6);
    everywhere.wait_for(20)?;
    let members: Vec<Ipv4Addr> = (0..3).map(|index| cluster.etcd().member(index).host().address()).collect();
    let host = cluster.coordinators()[0].host().clone();
    host.cut_from(&members)?;
    wait_until("it notices, and stays ready", || {
        let readiness = cluster.coordinators()[0].readiness()?;
        ensure!(readiness.status() == 200, "{}", readiness.text());
        Ok(readiness.text().contains("etcd is away"))
    })?;
    go_on_without_the_first(&mut cluster)?;
    wait_until_within(RECORD_ENDS, "its record is gone", || Ok(!is_recorded(&mut cluster)?))?;
    let listed = cluster.edge_statuses()?;
    ensure!(listed.len() == 3, "it goes by what it knows: {listed:?}");
    everywhere.wait_for(50)?;
    host.mend()?;
    wait_until_the_first_is_back(&cluster)?;
    wait_until("its record is back", || is_recorded(&mut cluster))?;
    everywhere.wait_for(50)?;
    let report = everywhere.finish()?;
    assert_eq!(report.breaks, 0, "{report:?}");
    Ok(())
}
