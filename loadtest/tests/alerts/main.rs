//! Every alert fires in a running cluster that has the fault it is for, and no other does; on one that is well, none.

use std::collections::BTreeSet;
use std::fs;

use anyhow::ensure;
use sluice_loadtest::Cluster;

mod availability;
mod cluster;
mod live;
mod record;
mod records;
mod security;
mod stage;
mod storage;

use stage::{Case, Stage, usual};

/// The tables, by the rules' groups.
const GROUPS: [(&str, &[Case]); 5] = [
    ("sluice-availability", availability::CASES),
    ("sluice-storage", storage::CASES),
    ("sluice-cluster", cluster::CASES),
    ("sluice-security", security::CASES),
    ("sluice-records", records::CASES),
];

#[test]
fn what_is_down_or_refuses_is_told() -> anyhow::Result<()> {
    stage::play(availability::CASES)
}

#[test]
fn what_the_store_does_is_told() -> anyhow::Result<()> {
    stage::play(storage::CASES)
}

#[test]
fn what_is_wrong_between_programs_is_told() -> anyhow::Result<()> {
    stage::play(cluster::CASES)
}

#[test]
fn what_keys_certificates_and_strangers_do_is_told() -> anyhow::Result<()> {
    stage::play(security::CASES)
}

#[test]
fn what_is_lost_of_logs_and_bodies_is_told() -> anyhow::Result<()> {
    stage::play(records::CASES)
}

/// Longer than any alert but one waits.
const WELL: usize = 130;

#[test]
fn nothing_fires_on_a_cluster_that_is_well() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(3)
        .coordinators(2)
        .redis()
        .etcd(3)
        .keys_in_etcd("")
        .file("a.bin", 200_000)
        .ready()?;
    let mut stage = Stage::new(&[]);
    stage.watch(&mut cluster, 3);
    stage.well(WELL, || usual(&cluster))?;
    let folder = tempfile::tempdir()?;
    stage.judge(folder.path(), None, &[])
}

#[test]
fn every_alert_of_the_rules_has_its_fault() -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    let mut group = String::new();
    for line in fs::read_to_string(stage::rules_path())?.lines() {
        if let Some(name) = line.trim().strip_prefix("- name: ") {
            name.clone_into(&mut group);
        } else if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            known.insert((group.clone(), alert.to_owned()));
        }
    }
    let of = |(group, cases): &(&str, &[Case])| {
        cases.iter().map(|case| ((*group).to_owned(), case.alert.to_owned())).collect::<Vec<_>>()
    };
    let played: BTreeSet<_> = GROUPS.iter().flat_map(of).collect();
    ensure!(known == played, "{:#?}", known.symmetric_difference(&played).collect::<Vec<_>>());
    Ok(())
}
