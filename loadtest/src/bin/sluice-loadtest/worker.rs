//! One thread of the generator: a runtime of its own, connections of its own, and a board that the main thread reads.

mod alarm;
mod answer;
mod asking;
mod download;
mod known;
mod schedule;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio::time::Instant;

pub(crate) use asking::{ApiAnswer, Target};
pub(crate) use known::KnownFiles;

use crate::clock::{Clock, Phase};
use crate::http::{Pool, Url};
use crate::outcome::Outcome;
use crate::plan::Share;
use crate::scenario::{FileNumber, Scenario};
use crate::tally::Tally;
use alarm::Alarm;
use asking::Asking;

/// What a thread needs to begin.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) target: Target,
    pub(crate) share: Share,
    pub(crate) clock: Clock,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) known: Arc<KnownFiles>,
}

/// What the main thread sees of a worker.
#[derive(Debug, Default)]
pub(crate) struct Board {
    tally: Mutex<Tally>,
    /// Bytes of files, as they come.
    pub(crate) received: AtomicU64,
    pub(crate) under_way: AtomicU64,
    /// As the kernel numbers threads; 0 before the thread runs.
    thread: AtomicI32,
    /// Nothing is under way, and nothing will be.
    is_done: AtomicBool,
}

impl Board {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since this was asked last.
    pub(crate) fn take(&self) -> Tally {
        let mut tally = std::mem::take(&mut *self.tally());
        tally.bytes = self.received.swap(0, Ordering::Relaxed);
        tally
    }

    pub(crate) fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}

/// The thread itself. Nothing in it is shared but the board, and what is known of files.
pub(crate) struct Worker {
    scenario: Arc<Scenario>,
    share: Share,
    clock: Clock,
    phase: watch::Receiver<Phase>,
    board: Arc<Board>,
    asking: Asking,
    pool: Pool,
    known: Arc<KnownFiles>,
    alarm: Alarm,
    /// Durable links, and edges' URLs with the end of their use.
    links: RefCell<HashMap<FileNumber, Url>>,
    urls: RefCell<HashMap<FileNumber, (Url, Instant)>>,
    /// Which coordinator is asked next.
    turn: Cell<usize>,
    under_way: Cell<u64>,
    /// Somebody has ended.
    ended: Notify,
}

/// Starts a worker. It stays until the run is over, so that its thread can be asked about up to then.
///
/// # Errors
/// There is no thread to be had.
pub(crate) fn start(order: Order, board: Arc<Board>) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let name = format!("worker-{}", order.share.index);
    thread::Builder::new().name(name).spawn(move || run(order, board)).context("cannot start a thread")
}

fn run(order: Order, board: Arc<Board>) -> anyhow::Result<()> {
    board.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let mut phase = order.phase.clone();
    let ended = tasks.block_on(&runtime, async {
        let worker = Rc::new(Worker::new(order, Arc::clone(&board))?);
        let everything = async {
            worker.all().await;
            board.is_done.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = everything => {}
            // An error means that the main thread has gone.
            _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
        }
        anyhow::Ok(())
    });
    // What is still under way is given up as its tasks are dropped.
    drop(tasks);
    // Names that are still being looked up are not waited for.
    runtime.shutdown_background();
    ended
}

impl Worker {
    fn new(order: Order, board: Arc<Board>) -> anyhow::Result<Self> {
        let Order { scenario, target, share, clock, phase, known } = order;
        Ok(Self {
            asking: Asking::new(&target, &scenario.credentials, &scenario.client)?,
            pool: Pool::new(scenario.client.clone()),
            scenario,
            share,
            clock,
            phase,
            board,
            known,
            alarm: Alarm::new()?,
            links: RefCell::default(),
            urls: RefCell::default(),
            turn: Cell::new(usize::try_from(share.index)?),
            under_way: Cell::new(0),
            ended: Notify::new(),
        })
    }

    fn turn(&self) -> usize {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }
}

/// A download under way. Dropped before it has ended, it is counted as given up.
struct UnderWay {
    worker: Rc<Worker>,
    intended: Instant,
    has_ended: bool,
}

impl UnderWay {
    fn begin(worker: &Rc<Worker>, intended: Instant) -> Self {
        worker.under_way.set(worker.under_way.get() + 1);
        worker.board.under_way.fetch_add(1, Ordering::Relaxed);
        Self { worker: Rc::clone(worker), intended, has_ended: false }
    }

    fn end(mut self, outcome: &Outcome) {
        let is_measured = self.worker.clock.is_measured(self.intended);
        self.worker.board.tally().record(outcome, &self.worker.scenario.files, is_measured);
        self.has_ended = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let worker = &self.worker;
        worker.under_way.set(worker.under_way.get() - 1);
        worker.board.under_way.fetch_sub(1, Ordering::Relaxed);
        worker.ended.notify_one();
        if !self.has_ended {
            worker.board.tally().give_up(self.intended.elapsed(), worker.clock.is_measured(self.intended));
        }
    }
}
