//! Bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): an edge that has more than its part of the work, with some
//! slack, passes a file on to the next one on the ring.
//!
//! An edge's load is what it says it still has to send, and what it was assigned in the last second, which it may not
//! have said yet. How large a file is nobody knows here, so an assignment counts as a body of mean size. All is
//! measured in such bodies. Numbers are read while others write them: a pick sees loads of about now, and takes no
//! lock for it.
//!
//! What was just assigned has a bound of its own. Reports come late: an edge that had little in flight would be given
//! the work of seconds before it says so, then nothing, and so on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::window::{SlidingCount, Tick};

/// A report that is older says nothing: what was in flight then has arrived.
const REPORT_KEPT: Duration = Duration::from_secs(10);
/// The mean body while nothing is known of bodies.
const BODY_BYTES_AT_FIRST: f64 = 1_048_576.0;
/// The mean is that of the last so many bodies, about: some seconds' worth in a small cluster.
const BODIES_REMEMBERED: f64 = 1000.0;
/// No body counts for less: heads cost as well.
const BODY_BYTES_MIN: f64 = 1024.0;
/// No edge is over its bound with fewer bodies than this: it has little to do, and passing a file on costs the next
/// edge a read from the store.
const BOUND_MIN: f64 = 32.0;

/// Of the slack, what picks use: the mean of a zone falls between a pick and a look at what came of it (by the simulation,
/// 1.251 of the mean for a bound of 1.25 without this, of 1,000 edges).
const SLACK_USED: f64 = 0.96;

/// What an edge says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(default)]
pub struct LoadReport {
    /// Of bodies under way, what is not sent yet.
    pub in_flight_bytes: u64,
    /// Bytes a second that it can send; 0 where it does not say.
    pub capacity_bytes_per_second: u64,
    /// Bodies and their bytes since it started.
    pub bodies: u64,
    pub body_bytes: u64,
}

/// How much more than its part an edge may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slack {
    factor: f64,
    bound_min: f64,
}

impl Slack {
    /// `factor` is above 1: the mean times this is the bound, in whole bodies. The closer it is to 1, the larger the least
    /// bound: there has to be an edge below its bound, though rounding takes up to one body from each, a part of it that
    /// is less than the slack.
    pub fn new(factor: f64) -> Self {
        let slack = (factor - 1.0) * SLACK_USED;
        Self { factor: 1.0 + slack, bound_min: BOUND_MIN.max(2.0 + 1.0 / slack) }
    }
}

impl Default for Slack {
    fn default() -> Self {
        Self::new(1.25)
    }
}

/// One edge's load; kept for as long as the edge is known, whatever snapshots come and go.
#[derive(Debug, Default)]
pub struct EdgeLoad {
    in_flight_bytes: AtomicU64,
    /// Milliseconds, and one: 0 before there was a report.
    reported_at: AtomicU64,
    capacity: AtomicU64,
    /// Totals of the last report, to know what came since.
    bodies: AtomicU64,
    body_bytes: AtomicU64,
    assigned: SlidingCount,
    /// Clients that were sent to it, ever.
    picked: AtomicU64,
}

impl EdgeLoad {
    /// Clients that were sent to it since it is known.
    pub fn picked(&self) -> u64 {
        self.picked.load(Ordering::Relaxed)
    }

