//! The main thread's part of a run: it takes what workers have counted, shows it, and says when they are to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_loadtest::interrupts::Interrupts;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::intervals::Cut;
use super::recorder::Recorder;
use super::{Live, Progress};
use crate::clock::{Clock, Phase};
use crate::generator::Reading;
use crate::summary::Stretch;
use crate::worker::Board;

/// After Ctrl-C or another word to end, what is under way has so long to end.
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(2);
/// How soon it is seen that nothing is under way any more.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was done to the cluster, and when that began.
pub(crate) type Event = (Instant, String);

/// What others tell a run, and are told.
pub(crate) struct Others {
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// What other machines saw in their last second.
    pub(crate) live: mpsc::UnboundedReceiver<Live>,
    /// It is to end before its time.
    pub(crate) stops: mpsc::UnboundedReceiver<()>,
    /// Called with when it begins.
    pub(crate) on_start: Box<dyn FnMut(Instant)>,
    /// Called where it ends before its time.
    pub(crate) on_interrupt: Box<dyn FnMut()>,
}

pub(super) struct Watching<'r> {
    pub(super) recorder: Recorder,
    pub(super) boards: Vec<Arc<Board>>,
    pub(super) workers: &'r [JoinHandle<anyhow::Result<()>>],
    pub(super) phase: &'r watch::Sender<Phase>,
    pub(super) clock: Clock,
    /// As the measuring begins, and as it ends.
    pub(super) readings: Vec<Reading>,
    pub(super) events: Vec<(f64, String)>,
}

impl Watching<'_> {
    /// From the start to the end of the last worker, or of the patience with it.
    pub(super) async fn watch(
        &mut self,
        progress: &mut Progress,
        others: Option<Others>,
    ) -> anyhow::Result<()> {
        let mut others = others.unwrap_or_else(Others::none);
        let mut interrupts = Interrupts::listen()?;
        (others.on_start)(self.clock.start);
        let mut over = self.clock.over();
        let mut next_live = 1.0;
        sleep_until(self.clock.start).await;
        self.enter(None);
        loop {
            tokio::select! {
                () = sleep_until(self.next_look()) => {}
                () = interrupts.next() => over = self.interrupt(over, &mut others),
                Some(()) = others.stops.recv() => over = self.interrupt(over, &mut others),
                Some(event) = others.events.recv() => self.note(event, progress)?,
                Some(live) = others.live.recv() => self.recorder.others_saw(&live),
            }
            let now = Instant::now();
            let seconds = self.clock.seconds(now);
            let is_over = now >= over || self.is_done(now);
            if is_over || seconds >= next_live || self.recorder.cut().is_some_and(|cut| seconds >= cut.to) {
                self.step(now);
            }
            if is_over {
                others.events.close();
                while let Ok(event) = others.events.try_recv() {
                    self.note(event, progress)?;
                }
                self.phase.send_replace(Phase::Over);
                return Ok(());
            }
            if seconds >= next_live {
                next_live = seconds.floor() + 1.0;
                let under_way = self.boards.iter().map(|board| board.under_way.load(Ordering::Relaxed)).sum();
                progress.show(&self.recorder.live(seconds, under_way), self.clock)?;
            }
        }
    }

    fn note(&mut self, (began, event): Event, progress: &mut Progress) -> io::Result<()> {
        let seconds = self.clock.seconds(began);
        progress.event(seconds, &event)?;
        self.events.push((seconds, event));
        Ok(())
    }

    /// The present interval's end, or before that, to see whether everything is done.
    fn next_look(&self) -> Instant {
        let soon = Instant::now() + LOOK_EVERY;
        let ends = self.recorder.cut().map(|cut| self.clock.start + Duration::from_secs_f64(cut.to));
        ends.map_or(soon, |end| end.min(soon))
    }

    /// Somebody wants it to end: soon, and the second time at once. Gives when it is over.
    fn interrupt(&mut self, over: Instant, others: &mut Others) -> Instant {
        let now = Instant::now();
        let is_first = *self.phase.borrow() == Phase::Running;
        if !is_first {
            return now;
        }
        (others.on_interrupt)();
        self.phase.send_replace(Phase::Ending);
        self.step(now);
        let before = self.recorder.cut();
        self.recorder.interrupt(self.clock.seconds(now));
        self.enter(before);
        over.min(now + DRAIN_INTERRUPTED)
    }

    /// Takes what workers have counted, into the interval that it belongs to.
    fn step(&mut self, now: Instant) {
        for board in &self.boards {
            self.recorder.take(&board.take());
        }
        let before = self.recorder.cut();
        self.recorder.advance(self.clock.seconds(now));
        self.enter(before);
    }

    /// Reads the clocks where what is measured begins and ends.
    fn enter(&mut self, before: Option<Cut>) {
        let is_measured = |cut: Option<Cut>| cut.is_some_and(|cut| cut.stretch == Stretch::Measured);
        if is_measured(before) != is_measured(self.recorder.cut()) {
            self.readings.push(Reading::of(self.boards.iter().map(|board| board.thread())));
        }
    }

    /// Nothing is under way, and nothing will be.
    fn is_done(&self, now: Instant) -> bool {
        let is_ending = now >= self.clock.end() || *self.phase.borrow() != Phase::Running;
        let mut both = self.boards.iter().zip(self.workers);
        both.all(|(board, worker)| worker.is_finished() || (is_ending && board.is_done()))
    }
}

impl Others {
    /// Nobody.
    pub(crate) fn none() -> Self {
        let (_, events) = mpsc::unbounded_channel();
        let (_, live) = mpsc::unbounded_channel();
        let (_, stops) = mpsc::unbounded_channel();
        Self { events, live, stops, on_start: Box::new(|_| {}), on_interrupt: Box::new(|| {}) }
    }
}
