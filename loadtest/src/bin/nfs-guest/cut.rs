//! The server vanishes under traffic of every kind, and comes back.

mod seen;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use sluice_loadtest::client::Request;
use sluice_loadtest::wait_until_within;

use crate::STORAGE_TIMEOUT;
use crate::edge::Edge;
use crate::files::{COLD_EVERY, Stored};
use crate::heartbeat::{self, Beats};
use crate::readiness::{self, Look};
use crate::report::passed;
use crate::stalled::Stalled;
use crate::store::Store;
use crate::traffic::{Download, ask_cold, download_on_and_on, download_slowly};
use seen::{Seen, Times};

/// Traffic before the cut, to see what gaps the machine itself makes.
const BASELINE: Duration = Duration::from_secs(8);
/// How long before the cut slow downloads begin.
const LEAD: Duration = Duration::from_secs(3);
/// All downloads are complete so long before the server is back.
const SETTLED: Duration = Duration::from_secs(3);
/// A refusal may come so much later than `storage_timeout`.
const MARGIN: Duration = Duration::from_secs(2);
/// The kernel's NFS client finds a server again after seconds to a minute: it waits longer from try to try.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// Traffic goes on so long after the edge is ready again.
const AFTERWARDS: Duration = Duration::from_secs(3);
const DOWNLOADERS: usize = 2;

type Running<'s, T> = ScopedJoinHandle<'s, anyhow::Result<T>>;

/// What is asked for.
pub(crate) struct Files<'f> {
    /// Cached.
    pub(crate) hot: &'f [Stored],
    /// Never asked for before.
    pub(crate) cold: &'f [Stored],
    /// Cached in part, by a transfer under way.
    pub(crate) half: &'f Stored,
}

/// Takes the server away for `away`, with traffic before, meanwhile and after; says what was seen, and judges it.
pub(crate) fn survive(edge: &Edge, store: &Store, files: &Files<'_>, away: Duration) -> anyhow::Result<()> {
    let half = Stalled::begin(edge, files.half)?;
    let half_etag = half.etag()?;
    let stops = Stops::default();
    let received = [const { AtomicU64::new(0) }; 3];
    let seen = thread::scope(|scope| {
        let _stop = StopWhenDropped(&stops);
        let started = Instant::now();
        let traffic = Traffic::start(scope, edge, files.hot, &stops);
        thread::sleep(BASELINE - LEAD);
        let slow = start_slow(scope, edge, files.hot, LEAD + away.mul_f64(0.6), &received);
        thread::sleep(LEAD);

        let cut = store.cut()?;
        let slow_before_cut = received.each_ref().map(|bytes| bytes.load(Ordering::Relaxed)).iter().sum();
        let cut_at = cut.since;
        let half = scope.spawn(|| half.finish());
        let asked = ask_all_cold(scope, edge, files.cold, cut_at, away);
        sleep_until(cut_at + away - SETTLED);
        stops.downloads.store(true, Ordering::Relaxed);
        let downloads = join_all(traffic.downloads)?;
        let (slow, refusals, half) = (join_all(slow)?, join_all(asked)?, join(half)?);
        sleep_until(cut_at + away);
        let back_at = cut.end()?;

        wait_until_within(BACK_WITHIN, "the edge is ready again", || Ok(readiness::look(edge)?.is_ready))?;
        let ready_at = Instant::now();
        thread::sleep(AFTERWARDS);
        stops.all.store(true, Ordering::Relaxed);
        let (ticks, beats) = (join_all(traffic.ticks)?, join_all(traffic.beats)?);
        let looks = join(traffic.looks)?;
        let times = Times { started, cut_at, back_at, ready_at, ended_at: Instant::now() };
        anyhow::Ok(Seen { times, ticks, beats, looks, downloads, slow, slow_before_cut, refusals, half })
    })?;
    seen.judge(files.hot.len(), STORAGE_TIMEOUT + MARGIN)?;
    resume(edge, files.half, &half_etag, seen.half.received)
}

