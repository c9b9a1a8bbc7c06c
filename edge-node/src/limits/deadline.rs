//! Deadlines without a timer a request: each connection writes down until when it waits, and one sweep, several times
//! a second, ends what is late.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at; they are late by at most twice this.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The first byte of a connection.
    First,
    /// The first byte of a next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The client to take bytes.
    Send,
    /// The client to take bytes that are copies: nothing of the cache waits with them.
    Room,
    /// The client to close, after an answer that ended the connection.
    Linger,
}

/// The wait is over without what it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late;

/// One connection's deadline.
pub(crate) struct Deadline {
    /// The time of the last sweep: near enough for what is looked at once a sweep, and not asked of the clock each time.
    swept_at: Rc<Cell<Instant>>,
    waiting: Cell<Waiting>,
    /// Until when; `None` while nothing is waited for.
    until: Cell<Option<Instant>>,
    /// For how long, in milliseconds: an idle connection is kept small.
    patience_ms: Cell<u32>,
    late: Cell<bool>,
    /// What its connection is busy with is to end, whether it waits or not.
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Deadline {
    /// Waits for `future`, at most until `patience` is over.
    pub(crate) async fn bound<T>(
        &self,
        waiting: Waiting,
        patience: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Late> {
        let mut future = pin!(future);
        let mut armed = false;
        poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            self.judge(polled, &mut armed, (waiting, patience), context)
        })
        .await
    }

    /// What was polled, or `Late` once `patience` is over. `armed` belongs to the wait and begins false.
    pub(crate) fn judge<T>(
        &self,
        polled: Poll<T>,
        armed: &mut bool,
        (waiting, patience): (Waiting, Duration),
        context: &Context<'_>,
    ) -> Poll<Result<T, Late>> {
        if let Poll::Ready(output) = polled {
            self.disarm(*armed);
            return Poll::Ready(Ok(output));
        }
        if !*armed {
            // Only what has to wait is timed at all.
            *armed = true;
            self.waiting.set(waiting);
            // Never early: the last sweep was at most one interval ago.
            self.until.set(Some(self.swept_at.get() + SWEEP_EVERY + patience));
            self.patience_ms.set(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
            self.late.set(false);
        }
        if self.late.get() {
            self.disarm(true);
            return Poll::Ready(Err(Late));
        }
        self.belongs_to(context);
        Poll::Pending
    }

    /// Notes the task to wake; to be called whenever it is polled.
    pub(crate) fn belongs_to(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    fn disarm(&self, armed: bool) {
        if armed {
            self.until.set(None);
        }
    }

    fn end(&self) {
        self.late.set(true);
        self.wake();
    }

    /// Has its connection end at once.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The deadlines of one worker's connections.
pub(crate) struct Deadlines {
    swept_at: Rc<Cell<Instant>>,
    slots: RefCell<Vec<Option<Rc<Deadline>>>>,
    free: RefCell<Vec<usize>>,
}

/// A place among the deadlines, for as long as a connection lives.
pub(crate) struct DeadlineSlot {
    deadlines: Rc<Deadlines>,
    place: usize,
    deadline: Rc<Deadline>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            swept_at: Rc::new(Cell::new(Instant::now())),
            slots: RefCell::default(),
            free: RefCell::default(),
        }
    }
}

impl Deadlines {
    pub(crate) fn slot(self: &Rc<Self>) -> DeadlineSlot {
        let deadline = Rc::new(Deadline {
            swept_at: Rc::clone(&self.swept_at),
            waiting: Cell::new(Waiting::Send),
            until: Cell::new(None),
            patience_ms: Cell::new(0),
            late: Cell::new(false),
            is_cut: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut slots = self.slots.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(slots.len());
        if place == slots.len() {
            slots.push(None);
        }
        slots[place] = Some(Rc::clone(&deadline));
        DeadlineSlot { deadlines: Rc::clone(self), place, deadline }
    }

    /// Ends waits that are late, and those that `unwanted` names of what is waited for and for how long.
    pub(crate) fn sweep(&self, now: Instant, unwanted: impl Fn(Waiting, Duration) -> bool) {
        self.swept_at.set(now);
        for deadline in self.slots.borrow().iter().flatten() {
            let Some(until) = deadline.until.get() else { continue };
            let patience = Duration::from_millis(deadline.patience_ms.get().into());
            let waited = patience.saturating_sub(until.saturating_duration_since(now));
            if until <= now || unwanted(deadline.waiting.get(), waited) {
                deadline.end();
            }
        }
    }

    /// Has every connection look around, whatever it waits for.
    pub(crate) fn wake_all(&self) {
        self.slots.borrow().iter().flatten().for_each(|deadline| deadline.wake());
    }
}

impl DeadlineSlot {
    /// The deadline itself, to be looked at while its connection is busy.
    pub(crate) fn shared(&self) -> Rc<Deadline> {
        Rc::clone(&self.deadline)
    }
}

impl std::ops::Deref for DeadlineSlot {
    type Target = Deadline;

    fn deref(&self) -> &Deadline {
        &self.deadline
    }
}

impl Drop for DeadlineSlot {
    fn drop(&mut self) {
        self.deadlines.slots.borrow_mut()[self.place] = None;
        self.deadlines.free.borrow_mut().push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_late_waits_end() {
        let deadlines = Rc::new(Deadlines::default());
        let (late, patient) = (deadlines.slot(), deadlines.slot());
        let waits = async {
            tokio::join!(
                late.bound(Waiting::Head, Duration::ZERO, std::future::pending::<()>()),
                tokio::time::timeout(
                    Duration::from_millis(50),
                    patient.bound(Waiting::Idle, Duration::from_secs(9), std::future::pending::<()>())
                ),
            )
        };
        let sweep = async {
            tokio::task::yield_now().await;
            deadlines.sweep(Instant::now() + SWEEP_EVERY, |_, _| false);
        };
        let ((late_ended, patient_ended), ()) = tokio::join!(waits, sweep);
        assert_eq!(late_ended, Err(Late));
        assert!(patient_ended.is_err(), "the patient wait went on");
        drop((late, patient));
        assert_eq!(deadlines.free.borrow().len(), 2);
    }

    #[tokio::test]
    async fn waits_that_are_unwanted_end() {
        let deadlines = Rc::new(Deadlines::default());
        let (idle, sending) = (deadlines.slot(), deadlines.slot());
        let hour = Duration::from_secs(3600);
        let waits = async {
            tokio::join!(
                idle.bound(Waiting::Idle, hour, std::future::pending::<()>()),
                tokio::time::timeout(
                    Duration::from_millis(50),
                    sending.bound(Waiting::Send, hour, std::future::pending::<()>())
                ),
            )
        };
        let sweep = async {
            tokio::task::yield_now().await;
            deadlines.sweep(Instant::now(), |waiting, _| waiting == Waiting::Idle);
        };
        let ((idle_ended, sending_ended), ()) = tokio::join!(waits, sweep);
        assert_eq!(idle_ended, Err(Late));
        assert!(sending_ended.is_err(), "the other went on");
    }

    #[tokio::test]
    async fn what_is_ready_is_never_late() {
        let deadlines = Rc::new(Deadlines::default());
        let slot = deadlines.slot();
        assert_eq!(slot.bound(Waiting::Head, Duration::ZERO, async { 7 }).await, Ok(7));
    }
}
