//! Which zone's edges a client is sent to: the operator's word on where clients are. Pure.
//!
//! A client is in the zone of the smallest network that holds it. In no zone, it may be anywhere, and each file has a
//! zone for such clients: by rendezvous hashing with the zones' weights, so that every zone has its part of them, a file
//! is cached in one zone, and a zone that grows takes files from all others and moves none between them.

use std::net::IpAddr;

use sluice_shared::client_net::{ClientNet, normalise};

/// What the configuration says of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneRule {
    pub name: String,
    /// Where its clients are.
    pub clients: Vec<ClientNet>,
    /// The zones that its clients go to when it has no edge for them, in turn; then all others.
    pub fallback: Vec<String>,
}

/// Rules that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFault {
    #[error("has two zones with the name '{0}'; put their clients into one")]
    Repeated(String),
    #[error("has a zone without a name; name it as its edges do in their `zone`")]
    Nameless,
    #[error("zone '{zone}': fallback names '{fallback}', which is {fault}")]
    Fallback { zone: String, fallback: String, fault: &'static str },
    #[error("{net} is in zone '{one}' and in zone '{other}'; a client is in one zone")]
    Shared { net: String, one: String, other: String },
}

/// The zones of the configuration, ready to be asked.
#[derive(Debug, Default)]
pub struct ZonePlan {
    rules: Box<[ZoneRule]>,
    /// Where the zone changes, going through all addresses upwards; none before the first.
    changes: Box<[(Position, Option<usize>)]>,
}

/// An address among all: the family first, so that no block of one holds addresses of the other.
type Position = (bool, u128);

impl ZonePlan {
    /// # Errors
    /// A name or network that stands twice, a fallback that is no other zone.
    pub fn new(rules: Vec<ZoneRule>) -> Result<Self, ZoneFault> {
        for (at, rule) in rules.iter().enumerate() {
            if rule.name.is_empty() {
                return Err(ZoneFault::Nameless);
            }
            if rules[..at].iter().any(|other| other.name == rule.name) {
                return Err(ZoneFault::Repeated(rule.name.clone()));
            }
            check_fallback(rule, &rules)?;
        }
        let changes = changes(&rules)?.into();
        Ok(Self { rules: rules.into(), changes })
    }

    pub fn rules(&self) -> &[ZoneRule] {
        &self.rules
    }

    /// The zone that a client is in, as an index of the rules.
    pub fn zone_of(&self, client: IpAddr) -> Option<usize> {
        let position = position(client);
        let after = self.changes.partition_point(|(start, _)| *start <= position);
        self.changes[..after].last()?.1
    }
}

fn check_fallback(rule: &ZoneRule, rules: &[ZoneRule]) -> Result<(), ZoneFault> {
    for (at, fallback) in rule.fallback.iter().enumerate() {
        let fault = if *fallback == rule.name {
            "the zone itself"
        } else if rule.fallback[..at].contains(fallback) {
            "named before"
        } else if !rules.iter().any(|other| other.name == *fallback) {
            "no [[zones]] name"
        } else {
            continue;
        };
        return Err(ZoneFault::Fallback { zone: rule.name.clone(), fallback: fallback.clone(), fault });
    }
    Ok(())
}

