//! Bounds, turns and what is stuck, and that nobody waits for ever.

use proptest::prelude::*;

use super::*;

const RULES: SlotRules = SlotRules { total: 8, per_file: 2, per_requester: 4 };

fn has_place(slot: &mut Slot) -> bool {
    slot.granted.as_mut().is_none_or(|granted| granted.try_recv().is_ok()) && {
        slot.granted = None;
        true
    }
}

fn ask(slots: &Arc<Slots>, file: u64, requester: u64) -> Slot {
    slots.ask(Purpose { file, requester })
}

/// Sends to the store what has a place.
fn begin(asked: &[Slot]) {
    asked.iter().for_each(Slot::begin);
}

/// How many of these have a place.
fn places(asked: &mut [Slot]) -> usize {
    asked.iter_mut().map(has_place).filter(|has| *has).count()
}

#[test]
fn a_file_a_requester_and_all_together_are_bounded() {
    let slots = Slots::new(RULES);
    let mut of_one_file: Vec<_> = (0..9).map(|requester| ask(&slots, 1, requester)).collect();
    assert_eq!(places(&mut of_one_file), 2);
    let mut of_one_requester: Vec<_> = (10..19).map(|file| ask(&slots, file, 100)).collect();
    assert_eq!(places(&mut of_one_requester), 4);
    let mut others: Vec<_> = (20..29).map(|n| ask(&slots, n, n)).collect();
    assert_eq!(places(&mut others), 2);
    drop(of_one_file);
    assert_eq!(places(&mut others), 4, "what one gives up goes to those who may have more");
    drop((of_one_requester, others));
    let state = slots.state();
    assert!(state.requesters.is_empty() && state.files.is_empty() && state.waiters.is_empty());
}

#[test]
fn requesters_take_turns_whatever_one_of_them_asks() {
    let slots = Slots::new(RULES);
    let first: Vec<_> = (0..8).map(|n| ask(&slots, n, n % 2)).collect();
    let greedy: Vec<_> = (100..200).map(|file| ask(&slots, file, 7)).collect();
    let mut modest = ask(&slots, 300, 8);
    assert!(!has_place(&mut modest));
    let mut first = first.into_iter();
    drop((first.next(), first.next()));
    assert!(has_place(&mut modest), "it waited for one of the greedy, not for a hundred");
    drop(greedy);
}

#[test]
fn a_joiner_with_a_free_place_takes_over_what_waits() {
    let slots = Slots::new(RULES);
    let mut held: Vec<_> = (0..4).map(|file| ask(&slots, file, 1)).collect();
    let mut queued = ask(&slots, 50, 1);
    assert_eq!((places(&mut held), has_place(&mut queued)), (4, false));
    queued.ticket().join(2);
    assert!(has_place(&mut queued));
    drop(queued);
    assert_eq!(slots.usage(Instant::now()).under_way, 4);
}

#[test]
fn what_is_stuck_gives_its_place_up_and_is_counted() {
    let slots = Slots::new(RULES);
    let later = Instant::now() + STUCK_AFTER * 2;
    let mut hung: Vec<_> = (0..9).map(|n| ask(&slots, n, n)).collect();
    assert_eq!(places(&mut hung), 8);
    slots.look(later);
    assert_eq!(places(&mut hung), 8, "what has not gone to the store is not stuck in it");
    begin(&hung);
    slots.look(Instant::now());
    assert_eq!(places(&mut hung), 8, "young ones hold their places");
    slots.look(later);
    assert_eq!(places(&mut hung), 9);
    begin(&hung);
    assert_eq!(slots.usage(later), SlotUse { under_way: 9, stuck: 9, waiting: 0 });
    let mut more: Vec<_> = (20..40).map(|n| ask(&slots, n, n)).collect();
    begin(&more);
    slots.look(later + STUCK_AFTER);
    assert_eq!(places(&mut more), 7, "as many stuck ones as places, and no more");
    drop(hung);
    begin(&more);
    slots.look(later + STUCK_AFTER);
    assert_eq!(places(&mut more), 16, "half of them stuck");
}

/// Turns and calls that an action takes.
fn steps(slots: &Arc<Slots>, act: impl FnOnce()) -> usize {
    let before = slots.state().steps;
    act();
    slots.state().steps - before
}

