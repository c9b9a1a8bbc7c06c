//! Faults of what programs have in common: etcd, Redis, clocks, orders.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::{Cluster, wait_until, wait_until_within};

use crate::availability::small;
use crate::stage::{Case, Stage, nothing, usual};

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceEtcdAway", etcd_is_killed),
    Case { magnified: STALE, ..Case::new("SluiceRegistryStale", edges_may_not_be_read_any_more) },
    Case { magnified: STALE, ..Case::new("SluiceClientsStale", clients_may_not_be_read_any_more) },
    Case { magnified: STALE, ..Case::new("SluiceRevocationsStale", revocations_may_not_be_read_any_more) },
    Case::new("SluiceEdgeNotRegistered", an_edge_may_not_write_its_record),
    Case::new("SluiceStateAway", redis_is_killed),
    Case::new("SluiceClockSkew", an_edge_s_clock_is_ahead),
    Case::new("SluiceEdgeForgottenInDrain", an_edge_is_drained_for_half_a_day),
    Case::new("SluiceEtcdQuota", etcd_is_nearly_full),
    Case::new("SluiceEtcdFragmented", most_of_etcd_s_file_is_free),
    Case::new("SluiceEtcdMemberDown", one_of_three_members_is_killed),
    // Without a leader etcd gives nobody an answer: of the programs' side that is the same as none.
    Case {
        beside: &["SluiceEtcdAway"],
        ..Case::new("SluiceEtcdLeaderless", two_of_three_members_are_killed)
    },
];

/// A second stands for twenty, for what is to be five minutes old: while all is well it is two seconds at most.
const STALE: &[(&str, f64)] = &[
    ("sluice_registry_stale_seconds", 20.0),
    ("sluice_clients_stale_seconds", 20.0),
    ("sluice_revocations_stale_seconds", 20.0),
];
/// More than 300, of those.
const STALE_SECONDS: f64 = 16.0;
/// With what a member of etcd that was started again waits for, and a program that asks again ever later.
const SLOW: Duration = Duration::from_secs(60);

/// Of etcd's file, with room for few writes.
const QUOTA_BYTES: u64 = 16 << 20;

/// Everything in an etcd that lets each program do what it has to.
pub(crate) fn locked() -> Builder {
    small().etcd(1).etcd_locked().keys_in_etcd("propagation = \"1s\"")
}

/// Has root change what a role may.
pub(crate) fn change_role(cluster: &mut Cluster, words: &[&str]) -> anyhow::Result<()> {
    let command: Vec<&str> = ["role"].iter().chain(words).copied().collect();
    ensure!(cluster.etcd().member(0).may("root", &command)?, "root may do anything");
    Ok(())
}

fn etcd_is_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(1).ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    cluster.etcd().kill_all()?;
    wait_until_etcd_is(&cluster, 0.0)?;
    stage.faulty(5, || usual(&cluster))?;
    cluster.etcd().start_all()?;
    wait_until_etcd_is(&cluster, 1.0)?;
    stage.mended(2, || usual(&cluster))
}

/// Waits until every program says that etcd answers, or that it does not.
fn wait_until_etcd_is(cluster: &Cluster, up: f64) -> anyhow::Result<()> {
    for member in cluster.coordinators().iter().chain(cluster.edges()) {
        wait_until_within(SLOW, &format!("{} has sluice_etcd_up {up}", member.id()), || {
            Ok(member.metric("sluice_etcd_up")? == up)
        })?;
    }
    Ok(())
}

fn edges_may_not_be_read_any_more(stage: &mut Stage) -> anyhow::Result<()> {
    may_not_be_read(stage, "sluice-coordinator", "edges/", "sluice_registry_stale_seconds")
}

fn clients_may_not_be_read_any_more(stage: &mut Stage) -> anyhow::Result<()> {
    may_not_be_read(stage, "sluice-coordinator", "clients/", "sluice_clients_stale_seconds")
}

fn revocations_may_not_be_read_any_more(stage: &mut Stage) -> anyhow::Result<()> {
    may_not_be_read(stage, "sluice-edge", "revoked/", "sluice_revocations_stale_seconds")
}

/// Takes a right from a role, and has the watches end that began under it.
fn may_not_be_read(stage: &mut Stage, role: &str, place: &str, series: &str) -> anyhow::Result<()> {
    let mut cluster = locked().ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    let path = format!("/sluice/{place}");
    change_role(&mut cluster, &["revoke-permission", role, &path, "--prefix"])?;
    cluster.etcd().member(0).kill()?;
    cluster.etcd().member(0).start()?;
    let members = cluster.coordinators().iter().chain(cluster.edges());
    for member in members.filter(|member| member.metric(series).is_ok()) {
        wait_until_within(SLOW, &format!("{} has old news of {place}", member.id()), || {
            Ok(member.metric(series)? > STALE_SECONDS)
        })?;
        let noted = member.readiness()?.text();
        ensure!(noted.contains("etcd does not let all be read"), "{}: {noted}", member.id());
    }
    wait_until_etcd_is(&cluster, 1.0)?;
    for edge in cluster.edges() {
        wait_until("its record is there", || Ok(edge.metric("sluice_edge_registered")? == 1.0))?;
    }
    stage.faulty(5, || usual(&cluster))
}

