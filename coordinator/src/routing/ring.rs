//! The consistent hash ring: a zone's edges → a table in which a file's place gives its edge and the true successors.
//!
//! Pure. Placement is part of what users rely on (a change moves every cached file at once): the hash, its seed and
//! the number of virtual nodes are fixed by a golden test.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use sluice_shared::cluster::{EdgeId, Weight};
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

/// Where a key lies on every ring.
pub fn place(key: &[u8]) -> u64 {
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
        let members = self.members.iter().enumerate();
        let indices: HashMap<&EdgeId, u32> =
            members.map(|(at, (id, _))| (id, u32::try_from(at).expect("fewer edges than 2^32"))).collect();
        let (mut ends, mut owners) = (Vec::new(), Vec::new());
        for range in self.nodes.resident_ranges() {
            let end = *range.keys().end();
            ends.push(end);
            owners.push(indices[&range.node().0]);
            // A virtual node at the very end of the ring leaves no range to wrap around.
            if end == u64::MAX {
                break;
            }
        }
        Table::new(ends, owners)
    }
}

fn vnodes(weight: Weight) -> usize {
    // Never 0: the library would not terminate over such a node.
    (VNODES_AT_USUAL_WEIGHT * usize::from(weight.value()) / usize::from(Weight::USUAL.value())).max(1)
}

/// The ring as ranges of places: their ends ascending, the last one `u64::MAX`, and for each its edge. Neighbours have
/// different edges, but for the last and the first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    ends: Box<[u64]>,
    owners: Box<[u32]>,
    /// Where the ranges of each equal part of the ring begin, as many parts as ranges or nearly: places are spread
    /// evenly, so that a look-up reads two lines of memory and not one for each halving of a large table.
    firsts: Box<[u32]>,
}

impl Table {
    fn new(ends: Vec<u64>, owners: Vec<u32>) -> Self {
        if ends.is_empty() {
            return Self::default();
        }
        let bits = part_bits(ends.len());
        let first = |part: u64| {
            let at = ends.partition_point(|end| *end < part << (63 - bits) << 1);
            u32::try_from(at).expect("fewer ranges than 2^32")
        };
        let firsts = (0..1_u64 << bits).map(first).collect();
        Self { ends: ends.into(), owners: owners.into(), firsts }
    }

    /// The range that a place is in.
    fn range(&self, place: u64) -> usize {
        if self.ends.is_empty() {
            return 0;
        }
        let part = usize::try_from(place >> 1 >> (63 - part_bits(self.ends.len()))).expect("an index");
        let from = self.firsts[part] as usize;
        let to = self.firsts.get(part + 1).map_or(self.ends.len(), |next| *next as usize + 1);
        let ends = &self.ends[from..to.min(self.ends.len())];
        from + ends.partition_point(|end| *end < place)
    }

    /// The edges of all ranges from a place on, once around; an edge comes as often as it has ranges. Of those that
    /// come first, each is the one that inherits the place when all before it go. Neither locks nor allocates.
    pub fn walk(&self, place: u64) -> impl Iterator<Item = u32> {
        let (before, from) = self.owners.split_at(self.range(place));
        from.iter().chain(before).copied()
    }

    /// The part of all places that comes to each of `edges` edges where only those get any that `may`; 0 to 1.
    pub fn shares(&self, edges: usize, may: impl Fn(u32) -> bool) -> Vec<f64> {
        let mut widths = vec![0_u128; edges];
        // Backwards, for a range that its edge cannot have goes to whom the next one goes to.
        if let Some(mut heir) = self.owners.iter().copied().find(|edge| may(*edge)) {
            for (at, edge) in self.owners.iter().copied().enumerate().rev() {
                if may(edge) {
                    heir = edge;
                }
                let start = at.checked_sub(1).map_or(0, |before| u128::from(self.ends[before]) + 1);
                widths[heir as usize] += u128::from(self.ends[at]) + 1 - start;
            }
        }
        widths.into_iter().map(|width| width as f64 / 2_f64.powi(64)).collect()
    }
}

/// As many equal parts as ranges, to a power of two.
fn part_bits(ranges: usize) -> u32 {
    ranges.ilog2()
}

#[cfg(test)]
mod tests;
