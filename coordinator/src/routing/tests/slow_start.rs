//! Slow start: edges that come with an empty cache take their files by and by.

use super::*;

#[test]
fn a_new_edge_takes_its_files_by_and_by_and_nobody_elses_move() {
    let mut members = members(4);
    let before = snapshot(&members);
    members.push(member("edge-5", "a", 100));
    let mut rings = Rings::default();
    let full = rings.snapshot(members.clone(), secs(0.0));
    members[4].fresh_since = Some(secs(100.0));
    let fresh = rings.snapshot(members, secs(100.0));
    let theirs: Vec<_> = files().filter(|file| picked(&full, file)[0] == "edge-5").collect();
    assert!(theirs.len() > 40);
    let mut taken = BTreeSet::new();
    let mut counts = Vec::new();
    for now in [100.0, 107.0, 115.0, 123.0, 131.0] {
        for file in files() {
            let first = ids(&fresh.pick(&question(&fresh, &file, ANYWHERE, now))).remove(0);
            if first == "edge-5" {
                taken.insert(file);
            } else {
                assert_eq!(first, picked(&before, &file)[0], "nothing else moves");
                assert!(!taken.contains(&file), "what has moved stays");
            }
        }
        counts.push(taken.len() * 100 / theirs.len());
    }
    assert!(counts[0] <= 15 && (30..70).contains(&counts[2]) && counts[4] == 100, "{counts:?}");
}

#[test]
fn where_most_are_new_all_take_their_files_at_once() {
    let mut members = members(5);
    let settled = snapshot(&members);
    for member in &mut members[1..4] {
        member.fresh_since = Some(secs(0.0));
    }
    let fresh = snapshot(&members);
    assert!(files().all(|file| picked(&fresh, &file) == picked(&settled, &file)));
    assert!(fresh.zones[0].seats.iter().all(|seat| seat.fresh_since.is_none()));
}
