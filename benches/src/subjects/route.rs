//! Choosing an edge, and what a change of the edges costs, by the size of the cluster.

use std::hint::black_box;
use std::time::Duration;

use super::cluster::{NOW, cluster, places};
use super::{Operation, Subject};
use sluice_coordinator::routing::Question;
use std::net::IpAddr;

pub(super) const SUBJECTS: &[Subject] = &[
    Subject { name: "route/10", beside: None, limit: PICK, counted: 20_000, make: || pick(10) },
    Subject { name: "route/100", beside: Some("route/10"), limit: PICK, counted: 20_000, make: || pick(100) },
    Subject {
        name: "route/1000",
        beside: Some("route/10"),
        limit: PICK,
        counted: 20_000,
        make: || pick(1000),
    },
    Subject { name: "rebuild/10", beside: None, limit: REBUILD, counted: 20, make: || rebuild(10) },
    Subject {
        name: "rebuild/100",
        beside: Some("rebuild/10"),
        limit: REBUILD,
        counted: 4,
        make: || rebuild(100),
    },
    Subject {
        name: "rebuild/1000",
        beside: Some("rebuild/100"),
        limit: REBUILD,
        counted: 4,
        make: || rebuild(1000),
    },
];

const PICK: &str = "memory: the ring's table misses the caches, the larger the more";
const REBUILD: &str = "the ring's own insertion, and the table of successors of the zone that changed";

/// From a client's address and a file's place to an edge.
fn pick(edges: u32) -> Operation {
    let (_, _, snapshot) = cluster(edges);
    let mut places = places();
    let client = IpAddr::from([10, 0, 0, 1]);
    Box::new(move || {
        let start = snapshot.start(places.next().expect("it goes on for ever"), client);
        let question = Question { start, now: NOW, not: None, fan_out: 1, wanted: 1 };
        assert!(black_box(snapshot.pick(&question).first()).is_some());
    })
}

/// An edge leaves, or comes back, in turn.
fn rebuild(edges: u32) -> Operation {
    let (mut rings, members, _) = cluster(edges);
    let fewer = members[..members.len() - 1].to_vec();
    let mut is_whole = true;
    Box::new(move || {
        is_whole = !is_whole;
        let members = if is_whole { &members } else { &fewer };
        black_box(rings.snapshot(members.clone(), Duration::ZERO));
    })
}
