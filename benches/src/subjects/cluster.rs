//! Clusters for benches: zones of a hundred edges at most, as large ones are laid out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use sluice_coordinator::routing::standing::{News, State};
use sluice_coordinator::routing::zones::{ZonePlan, ZoneRule};
use sluice_coordinator::routing::{Edge, Member, Policy, Question, Rings, Snapshot, ring};
use sluice_shared::client_net::ClientNet;
use sluice_shared::cluster::{EdgeId, EdgeRecord, Weight};
use sluice_shared::units::BaseUrl;

/// Edges of a zone, at most.
const ZONE_EDGES: u32 = 100;
/// When all questions are asked.
pub const NOW: Duration = Duration::from_millis(500);
/// More files than caches hold the ranges of, so that each pick goes its own way through the ring.
const FILES: u64 = 1 << 20;

/// An edge that is up, in its zone.
fn member(number: u32) -> Member {
    let url = BaseUrl::parse("http://edge.example:9000").expect("a plain URL");
    let id = EdgeId::parse(&format!("edge-{number}")).expect("a plain id");
    let zone = format!("zone-{}", number / ZONE_EDGES);
    let record = EdgeRecord { id, url: url.clone(), admin_url: url, weight: Weight::USUAL, zone };
    Member {
        edge: Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() }),
        news: News { state: State::Up, since: Duration::ZERO, was_up: false },
        fresh_since: None,
    }
}

/// No ring yet, and the plan of the zones of so many edges.
fn rings(edges: u32) -> Rings {
    let rule = |number: u32| ZoneRule {
        name: format!("zone-{number}"),
        clients: ClientNet::parse(&format!("10.{number}.0.0/16")).into_iter().collect(),
        fallback: Vec::new(),
    };
    let plan = ZonePlan::new((0..edges.div_ceil(ZONE_EDGES)).map(rule).collect());
    Rings::new(Policy::default(), Arc::new(plan.expect("the zones differ")))
}

/// So many edges, their rings, and a snapshot of them.
pub fn cluster(edges: u32) -> (Rings, Vec<Member>, Snapshot) {
    let (mut rings, members) = (rings(edges), (0..edges).map(member).collect::<Vec<_>>());
    let snapshot = rings.snapshot(members.clone(), Duration::ZERO);
    (rings, members, snapshot)
}

/// Places of files on the ring, for ever.
pub fn places() -> impl Iterator<Item = u64> {
    (0..FILES).cycle().map(|number| ring::place(&number.to_le_bytes()))
}

/// Requests for one file each, from clients of all zones, for ever.
pub fn questions(snapshot: &Snapshot, edges: u32, fan_out: u32) -> impl Iterator<Item = Question<'static>> {
    let zones = edges.div_ceil(ZONE_EDGES);
    places().zip((0..zones).cycle()).map(move |(place, zone)| {
        let zone = u8::try_from(zone).expect("at most a hundred");
        let start = snapshot.start(place, IpAddr::from([10, zone, 0, 1]));
        Question { start, now: NOW, not: None, fan_out, wanted: 1 }
    })
}
