//! What becomes of a request: whether it is held, delayed or spoilt, and when it is answered. It knows no FUSE.

use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fuser::Errno;
use rand::RngExt;

use super::counters::{Counters, Counts};

/// The calls that rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Lookup,
    Attributes,
    Open,
    Read,
}

impl Call {
    pub(super) const ALL: [Self; 4] = [Self::Lookup, Self::Attributes, Self::Open, Self::Read];
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Beneath the root, which is `""` itself.
    pub path: String,
    /// Of a read, in bytes; 0 of other calls.
    pub offset: u64,
    /// Of a read, wanted; 0 of other calls.
    pub bytes: usize,
}

/// Which requests a rule is for. A text stands for all paths that begin with it.
#[derive(Clone)]
pub struct Which(Arc<dyn Fn(&Asked) -> bool + Send + Sync>);

impl Which {
    pub fn all() -> Self {
        Self::that(|_| true)
    }

    /// What is about the root itself.
    pub fn root() -> Self {
        Self::that(|asked| asked.path.is_empty())
    }

    /// Those for which `choose` says so. It must not ask the store.
    pub fn that(choose: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(choose))
    }
}

impl From<&str> for Which {
    fn from(prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self::that(move |asked| asked.path.starts_with(&prefix))
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Error(Errno),
    /// No more bytes than this.
    Short(usize),
}

/// Answers a request, at last.
pub(super) type Answer = Box<dyn FnOnce(Option<Fault>) + Send>;

#[derive(Default)]
pub(super) struct Rules {
    state: Mutex<State>,
    /// Something was delayed, or all is over.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holds: Vec<(Call, Which)>,
    faults: Vec<Spoilt>,
    per_mib: Duration,
    held: Vec<Waiting>,
    delayed: BinaryHeap<Delayed>,
    counters: Counters,
    is_over: bool,
}

struct Spoilt {
    call: Call,
    which: Which,
    fault: Fault,
    left: usize,
}

/// A request that is not answered yet.
struct Waiting {
    call: Call,
    asked: Asked,
    answer: Answer,
}

struct Delayed {
    due: Instant,
    waiting: Waiting,
}

impl Rules {
    /// Takes a request in: it is answered now, or some time.
    pub(super) fn ask(&self, call: Call, asked: Asked, answer: Answer) {
        let waiting = Waiting { call, asked, answer };
        let mut state = self.state();
        match call {
            Call::Read => state.counters.read(&waiting.asked.path),
            Call::Open => state.counters.open(&waiting.asked.path),
            Call::Lookup | Call::Attributes => {}
        }
        if state.is_held(&waiting) {
            state.held.push(waiting);
            return;
        }
        let delay = state.delay_of(&waiting);
        if delay.is_zero() {
            return self.answer(state, [waiting]);
        }
        state.delayed.push(Delayed { due: Instant::now() + delay, waiting });
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn hold(&self, call: Call, which: Which) {
        self.state().holds.push((call, which));
    }

    pub(super) fn held(&self, which: &Which) -> usize {
        self.state().held.iter().filter(|waiting| (which.0)(&waiting.asked)).count()
    }

    pub(super) fn release_one(&self) -> bool {
        let mut state = self.state();
        if state.held.is_empty() {
            return false;
        }
        let at = rand::rng().random_range(0..state.held.len());
        let waiting = state.held.swap_remove(at);
        self.answer(state, [waiting]);
        true
    }

    pub(super) fn release(&self) {
        let mut state = self.state();
        state.holds.clear();
        let held = std::mem::take(&mut state.held);
        self.answer(state, held);
    }

    pub(super) fn delay(&self, per_mib: Duration) {
        self.state().per_mib = per_mib;
    }

    pub(super) fn spoil(&self, call: Call, which: Which, fault: Fault, times: usize) {
        self.state().faults.push(Spoilt { call, which, fault, left: times });
    }

    pub(super) fn mend(&self) {
        self.state().faults.clear();
    }

    pub(super) fn counts(&self, path: &str) -> Counts {
        self.state().counters.of(path)
    }

    pub(super) fn counts_of_all(&self) -> Counts {
        self.state().counters.of_all()
    }

    /// A read brings so many bytes. To be said before it is answered.
    pub(super) fn brought(&self, path: &str, bytes: usize) {
        self.state().counters.brought(path, bytes);
    }

    /// Answers everything, now and from now on, with an error.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.holds.clear();
        state.faults.clear();
        let mut left = std::mem::take(&mut state.held);
        left.extend(std::mem::take(&mut state.delayed).into_iter().map(|delayed| delayed.waiting));
        self.answer(state, left);
        self.changed.notify_all();
    }

    /// Answers what is delayed when it is due, until all is over.
    pub(super) fn run_clock(&self) {
        let mut state = self.state();
        while !state.is_over {
            let Some(next) = state.delayed.peek().map(|delayed| delayed.due) else {
                state = self.changed.wait(state).expect("nothing panics under this lock");
                continue;
            };
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let due = state.delayed.pop().map(|delayed| delayed.waiting);
                self.answer(state, due);
                state = self.state();
            } else {
                (state, _) = self.changed.wait_timeout(state, left).expect("nothing panics under this lock");
            }
        }
    }

    /// Answers requests, outside the lock. A read is over before it is answered: whoever gets the answer may ask again.
    fn answer(&self, mut state: MutexGuard<'_, State>, waiting: impl IntoIterator<Item = Waiting>) {
        let answers: Vec<_> = waiting
            .into_iter()
            .map(|waiting| {
                let fault = state.fault_of(&waiting);
                if waiting.call == Call::Read {
                    state.counters.read_is_over(&waiting.asked.path);
                }
                (waiting.answer, fault)
            })
            .collect();
        drop(state);
        for (answer, fault) in answers {
            answer(fault);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    fn is_held(&self, waiting: &Waiting) -> bool {
        self.holds.iter().any(|(call, which)| *call == waiting.call && (which.0)(&waiting.asked))
    }

    fn delay_of(&self, waiting: &Waiting) -> Duration {
        if waiting.call != Call::Read || self.is_over {
            return Duration::ZERO;
        }
        self.per_mib.mul_f64(waiting.asked.bytes as f64 / f64::from(1 << 20))
    }

    /// What is wrong with the answer; it is used up by this.
    fn fault_of(&mut self, waiting: &Waiting) -> Option<Fault> {
        if self.is_over {
            return Some(Fault::Error(Errno::EIO));
        }
        let spoilt = self.faults.iter_mut().find(|spoilt| {
            spoilt.left > 0 && spoilt.call == waiting.call && (spoilt.which.0)(&waiting.asked)
        })?;
        if spoilt.left != usize::MAX {
            spoilt.left -= 1;
        }
        Some(spoilt.fault)
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    /// The one that is due first is the greatest, as the heap gives that first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}