    /// What it says it has to send, unless that was long ago.
    fn in_flight(&self, now: Duration) -> u64 {
        let kept = millis(now).saturating_sub(millis(REPORT_KEPT));
        if self.reported_at.load(Ordering::Relaxed) > kept {
            self.in_flight_bytes.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Takes in a report; gives what counted as in flight until now.
    pub(super) fn report(&self, report: &LoadReport, mean: &MeanBody, now: Duration) -> u64 {
        let before = self.in_flight(now);
        self.in_flight_bytes.store(report.in_flight_bytes, Ordering::Relaxed);
        self.capacity.store(report.capacity_bytes_per_second, Ordering::Relaxed);
        let is_first = self.reported_at.swap(millis(now) + 1, Ordering::Relaxed) == 0;
        let bodies = report.bodies.checked_sub(self.bodies.swap(report.bodies, Ordering::Relaxed));
        let bytes = report.body_bytes.checked_sub(self.body_bytes.swap(report.body_bytes, Ordering::Relaxed));
        // A first total says nothing of when, and totals that fall are another process's.
        if let (Some(bodies), Some(bytes), false) = (bodies, bytes, is_first) {
            mean.observe(bodies, bytes);
        }
        before
    }

    /// Bytes a second that it said it can send.
    fn capacity(&self) -> Option<f64> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        (capacity > 0).then_some(capacity as f64)
    }
}

/// The bytes of a mean body, by all edges' reports.
#[derive(Debug)]
pub struct MeanBody(AtomicU64);

impl Default for MeanBody {
    fn default() -> Self {
        Self(AtomicU64::new(BODY_BYTES_AT_FIRST.to_bits()))
    }
}

impl MeanBody {
    pub fn bytes(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Takes in bodies that were sent. Two at once may lose one of them: it is a mean.
    fn observe(&self, bodies: u64, bytes: u64) {
        let (bodies, bytes, mean) = (bodies as f64, bytes as f64, self.bytes());
        let moved = (bytes - mean * bodies) / (BODIES_REMEMBERED + bodies);
        self.0.store((mean + moved).max(BODY_BYTES_MIN).to_bits(), Ordering::Relaxed);
    }
}

/// The load of those edges of a zone together that may get requests.
#[derive(Debug, Default)]
pub(super) struct ZoneLoad {
    in_flight_bytes: AtomicU64,
    assigned: SlidingCount,
    /// What they can do together, as a float's bits: by their own word where all have given it, else by weight.
    capacity: AtomicU64,
    is_by_word: AtomicBool,
}

/// An edge as its zone's load sees it.
pub(super) type Member<'e> = (&'e EdgeLoad, f64);

impl ZoneLoad {
    /// Adds up anew: for a new snapshot, and each second, because additions and reports that meet leave a remainder.
    /// `edges` are those that may get requests, with their weights.
    pub(super) fn settle<'e>(&self, edges: impl Iterator<Item = Member<'e>> + Clone, now: Duration) {
        let in_flight = edges.clone().map(|(load, _)| load.in_flight(now)).fold(0, u64::saturating_add);
        self.in_flight_bytes.store(in_flight, Ordering::Relaxed);
        self.assigned.set_sum(edges.clone().map(|(load, _)| &load.assigned), now.into());
        let by_word = edges.clone().map(|(load, _)| load.capacity()).sum::<Option<f64>>();
        let capacity = by_word.unwrap_or_else(|| edges.map(|(_, weight)| weight).sum());
        self.is_by_word.store(by_word.is_some(), Ordering::Relaxed);
        self.capacity.store(capacity.to_bits(), Ordering::Relaxed);
    }

    /// A file was assigned to one of its edges.
    pub(super) fn assign(&self, edge: &EdgeLoad, now: Duration) {
        let tick = Tick::from(now);
        edge.assigned.add(tick);
        edge.picked.fetch_add(1, Ordering::Relaxed);
        self.assigned.add(tick);
    }

