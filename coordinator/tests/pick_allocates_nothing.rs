//! Picking an edge allocates nothing: a coordinator does it on every request.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../shared/tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;
use std::time::Duration;

use counting::allocations_of;
use metrics::Counter;
use sluice_coordinator::routing::hot::HotFiles;
use sluice_coordinator::routing::standing::{News, State};
use sluice_coordinator::routing::zones::{ZonePlan, ZoneRule};
use sluice_coordinator::routing::{Edge, Member, Policy, Question, Rings, Snapshot, place_of};
use sluice_shared::client_net::ClientNet;
use sluice_shared::cluster::{EdgeId, EdgeRecord, Weight};
use sluice_shared::file_id::FileId;
use sluice_shared::units::BaseUrl;

/// Four zones of fifty edges, every seventh of which is down and every eleventh new.
fn snapshot() -> Snapshot {
    let rule = |n: u8| ZoneRule {
        name: format!("zone-{n}"),
        clients: vec![ClientNet::parse(&format!("10.{n}.0.0/16")).unwrap()],
        fallback: Vec::new(),
    };
    let plan = ZonePlan::new((0..4).map(rule).collect()).unwrap();
    let member = |n: u32| {
        let url = BaseUrl::parse("http://edge.example").unwrap();
        let id = EdgeId::parse(&format!("edge-{n}")).unwrap();
        let zone = format!("zone-{}", n % 4);
        let record = EdgeRecord { id, url: url.clone(), admin_url: url, weight: Weight::USUAL, zone };
        let state = if n.is_multiple_of(7) { State::Down } else { State::Up };
        Member {
            edge: Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() }),
            news: News { state, since: Duration::ZERO, was_up: false },
            fresh_since: (n.is_multiple_of(11)).then_some(Duration::ZERO),
        }
    };
    Rings::new(Policy::default(), Arc::new(plan)).snapshot((0..200).map(member).collect(), Duration::ZERO)
}

#[test]
fn a_pick_allocates_nothing_whatever_it_meets() {
    let (snapshot, hot) = (snapshot(), HotFiles::new(50.0));
    let mut fan_outs = 1;
    for n in 0..20_000_u32 {
        // One file is hot enough to fill its owners, most are cold; clients are in each zone and in none.
        let name = if n.is_multiple_of(2) { 0 } else { n }.to_string();
        let file = FileId::parse(&*name).unwrap();
        let client = format!("10.{}.0.1", n % 5).parse().unwrap();
        let now = Duration::from_micros(u64::from(n) * 100);
        let not = (n.is_multiple_of(3)).then_some("edge-5");
        let (count, fan_out) = allocations_of(|| {
            let start = snapshot.start(place_of(&file), client);
            let fan_out = hot.observe(start.key(), now);
            let wanted = if n.is_multiple_of(2) { 1 } else { 4 };
            let candidates = snapshot.pick(&Question { start, now, not, fan_out, wanted });
            candidates.first().unwrap().assign(now);
            fan_out
        });
        assert_eq!(count, 0, "request {n}");
        fan_outs = fan_outs.max(fan_out);
    }
    assert_eq!(fan_outs, 64, "the hot file was spread");
}

#[test]
fn allocations_are_seen() {
    let (count, text) = allocations_of(|| String::from("something"));
    assert_eq!((count, text.len()), (1, 9));
}
