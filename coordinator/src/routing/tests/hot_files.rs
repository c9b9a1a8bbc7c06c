//! Hot files: more owners, each client at one of them.

use super::*;

#[test]
fn a_hot_files_clients_are_spread_over_its_first_owners_and_each_stays_at_one() {
    let snapshot = snapshot(&members(10));
    let owners = ids(&snapshot.pick(&question(&snapshot, "hot", ANYWHERE, 0.0)));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..400_u32 {
        let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 7));
        let asked = Question { fan_out: 4, ..question(&snapshot, "hot", &client.to_string(), 0.0) };
        let of_client = ids(&snapshot.pick(&asked));
        assert_eq!(of_client, ids(&snapshot.pick(&asked)));
        assert_eq!(
            of_client.iter().collect::<BTreeSet<_>>(),
            owners.iter().collect(),
            "the others are its alternates"
        );
        *counts.entry(of_client[0].clone()).or_default() += 1;
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|count| (60..140).contains(count)), "{counts:?}");
    let of = |client: &str| {
        ids(&snapshot.pick(&Question { fan_out: 4, ..question(&snapshot, "hot", client, 0.0) }))
    };
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"), "a subscriber has its /64");
}

#[test]
fn a_hot_files_full_owners_are_passed_over() {
    let snapshot = snapshot(&members(10));
    let asked = Question { fan_out: 2, ..question(&snapshot, "hot", ANYWHERE, 0.2) };
    let mut seen = Vec::new();
    for _ in 0..96 {
        let candidates = snapshot.pick(&asked);
        candidates.first().unwrap().assign(secs(0.2));
        seen.push(ids(&candidates).remove(0));
    }
    let owners = picked(&self::snapshot(&members(10)), "hot");
    assert!(seen[..32].iter().all(|id| *id == seen[0]) && seen[32..64].iter().all(|id| *id == seen[32]));
    assert_eq!(BTreeSet::from([&seen[0], &seen[32]]), owners[..2].iter().collect());
    assert!(seen[64..].iter().all(|id| *id == owners[2]), "{seen:?}");
}