    /// One of its edges reports.
    pub(super) fn report(&self, edge: &EdgeLoad, report: &LoadReport, mean: &MeanBody, now: Duration) {
        let before = edge.report(report, mean, now);
        let moved = |sum: u64| Some(sum.saturating_sub(before).saturating_add(report.in_flight_bytes));
        let _ = self.in_flight_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    /// What a pick now measures edges by.
    pub(super) fn scale(&self, slack: Slack, mean: &MeanBody, now: Duration) -> Scale {
        let (tick, body_bytes) = (Tick::from(now), mean.bytes());
        let in_flight = self.in_flight_bytes.load(Ordering::Relaxed) as f64 / body_bytes;
        let assigned = self.assigned.value(tick);
        let capacity = f64::from_bits(self.capacity.load(Ordering::Relaxed));
        Scale {
            now,
            tick,
            body_bytes,
            bound_min: slack.bound_min,
            bound_of_capacity: slack.factor * (in_flight + assigned + 1.0) / capacity,
            pace_of_capacity: slack.factor * (assigned + 1.0) / capacity,
            is_by_word: self.is_by_word.load(Ordering::Relaxed),
        }
    }
}

/// The bounds of one moment in one zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    now: Duration,
    tick: Tick,
    body_bytes: f64,
    bound_min: f64,
    /// Bodies that one unit of capacity may have.
    bound_of_capacity: f64,
    /// The same of what was assigned in the last second.
    pace_of_capacity: f64,
    is_by_word: bool,
}

/// An edge's load and its bound, in bodies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weighed {
    pub(super) load: f64,
    pub(super) bound: f64,
    /// Of the load, what was assigned in the last second, and its bound.
    pub(super) assigned: f64,
    pub(super) pace: f64,
}

impl Weighed {
    /// Whether one more would be too many.
    pub(super) fn is_full(self) -> bool {
        self.load + 1.0 > self.bound
    }

    /// Whether it was given more than its part of the last second's work: others come first, and it before those that
    /// are full.
    pub(super) fn is_ahead(self) -> bool {
        self.assigned + 1.0 > self.pace
    }
}

