//! Places for operations in the store: who may have how many under way, who waits, and which are stuck.
//!
//! No file and no requester can take them all, and requesters take turns, so that a file that hangs, or a user with a
//! thousand downloads, delays nobody else. An operation that is stuck gives its place up and is counted apart: half a
//! thousand hung reads leave as many places as there were. An end costs the same however many wait ([`turns`]).
//! It knows no paths and no ring.

mod turns;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use turns::{Operation, State, Waiter};

/// From this age on an operation is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How many operations may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotRules {
    /// In all, those that are stuck not counted; and as many stuck ones again.
    pub(crate) total: usize,
    /// Of one file, stuck ones included.
    pub(crate) per_file: usize,
    /// For one requester, stuck ones included.
    pub(crate) per_requester: usize,
}

/// What an operation is for. Both are hashes: a file's id, and whoever is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) file: u64,
    pub(crate) requester: u64,
}

/// Operations now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotUse {
    pub(crate) under_way: usize,
    /// Of those, the ones that are stuck.
    pub(crate) stuck: usize,
    pub(crate) waiting: usize,
}

pub(crate) struct Slots {
    rules: SlotRules,
    state: Mutex<State>,
}

/// A place, or a turn in the queue for one; given up when dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    granted: Option<oneshot::Receiver<()>>,
}

/// Names a slot that may still wait, for others who want the same.
#[derive(Clone)]
pub(crate) struct Ticket {
    slots: Arc<Slots>,
    id: u64,
}

impl Slots {
    pub(crate) fn new(rules: SlotRules) -> Arc<Self> {
        Arc::new(Self { rules, state: Mutex::default() })
    }

    /// Takes a place, or queues for one.
    pub(crate) fn ask(self: &Arc<Self>, purpose: Purpose) -> Slot {
        let (grant, granted) = oneshot::channel();
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.waiters.insert(id, Waiter { purpose, grant, at_file: false });
        state.requesters.entry(purpose.requester).or_default().queue.push_back(id);
        state.enlist(purpose.requester);
        self.dispatch(state);
        Slot { slots: Arc::clone(self), id, granted: Some(granted) }
    }

    /// Sets apart what has become stuck. To be called a few times a second.
    pub(crate) fn look(&self, now: Instant) {
        let mut state = self.state();
        let room = self.rules.total.saturating_sub(state.set_apart);
        let overdue = |operation: &&mut Operation| !operation.is_apart && operation.is_stuck(now);
        let mut moved = 0;
        for operation in state.operations.values_mut().filter(overdue).take(room) {
            operation.is_apart = true;
            moved += 1;
        }
        state.live -= moved;
        state.set_apart += moved;
        self.dispatch(state);
    }

    pub(crate) fn usage(&self, now: Instant) -> SlotUse {
        let state = self.state();
        SlotUse {
            under_way: state.operations.len(),
            stuck: state.operations.values().filter(|operation| operation.is_stuck(now)).count(),
            waiting: state.waiters.len(),
        }
    }

    pub(crate) fn rules(&self) -> SlotRules {
        self.rules
    }

    /// Grants what can be granted, and tells those who got it.
    fn dispatch(&self, mut state: MutexGuard<'_, State>) {
        let mut granted = Vec::new();
        while state.live < self.rules.total
            && let Some(requester) = state.turn.pop_front()
        {
            granted.extend(state.take_turn(requester, self.rules));
            state.tidy(requester);
        }
        drop(state);
        for grant in granted {
            // Whoever has stopped waiting gives the place up by dropping its slot.
            let _ = grant.send(());
        }
    }

    fn leave(&self, id: u64) {
        let mut state = self.state();
        if let Some(operation) = state.operations.remove(&id) {
            state.end(&operation);
        } else {
            state.unqueue(id);
            state.waiters.remove(&id);
        }
        self.dispatch(state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Ticket {
    /// Whoever joins a wait that is somebody else's lends it their own turn, if theirs comes sooner.
    pub(crate) fn join(&self, requester: u64) {
        let rules = self.slots.rules;
        let mut state = self.slots.state();
        let Some(waiter) = state.waiters.get(&self.id) else { return };
        let owner = waiter.purpose.requester;
        let waits_for_file = waiter.at_file && state.is_full(waiter.purpose.file, rules);
        if owner == requester || waits_for_file {
            return;
        }
        let place = |of: u64| state.requesters.get(&of).map_or((0, 0), |of| (of.under_way, of.queue.len()));
        let ((owner_uses, owner_waits), (joiner_uses, joiner_waits)) = (place(owner), place(requester));
        let is_sooner = owner_uses >= rules.per_requester || joiner_waits < owner_waits;
        if joiner_uses >= rules.per_requester || !is_sooner {
            return;
        }
        state.unqueue(self.id);
        if let Some(waiter) = state.waiters.get_mut(&self.id) {
            waiter.purpose.requester = requester;
        }
        state.requesters.entry(requester).or_default().queue.push_back(self.id);
        state.enlist(requester);
        self.slots.dispatch(state);
    }
}

impl Slot {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { slots: Arc::clone(&self.slots), id: self.id }
    }

    /// Waits until the place is there.
    pub(crate) async fn granted(&mut self) {
        if let Some(granted) = &mut self.granted {
            granted.await.expect("a waiter is granted or removed by its own slot");
            self.granted = None;
        }
    }

    /// An operation in the store begins now: what came before it is not the store's delay.
    pub(crate) fn begin(&self) {
        if let Some(operation) = self.slots.state().operations.get_mut(&self.id) {
            operation.began = Some(Instant::now());
        }
    }

    /// The operation is over; the place is kept for another one.
    pub(crate) fn rest(&self) {
        if let Some(operation) = self.slots.state().operations.get_mut(&self.id) {
            operation.began = None;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.leave(self.id);
    }
}

#[cfg(test)]
mod tests;
