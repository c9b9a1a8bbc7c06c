//! Who is called up next: requesters take turns, and each file calls those who wait for it as its places come free.
//!
//! Of a requester's waiters those whose file has all it may have stand aside, with the file's name, and the requester
//! waits at the file; it is called up when the file has a place. One call is out for a place: whoever cannot heed it, or
//! leaves, has it passed on.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Purpose, STUCK_AFTER, SlotRules};

#[derive(Default)]
pub(super) struct State {
    pub(super) last_id: u64,
    /// Operations that hold one of the places.
    pub(super) live: usize,
    /// Operations that gave theirs up, being stuck.
    pub(super) set_apart: usize,
    pub(super) operations: HashMap<u64, Operation>,
    pub(super) waiters: HashMap<u64, Waiter>,
    pub(super) requesters: HashMap<u64, Requester>,
    pub(super) files: HashMap<u64, FileUse>,
    /// Requesters with somebody waiting who may have more, in turn.
    pub(super) turn: VecDeque<u64>,
    /// Turns and calls so far.
    #[cfg(test)]
    pub(super) steps: usize,
}

pub(super) struct Operation {
    pub(super) purpose: Purpose,
    /// When it went to the store; before that, what it waits for is not the store.
    pub(super) began: Option<Instant>,
    pub(super) is_apart: bool,
}

pub(super) struct Waiter {
    pub(super) purpose: Purpose,
    pub(super) grant: oneshot::Sender<()>,
    /// It waits for its file's operations, and not for its requester's turn.
    pub(super) at_file: bool,
}

#[derive(Default)]
pub(super) struct Requester {
    pub(super) under_way: usize,
    /// Those of whom it is not known whether their files have places.
    pub(super) queue: VecDeque<u64>,
    /// Those who wait for a place of their file, by file. Each such file has the requester in its queue, or is in one of
    /// the two below.
    pub(super) at_files: HashMap<u64, VecDeque<u64>>,
    /// Files that called it, having a place.
    pub(super) called: VecDeque<u64>,
    /// Files that called it when it had all it may have: they have called others since.
    pub(super) deferred: VecDeque<u64>,
    pub(super) in_turn: bool,
}

#[derive(Default)]
pub(super) struct FileUse {
    pub(super) under_way: usize,
    /// Requesters who wait for its places, each once.
    pub(super) queue: VecDeque<u64>,
}

impl Operation {
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= STUCK_AFTER)
    }
}

impl State {
    /// Gives a requester its turn, if it has anybody waiting who may have a place.
    pub(super) fn enlist(&mut self, requester: u64) {
        if let Some(of) = self.requesters.get_mut(&requester)
            && !of.in_turn
            && !(of.queue.is_empty() && of.called.is_empty() && of.deferred.is_empty())
        {
            of.in_turn = true;
            self.turn.push_back(requester);
        }
    }

    /// One requester's turn: one of its waiters gets a place, or goes on waiting for its file.
    pub(super) fn take_turn(&mut self, requester: u64, rules: SlotRules) -> Option<oneshot::Sender<()>> {
        self.count_step();
        let of = self.requesters.get_mut(&requester)?;
        of.in_turn = false;
        if of.under_way >= rules.per_requester {
            // In turn again when one of its operations ends. Until then the files that called it call others.
            let called = std::mem::take(&mut of.called);
            of.deferred.extend(&called);
            called.into_iter().for_each(|file| self.call(file));
            return None;
        }
        // Who waited for a file has waited longer.
        let grant = match of.called.pop_front().or_else(|| of.deferred.pop_front()) {
            Some(file) => self.answer_call(requester, file, rules),
            None => self.take_next(requester, rules),
        };
        self.enlist(requester);
        grant
    }

    /// A requester comes where its file called it: there may be a place.
    fn answer_call(&mut self, requester: u64, file: u64, rules: SlotRules) -> Option<oneshot::Sender<()>> {
        if self.is_full(file, rules) {
            // It keeps its turn there.
            self.files.entry(file).or_default().queue.push_front(requester);
            return None;
        }
        let of = self.requesters.get_mut(&requester)?;
        let waiting = of.at_files.get_mut(&file).expect("only those are called who wait");
        let id = waiting.pop_front().expect("a file where nobody waits is not kept");
        if waiting.is_empty() {
            of.at_files.remove(&file);
        } else {
            self.files.entry(file).or_default().queue.push_back(requester);
        }
        let grant = self.grant(id);
        if !self.is_full(file, rules) {
            self.call(file);
        }
        Some(grant)
    }

