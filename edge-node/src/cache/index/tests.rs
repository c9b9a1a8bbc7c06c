//! What goes when the cache is full, what stays, and what is counted.

use super::super::body::Body;
use super::super::object::{Origin, whole_bytes};
use super::*;
use crate::uring::Version;

const VERSION: Version = Version { device: (0, 0), inode: 1, size: 0, modified: (0, 0), changed: (0, 0) };

/// What a small file of one byte costs.
const COST: u64 = whole_bytes(1);

/// Room for a small file, at once.
fn reserve(index: &Arc<Index>) -> Option<Reservation> {
    let mut walk = Walk::default();
    loop {
        match index.try_reserve(COST, &mut walk) {
            Ok(reservation) => return Some(reservation),
            Err(IsOver(true)) => return None,
            Err(IsOver(false)) => {}
        }
    }
}

/// A small file that is in the cache.
fn insert(index: &Arc<Index>, name: u64) -> Arc<Object> {
    let body = Body::new(b"x", None).unwrap();
    let index_of_it = Arc::clone(index);
    let origin =
        Origin { version: VERSION, index: index_of_it, fingerprint: name, on_evicted: Box::new(|_| {}) };
    let object = Object::whole(origin, body);
    let reservation = reserve(index).expect("something can be evicted");
    reservation.commit(&object, None, object.fingerprint(None));
    object
}

#[test]
fn what_is_held_is_what_lives_and_never_more_than_fits() {
    let index = Arc::new(Index::new(50 * COST));
    let mut kept: Vec<Arc<Object>> = (0..200).map(|name| insert(&index, name)).collect();
    assert_eq!(index.usage().held_bytes, 50 * COST);
    assert_eq!(index.usage().evictions, 150);
    kept.retain(|object| !object.is_evicted());
    assert_eq!(kept.len(), 50);
    kept.truncate(20);
    assert_eq!(
        index.usage().held_bytes,
        20 * COST,
        "what was dropped is released, what was evicted not twice"
    );
}

#[test]
fn one_pass_over_many_files_leaves_those_in_use() {
    let index = Arc::new(Index::new(100 * COST));
    let hot: Vec<_> = (0..40).map(|name| insert(&index, name)).collect();
    for _ in 0..3 {
        hot.iter().for_each(|object| object.touch(None));
    }
    for name in 1000..3000 {
        // The request that brings a file uses it once.
        insert(&index, name).touch(None);
    }
    let evicted = hot.iter().filter(|object| object.is_evicted()).count();
    assert_eq!(evicted, 0, "of 40 files in use");
}

#[test]
fn a_walk_over_much_that_is_in_use_lets_others_in_between_and_comes_to_its_end() {
    const UNITS: usize = 10_000;
    let index = Arc::new(Index::new(UNITS as u64 * COST));
    let hot: Vec<_> = (0..UNITS).map(|name| insert(&index, name as u64)).collect();
    for _ in 0..3 {
        hot.iter().for_each(|object| object.touch(None));
    }
    let (mut walk, mut holds) = (Walk::default(), 0);
    let reservation = loop {
        let before = walk.looked_at;
        holds += 1;
        match index.try_reserve(COST, &mut walk) {
            Ok(reservation) => break reservation,
            Err(IsOver(is_over)) => assert!(!is_over && walk.looked_at == before + LOOKED_AT_MAX),
        }
    };
    // They are passed over until the small queue is a tenth.
    assert!((UNITS / 2..=UNITS).contains(&walk.looked_at), "{}", walk.looked_at);
    assert_eq!(holds, walk.looked_at.div_ceil(LOOKED_AT_MAX));
    assert_eq!(hot.iter().filter(|object| object.is_evicted()).count(), 1);
    drop(reservation);
}

/// Requests by Zipf's law for four times what fits, beside a cache that knows everything's popularity.
#[test]
fn the_hit_rate_is_within_five_points_of_an_ideal_one() {
    const FILES: usize = 4000;
    const ROOM: usize = FILES / 4;
    for exponent in [0.7, 0.9, 1.1] {
        let weights: Vec<f64> = (1..=FILES).map(|rank| (rank as f64).powf(-exponent)).collect();
        let all: f64 = weights.iter().sum();
        let ideal = weights[..ROOM].iter().sum::<f64>() / all;
        let sums: Vec<f64> = weights
            .iter()
            .scan(0.0, |sum, weight| {
                *sum += weight / all;
                Some(*sum)
            })
            .collect();
        let index = Arc::new(Index::new(ROOM as u64 * COST));
        let mut cached: Vec<Option<Arc<Object>>> = vec![None; FILES];
        let (mut state, mut hits, mut asked) = (0x9E37_79B9_7F4A_7C15_u64, 0, 0);
        for turn in 0..300_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let drawn = (state >> 11) as f64 / (1u64 << 53) as f64;
            let file = sums.partition_point(|sum| *sum < drawn).min(FILES - 1);
            let is_hit = cached[file].as_ref().is_some_and(|object| !object.is_evicted());
            if !is_hit {
                cached[file] = Some(insert(&index, file as u64));
            }
            cached[file].as_ref().unwrap().touch(None);
            // The first third fills the cache.
            if turn >= 100_000 {
                asked += 1;
                hits += usize::from(is_hit);
            }
        }
        let rate = hits as f64 / f64::from(asked);
        assert!(rate >= ideal - 0.05, "exponent {exponent}: {rate:.3}, and {ideal:.3} at best");
    }
}

#[test]
fn what_dies_without_pressure_leaves_nothing_queued() {
    let index = Arc::new(Index::new(1 << 40));
    for name in 0..20_000 {
        drop(insert(&index, name));
    }
    let queues = index.lock();
    assert_eq!(queues.held, 0);
    assert!(queues.small.units.len() + queues.main.units.len() <= 2048);
}
