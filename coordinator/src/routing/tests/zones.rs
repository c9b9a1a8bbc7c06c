//! Zones: clients get those of theirs, and files of clients of none are spread over all.

use super::*;

fn rule(name: &str, clients: &str, fallback: &[&str]) -> ZoneRule {
    let clients = vec![ClientNet::parse(clients).unwrap()];
    ZoneRule {
        name: name.to_owned(),
        clients,
        fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Zones `a`, `b`, `c` with three edges each; `a` falls back to `c`. And one that no rule names.
pub(super) fn zoned() -> (Rings, Vec<Member>) {
    let rules =
        vec![rule("a", "10.1.0.0/16", &["c"]), rule("b", "10.2.0.0/16", &[]), rule("c", "10.3.0.0/16", &[])];
    let rings = Rings::new(Policy::default(), Arc::new(ZonePlan::new(rules).unwrap()));
    let of = |zone: &'static str, count| (1..=count).map(move |n| member(&format!("{zone}-{n}"), zone, 100));
    (rings, of("b", 3).chain(of("a", 3)).chain(of("c", 3)).chain(of("d", 1)).collect())
}

fn zones_of(picked: &[String]) -> String {
    picked.iter().map(|id| id.chars().next().unwrap()).collect()
}

#[test]
fn clients_get_their_zones_edges_then_those_it_falls_back_to() {
    let (mut rings, mut members) = zoned();
    let snapshot = rings.snapshot(members.clone(), Duration::ZERO);
    let of = |snapshot: &Snapshot, file: &str, client: &str| {
        ids(&snapshot.pick(&question(snapshot, file, client, 0.0)))
    };
    for file in files() {
        assert_eq!(zones_of(&of(&snapshot, &file, "10.1.2.3")), "aaac", "{file}");
        assert_eq!(zones_of(&of(&snapshot, &file, "10.2.2.3")), "bbba", "{file}");
    }
    for id in ["a-1", "a-2", "a-3"] {
        set_state(&mut members, id, State::Down);
    }
    let without = rings.snapshot(members.clone(), Duration::ZERO);
    for file in files() {
        let (lost, theirs) = (of(&without, &file, "10.1.2.3"), of(&without, &file, "10.3.2.3"));
        assert_eq!(zones_of(&lost), "cccb", "{file}");
        assert_eq!(lost[..3], theirs[..3], "what is cached there is found there");
    }
    members.retain(|member| member.edge.record.zone != "a");
    let gone = rings.snapshot(members, Duration::ZERO);
    assert!(files().all(|file| of(&gone, &file, "10.1.2.3") == of(&without, &file, "10.1.2.3")));
}

#[test]
fn for_clients_of_no_zone_each_file_has_one() {
    let (mut rings, members) = zoned();
    let snapshot = rings.snapshot(members, Duration::ZERO);
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    for n in 0..4000 {
        let of = |client: &str| ids(&snapshot.pick(&question(&snapshot, &n.to_string(), client, 0.0)));
        let one = of("192.0.2.1");
        assert_eq!(one, of("2001:db8::1"));
        *counts.entry(zones_of(&one).remove(0).to_string().chars().next().unwrap()).or_default() += 1;
    }
    for (zone, expected) in [('a', 1200), ('b', 1200), ('c', 1200), ('d', 400)] {
        assert!(counts[&zone].abs_diff(expected) < 120, "{counts:?}");
    }
}
