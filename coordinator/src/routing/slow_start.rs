//! Slow start: an edge that comes with an empty cache takes its files one after the other, not all at once.
//!
//! Which files it takes is a function of file and edge alone: each file has its turn, and goes over when the edge's
//! share has grown to it, once, and to stay. The edge's weight on the ring is its full one all the while: were the
//! ring changed with every step, each step would cost a new table, and files would move between edges that have
//! nothing to do with the new one.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What an edge takes from its first moment on: enough to be seen working.
const SHARE_AT_START: f64 = 0.05;

/// The part of its files that an edge takes, 0 to 1.
pub fn share(age: Duration, slow_start: Duration) -> f64 {
    if age >= slow_start {
        return 1.0;
    }
    let passed = age.as_secs_f64() / slow_start.as_secs_f64();
    SHARE_AT_START + (1.0 - SHARE_AT_START) * passed
}

/// When a file's turn comes at an edge, 0 to 1: it is the edge's as soon as the share is above. `place` is the file's
/// on the ring.
pub fn turn(place: u64, edge: &str) -> f64 {
    // 53 bits: what a float holds.
    (xxh3_64_with_seed(edge.as_bytes(), place) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_to_all() {
        let all = Duration::from_secs(30);
        let table = [(0, 0.05), (15, 0.525), (30, 1.0), (3600, 1.0)];
        for (seconds, expected) in table {
            let share = share(Duration::from_secs(seconds), all);
            assert!((share - expected).abs() < 1e-9, "{seconds}: {share}");
        }
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 1.0, "it can be off");
    }

    #[test]
    fn turns_are_spread_evenly_and_differ_from_edge_to_edge() {
        let places = (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let early = |edge: &str| places.clone().filter(|place| turn(*place, edge) < 0.25).collect::<Vec<_>>();
        let (one, other) = (early("edge-1"), early("edge-2"));
        assert!((2300..2700).contains(&one.len()), "{}", one.len());
        let both = one.iter().filter(|place| other.contains(place)).count();
        assert!((400..850).contains(&both), "{both}");
    }
}
