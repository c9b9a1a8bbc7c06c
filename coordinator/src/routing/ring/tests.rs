//! Claims about placement: pure tables and properties over rings of all sizes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::routing::CANDIDATES_MAX;

fn member(number: usize, weight: u16) -> (EdgeId, Weight) {
    let id = EdgeId::parse(&format!("edge-{number}")).unwrap();
    (id, Weight::new(weight).unwrap())
}

fn ring_of(members: &[(EdgeId, Weight)]) -> Ring {
    let mut ring = Ring::default();
    ring.set_members(members.to_vec());
    ring
}

/// The ids of a key's owners, in turn: four at most.
fn owners(ring: &Ring, table: &Table, key: &str) -> Vec<String> {
    let mut owners = Vec::new();
    for index in table.walk(place(key.as_bytes())) {
        let id = ring.members()[index as usize].0.to_string();
        if owners.len() < CANDIDATES_MAX && !owners.contains(&id) {
            owners.push(id);
        }
    }
    owners
}

fn some_members() -> impl Strategy<Value = Vec<(EdgeId, Weight)>> {
    proptest::collection::btree_map(0..40_usize, 1..400_u16, 1..9).prop_map(|members| {
        let members = members.into_iter();
        members.map(|(number, weight)| member(number, weight)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_lost_edges_files_go_to_the_second_candidate_and_no_others_move(
        members in some_members(),
        lost in any::<prop::sample::Index>(),
        salt in any::<u32>(),
    ) {
        let before = ring_of(&members);
        let lost = &members[lost.index(members.len())].0;
        let rest: Vec<_> = members.iter().filter(|m| m.0 != *lost).cloned().collect();
        let mut after = before.clone();
        after.set_members(rest.clone());
        let (before_table, after_table) = (before.table(), after.table());
        for n in 0..200 {
            let key = format!("{salt}/{n}.bin");
            let old = owners(&before, &before_table, &key);
            let new = owners(&after, &after_table, &key);
            // The others keep their order, whichever place the lost edge had.
            let expected: Vec<_> = old.iter().filter(|id| *id != lost.as_str()).cloned().collect();
            prop_assert_eq!(&new[..expected.len()], &expected[..]);
            prop_assert_eq!(new.len(), rest.len().min(CANDIDATES_MAX));
        }
        prop_assert_eq!(&after_table, &ring_of(&rest).table(), "the way to a ring leaves no trace");
    }

    #[test]
    fn a_new_edge_takes_files_and_moves_none_between_others(members in some_members(), salt in any::<u32>()) {
        let before = ring_of(&members);
        let mut more = members.clone();
        more.push(member(99, 100));
        let after = ring_of(&more);
        let (before_table, after_table) = (before.table(), after.table());
        for n in 0..200 {
            let key = format!("{salt}/{n}.bin");
            let new = owners(&after, &after_table, &key);
            prop_assert!(new[0] == "edge-99" || new[0] == owners(&before, &before_table, &key)[0]);
        }
    }

    #[test]
    fn owners_are_distinct_and_independent_of_the_order_of_edges(members in some_members(), salt in any::<u32>()) {
        let ring = ring_of(&members);
        let reversed = ring_of(&members.iter().rev().cloned().collect::<Vec<_>>());
        let table = ring.table();
        prop_assert_eq!(&table, &reversed.table());
        for n in 0..100 {
            let owners = owners(&ring, &table, &format!("{salt}/{n}"));
            prop_assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), members.len().min(CANDIDATES_MAX));
            prop_assert_eq!(owners.len(), members.len().min(CANDIDATES_MAX));
        }
    }

    #[test]
    fn the_table_finds_what_the_library_finds(members in some_members(), salt in any::<u32>()) {
        let ring = ring_of(&members);
        let table = ring.table();
        for n in 0..200 {
            let key = format!("{salt}/{n}");
            let id = EdgeId::parse(&key.replace('/', "_")).unwrap();
            let found = ring.nodes.try_get(Node(id.clone())).unwrap();
            prop_assert_eq!(&owners(&ring, &table, id.as_str())[0], found.0.as_str());
        }
    }

    #[test]
    fn every_place_is_in_the_first_range_that_does_not_end_before_it(
        members in some_members(),
        places in proptest::collection::vec(any::<u64>(), 200),
    ) {
        let table = ring_of(&members).table();
        let borders = table.ends.iter().flat_map(|end| [end.saturating_sub(1), *end, end.saturating_add(1)]);
        for place in borders.chain(places).chain([0, u64::MAX]) {
            prop_assert_eq!(table.range(place), table.ends.partition_point(|end| *end < place), "{}", place);
        }
    }

    #[test]
    fn a_changed_weight_leaves_no_trace_either(members in some_members(), weight in 1..400_u16) {
        let mut changed = members.clone();
        changed[0].1 = Weight::new(weight).unwrap();
        let mut ring = ring_of(&members);
        ring.set_members(changed.clone());
        prop_assert_eq!(ring.table(), ring_of(&changed).table());
    }
}

#[test]
fn an_empty_ring_gives_no_owner() {
    let mut ring = Ring::default();
    assert_eq!(ring.table().walk(place(b"a")).count(), 0);
    ring.set_members(vec![member(1, 100)]);
    ring.set_members(Vec::new());
    assert_eq!(ring.table().walk(place(b"a")).count(), 0);
    assert_eq!(ring.table(), Table::default());
}

#[test]
fn shares_follow_weights_and_add_up() {
    let members: Vec<_> = (0..20).map(|n| member(n, if n < 10 { 100 } else { 200 })).collect();
    let ring = ring_of(&members);
    let table = ring.table();
    let shares = table.shares(20, |_| true);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    // Members are ordered by id as text; weights tell them apart.
    let heavy: f64 = ring
        .members()
        .iter()
        .enumerate()
        .fold(0.0, |sum, (at, m)| if m.1.value() == 200 { sum + shares[at] } else { sum });
    assert!((heavy - 2.0 / 3.0).abs() < 0.05, "{heavy}");
    for (at, (id, weight)) in ring.members().iter().enumerate() {
        let fair = f64::from(weight.value()) / 3000.0;
        let ratio = shares[at] / fair;
        assert!((0.7..1.35).contains(&ratio), "{id}: {ratio}");
    }
}

#[test]
fn the_share_of_those_that_are_out_comes_to_their_heirs() {
    let members: Vec<_> = (0..9).map(|n| member(n, 100)).collect();
    let (ring, rest) = (ring_of(&members), ring_of(&[&members[..4], &members[5..]].concat()));
    let without = ring.table().shares(9, |edge| edge != 4);
    assert_eq!(without[4], 0.0);
    let expected = rest.table().shares(8, |_| true);
    for (edge, expected) in [0, 1, 2, 3, 5, 6, 7, 8].into_iter().zip(expected) {
        assert!((without[edge] - expected).abs() < 1e-9, "edge {edge}");
    }
    assert_eq!(ring.table().shares(9, |_| false), [0.0; 9]);
}

#[test]
fn the_smallest_and_the_greatest_weight_make_a_ring() {
    let ring = ring_of(&[member(1, 1), member(2, 10_000)]);
    assert_eq!(ring.nodes.vnodes(), 1 + 16_000);
    assert_eq!(owners(&ring, &ring.table(), "x").len(), 2);
}

/// A file's place decides where it is cached: whoever changes these lines empties every cache of every cluster.
#[test]
fn placements_never_change() {
    let members: Vec<_> = (1..=5).map(|n| member(n, 100)).collect();
    let ring = ring_of(&members);
    let table = ring.table();
    let golden = [
        ("a", 0x890a_1f0f_56ee_4798, [4, 5, 2, 1]),
        ("a.bin", 0xe5e8_51ba_0561_987b, [3, 1, 2, 5]),
        ("reports/2026/q1.pdf", 0x09af_1d82_b10d_8f7b, [5, 4, 1, 2]),
        ("réports/é.pdf", 0xa259_d586_8b0a_2dcf, [5, 2, 1, 3]),
        ("InstMsiW.exe", 0x71ce_3e3b_893b_19ca, [5, 1, 2, 3]),
    ];
    for (key, at, expected) in golden {
        assert_eq!(place(key.as_bytes()), at, "{key}");
        assert_eq!(owners(&ring, &table, key), expected.map(|n| format!("edge-{n}")), "{key}");
    }
}