    /// The first of a requester's queue gets a place, or begins to wait for its file.
    fn take_next(&mut self, requester: u64, rules: SlotRules) -> Option<oneshot::Sender<()>> {
        let of = self.requesters.get_mut(&requester)?;
        let id = of.queue.pop_front()?;
        let waiter = self.waiters.get_mut(&id).expect("whoever is queued waits");
        let file = waiter.purpose.file;
        let waits_there = of.at_files.contains_key(&file);
        let is_full = self.files.get(&file).is_some_and(|of| of.under_way >= rules.per_file);
        // Nobody overtakes those of the same requester and file.
        if !is_full && !waits_there {
            return Some(self.grant(id));
        }
        waiter.at_file = true;
        of.at_files.entry(file).or_default().push_back(id);
        if !waits_there {
            self.files.entry(file).or_default().queue.push_back(requester);
        }
        None
    }

    fn grant(&mut self, id: u64) -> oneshot::Sender<()> {
        let Waiter { purpose, grant, .. } = self.waiters.remove(&id).expect("whoever is queued waits");
        self.files.entry(purpose.file).or_default().under_way += 1;
        self.requesters.entry(purpose.requester).or_default().under_way += 1;
        self.live += 1;
        self.operations.insert(id, Operation { purpose, began: None, is_apart: false });
        grant
    }

    /// An operation is over: its file's next requester and its own get their turns.
    pub(super) fn end(&mut self, operation: &Operation) {
        let Purpose { file, requester } = operation.purpose;
        if operation.is_apart {
            self.set_apart -= 1;
        } else {
            self.live -= 1;
        }
        self.files.get_mut(&file).expect("an operation's file is known").under_way -= 1;
        self.requesters.get_mut(&requester).expect("an operation's requester is known").under_way -= 1;
        self.call(file);
        self.enlist(requester);
        self.tidy(requester);
    }

    /// A file may have a place: the next that waits for one comes to its turn. If it cannot take it, it has the next
    /// called.
    fn call(&mut self, file: u64) {
        self.count_step();
        let Some(of_file) = self.files.get_mut(&file) else { return };
        if let Some(requester) = of_file.queue.pop_front() {
            let of = self.requesters.get_mut(&requester).expect("whoever waits is known");
            of.called.push_back(file);
            self.enlist(requester);
        }
        self.tidy_file(file);
    }

    pub(super) fn is_full(&self, file: u64, rules: SlotRules) -> bool {
        self.files.get(&file).is_some_and(|of| of.under_way >= rules.per_file)
    }

    /// Takes a waiter out of the queue it is in.
    pub(super) fn unqueue(&mut self, id: u64) {
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        let Purpose { file, requester } = waiter.purpose;
        let of = self.requesters.get_mut(&requester).expect("whoever waits is known");
        if std::mem::take(&mut waiter.at_file) {
            let waiting = of.at_files.get_mut(&file).expect("it waits there");
            remove(waiting, id);
            if waiting.is_empty() {
                of.at_files.remove(&file);
                remove(&mut of.deferred, file);
                let was_called = remove(&mut of.called, file);
                if let Some(of_file) = self.files.get_mut(&file) {
                    remove(&mut of_file.queue, requester);
                    self.tidy_file(file);
                }
                if was_called {
                    self.call(file);
                }
            }
        } else {
            remove(&mut of.queue, id);
        }
        self.tidy(requester);
    }

    /// Forgets a requester that neither does nor wants anything. One that is in turn is forgotten after it.
    pub(super) fn tidy(&mut self, requester: u64) {
        if self.requesters.get(&requester).is_some_and(|of| {
            of.under_way == 0 && of.queue.is_empty() && of.at_files.is_empty() && !of.in_turn
        }) {
            self.requesters.remove(&requester);
        }
    }

    /// Forgets a file of which nothing is under way, and for which nobody waits that was not called.
    fn tidy_file(&mut self, file: u64) {
        if self.files.get(&file).is_some_and(|of| of.under_way == 0 && of.queue.is_empty()) {
            self.files.remove(&file);
        }
    }

    fn count_step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }
}

/// Says whether it was there.
fn remove(queue: &mut VecDeque<u64>, one: u64) -> bool {
    let place = queue.iter().position(|queued| *queued == one);
    place.and_then(|place| queue.remove(place)).is_some()
}
