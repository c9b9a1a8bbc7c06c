//! Claims about picks: clusters of all kinds, asked for files. Times are numbers of seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use sluice_shared::client_net::ClientNet;
use sluice_shared::cluster::Weight;
use sluice_shared::units::BaseUrl;

use super::hot::HotFiles;
use super::standing::News;
use super::zones::ZoneRule;
use super::*;

mod bounded_loads;
mod explanations;
mod hot_files;
mod slow_start;
mod zones;

const ANYWHERE: &str = "192.0.2.1";

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn member(id: &str, zone: &str, weight: u16) -> Member {
    let url = BaseUrl::parse("http://edge.example").unwrap();
    let record = EdgeRecord {
        id: EdgeId::parse(id).unwrap(),
        url: url.clone(),
        admin_url: url,
        weight: Weight::new(weight).unwrap(),
        zone: zone.to_owned(),
    };
    let edge = Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() });
    Member { edge, news: news(State::Up, 0.0), fresh_since: None }
}

fn news(state: State, since: f64) -> News {
    News { state, since: secs(since), was_up: false }
}

/// `edge-1` to `edge-COUNT` of one zone.
fn members(count: usize) -> Vec<Member> {
    (1..=count).map(|n| member(&format!("edge-{n}"), "a", 100)).collect()
}

fn snapshot(members: &[Member]) -> Snapshot {
    Rings::default().snapshot(members.to_vec(), Duration::ZERO)
}

fn set_state(members: &mut [Member], id: &str, state: State) {
    let member = members.iter_mut().find(|member| member.edge.record.id.as_str() == id).unwrap();
    member.news = news(state, 0.0);
}

fn question(snapshot: &Snapshot, file: &str, client: &str, now: f64) -> Question<'static> {
    let start = snapshot.start(ring::place(file.as_bytes()), client.parse().unwrap());
    Question { start, now: secs(now), not: None, fan_out: 1, wanted: CANDIDATES_MAX }
}

fn ids(candidates: &Candidates<'_>) -> Vec<String> {
    candidates.iter().map(|candidate| candidate.edge().record.id.to_string()).collect()
}

fn picked(snapshot: &Snapshot, file: &str) -> Vec<String> {
    ids(&snapshot.pick(&question(snapshot, file, ANYWHERE, 0.0)))
}

fn files() -> impl Iterator<Item = String> + Clone {
    (0..400).map(|n| format!("{n}.bin"))
}

#[test]
fn an_idle_clusters_files_are_where_the_ring_says() {
    let snapshot = snapshot(&members(5));
    // The ring's golden placements.
    let golden = [("a", [4, 5, 2, 1]), ("a.bin", [3, 1, 2, 5]), ("InstMsiW.exe", [5, 1, 2, 3])];
    for (file, expected) in golden {
        assert_eq!(picked(&snapshot, file), expected.map(|n| format!("edge-{n}")), "{file}");
        let one = Question { wanted: 1, ..question(&snapshot, file, ANYWHERE, 0.0) };
        assert_eq!(ids(&snapshot.pick(&one)), [format!("edge-{}", expected[0])]);
    }
    assert!(picked(&self::snapshot(&[]), "a").is_empty());
}

#[test]
fn those_that_get_no_requests_are_stepped_over_and_come_back_to_what_was_theirs() {
    let mut members = members(7);
    let mut rings = Rings::default();
    let before = rings.snapshot(members.clone(), secs(0.0));
    for state in [State::Down, State::Draining, State::Degraded, State::Unknown] {
        set_state(&mut members, "edge-3", state);
        let after = rings.snapshot(members.clone(), secs(1.0));
        assert!(Arc::ptr_eq(&before.zones[0].table, &after.zones[0].table), "no ring is changed");
        for file in files() {
            let (was, is) = (picked(&before, &file), picked(&after, &file));
            let expected: Vec<_> = was.into_iter().filter(|id| id != "edge-3").collect();
            assert_eq!(is[..expected.len()], expected[..], "{file}");
            assert_eq!(is.len(), 4);
        }
    }
    set_state(&mut members, "edge-3", State::Up);
    let back = rings.snapshot(members, secs(2.0));
    assert!(files().all(|file| picked(&back, &file) == picked(&before, &file)));
}

#[test]
fn shares_are_of_those_that_get_requests() {
    let mut members = members(4);
    set_state(&mut members, "edge-2", State::Draining);
    let snapshot = snapshot(&members);
    let shares: BTreeMap<_, _> = snapshot.shares().map(|(id, share)| (id.as_str(), share)).collect();
    assert_eq!((shares.len(), shares["edge-2"]), (4, 0.0));
    assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    let firsts = files().filter(|file| picked(&snapshot, file)[0] == "edge-1").count();
    assert!((firsts as f64 / 400.0 - shares["edge-1"]).abs() < 0.08, "{firsts} of {shares:?}");
}

#[test]
fn an_edge_that_is_no_answer_is_none() {
    let snapshot = snapshot(&members(3));
    for file in files() {
        let all = picked(&snapshot, &file);
        let asked = Question { not: Some(&all[0]), ..question(&snapshot, &file, ANYWHERE, 0.0) };
        assert_eq!(ids(&snapshot.pick(&asked)), all[1..]);
    }
    let only = self::snapshot(&members(1));
    let asked = Question { not: Some("edge-1"), ..question(&only, "a", ANYWHERE, 0.0) };
    assert!(only.pick(&asked).is_empty());
}

#[test]
fn all_bad_counts_as_none_bad() {
    let mut members = members(3);
    let up = snapshot(&members);
    for member in &mut members {
        member.news = news(State::Down, 0.0);
    }
    let down = snapshot(&members);
    assert!(files().all(|file| picked(&down, &file) == picked(&up, &file)));
    assert_eq!((down.trust(), down.open()), (Trust::NobodyUp, 3));
}

#[test]
fn two_that_are_up_are_found_among_a_thousand() {
    let mut members: Vec<_> = (0..1000).map(|n| member(&format!("edge-{n}"), "a", 3)).collect();
    for member in &mut members[..998] {
        member.news = news(State::Down, 0.0);
    }
    let snapshot = snapshot(&members);
    let firsts: BTreeSet<_> = files()
        .map(|file| {
            let picked = picked(&snapshot, &file);
            assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), 2);
            picked[0].clone()
        })
        .collect();
    assert_eq!(firsts.len(), 2, "both have files");
}