fn position(address: IpAddr) -> Position {
    match normalise(address) {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// Blocks lie within each other or apart, so one walk over their starts tells where each ends and which one goes on.
fn changes(rules: &[ZoneRule]) -> Result<Vec<(Position, Option<usize>)>, ZoneFault> {
    let mut blocks: Vec<(Position, Position, usize)> = Vec::new();
    for (zone, rule) in rules.iter().enumerate() {
        let bounds = rule.clients.iter().map(ClientNet::bounds);
        blocks.extend(bounds.map(|(first, last)| (position(first), position(last), zone)));
    }
    // Of blocks with one start the larger first: it holds the other.
    blocks.sort_by(|a, b| (a.0, b.1, a.2).cmp(&(b.0, a.1, b.2)));
    blocks.dedup();
    if let Some(pair) = blocks.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
        let [one, other] = [pair[0].2, pair[1].2].map(|zone| rules[zone].name.clone());
        let nets = rules[pair[0].2].clients.iter();
        let net = nets.clone().find(|net| position(net.bounds().0) == pair[0].0).map(ToString::to_string);
        return Err(ZoneFault::Shared { net: net.unwrap_or_default(), one, other });
    }
    let mut changes = Vec::new();
    let mut open: Vec<(Position, usize)> = Vec::new();
    let close_before = |start: Option<Position>, open: &mut Vec<(Position, usize)>, changes: &mut Vec<_>| {
        while let Some((last, _)) = open.last().copied() {
            if start.is_some_and(|start| last >= start) {
                break;
            }
            open.pop();
            // Behind the last address there is nobody.
            if let Some(behind) = last.1.checked_add(1) {
                changes.push(((last.0, behind), open.last().map(|(_, zone)| *zone)));
            }
        }
    };
    for (first, last, zone) in blocks {
        close_before(Some(first), &mut open, &mut changes);
        changes.push((first, Some(zone)));
        open.push((last, zone));
    }
    close_before(None, &mut open, &mut changes);
    // Of changes at one address the last one holds.
    changes.reverse();
    changes.dedup_by_key(|(at, _)| *at);
    changes.reverse();
    Ok(changes)
}

/// A zone in the rendezvous of those that a file may belong to.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    /// Of its name.
    pub hash: u64,
    /// All its edges', whether they get requests or not: a death moves no file between zones.
    pub weight: f64,
}

/// The zone of the file at `place`, for clients of no zone; none where no zone has weight.
pub fn zone_of_file(place: u64, zones: &[Contender]) -> Option<usize> {
    let mut best = None;
    let mut best_score = f64::INFINITY;
    for (at, zone) in zones.iter().enumerate().filter(|(_, zone)| zone.weight > 0.0) {
        // An exponential variable with the weight as its rate: the least of all is each zone's as often as its weight
        // says (Efraimidis, Spirakis, 2006).
        let score = -unit(mixed(place ^ zone.hash)).ln() / zone.weight;
        if score < best_score {
            (best, best_score) = (Some(at), score);
        }
    }
    best
}