/// When what is to end has to.
#[derive(Default)]
struct Stops {
    downloads: AtomicBool,
    all: AtomicBool,
}

/// Whatever fails first, the threads end.
struct StopWhenDropped<'s>(&'s Stops);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.downloads.store(true, Ordering::Relaxed);
        self.0.all.store(true, Ordering::Relaxed);
    }
}

/// What goes on before the cut and during it.
struct Traffic<'s> {
    ticks: Vec<Running<'s, Beats>>,
    beats: Vec<Running<'s, Beats>>,
    looks: Running<'s, Vec<Look>>,
    downloads: Vec<Running<'s, Vec<Download>>>,
}

impl<'s> Traffic<'s> {
    fn start<'e: 's>(scope: &'s Scope<'s, 'e>, edge: &'e Edge, hot: &'e [Stored], stops: &'e Stops) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let tick = |processor| scope.spawn(move || heartbeat::tick(processor, &stops.all));
        let beat = |_| scope.spawn(|| heartbeat::beat(edge, &hot[0], &stops.all));
        let download = |number| scope.spawn(move || download_on_and_on(edge, hot, number, &stops.downloads));
        Self {
            ticks: (0..processors).map(tick).collect(),
            beats: (0..heartbeat::CONNECTIONS).map(beat).collect(),
            looks: scope.spawn(|| readiness::watch(edge, &stops.all)),
            downloads: (0..DOWNLOADERS).map(download).collect(),
        }
    }
}

/// Slow downloads: the largest file whole and from its middle on, and one of some MiB.
fn start_slow<'s, 'e: 's>(
    scope: &'s Scope<'s, 'e>,
    edge: &'e Edge,
    hot: &'e [Stored],
    takes: Duration,
    received: &'e [AtomicU64; 3],
) -> Vec<Running<'s, Download>> {
    let largest = &hot[hot.len() - 1];
    let wanted = [(largest, 0), (largest, largest.content.size() / 3), (&hot[hot.len() - 2], 0)];
    wanted
        .into_iter()
        .zip(received)
        .map(|((stored, first), received)| {
            scope.spawn(move || download_slowly(edge, stored, first, takes, received))
        })
        .collect()
}

/// One cold file after the other, each on a thread of its own, as answers take their time. The last ones that could
/// not have their answers before the server is back are left for later.
fn ask_all_cold<'s, 'e: 's>(
    scope: &'s Scope<'s, 'e>,
    edge: &'e Edge,
    cold: &'e [Stored],
    cut_at: Instant,
    away: Duration,
) -> Vec<Running<'s, Duration>> {
    let last = cut_at + away - SETTLED - STORAGE_TIMEOUT - MARGIN;
    let times = (0..).map(move |number| cut_at + COLD_EVERY / 2 + COLD_EVERY * number);
    cold.iter()
        .zip(times.take_while(|time| *time <= last))
        .map(|(stored, time)| {
            scope.spawn(move || {
                sleep_until(time);
                ask_cold(edge, stored)
            })
        })
        .collect()
}

/// What was cut short goes on where it ended, of the same version.
fn resume(edge: &Edge, stored: &Stored, etag: &str, received: u64) -> anyhow::Result<()> {
    let request = Request::new("GET", &edge.url(&stored.name)?);
    let answer = request.range(&format!("{received}-")).field("If-Range", etag).send()?;
    ensure!(answer.status() == 206, "{} for the rest of a transfer: {}", answer.status(), answer.text());
    let rest = stored.content.size() - received;
    ensure!(answer.body.len() as u64 == rest, "{} of {rest} bytes", answer.body.len());
    stored.content.check(received, &answer.body)?;
    passed("its client resumes it afterwards", &format!("{rest} bytes, under the same ETag"))
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

fn join<T>(running: Running<'_, T>) -> anyhow::Result<T> {
    running.join().map_err(|_| anyhow!("a client panicked"))?
}

fn join_all<T>(running: Vec<Running<'_, T>>) -> anyhow::Result<Vec<T>> {
    running.into_iter().map(join).collect::<anyhow::Result<_>>().context("while the server was away")
}
