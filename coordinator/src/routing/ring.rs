//! The consistent hash ring: live edges → a table in which a file's place gives its edge and the true successors.
//!
//! Pure. Placement is part of what users rely on (a change moves every cached file at once): the hash, its seed and
//! the number of virtual nodes are fixed by a golden test.

use std::hash::{BuildHasher, Hash, Hasher};

use sluice_shared::cluster::{EdgeId, Weight};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::CANDIDATES_MAX;

/// Virtual nodes of an edge of weight 100. With 160 the fullest of 100 edges holds 1.11 to 1.17 times the mean
/// (with the library's default of 10, up to 1.8).
const VNODES_AT_USUAL_WEIGHT: usize = 160;
/// "sluice" in ASCII. Any fixed number would do; this one must never change.
const SEED: u64 = 0x736c_7569_6365;

/// XXH3 with a fixed seed, each write seeded by what came before. A single write hashes as [`place`] does.
#[derive(Debug, Clone, Copy)]
struct Xxh3(u64);

impl Hasher for Xxh3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    // The library rehashes a node's hash for each virtual node: on every machine from the same bytes.
    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Xxh3 {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

/// An edge as the library sees it: its hash is that of the id's bytes, without the terminator that `str` adds.
#[derive(Clone, PartialEq, Eq)]
struct Node(EdgeId);

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_str().as_bytes());
    }
}

/// Where a key lies on the ring.
fn place(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// Which edges are on the ring. Kept from snapshot to snapshot, because building is quadratic in the number of
/// virtual nodes (1,000 edges: 4 s) and one edge more or less is cheap (19 ms).
#[derive(Clone)]
pub struct Ring {
    nodes: consistent_hash_ring::Ring<Node, Xxh3>,
    members: Vec<(EdgeId, Weight)>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { nodes: consistent_hash_ring::RingBuilder::new(Xxh3(SEED)).build(), members: Vec::new() }
    }
}

impl Ring {
    /// Makes `members` (ids distinct, in any order) the edges on the ring.
    pub fn set_members(&mut self, mut members: Vec<(EdgeId, Weight)>) {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let weight_of = |list: &[(EdgeId, Weight)], id: &EdgeId| {
            let found = list.binary_search_by(|member| member.0.cmp(id));
            found.ok().map(|at| list[at].1)
        };
        for (id, _) in &self.members {
            if weight_of(&members, id).is_none() {
                self.nodes.remove(&Node(id.clone()));
            }
        }
        for (id, weight) in &members {
            if weight_of(&self.members, id) != Some(*weight) {
                self.nodes.insert_weight(Node(id.clone()), vnodes(*weight));
            }
        }
        self.members = members;
    }

    /// The edges on the ring, ordered by id: what the table's indices refer to.
    pub fn members(&self) -> &[(EdgeId, Weight)] {
        &self.members
    }

    /// Derives the look-up table.
    pub fn table(&self) -> Table {
        let mut ranges: Vec<(u64, u32)> = Vec::new();
        for range in self.nodes.resident_ranges() {
            let node = &range.node().0;
            let index = self.members.binary_search_by(|member| member.0.cmp(node));
            let index = index.expect("every node of the ring is a member");
            let end = *range.keys().end();
            ranges.push((end, u32::try_from(index).expect("fewer edges than 2^32")));
            // A virtual node at the very end of the ring leaves no range to wrap around.
            if end == u64::MAX {
                break;
            }
        }
        Table::derive(&ranges, self.members.len())
    }
}

fn vnodes(weight: Weight) -> usize {
    // Never 0: the library would not terminate over such a node.
    (VNODES_AT_USUAL_WEIGHT * usize::from(weight.value()) / usize::from(Weight::USUAL.value())).max(1)
}

/// The ring as ranges of places: their ends ascending, the last one `u64::MAX`, and for each the edges that a key in
/// it belongs to in turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    ends: Box<[u64]>,
    owners: Box<[[u32; CANDIDATES_MAX]]>,
    /// How many of each entry's owners are meant: all edges, where there are few.
    owners_count: usize,
    /// Of the whole ring, by edge.
    shares: Box<[f64]>,
}

impl Table {
    fn derive(ranges: &[(u64, u32)], edges: usize) -> Self {
        let mut owners = vec![[0; CANDIDATES_MAX]; ranges.len()];
        // Walking backwards, the owners of a range are its edge, then the owners of the next range without it. One
        // round finds what the first range's owners are, the second one writes.
        let mut next = [u32::MAX; CANDIDATES_MAX];
        for round in 0..2 {
            for (at, (_, edge)) in ranges.iter().enumerate().rev() {
                next = moved_to_front(next, *edge);
                if round == 1 {
                    owners[at] = next;
                }
            }
        }
        let mut widths = vec![0_u128; edges];
        let mut start = 0_u128;
        for (end, edge) in ranges {
            let after = u128::from(*end) + 1;
            widths[*edge as usize] += after - start;
            start = after;
        }
        Self {
            ends: ranges.iter().map(|(end, _)| *end).collect(),
            owners: owners.into(),
            owners_count: edges.min(CANDIDATES_MAX),
            shares: widths.iter().map(|width| *width as f64 / 2_f64.powi(64)).collect(),
        }
    }

    /// The edges that `key` belongs to in turn: up to [`CANDIDATES_MAX`] distinct indices, none on an empty ring.
    /// Each is the one that inherits the key when all before it go. Neither locks nor allocates.
    pub fn owners(&self, key: &[u8]) -> &[u32] {
        let place = place(key);
        let at = self.ends.partition_point(|end| *end < place);
        match self.owners.get(at) {
            Some(owners) => &owners[..self.owners_count],
            None => &[],
        }
    }

    /// The part of all places that is an edge's own, 0 to 1.
    pub fn share(&self, edge: usize) -> f64 {
        self.shares.get(edge).copied().unwrap_or(0.0)
    }
}

/// `edge`, then `list` without it, cut to length.
fn moved_to_front(list: [u32; CANDIDATES_MAX], edge: u32) -> [u32; CANDIDATES_MAX] {
    let mut moved = list;
    let until = list.iter().position(|known| *known == edge);
    let until = until.unwrap_or(CANDIDATES_MAX - 1);
    moved.copy_within(..until, 1);
    moved[0] = edge;
    moved
}

#[cfg(test)]
mod tests;
