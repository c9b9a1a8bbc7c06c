//! Which edges a request is sent to: a function of a snapshot of the edges, their loads, the file, and where its client
//! is. No I/O, no clock, no lock, and a pick allocates nothing. Who is up is `membership`'s business.
//!
//! A pick goes the same way each time. The client's zone, or the file's ([`zones`]), has a [`ring`] of all its edges, in
//! which those that get no requests are stepped over: a death changes no ring, moves the dead edge's files to their
//! heirs and, when it comes back, back again. From the file's place on, the ring is walked to the first edge that gets
//! requests ([`standing`]), takes this file already ([`slow_start`]) and is not over its bound ([`load`]); a hot file
//! ([`hot`]) starts at one of several owners. Where a zone has too few, the next one is walked.
//!
//! Times are spans since a start that is the caller's: here nothing asks a clock.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use sluice_shared::cluster::{EdgeId, EdgeRecord};
use sluice_shared::file_id::FileId;

mod build;
pub mod explain;
pub mod hot;
pub mod load;
mod pick;
pub mod ring;
pub mod slow_start;
pub mod standing;
pub mod window;
pub mod zones;

pub use build::{Member, Rings};
pub use pick::{CANDIDATES_MAX, Candidate, Candidates, Question, Start};

use load::{EdgeLoad, LoadReport, MeanBody, Slack, ZoneLoad};
use standing::{State, Trust};
use zones::{Contender, ZonePlan};

/// An edge of the cluster, with what is counted of it for as long as it is known.
#[derive(Debug)]
pub struct Edge {
    pub record: EdgeRecord,
    /// Clients that were sent to it.
    pub picks: Counter,
    pub load: Arc<EdgeLoad>,
}

/// What operators can say about routing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    pub slack: Slack,
    /// How long an edge with an empty cache takes to come to its full share; zero for at once.
    pub slow_start: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { slack: Slack::default(), slow_start: Duration::from_secs(30) }
    }
}

/// The edges of one moment. Never changed, only replaced; its loads are written while it is read.
#[derive(Debug)]
pub struct Snapshot {
    policy: Policy,
    plan: Arc<ZonePlan>,
    mean_body: Arc<MeanBody>,
    trust: Trust,
    /// First those of the plan, in its order, then the others that edges name, by name.
    zones: Box<[Zone]>,
    contenders: Box<[Contender]>,
}

/// The edges of one zone.
#[derive(Debug)]
struct Zone {
    name: Box<str>,
    table: Arc<ring::Table>,
    /// Ordered by id, as the table's indices are.
    seats: Box<[Seat]>,
    /// The indices of those that may get requests.
    open: Box<[u32]>,
    load: ZoneLoad,
    /// The zones that its clients go to, as indices: itself, its fallbacks, all others.
    turns: Box<[u16]>,
}

/// An edge in its zone, and what is thought of it.
#[derive(Debug)]
struct Seat {
    state: State,
    /// Whether it may get requests.
    may: bool,
    /// Its cache was empty then, and it is given its files by and by.
    fresh_since: Option<Duration>,
    edge: Arc<Edge>,
}

impl Seat {
    fn weight(&self) -> f64 {
        f64::from(self.edge.record.weight.value())
    }

    fn member(&self) -> load::Member<'_> {
        (&self.edge.load, self.weight())
    }
}

/// Where a file lies on every ring.
pub fn place_of(file: &FileId<'_>) -> u64 {
    ring::place(file.as_str().as_bytes())
}

impl Snapshot {
    /// What the news were taken for that say who gets requests.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// How many edges may get requests.
    pub fn open(&self) -> usize {
        self.zones.iter().map(|zone| zone.open.len()).sum()
    }

    /// The part of its zone's files that comes first to each edge, 0 to 1; bounds and slow start aside. It walks all
    /// rings: for who looks, not for each request.
    pub fn shares(&self) -> impl Iterator<Item = (&EdgeId, f64)> {
        self.zones.iter().flat_map(|zone| {
            let shares = zone.table.shares(zone.seats.len(), |at| zone.seats[at as usize].may);
            zone.seats.iter().map(|seat| &seat.edge.record.id).zip(shares)
        })
    }

    /// An edge says how loaded it is.
    pub fn report(&self, id: &EdgeId, report: &LoadReport, now: Duration) {
        for zone in &self.zones {
            let Ok(at) = zone.seats.binary_search_by(|seat| seat.edge.record.id.cmp(id)) else { continue };
            let seat = &zone.seats[at];
            if seat.may {
                zone.load.report(&seat.edge.load, report, &self.mean_body, now);
            } else {
                seat.edge.load.report(report, &self.mean_body, now);
            }
            return;
        }
    }

    /// Adds the zones' loads up anew; to be done each second, off the request's way.
    pub fn settle(&self, now: Duration) {
        for zone in &self.zones {
            zone.settle(now);
        }
    }
}

impl Zone {
    fn settle(&self, now: Duration) {
        self.load.settle(self.open.iter().map(|at| self.seats[*at as usize].member()), now);
    }
}

#[cfg(test)]
mod tests;