fn an_edge_may_not_write_its_record(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = locked().ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    cluster.kill(0)?;
    change_role(&mut cluster, &["revoke-permission", "sluice-edge-edge-1", "/sluice/edges/edge-1"])?;
    cluster.restart(0)?;
    let edge = &cluster.edges()[0];
    wait_until("it is not in etcd", || {
        Ok(edge.metric("sluice_edge_registered")? == 0.0 && edge.metric("sluice_etcd_up")? == 1.0)
    })?;
    stage.faulty(5, || usual(&cluster))
}

fn redis_is_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().redis().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    cluster.redis().kill()?;
    let is = |cluster: &Cluster, up: f64| {
        let coordinator = &cluster.coordinators()[0];
        wait_until("the coordinator knows", || Ok(coordinator.metric("sluice_state_up")? == up))
    };
    is(&cluster, 0.0)?;
    stage.faulty(4, || usual(&cluster))?;
    cluster.redis().start()?;
    is(&cluster, 1.0)?;
    stage.mended(2, || usual(&cluster))
}

fn an_edge_s_clock_is_ahead(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().clock_of_edge(0).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    cluster.clock().advance(Duration::from_secs(4))?;
    let skew = |cluster: &Cluster| {
        cluster.coordinators()[0].metric("sluice_edge_clock_skew_seconds{edge=\"edge-1\"}")
    };
    wait_until("the coordinator sees it", || Ok(skew(&cluster)? > 2.0))?;
    stage.faulty(5, || usual(&cluster))?;
    cluster.clock().set_right()?;
    wait_until("the coordinator sees it", || Ok(skew(&cluster)? < 2.0))?;
    stage.mended(2, || usual(&cluster))
}

fn an_edge_is_drained_for_half_a_day(stage: &mut Stage) -> anyhow::Result<()> {
    stage.minutes = 4;
    let mut cluster = small().etcd(1).ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    let order = |cluster: &Cluster, order: &str, count: f64| {
        let answer = cluster.admin("POST", &format!("/admin/v1/edges/edge-1/{order}"))?;
        ensure!(answer.status() == 204, "{} {}", answer.status(), answer.text());
        let coordinator = &cluster.coordinators()[0];
        wait_until("the order stands", || {
            Ok(coordinator.metric("sluice_edge_orders{order=\"drain\"}")? == count)
        })
    };
    order(&cluster, "drain", 1.0)?;
    stage.faulty(12 * 60 / 4 + 2, || usual(&cluster))?;
    order(&cluster, "undrain", 0.0)?;
    stage.mended(2, || usual(&cluster))
}

/// What etcd says of itself.
fn of_etcd(cluster: &mut Cluster, metric: &str) -> anyhow::Result<f64> {
    let url = format!("{}/metrics", cluster.etcd().member(0).url());
    // Not our client: etcd answers in chunks.
    let text = sluice_loadtest::tool::run("curl", &["-fsS", &url])?;
    let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {metric}"))?.parse()?)
}

/// Writes so much into etcd that its file is a part of its quota.
fn fill_etcd(cluster: &mut Cluster, part: f64) -> anyhow::Result<usize> {
    let value = "x".repeat(256 << 10);
    let mut written = 0;
    while of_etcd(cluster, "etcd_mvcc_db_total_size_in_bytes")? < part * QUOTA_BYTES as f64 {
        cluster.etcd().member(0).put(&format!("of-somebody-else/{written}"), &value)?;
        written += 1;
    }
    Ok(written)
}

fn etcd_is_nearly_full(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(1).etcd_quota(QUOTA_BYTES).ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    fill_etcd(&mut cluster, 0.85)?;
    stage.faulty(8, || usual(&cluster))
}

fn most_of_etcd_s_file_is_free(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(1).etcd_quota(QUOTA_BYTES).ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    let written = fill_etcd(&mut cluster, 0.6)?;
    for number in 0..written {
        cluster.etcd().member(0).put(&format!("of-somebody-else/{number}"), "")?;
    }
    cluster.etcd().compact()?;
    wait_until("etcd has forgotten", || {
        // It gives pages back as it writes others.
        cluster.etcd().member(0).put("of-somebody-else/0", "")?;
        let used = of_etcd(&mut cluster, "etcd_mvcc_db_total_size_in_use_in_bytes")?;
        Ok(used < 0.2 * QUOTA_BYTES as f64)
    })?;
    stage.faulty(65, nothing)
}

fn one_of_three_members_is_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(3).ready()?;
    stage.watch(&mut cluster, 3);
    stage.well(10, || usual(&cluster))?;
    let leader = cluster.etcd().leader()?;
    cluster.etcd().member(leader).kill()?;
    wait_until("there is another leader", || Ok(cluster.etcd().leader().is_ok()))?;
    wait_until_etcd_is(&cluster, 1.0)?;
    stage.faulty(8, || usual(&cluster))?;
    cluster.etcd().start_stopped()?;
    stage.mended(2, || usual(&cluster))
}

fn two_of_three_members_are_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(3).ready()?;
    stage.watch(&mut cluster, 3);
    stage.well(10, || usual(&cluster))?;
    cluster.etcd().member(1).kill()?;
    cluster.etcd().member(2).kill()?;
    wait_until("the third has no leader", || Ok(of_etcd(&mut cluster, "etcd_server_has_leader")? == 0.0))?;
    stage.faulty(5, || usual(&cluster))?;
    cluster.etcd().start_stopped()?;
    wait_until_etcd_is(&cluster, 1.0)?;
    stage.mended(2, || usual(&cluster))
}