/// Above 0, below 1.
fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// The finisher of SplitMix64: two hashes that were put together become one.
pub fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::ring::place;

    fn rule(name: &str, clients: &[&str], fallback: &[&str]) -> ZoneRule {
        ZoneRule {
            name: name.to_owned(),
            clients: clients.iter().map(|net| ClientNet::parse(net).unwrap()).collect(),
            fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn the_smallest_network_decides() {
        let plan = ZonePlan::new(vec![
            rule("a", &["10.0.0.0/8", "192.0.2.7"], &["b"]),
            rule("b", &["10.1.0.0/16", "10.255.0.0/16", "2001:db8::/32"], &[]),
            rule("c", &["10.1.2.0/24", "2001:db8:1::/48", "0.0.0.0/1"], &[]),
            rule("d", &["::/0"], &[]),
        ])
        .unwrap();
        let table = [
            ("10.0.0.0", Some(0)),
            ("10.0.255.255", Some(0)),
            ("10.1.0.0", Some(1)),
            ("10.1.1.255", Some(1)),
            ("10.1.2.0", Some(2)),
            ("10.1.2.255", Some(2)),
            ("10.1.3.0", Some(1)),
            ("10.2.0.0", Some(0)),
            ("10.255.255.255", Some(1)),
            ("11.0.0.0", Some(2)),
            ("::ffff:10.1.2.3", Some(2)),
            ("192.0.2.7", Some(0)),
            ("192.0.2.8", None),
            ("255.255.255.255", None),
            ("2001:db8::1", Some(1)),
            ("2001:db8:1::1", Some(2)),
            ("2001:db8:2::1", Some(1)),
            ("::1", Some(3)),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(3)),
        ];
        for (client, zone) in table {
            assert_eq!(plan.zone_of(client.parse().unwrap()), zone, "{client}");
        }
        assert_eq!(ZonePlan::default().zone_of("10.0.0.1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn a_client_is_where_its_longest_prefix_is(
            blocks in proptest::collection::btree_map((0..8_u32, 24..=32_u8), 0..4_usize, 0..12),
            client in 0..2048_u32,
        ) {
            // Blocks of a small part of the addresses, so that they meet.
            let address = |bits: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 | bits);
            let net = |(start, prefix): (u32, u8)| {
                ClientNet::parse(&format!("{}/{prefix}", address(start * 37))).unwrap()
            };
            let mut rules: Vec<_> = (0..4).map(|n| rule(&n.to_string(), &[], &[])).collect();
            for (block, zone) in &blocks {
                // One start, cut to its prefix, may be another's.
                if !rules.iter().any(|rule| rule.clients.contains(&net(*block))) {
                    rules[*zone].clients.push(net(*block));
                }
            }
            let client = IpAddr::V4(address(client % 512));
            let width = |net: &ClientNet| {
                let (first, last) = net.bounds();
                position(last).1 - position(first).1
            };
            let holders = rules.iter().enumerate().flat_map(|(zone, rule)| {
                rule.clients.iter().filter(|net| net.contains(client)).map(move |net| (width(net), zone))
            });
            let expected = holders.min().map(|(_, zone)| zone);
            prop_assert_eq!(ZonePlan::new(rules).unwrap().zone_of(client), expected);
        }
    }

    #[test]
    fn contradictions_are_told() {
        let table = [
            (vec![rule("a", &[], &[]), rule("a", &[], &[])], "two zones with the name 'a'"),
            (vec![rule("", &[], &[])], "without a name"),
            (vec![rule("a", &[], &["a"])], "the zone itself"),
            (vec![rule("a", &[], &["b"])], "names 'b', which is no [[zones]] name"),
            (vec![rule("a", &[], &["b", "b"]), rule("b", &[], &[])], "named before"),
            (
                vec![rule("a", &["10.0.0.0/8", "10.1.0.0/16"], &[]), rule("b", &["10.0.0.1/8"], &[])],
                "10.0.0.0/8 is in zone 'a' and in zone 'b'",
            ),
        ];
        for (rules, expected) in table {
            let fault = ZonePlan::new(rules).unwrap_err().to_string();
            assert!(fault.contains(expected), "{expected:?} in {fault:?}");
        }
    }

    #[test]
    fn files_are_spread_over_zones_by_weight_and_move_only_to_what_grows() {
        let zones = |weights: [f64; 3]| {
            let hash = |n: u64| place(&n.to_le_bytes());
            [0, 1, 2].map(|n: u8| Contender { hash: hash(u64::from(n)), weight: weights[usize::from(n)] })
        };
        let files = || (0..30_000_u64).map(|n| place(&n.to_be_bytes()));
        let of =
            |weights| files().map(|file| zone_of_file(file, &zones(weights)).unwrap()).collect::<Vec<_>>();
        let (before, after) = (of([100.0, 200.0, 300.0]), of([100.0, 400.0, 300.0]));
        let count = |zone| before.iter().filter(|of| **of == zone).count() as f64 / 30_000.0;
        for (zone, expected) in [(0, 1.0 / 6.0), (1, 1.0 / 3.0), (2, 0.5)] {
            assert!((count(zone) - expected).abs() < 0.01, "{zone}: {}", count(zone));
        }
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 1));
        assert_eq!(zone_of_file(7, &zones([0.0, 0.0, 0.0])), None);
        assert_eq!(zone_of_file(7, &zones([0.0, 5.0, 0.0])), Some(1));
    }
}
