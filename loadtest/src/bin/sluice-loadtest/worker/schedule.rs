//! When downloads begin: by a schedule that waits for nobody, or by clients that wait for their answers.

use std::iter::Peekable;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{UnderWay, Worker};
use crate::clock::Phase;
use crate::outcome::End;
use crate::plan::{Arrivals, Share, Task, Tasks};
use crate::scenario::{Curve, Load, Times};

/// Downloads that are begun in one go before others get their turn.
const BEGUN_AT_ONCE: u32 = 16;

impl Worker {
    /// Everything that this worker does; returns when the last download has ended.
    pub(super) async fn all(self: &Rc<Self>) {
        match &self.scenario.load {
            Load::Open { rate, arrivals, in_flight_max } => {
                self.open_loop(rate, *arrivals, u64::from(*in_flight_max)).await;
            }
            Load::Closed { clients, think, think_times } => {
                self.closed_loop(clients, *think, *think_times).await;
            }
        }
    }

    async fn open_loop(self: &Rc<Self>, rate: &Curve, times: Times, in_flight_max: u64) {
        let own_max = in_flight_max.div_ceil(u64::from(self.share.of)).max(1);
        let arrivals = Arrivals::new(rate.clone(), times, self.scenario.seed, self.share);
        self.begin_as_due(Due { worker: self, arrivals: arrivals.peekable() }, own_max).await;
        self.until_fewer_than(1).await;
    }

    async fn begin_as_due(self: &Rc<Self>, mut due: Due<'_>, own_max: u64) {
        let mut tasks = Tasks::new(&self.scenario, self.share);
        let mut begun = 0;
        while let Some(intended) = due.next_moment() {
            if intended >= self.clock.end() || !self.is_there_at(intended).await {
                break;
            }
            let is_held = self.under_way.get() >= own_max;
            if is_held && !self.is_there_when_fewer_than(own_max).await {
                break;
            }
            let Some(task) = tasks.next() else { break };
            due.arrivals.next();
            self.begin(task, intended, is_held);
            begun += 1;
            if begun % BEGUN_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn begin(self: &Rc<Self>, task: Task, intended: Instant, is_held: bool) {
        let worker = Rc::clone(self);
        let under_way = UnderWay::begin(self, intended);
        tokio::task::spawn_local(async move {
            worker.note_begin(intended, is_held);
            let outcome = worker.download(&task, intended).await;
            under_way.end(&outcome);
        });
    }

    /// Counts a start of the schedule, and how late it is.
    fn note_begin(&self, intended: Instant, is_held: bool) {
        let mut tally = self.board.tally();
        tally.begun += 1;
        if is_held {
            tally.held += 1;
        } else if self.clock.is_measured(intended) {
            tally.lateness.record(intended.elapsed());
        }
    }

    /// Waits for a moment; false if the run ends first, or no clock can be had.
    async fn is_there_at(&self, moment: Instant) -> bool {
        if moment <= Instant::now() {
            return !self.is_ending();
        }
        tokio::select! {
            waited = self.alarm.until(moment) => waited.is_ok(),
            () = self.ending() => false,
        }
    }

    async fn is_there_when_fewer_than(&self, count: u64) -> bool {
        tokio::select! {
            () = self.until_fewer_than(count) => true,
            () = self.ending() => false,
        }
    }

    async fn until_fewer_than(&self, count: u64) {
        while self.under_way.get() >= count {
            self.ended.notified().await;
        }
    }

    async fn closed_loop(self: &Rc<Self>, clients: &Curve, think: Duration, times: Times) {
        let highest = crate::number::whole(clients.highest().ceil());
        let all = u32::try_from(highest).unwrap_or(u32::MAX);
        let own = (self.share.index..all).step_by(usize::try_from(self.share.of).unwrap_or(1));
        let running: Vec<_> = own
            .map(|number| {
                let client = Client { worker: Rc::clone(self), clients: clients.clone(), think, times };
                tokio::task::spawn_local(client.run(Share { index: number, of: all }))
            })
            .collect();
        for client in running {
            // It can only have panicked, which aborts.
            let _ = client.await;
        }
    }

    fn is_ending(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    async fn ending(&self) {
        let mut phase = self.phase.clone();
        // An error means that the main thread has gone.
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    }
}

/// Downloads of an open loop that are still to begin. Dropped when no more do, it counts those that should have.
struct Due<'w> {
    worker: &'w Worker,
    arrivals: Peekable<Arrivals>,
}

impl Due<'_> {
    /// When the next one is to begin, which stays the next one.
    fn next_moment(&mut self) -> Option<Instant> {
        self.arrivals.peek().map(|arrival| self.worker.clock.start + *arrival)
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let clock = self.worker.clock;
        let mut tally = self.worker.board.tally();
        while let Some(intended) = self.next_moment().filter(|moment| *moment < now.min(clock.end())) {
            if clock.is_measured(intended) {
                tally.never_begin(now - intended);
            }
            self.arrivals.next();
        }
    }
}

/// One of a closed loop's.
struct Client {
    worker: Rc<Worker>,
    clients: Curve,
    think: Duration,
    times: Times,
}

impl Client {
    async fn run(self, share: Share) {
        let worker = &self.worker;
        let mut tasks = Tasks::new(&worker.scenario, share);
        while self.waits_for_its_turn(share.index).await {
            let Some(task) = tasks.next() else { break };
            let intended = Instant::now();
            worker.board.tally().begun += 1;
            let under_way = UnderWay::begin(worker, intended);
            let outcome = worker.download(&task, intended).await;
            under_way.end(&outcome);
            let mut pause = tasks.pause(self.think, self.times);
            if matches!(outcome.end, End::Failed(_)) {
                // Nobody comes back at once, and a server that refuses must not be flooded.
                pause = pause.max(worker.scenario.client.pause);
            }
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = worker.ending() => break,
                }
            }
        }
    }

    /// Waits until there are as many clients as this one's number; false where that is never again, or the run ends.
    async fn waits_for_its_turn(&self, number: u32) -> bool {
        let clock = &self.worker.clock;
        let now = Instant::now();
        if now < clock.start {
            tokio::time::sleep_until(clock.start).await;
        }
        let seconds = clock.seconds(Instant::now());
        let Some(turn) = self.clients.rises_above(f64::from(number), seconds) else { return false };
        if turn > seconds {
            let moment = clock.start + Duration::try_from_secs_f64(turn).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep_until(moment) => {}
                () = self.worker.ending() => return false,
            }
        }
        Instant::now() < clock.end() && !self.worker.is_ending()
    }
}
