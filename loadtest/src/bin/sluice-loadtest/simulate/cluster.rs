//! The cluster: edges of skewed weight in zones of their own networks, and the snapshot that routes to them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Counter;
use sluice_coordinator::routing::hot::HotFiles;
use sluice_coordinator::routing::load::LoadReport;
use sluice_coordinator::routing::standing::{News, State};
use sluice_coordinator::routing::zones::{ZonePlan, ZoneRule};
use sluice_coordinator::routing::{Edge, Member, Policy, Question, Rings, Snapshot};
use sluice_shared::client_net::ClientNet;
use sluice_shared::cluster::{EdgeId, EdgeRecord, Weight};
use sluice_shared::units::BaseUrl;

use super::traffic::{Request, Traffic};
use crate::arguments::Simulate;

/// Of edges in turn: small, usual, large machines.
const WEIGHTS: [u16; 4] = [50, 100, 100, 400];
/// The coordinator's default.
const HOT_RATE: f64 = 1000.0;

pub(super) struct Cluster {
    rings: Rings,
    members: Vec<Member>,
    snapshot: Snapshot,
    hot: HotFiles,
    zones: u32,
    now: Duration,
}

impl Cluster {
    pub(super) fn new(arguments: &Simulate) -> Self {
        let rule = |zone: u32| ZoneRule {
            name: name(zone),
            clients: ClientNet::parse(&format!("10.{zone}.0.0/16")).into_iter().collect(),
            fallback: vec![name((zone + 1) % arguments.zones)]
                .into_iter()
                .filter(|next| *next != name(zone))
                .collect(),
        };
        let plan = ZonePlan::new((0..arguments.zones).map(rule).collect()).expect("the zones differ");
        let members: Vec<_> = (0..arguments.edges).map(|n| member(n, n % arguments.zones)).collect();
        // Slow start is a matter of seconds, and is left out of what is to be seen here.
        let policy = Policy { slow_start: Duration::ZERO, ..Policy::default() };
        let mut rings = Rings::new(policy, Arc::new(plan));
        let snapshot = rings.snapshot(members.clone(), Duration::ZERO);
        Self {
            rings,
            members,
            snapshot,
            hot: HotFiles::new(HOT_RATE),
            zones: arguments.zones,
            now: Duration::ZERO,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn weight(&self, edge: usize) -> f64 {
        f64::from(self.members[edge].edge.record.weight.value())
    }

    pub(super) fn weights(&self) -> f64 {
        (0..self.len()).map(|edge| self.weight(edge)).sum()
    }

    pub(super) fn is_up(&self, edge: usize) -> bool {
        self.members[edge].news.state == State::Up
    }

    pub(super) fn zone_of(&self, edge: usize) -> u32 {
        number_of(&self.members[edge].edge) % self.zones
    }

    pub(super) fn zone(&self, zone: u32) -> Vec<usize> {
        (0..self.len()).filter(|edge| self.zone_of(*edge) == zone).collect()
    }

    pub(super) fn zones(&self) -> f64 {
        f64::from(self.zones)
    }

    /// Different edges, by chance.
    pub(super) fn some(&self, count: usize, traffic: &mut Traffic) -> Vec<usize> {
        let mut all: Vec<_> = (0..self.len()).collect();
        for at in 0..count.min(all.len()) {
            let other = at + traffic.below(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }

    /// A new edge in some zone; gives the time that routing took for it.
    pub(super) fn join(&mut self, traffic: &mut Traffic) -> Duration {
        let number = u32::try_from(self.len()).expect("fewer edges than 2^32");
        let skip = u32::try_from(traffic.below(self.zones as usize)).expect("a zone's number");
        // Numbers give zones, so those of other zones are left out.
        let taken = self.members.iter().map(|member| number_of(&member.edge)).max().unwrap_or(number) + 1;
        let number = taken + (skip + self.zones - taken % self.zones) % self.zones;
        self.members.push(member(number, number % self.zones));
        self.renew()
    }

    pub(super) fn set_up(&mut self, edge: usize, is_up: bool) -> Duration {
        self.members[edge].news.state = if is_up { State::Up } else { State::Down };
        self.renew()
    }

    pub(super) fn set_all_up(&mut self, edges: &[usize], is_up: bool) {
        for edge in edges {
            self.members[*edge].news.state = if is_up { State::Up } else { State::Down };
        }
        self.renew();
    }

    /// Leaves the registry, and comes back; gives the longer time of the two.
    pub(super) fn leave_and_return(&mut self, edge: usize) -> Duration {
        let member = self.members.swap_remove(edge);
        let left = self.renew();
        self.members.push(member);
        let last = self.members.len() - 1;
        self.members.swap(edge, last);
        left.max(self.renew())
    }

    fn renew(&mut self) -> Duration {
        let members = self.members.clone();
        let begun = Instant::now();
        self.snapshot = self.rings.snapshot(members, self.now);
        begun.elapsed()
    }

    /// The edge that a file would be asked of where nothing else is going on.
    pub(super) fn owner(&self, request: &Request) -> u32 {
        // Long after all that was counted has faded.
        let now = Duration::from_secs(1 << 20);
        let start = self.snapshot.start(request.place, request.client);
        let question = Question { start, now, not: None, fan_out: 1, wanted: 1 };
        self.snapshot.pick(&question).first().map_or(u32::MAX, |candidate| number_of(candidate.edge()))
    }

    /// The same as a coordinator does for a request; gives the edge's number.
    pub(super) fn assign(&self, request: &Request, now: Duration) -> u32 {
        let start = self.snapshot.start(request.place, request.client);
        let fan_out = self.hot.observe(start.key(), now);
        let question = Question { start, now, not: None, fan_out, wanted: 1 };
        let candidate = self.snapshot.pick(&question).first().expect("some edge is up");
        candidate.assign(now);
        number_of(candidate.edge())
    }

    pub(super) fn number(&self, edge: usize) -> u32 {
        number_of(&self.members[edge].edge)
    }

    pub(super) fn report(&self, edge: usize, report: &LoadReport, now: Duration) {
        self.snapshot.report(&self.members[edge].edge.record.id, report, now);
    }

    /// It is then: loads are added up, and what changes from here on changes then.
    pub(super) fn settle(&mut self, now: Duration) {
        self.now = now;
        self.snapshot.settle(now);
    }

    /// An address of a zone's network.
    pub(super) fn client(zone: u32, host: u16) -> IpAddr {
        let [high, low] = host.to_be_bytes();
        IpAddr::from([10, u8::try_from(zone).expect("at most 250 zones"), high, low])
    }
}

fn name(zone: u32) -> String {
    format!("zone-{zone}")
}

fn member(number: u32, zone: u32) -> Member {
    let url = BaseUrl::parse(&format!("http://edge-{number}.example:9000")).expect("a plain URL");
    let record = EdgeRecord {
        id: EdgeId::parse(&format!("edge-{number}")).expect("a plain id"),
        url: url.clone(),
        admin_url: url,
        weight: Weight::new(WEIGHTS[(number / 7) as usize % WEIGHTS.len()]).expect("a weight"),
        zone: name(zone),
    };
    Member {
        edge: Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() }),
        news: News { state: State::Up, since: Duration::ZERO, was_up: false },
        fresh_since: None,
    }
}

fn number_of(edge: &Edge) -> u32 {
    let number = edge.record.id.as_str().strip_prefix("edge-").and_then(|number| number.parse().ok());
    number.expect("edges are named by numbers here")
}