#[test]
fn an_end_costs_the_same_however_many_wait() {
    let slots = Slots::new(RULES);
    let mut of_file: Vec<_> = (0..2).map(|requester| ask(&slots, 1, requester)).collect();
    let mut waiting: Vec<_> = (0..1000).map(|n| ask(&slots, 1, 10 + n % 500)).collect();
    assert_eq!((places(&mut of_file), places(&mut waiting)), (2, 0));
    assert!(steps(&slots, || drop(of_file.pop())) < 8);
    assert_eq!(waiting.iter_mut().position(has_place), Some(0), "who came first");
    assert!(steps(&slots, || drop(waiting.remove(0))) < 8);
    assert_eq!(waiting.iter_mut().position(has_place), Some(0));
}

#[test]
fn whoever_has_all_it_may_have_is_passed_over_at_its_file_and_comes_to_its_turn() {
    let slots = Slots::new(RULES);
    let mut of_file: Vec<_> = (0..2).map(|requester| ask(&slots, 1, requester)).collect();
    let mut of_full: Vec<_> = (0..1000).map(|_| ask(&slots, 1, 100)).collect();
    let mut elsewhere: Vec<_> = (10..14).map(|file| ask(&slots, file, 100)).collect();
    let mut other = ask(&slots, 1, 101);
    assert_eq!((places(&mut of_file), places(&mut elsewhere), places(&mut of_full)), (2, 4, 0));
    assert!(steps(&slots, || drop(of_file.pop())) < 8);
    assert!(has_place(&mut other), "of a requester that may have more");
    assert!(steps(&slots, || drop(of_file.pop())) < 8);
    assert_eq!(places(&mut of_full), 0);
    assert!(steps(&slots, || drop(elsewhere.pop())) < 8);
    assert_eq!(of_full.iter_mut().position(has_place), Some(0));
}

proptest! {
    /// Whatever comes and goes, the bounds hold and nobody is forgotten.
    #[test]
    fn bounds_hold_and_everybody_comes_to_their_turn(
        steps in prop::collection::vec((0u8..8, 0u64..4, 0u64..4, any::<prop::sample::Index>()), 1..300)
    ) {
        let rules = SlotRules { total: 5, per_file: 2, per_requester: 3 };
        let slots = Slots::new(rules);
        let mut asked: Vec<Slot> = vec![];
        let began = Instant::now();
        for (at, (step, file, requester, which)) in (0u32..).zip(steps) {
            match step {
                0..4 => asked.push(ask(&slots, file, requester)),
                4..6 if !asked.is_empty() => drop(asked.swap_remove(which.index(asked.len()))),
                6 if !asked.is_empty() => asked[which.index(asked.len())].ticket().join(requester),
                _ => slots.look(began + STUCK_AFTER * (at / 100)),
            }
            let state = slots.state();
            prop_assert!(state.live <= rules.total && state.set_apart <= rules.total);
            prop_assert_eq!(state.live + state.set_apart, state.operations.len());
            prop_assert!(state.files.values().all(|of| of.under_way <= rules.per_file));
            prop_assert!(state.requesters.values().all(|of| of.under_way <= rules.per_requester));
            // Nobody waits who could go.
            let could_go = |waiter: &Waiter| {
                let Purpose { file, requester } = waiter.purpose;
                state.live < rules.total
                    && state.files.get(&file).is_none_or(|of| of.under_way < rules.per_file)
                    && state.requesters.get(&requester).is_none_or(|of| of.under_way < rules.per_requester)
            };
            prop_assert!(!state.waiters.values().any(could_go));
            // Who waits for a file is known there, or has been called.
            for (requester, of) in &state.requesters {
                for (file, waiting) in &of.at_files {
                    let queue = state.files.get(file).map(|of| &of.queue);
                    let at_file = queue.into_iter().flatten().filter(|queued| *queued == requester);
                    let called = of.called.iter().chain(&of.deferred).filter(|called| *called == file);
                    prop_assert!(!waiting.is_empty() && at_file.chain(called).count() == 1);
                }
                prop_assert!(of.called.len() + of.deferred.len() <= of.at_files.len());
            }
        }
        while !asked.is_empty() {
            let before = asked.len();
            let (has, waits): (Vec<_>, Vec<_>) =
                std::mem::take(&mut asked).into_iter().map(|mut slot| (has_place(&mut slot), slot)).partition(|(has, _)| *has);
            drop(has);
            asked = waits.into_iter().map(|(_, slot)| slot).collect();
            prop_assert!(asked.len() < before, "somebody always has a place");
        }
        let state = slots.state();
        prop_assert!(state.requesters.is_empty() && state.files.is_empty() && state.turn.is_empty());
    }
}
