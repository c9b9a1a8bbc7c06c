//! Snapshots are made here: from the edges and what is known of them, off the request's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_shared::cluster::{EdgeId, Weight};

use super::ring::{self, Ring, Table};
use super::standing::{News, judge};
use super::zones::{Contender, ZonePlan};
use super::{Edge, MeanBody, Policy, Seat, Snapshot, Zone, ZoneLoad};

/// An edge and what is known of it, for a snapshot.
#[derive(Debug, Clone)]
pub struct Member {
    pub edge: Arc<Edge>,
    pub news: News,
    /// Where its cache was empty when it came.
    pub fresh_since: Option<Duration>,
}

/// The zones' rings, kept from snapshot to snapshot: only those are changed whose edges are others than before, and
/// those in place. Building one anew is quadratic in its virtual nodes.
pub struct Rings {
    policy: Policy,
    plan: Arc<ZonePlan>,
    mean_body: Arc<MeanBody>,
    by_zone: BTreeMap<Box<str>, Kept>,
}

#[derive(Default)]
struct Kept {
    ring: Ring,
    table: Arc<Table>,
}

impl Kept {
    fn set_members(&mut self, members: Vec<(EdgeId, Weight)>) -> Arc<Table> {
        if members != self.ring.members() {
            self.ring.set_members(members);
            self.table = Arc::new(self.ring.table());
        }
        Arc::clone(&self.table)
    }
}

impl Rings {
    pub fn new(policy: Policy, plan: Arc<ZonePlan>) -> Self {
        Self { policy, plan, mean_body: Arc::default(), by_zone: BTreeMap::new() }
    }

    /// A snapshot of `members` (ids distinct). Where no edge has come or gone it takes microseconds, where one has
    /// some milliseconds, and seconds for a thousand that come to one zone at once: not for a thread that serves.
    pub fn snapshot(&mut self, mut members: Vec<Member>, now: Duration) -> Snapshot {
        members.sort_by(|a, b| a.edge.record.id.cmp(&b.edge.record.id));
        let news: Vec<_> = members.iter().map(|member| member.news).collect();
        let (may, trust) = judge(&news, now);
        let mut of_zones: BTreeMap<Box<str>, Vec<Seat>> = BTreeMap::new();
        for (member, may) in members.into_iter().zip(may) {
            let zone = member.edge.record.zone.as_str().into();
            let Member { edge, news, fresh_since } = member;
            of_zones.entry(zone).or_default().push(Seat { state: news.state, may, fresh_since, edge });
        }
        let plan = Arc::clone(&self.plan);
        let planned = plan.rules().iter().map(|rule| Box::from(rule.name.as_str()));
        let planned: Vec<_> =
            planned.map(|name| (of_zones.remove(&name).unwrap_or_default(), name)).collect();
        let others = of_zones.into_iter().map(|(name, seats)| (seats, name));
        let zones: Vec<_> = planned.into_iter().chain(others).collect();
        self.by_zone.retain(|name, _| zones.iter().any(|(_, zone)| zone == name));
        let turns = turns(&plan, zones.len());
        let zones: Box<[Zone]> = zones
            .into_iter()
            .zip(turns)
            .map(|((seats, name), turns)| self.zone(name, seats, turns, now))
            .collect();
        let contenders = zones.iter().map(Zone::contender).collect();
        let mean_body = Arc::clone(&self.mean_body);
        Snapshot { policy: self.policy, plan, mean_body, trust, zones, contenders }
    }

    fn zone(&mut self, name: Box<str>, mut seats: Vec<Seat>, turns: Box<[u16]>, now: Duration) -> Zone {
        let members = seats.iter().map(|seat| (seat.edge.record.id.clone(), seat.edge.record.weight));
        let table = self.by_zone.entry(name.clone()).or_default().set_members(members.collect());
        let open = seats.iter().enumerate().filter(|(_, seat)| seat.may);
        let open: Box<[u32]> =
            open.map(|(at, _)| u32::try_from(at).expect("fewer edges than 2^32")).collect();
        // Where most are new there is nobody to take the files meanwhile.
        let is_fresh = |seat: &&Seat| {
            let ends = |since: Duration| since.saturating_add(self.policy.slow_start);
            seat.may && seat.fresh_since.is_some_and(|since| ends(since) > now)
        };
        if 2 * seats.iter().filter(is_fresh).count() > open.len() {
            seats.iter_mut().for_each(|seat| seat.fresh_since = None);
        }
        let zone = Zone { name, table, seats: seats.into(), open, load: ZoneLoad::default(), turns };
        zone.settle(now);
        zone
    }
}

impl Default for Rings {
    fn default() -> Self {
        Self::new(Policy::default(), Arc::default())
    }
}

impl Zone {
    fn contender(&self) -> Contender {
        Contender {
            hash: ring::place(self.name.as_bytes()),
            weight: self.seats.iter().map(Seat::weight).sum(),
        }
    }
}

/// For each zone, the zones that its clients go to in turn.
fn turns(plan: &ZonePlan, zones: usize) -> impl Iterator<Item = Box<[u16]>> {
    let zones = u16::try_from(zones).expect("fewer zones than 2^16");
    let index_of = |name: &str| plan.rules().iter().position(|rule| rule.name == name);
    (0..zones).map(move |zone| {
        let mut turns = vec![zone];
        let fallback = plan.rules().get(usize::from(zone)).map_or(&[][..], |rule| &rule.fallback);
        let fallback = fallback.iter().filter_map(|name| index_of(name));
        turns.extend(fallback.filter_map(|at| u16::try_from(at).ok()));
        for other in 0..zones {
            if !turns.contains(&other) {
                turns.push(other);
            }
        }
        turns.into()
    })
}
