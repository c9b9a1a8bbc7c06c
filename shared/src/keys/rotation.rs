//! What becomes of keys as time goes by: pure, and one step at a time, so that whoever comes next can go on from
//! wherever another stopped.
//!
//! A key is made long before it is used: one always waits, known to everybody. So the change from one key to the next is
//! one write, whenever it comes, and a key that is revoked has its successor at once. That one is current and another
//! was follows from when they became it; no two writes have to be done together.

use std::time::Duration;

use super::{KeyId, KeySet, KeyState};
use crate::revocations::Instant;

/// How keys are exchanged.
#[derive(Debug, Clone, Copy)]
pub struct RotationRules {
    /// How long a key mints.
    pub rotate_every: Duration,
    /// By when everybody knows what was put into etcd, by any two clocks: before that, a new key is not minted with. So
    /// it covers how long news takes, and how far clocks are apart.
    pub propagation: Duration,
    /// How long what was sealed may be opened: the longest life of a link or a token.
    pub outlives: Duration,
}

/// What is to be done next. Each is one write that compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a key that waits.
    Create,
    /// Let a key mint that waits, from then on.
    Promote(KeyId, Instant),
    /// Let a key end then that mints no more.
    Retire(KeyId, Instant),
    /// Take a key away that has ended.
    Remove(KeyId),
}

