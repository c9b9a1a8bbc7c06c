//! Which edges a file belongs to: a pure function of a snapshot of the live edges and the file's id.
//!
//! No I/O, no clock, no lock. Who is live is `membership`'s business.

use std::sync::Arc;

use metrics::Counter;
use sluice_shared::cluster::{EdgeId, EdgeRecord};
use sluice_shared::file_id::FileId;

pub mod ring;

use ring::{Ring, Table};

/// The edge that a client is sent to, and up to three others for when that one fails.
pub const CANDIDATES_MAX: usize = 4;

/// An edge that requests may be sent to, with the handle that counts how often that happened.
#[derive(Debug)]
pub struct Edge {
    pub record: EdgeRecord,
    pub picks: Counter,
}

/// The live edges of one moment and their ring. Never changed, only replaced.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Ordered by id, as the table's indices are.
    edges: Box<[Arc<Edge>]>,
    table: Table,
}

impl Snapshot {
    /// Brings `ring` to exactly `live` (ids distinct) and takes a snapshot of it. Takes milliseconds, seconds for a
    /// thousand edges that come at once: not for a thread that serves.
    pub fn build(ring: &mut Ring, mut live: Vec<Arc<Edge>>) -> Self {
        live.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        let members = live.iter().map(|edge| (edge.record.id.clone(), edge.record.weight));
        ring.set_members(members.collect());
        Self { table: ring.table(), edges: live.into() }
    }

    pub fn edges(&self) -> &[Arc<Edge>] {
        &self.edges
    }

    /// The edges for a file, best first.
    pub fn candidates(&self, file: &FileId<'_>) -> Candidates<'_> {
        Candidates { edges: &self.edges, order: self.table.owners(file.as_str().as_bytes()) }
    }

    /// The part of all files that an edge is the first candidate of, 0 to 1; 0 for one that is not live.
    pub fn share(&self, id: &EdgeId) -> f64 {
        let found = self.edges.binary_search_by(|edge| edge.record.id.cmp(id));
        found.map_or(0.0, |at| self.table.share(at))
    }
}

/// The edges for one file, best first, distinct: 0 to [`CANDIDATES_MAX`] of them, 0 only where no edge is live.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'s> {
    edges: &'s [Arc<Edge>],
    order: &'s [u32],
}

impl<'s> Candidates<'s> {
    pub fn first(&self) -> Option<&'s Edge> {
        self.iter().next()
    }

    pub fn iter(&self) -> impl Iterator<Item = &'s Edge> + use<'s> {
        let edges = self.edges;
        self.order.iter().map(move |index| &*edges[*index as usize])
    }
}
