//! Bounded loads: who has too much passes files on, and the fullest has the bound over the mean at most.

use super::*;

/// Assigns a file's request and gives the edge.
fn assign(snapshot: &Snapshot, file: &str, now: f64) -> String {
    let candidates = snapshot.pick(&Question { wanted: 1, ..question(snapshot, file, ANYWHERE, now) });
    candidates.first().unwrap().assign(secs(now));
    ids(&candidates).remove(0)
}

#[test]
fn a_file_stays_with_its_owner_until_that_one_has_too_much() {
    let snapshot = snapshot(&members(4));
    let owners = picked(&snapshot, "popular");
    for _ in 0..32 {
        assert_eq!(assign(&snapshot, "popular", 0.1), owners[0]);
    }
    for _ in 0..32 {
        assert_eq!(assign(&snapshot, "popular", 0.1), owners[1]);
    }
    assert_eq!(assign(&snapshot, "popular", 0.1), owners[2]);
    assert_eq!(assign(&snapshot, "popular", 2.1), owners[0], "what was assigned has faded");
}

#[test]
fn the_fullest_edge_has_at_most_the_bound_over_the_mean() {
    let snapshot = snapshot(&members(20));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..20_000_u32 {
        // A third of all requests for one file, and many for few others.
        let file = if n % 3 == 0 { 0 } else { n % (1 + n % 97) };
        *counts.entry(assign(&snapshot, &file.to_string(), 0.5)).or_default() += 1;
    }
    let fullest = *counts.values().max().unwrap();
    assert!(fullest <= 1251, "{counts:?}");
}

/// One edge of a random cluster: weight, and whether it is up.
fn some_edges() -> impl Strategy<Value = Vec<(u16, bool)>> {
    proptest::collection::vec((1..400_u16, any::<bool>()), 1..12)
}

fn random_members(edges: &[(u16, bool)]) -> Vec<Member> {
    let edges = edges.iter().enumerate().map(|(n, (weight, is_up))| {
        let mut member = member(&format!("edge-{n}"), "a", *weight);
        if !is_up {
            member.news = news(State::Down, 0.0);
        }
        member
    });
    edges.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_edge_goes_over_its_bound_while_one_is_under_it(
        edges in some_edges(),
        in_flight in proptest::collection::vec(0..200_u64, 12),
        requests in proptest::collection::vec((0..6_u8, 0..40_u32), 200..1500),
        factor in 1.05..3.0_f64,
    ) {
        let members = random_members(&edges);
        let policy = Policy { slack: Slack::new(factor), ..Policy::default() };
        let mut rings = Rings::new(policy, Arc::default());
        let snapshot = rings.snapshot(members.clone(), Duration::ZERO);
        for (member, bodies) in members.iter().zip(in_flight) {
            let report = LoadReport { in_flight_bytes: bodies << 20, ..LoadReport::default() };
            snapshot.report(&member.edge.record.id, &report, Duration::ZERO);
        }
        let zone = &snapshot.zones[0];
        let mut now = 0.0;
        for (file, pause) in requests {
            now += f64::from(pause) / 10_000.0;
            let scale = zone.load.scale(policy.slack, &snapshot.mean_body, secs(now));
            let full = |at: &u32| scale.weigh(zone.seats[*at as usize].member()).is_full();
            let candidates = snapshot.pick(&question(&snapshot, &file.to_string(), ANYWHERE, now));
            let first = candidates.first().unwrap();
            let at = zone.seats.iter().position(|seat| std::ptr::eq(&*seat.edge, first.edge())).unwrap();
            let is_full = full(&u32::try_from(at).unwrap());
            prop_assert!(!is_full || zone.open.iter().all(full), "a full edge was taken beside one that is not");
            prop_assert!(!is_full, "somebody is always under the bound");
            first.assign(secs(now));
        }
    }

    #[test]
    fn equal_inputs_give_equal_picks(edges in some_edges(), requests in proptest::collection::vec((0..9_u8, 0..9_u32), 1..300)) {
        let build = |edges: &[(u16, bool)]| snapshot(&random_members(edges));
        let (one, other) = (build(&edges), build(&edges));
        let mut now = 0.0;
        for (file, pause) in requests {
            now += f64::from(pause) / 100.0;
            let pick = |snapshot| {
                let question = question(snapshot, &file.to_string(), ANYWHERE, now);
                Snapshot::pick(snapshot, &Question { fan_out: 1 << (file % 3), ..question })
            };
            let (one, other) = (pick(&one), pick(&other));
            prop_assert_eq!(ids(&one), ids(&other));
            one.first().unwrap().assign(secs(now));
            other.first().unwrap().assign(secs(now));
        }
    }

    #[test]
    fn candidates_are_distinct_and_as_many_as_there_can_be(
        edges in some_edges(),
        wanted in 1..=CANDIDATES_MAX,
        fan_out in 1..=FAN_OUT_MAX_TESTED,
        not in proptest::option::of(0..12_usize),
    ) {
        let members = random_members(&edges);
        let snapshot = snapshot(&members);
        let not = not.map(|n| format!("edge-{n}"));
        let out: BTreeSet<_> = not.iter().cloned().collect();
        let open = snapshot.zones[0].open.iter();
        let open = open.filter(|at| !out.contains(snapshot.zones[0].seats[**at as usize].edge.record.id.as_str()));
        let expected = open.count().min(wanted);
        for file in 0..20 {
            let question = Question { wanted, fan_out, not: not.as_deref(), ..question(&snapshot, &file.to_string(), ANYWHERE, 0.0) };
            let found = ids(&snapshot.pick(&question));
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
            prop_assert_eq!(found.len(), expected);
            prop_assert!(found.iter().all(|id| !out.contains(id)));
        }
    }
}

const FAN_OUT_MAX_TESTED: u32 = hot::FAN_OUT_MAX;

/// What one process picks, another one picks: the numbers are of the hash, the ring and the bounds together.
#[test]
fn picks_under_load_never_change() {
    let snapshot = snapshot(&members(12));
    let mut picks = String::new();
    for n in 0..5000_u32 {
        picks += &assign(&snapshot, &(n % (1 + n % 61)).to_string(), f64::from(n) / 4000.0);
    }
    assert_eq!(ring::place(picks.as_bytes()), GOLDEN_PICKS, "{:#x}", ring::place(picks.as_bytes()));
}

const GOLDEN_PICKS: u64 = 0xca81_459f_afc1_f688;