impl Scale {
    pub(super) fn weigh(&self, (edge, weight): Member<'_>) -> Weighed {
        let in_flight = edge.in_flight(self.now) as f64 / self.body_bytes;
        let capacity = if self.is_by_word { edge.capacity().unwrap_or(0.0) } else { weight };
        let assigned = edge.assigned.value(self.tick);
        let bound = |of_capacity: f64| (of_capacity * capacity).floor().max(self.bound_min);
        Weighed {
            load: in_flight + assigned,
            bound: bound(self.bound_of_capacity),
            assigned,
            pace: bound(self.pace_of_capacity),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn report(in_flight_bytes: u64, capacity: u64) -> LoadReport {
        LoadReport { in_flight_bytes, capacity_bytes_per_second: capacity, ..LoadReport::default() }
    }

    /// A zone of two edges of weight 100 and 300.
    struct Pair {
        edges: [EdgeLoad; 2],
        zone: ZoneLoad,
        mean: MeanBody,
    }

    impl Pair {
        fn new() -> Self {
            let pair =
                Self { edges: Default::default(), zone: ZoneLoad::default(), mean: MeanBody::default() };
            pair.settle(secs(0.0));
            pair
        }

        fn members(&self) -> [Member<'_>; 2] {
            [(&self.edges[0], 100.0), (&self.edges[1], 300.0)]
        }

        fn settle(&self, now: Duration) {
            self.zone.settle(self.members().into_iter(), now);
        }

        fn weighed(&self, now: Duration) -> [(f64, f64); 2] {
            let scale = self.zone.scale(Slack::default(), &self.mean, now);
            self.members().map(|member| scale.weigh(member)).map(|weighed| (weighed.load, weighed.bound))
        }
    }

    #[test]
    fn bounds_follow_the_work_and_the_weights() {
        let pair = Pair::new();
        assert_eq!(pair.weighed(secs(0.0)), [(0.0, 32.0), (0.0, 32.0)]);
        for _ in 0..300 {
            pair.zone.assign(&pair.edges[1], secs(0.5));
        }
        pair.zone.report(&pair.edges[0], &report(99 * MIB, 0), &pair.mean, secs(0.5));
        // 399 and one more, times 1.24, a quarter and three quarters of it.
        assert_eq!(pair.weighed(secs(0.5)), [(99.0, 124.0), (300.0, 372.0)]);
        assert_eq!(pair.weighed(secs(1.5)), [(99.0, 77.0), (150.0, 232.0)], "half of the second is over");
        assert_eq!(pair.weighed(secs(3.0)), [(99.0, 32.0), (0.0, 93.0)]);
        let scale = pair.zone.scale(Slack::default(), &pair.mean, secs(3.0));
        assert!(scale.weigh(pair.members()[0]).is_full() && !scale.weigh(pair.members()[1]).is_full());
    }

    #[test]
    fn a_report_takes_the_last_ones_place_and_grows_old() {
        let pair = Pair::new();
        for (now, bytes) in [(1.0, 50 * MIB), (2.0, 80 * MIB), (3.0, 40 * MIB)] {
            pair.zone.report(&pair.edges[0], &report(bytes, 0), &pair.mean, secs(now));
        }
        assert_eq!(pair.weighed(secs(3.0))[0], (40.0, 32.0));
        assert_eq!(pair.weighed(secs(12.9))[0].0, 40.0);
        assert_eq!(pair.weighed(secs(13.1))[0].0, 0.0);
        pair.settle(secs(13.1));
        assert_eq!(pair.weighed(secs(13.1)), [(0.0, 32.0), (0.0, 32.0)]);
    }

    #[test]
    fn capacity_counts_once_all_have_told_it() {
        let pair = Pair::new();
        pair.zone.report(&pair.edges[0], &report(1000 * MIB, 5000), &pair.mean, secs(1.0));
        pair.settle(secs(1.0));
        assert_eq!(pair.weighed(secs(1.0)), [(1000.0, 310.0), (0.0, 930.0)]);
        pair.zone.report(&pair.edges[1], &report(0, 5000), &pair.mean, secs(1.0));
        pair.settle(secs(1.0));
        assert_eq!(pair.weighed(secs(1.0)), [(1000.0, 620.0), (0.0, 620.0)]);
    }

    #[test]
    fn settling_changes_nothing_that_was_counted() {
        let pair = Pair::new();
        for step in 0..100_u32 {
            pair.zone.assign(&pair.edges[usize::from(step % 3 == 0)], secs(f64::from(step) * 0.01));
        }
        let before = pair.weighed(secs(1.2));
        pair.settle(secs(1.2));
        assert_eq!(pair.weighed(secs(1.2)), before);
    }

    #[test]
    fn the_mean_body_follows_reports_and_not_restarts() {
        let (load, zone, mean) = (EdgeLoad::default(), ZoneLoad::default(), MeanBody::default());
        let totals = |bodies, body_bytes| LoadReport { bodies, body_bytes, ..LoadReport::default() };
        zone.report(&load, &totals(1_000_000, 0), &mean, secs(1.0));
        assert_eq!(mean.bytes(), BODY_BYTES_AT_FIRST, "a first total says nothing of when");
        zone.report(&load, &totals(1_001_000, 1000 * 3 * MIB), &mean, secs(2.0));
        assert_eq!(mean.bytes(), 2.0 * BODY_BYTES_AT_FIRST);
        zone.report(&load, &totals(10, 10), &mean, secs(3.0));
        assert_eq!(mean.bytes(), 2.0 * BODY_BYTES_AT_FIRST, "the edge was started anew");
        for turn in 1..200 {
            zone.report(&load, &totals(10 + turn * 1000, 10), &mean, secs(4.0));
        }
        assert_eq!(mean.bytes(), BODY_BYTES_MIN);
    }

    #[test]
    fn hostile_reports_only_fill_the_edge_that_makes_them() {
        let pair = Pair::new();
        for bytes in [u64::MAX, u64::MAX, 0, u64::MAX] {
            let report = LoadReport { in_flight_bytes: bytes, bodies: 1, body_bytes: bytes, ..report(0, 0) };
            pair.zone.report(&pair.edges[0], &report, &pair.mean, secs(1.0));
        }
        let scale = pair.zone.scale(Slack::default(), &pair.mean, secs(1.0));
        assert!(scale.weigh(pair.members()[0]).is_full());
        assert!(!scale.weigh(pair.members()[1]).is_full());
        assert!(pair.mean.bytes().is_finite());
    }
}
