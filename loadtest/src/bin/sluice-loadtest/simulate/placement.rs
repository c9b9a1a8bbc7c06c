//! Where files are, and how many of them a change moved: all of them with one chance each, as caches are filled.

use super::cluster::Cluster;
use super::traffic::{Request, Traffic};

/// Files looked at. With a hundredth of the edges changing, one in a hundred of them moves: ten thousand.
const SAMPLE: usize = 1_000_000;

pub(super) fn sample(traffic: &mut Traffic) -> Vec<Request> {
    (0..SAMPLE).map(|_| traffic.uniform_request()).collect()
}

/// The owners of the sampled files, by their numbers.
pub(super) struct Placement(Vec<u32>);

impl Placement {
    pub(super) fn of(cluster: &Cluster, sample: &[Request]) -> Self {
        Self(sample.iter().map(|request| cluster.owner(request)).collect())
    }

    fn moves<'p>(&'p self, after: &'p Self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied().zip(after.0.iter().copied()).filter(|(before, after)| before != after)
    }

    /// The part of the files that is elsewhere.
    pub(super) fn differs_from(&self, other: &Self) -> f64 {
        self.moves(other).count() as f64 / SAMPLE as f64
    }
}

/// What joins and deaths moved, together.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) moved_fraction: f64,
    /// The weight of what came or went, as a part of its zone's, for the zone's part of all clients.
    pub(super) ideal_moved_fraction: f64,
    /// Moved between edges that had nothing to do with the change.
    pub(super) needless_fraction: f64,
}

impl Moved {
    /// The last `count` edges of the cluster came.
    pub(super) fn joined(&mut self, before: &Placement, after: &Placement, cluster: &Cluster, count: usize) {
        let came: Vec<_> = (cluster.len() - count..cluster.len()).collect();
        self.add(before, after, cluster, &came, |_, to| to);
    }

    pub(super) fn died(&mut self, before: &Placement, after: &Placement, cluster: &Cluster, dead: &[usize]) {
        self.add(before, after, cluster, dead, |from, _| from);
    }

    fn add(
        &mut self,
        before: &Placement,
        after: &Placement,
        cluster: &Cluster,
        changed: &[usize],
        due: fn(u32, u32) -> u32,
    ) {
        let numbers: Vec<_> = changed.iter().map(|edge| cluster.number(*edge)).collect();
        let is_needless = |(from, to): &(u32, u32)| !numbers.contains(&due(*from, *to));
        self.moved_fraction += before.differs_from(after);
        self.needless_fraction += before.moves(after).filter(is_needless).count() as f64 / SAMPLE as f64;
        for edge in changed {
            let zone = cluster.zone(cluster.zone_of(*edge));
            let weights: f64 = zone.iter().map(|edge| cluster.weight(*edge)).sum();
            self.ideal_moved_fraction += cluster.weight(*edge) / weights / cluster.zones();
        }
    }
}