fn after(time: Instant, span: Duration) -> Instant {
    Instant(time.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// The next step, if there is one. `keys` has none that is revoked; `is_worn` where the current key has minted as much
/// as a key may.
pub fn next_step(keys: &KeySet, rules: &RotationRules, now: Instant, is_worn: bool) -> Option<Step> {
    let (current, next) = (keys.current(), keys.next());
    let Some(current) = current else {
        return Some(next.map_or(Step::Create, |next| Step::Promote(next.id.clone(), now)));
    };
    let since = current.current_since.unwrap_or(current.created);
    // Those that were current before, whoever did not come to say until when they are needed.
    let is_left_over = |key: &&super::KeyRecord| key.state() == KeyState::Current && key.id != current.id;
    if let Some(key) = keys.iter().find(is_left_over) {
        // Somebody who has not heard yet mints with it for as long as news may take.
        let needed_until = after(since.max(now), rules.outlives.saturating_add(rules.propagation));
        return Some(Step::Retire(key.id.clone(), needed_until));
    }
    let Some(next) = next else { return Some(Step::Create) };
    if (is_worn || after(since, rules.rotate_every) <= now) && is_ready(next.created, rules, now) {
        return Some(promotion(keys, now, &next.id));
    }
    let is_over = |key: &&super::KeyRecord| {
        // Longer than needed: clocks differ, and one that is ahead by far may be set back.
        key.retire_at.is_some_and(|at| after(at, rules.propagation.saturating_add(rules.rotate_every)) < now)
    };
    keys.iter().find(is_over).map(|key| Step::Remove(key.id.clone()))
}

/// The step that an operator asks for: another key at once. `None` where the next one is not known to everybody yet, or
/// there is none.
pub fn rotation_now(keys: &KeySet, rules: &RotationRules, now: Instant) -> Option<Step> {
    let next = keys.next().filter(|next| is_ready(next.created, rules, now))?;
    Some(promotion(keys, now, &next.id))
}

fn is_ready(created: Instant, rules: &RotationRules, now: Instant) -> bool {
    after(created, rules.propagation) <= now
}

/// Later than what it follows, though that was promoted by a clock that is ahead.
fn promotion(keys: &KeySet, now: Instant, next: &KeyId) -> Step {
    let before = keys.current().and_then(|current| current.current_since).map_or(0, |since| since.0 + 1);
    Step::Promote(next.clone(), Instant(now.0.max(before)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KeyRecord, KeyRing};
    use super::*;

    const SECOND: u64 = 1000;
    const RULES: RotationRules = RotationRules {
        rotate_every: Duration::from_secs(100),
        propagation: Duration::from_secs(10),
        outlives: Duration::from_secs(50),
    };

    fn at(seconds: u64) -> Instant {
        Instant(1_800_000_000_000 + seconds * SECOND)
    }

    /// A key by when it was made, became current, and is to be retired.
    fn key(id: &str, created: u64, current_since: Option<u64>, retire_at: Option<u64>) -> KeyRecord {
        KeyRecord {
            id: KeyId::parse(id).unwrap(),
            created: at(created),
            current_since: current_since.map(at),
            retire_at: retire_at.map(at),
            ..KeyRecord::random(at(created))
        }
    }

    fn set(keys: &[KeyRecord]) -> KeySet {
        let mut set = KeySet::default();
        for key in keys {
            set.merge(key);
        }
        set
    }

    /// Carries out a step, as the keeper does in etcd.
    fn carry_out(keys: &mut KeySet, step: Step, now: Instant) {
        let change = |id: &KeyId, change: &dyn Fn(&mut KeyRecord)| {
            let mut record = keys.get(id.as_str()).unwrap().clone();
            change(&mut record);
            record
        };
        let record = match step {
            Step::Create => KeyRecord::random(now),
            Step::Promote(id, at) => change(&id, &|record| record.current_since = Some(at)),
            Step::Retire(id, at) => change(&id, &|record| record.retire_at = Some(at)),
            Step::Remove(id) => return keys.retain(|record| record.id != id),
        };
        keys.merge(&record);
    }

    #[test]
    fn each_state_of_keys_has_its_next_step() {
        let id = |id: &str| KeyId::parse(id).unwrap();
        let old = || key("old", 0, Some(0), None);
        let next = || key("next", 50, None, None);
        let table = [
            ("none at all", vec![], 0, false, Some(Step::Create)),
            ("none that mints", vec![next()], 51, false, Some(Step::Promote(id("next"), at(51)))),
            ("none that waits", vec![old()], 1, false, Some(Step::Create)),
            ("all is well", vec![old(), next()], 99, false, None),
            ("it is time", vec![old(), next()], 100, false, Some(Step::Promote(id("next"), at(100)))),
            ("it is worn", vec![old(), next()], 60, true, Some(Step::Promote(id("next"), at(60)))),
            ("worn, and the next is not known everywhere", vec![old(), next()], 59, true, None),
            (
                "half way",
                vec![old(), key("next", 50, Some(100), None)],
                101,
                false,
                Some(Step::Retire(id("old"), at(161))),
            ),
            (
                "retired, not over",
                vec![
                    key("old", 0, Some(0), Some(160)),
                    key("now", 50, Some(200), None),
                    key("next", 201, None, None),
                ],
                270,
                false,
                None,
            ),
            (
                "over",
                vec![
                    key("old", 0, Some(0), Some(160)),
                    key("now", 50, Some(200), None),
                    key("next", 201, None, None),
                ],
                271,
                false,
                Some(Step::Remove(id("old"))),
            ),
            // Whoever promoted last had a clock that is ahead by 10 s.
            (
                "a clock that is behind",
                vec![key("now", 0, Some(120), None), next()],
                110,
                true,
                Some(Step::Promote(id("next"), Instant(at(120).0 + 1))),
            ),
        ];
        for (what, keys, now, is_worn, expected) in table {
            assert_eq!(next_step(&set(&keys), &RULES, at(now), is_worn), expected, "{what}");
        }
    }

    #[test]
    fn an_operator_s_rotation_waits_for_the_next_key_to_be_known() {
        let keys = set(&[key("old", 0, Some(0), None), key("next", 50, None, None)]);
        assert_eq!(rotation_now(&keys, &RULES, at(59)), None);
        let promoted = Step::Promote(KeyId::parse("next").unwrap(), at(60));
        assert_eq!(rotation_now(&keys, &RULES, at(60)), Some(promoted));
    }

    #[test]
    fn a_revoked_key_has_its_successor_at_once() {
        let mut keys = set(&[
            key("old", 0, Some(0), Some(160)),
            key("now", 50, Some(100), None),
            key("next", 101, None, None),
        ]);
        keys.retain(|record| record.id.as_str() != "now");
        // Everybody's, before anybody has written anything.
        assert_eq!(keys.ring().minting().unwrap().id().as_str(), "next");
        let step = next_step(&keys, &RULES, at(102), false).unwrap();
        assert_eq!(step, Step::Promote(KeyId::parse("next").unwrap(), at(102)));
    }

    #[test]
    fn of_two_that_are_current_the_later_one_mints_and_both_open() {
        let ring =
            set(&[key("a", 0, Some(5), None), key("b", 0, Some(6), None), key("c", 1, None, None)]).ring();
        assert_eq!(ring.minting().unwrap().id().as_str(), "b");
        assert_eq!(ring.newest_first().count(), 3);
    }

    #[test]
    fn an_older_list_undoes_nothing() {
        let before = key("a", 0, None, None);
        let after = KeyRecord { current_since: Some(at(5)), retire_at: Some(at(9)), ..before.clone() };
        let mut keys = set(std::slice::from_ref(&after));
        assert!(!keys.merge(&before));
        assert_eq!(keys.get("a"), Some(&after));
        let foreign = KeyRecord { retire_at: Some(at(6)), ..key("a", 0, None, None) };
        assert!(!keys.merge(&foreign), "another key of the same name");
    }

    const NEWS_SECONDS: u64 = 3;

    /// One coordinator: how far its clock is off, and which keys it has heard of.
    struct Coordinator {
        ahead: i64,
        heard: KeySet,
    }

    proptest! {
        /// Two coordinators take steps in any interleaving, each from what it heard up to 3 s ago and by a clock that is
        /// off by up to 3 s; edges hear as late. All of that is within the 10 s of `propagation`. Whatever any of them mints, every edge opens for as long as it lives.
        #[test]
        fn no_token_is_refused_whoever_rotates(
            turns in prop::collection::vec((0..2usize, any::<bool>(), any::<bool>(), 1..9u64), 50..400),
            ahead in prop::array::uniform2(-3..4i64),
        ) {
            let mut etcd = set(&[key("first", 0, Some(20), None)]);
            let mut coordinators =
                ahead.map(|ahead| Coordinator { ahead, heard: etcd.clone() });
            // What etcd had, by second: an edge may be late by all of `propagation`.
            let mut history: Vec<(u64, KeySet)> = vec![(0, etcd.clone())];
            // Minted tokens: by which key, until when they are opened.
            let mut tokens: Vec<(KeyId, u64)> = Vec::new();
            let mut now = 20;
            let mut heard_at = [now; 2];
            for (who, hears, is_worn, passed) in turns {
                now += passed;
                let coordinator = &mut coordinators[who];
                // News takes less than the propagation time.
                if hears || now >= heard_at[who] + NEWS_SECONDS {
                    (coordinator.heard, heard_at[who]) = (etcd.clone(), now);
                }
                let clock = Instant(at(now).0.saturating_add_signed(coordinator.ahead * 1000));
                if let Some(step) = next_step(&coordinator.heard, &RULES, clock, is_worn) {
                    // Each write compares: who has not heard the last change of the key changes nothing.
                    let id = match &step {
                        Step::Create => None,
                        Step::Promote(id, _) | Step::Retire(id, _) | Step::Remove(id) => Some(id.clone()),
                    };
                    let is_same = id.as_ref().is_none_or(|id| etcd.get(id.as_str()) == coordinator.heard.get(id.as_str()));
                    if is_same && id.as_ref().is_none_or(|id| etcd.get(id.as_str()).is_some()) {
                        carry_out(&mut etcd, step, clock);
                        history.push((now, etcd.clone()));
                    }
                }
                for at in 0..2 {
                    // Who has not heard for longer than news takes hears now.
                    if now >= heard_at[at] + NEWS_SECONDS {
                        (coordinators[at].heard, heard_at[at]) = (etcd.clone(), now);
                    }
                    let ring: KeyRing = coordinators[at].heard.ring();
                    let minting = ring.minting().expect("somebody mints always").id().clone();
                    tokens.push((minting, now + 50));
                }
                tokens.retain(|(_, until)| *until > now);
                let late = history.iter().rev().find(|(since, _)| *since + NEWS_SECONDS <= now);
                for edge in [Some(&etcd), late.map(|(_, keys)| keys)].into_iter().flatten() {
                    let mut edge = edge.clone();
                    edge.retain(|record| !record.is_retired(at(now)));
                    for (id, _) in &tokens {
                        prop_assert!(edge.get(id.as_str()).is_some(), "{id} is not known at {now}: {edge:?}");
                    }
                }
                prop_assert!(etcd.iter().count() < 40, "keys pile up");
            }
        }
    }
}
