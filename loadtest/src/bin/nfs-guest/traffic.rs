//! Clients of the edge: fast ones, slow ones, and those that ask for what is not cached. Each checks every byte.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_loadtest::client::Request;

use crate::edge::Edge;
use crate::files::Stored;

/// Between two downloads of one client, so that the guest's processors are not all taken by checking bytes.
const PAUSE: Duration = Duration::from_millis(150);
const READ_BYTES: usize = 32 * 1024;

/// When a download began and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Download {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) bytes: u64,
}

/// Downloads every file over and over, whole and by range in turn, until told to stop. Two with other numbers do it in
/// another order.
pub(crate) fn download_on_and_on(
    edge: &Edge,
    files: &[Stored],
    number: usize,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Download>> {
    let mut done = Vec::new();
    let mut turn = number * 7;
    while !stop.load(Ordering::Relaxed) {
        let stored = &files[turn % files.len()];
        let what = || format!("downloading {} in the {turn}th turn", stored.name);
        // Each file is whole in one round and a range in the next.
        let is_whole = (turn + turn / files.len()).is_multiple_of(2);
        done.push(if is_whole {
            download_whole(edge, stored).with_context(what)?
        } else {
            download_range(edge, stored, turn as u64).with_context(what)?
        });
        turn += 1;
        thread::sleep(PAUSE);
    }
    Ok(done)
}

fn download_whole(edge: &Edge, stored: &Stored) -> anyhow::Result<Download> {
    let began = Instant::now();
    let answer = Request::new("GET", &edge.url(&stored.name)?).send()?;
    ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text());
    let ended = Instant::now();
    stored.content.check_whole(&answer.body)?;
    Ok(Download { began, ended, bytes: stored.content.size() })
}

/// A range that follows from `seed`, so that a fault shows again.
fn download_range(edge: &Edge, stored: &Stored, seed: u64) -> anyhow::Result<Download> {
    let size = stored.content.size();
    let first = seed.wrapping_mul(7_368_787) % size;
    let last = (first + seed.wrapping_mul(104_729) % 2_000_000).min(size - 1);
    let began = Instant::now();
    let answer = Request::new("GET", &edge.url(&stored.name)?).range(&format!("{first}-{last}")).send()?;
    ensure!(answer.status() == 206, "{} for {first}-{last}: {}", answer.status(), answer.text());
    let ended = Instant::now();
    ensure!(answer.body.len() as u64 == last - first + 1, "{} bytes of {first}-{last}", answer.body.len());
    stored.content.check(first, &answer.body)?;
    Ok(Download { began, ended, bytes: last - first + 1 })
}

/// Reads a file from `first` on evenly over `takes`; tells `received` how far it is.
pub(crate) fn download_slowly(
    edge: &Edge,
    stored: &Stored,
    first: u64,
    takes: Duration,
    received: &AtomicU64,
) -> anyhow::Result<Download> {
    let began = Instant::now();
    let request = Request::new("GET", &edge.url(&stored.name)?);
    let request = if first > 0 { request.range(&format!("{first}-")) } else { request };
    let (head, mut connection) = request.open()?;
    let expected = if first > 0 { 206 } else { 200 };
    ensure!(head.status == expected, "status {} for a slow download", head.status);
    let total = stored.content.size() - first;
    let mut body = connection.body(&head, "GET")?;
    let mut buffer = vec![0; READ_BYTES];
    let mut at = first;
    loop {
        let count = body.read(&mut buffer).with_context(|| format!("a slow download broke at {at}"))?;
        if count == 0 {
            break;
        }
        stored.content.check(at, &buffer[..count])?;
        at += count as u64;
        received.store(at - first, Ordering::Relaxed);
        let due = began + takes.mul_f64((at - first) as f64 / total as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    ensure!(at == stored.content.size(), "a slow download ended at {at}");
    Ok(Download { began, ended: Instant::now(), bytes: total })
}

/// Asks for a file that is not cached while the server is away; gives how long the refusal took.
pub(crate) fn ask_cold(edge: &Edge, stored: &Stored) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let answer = Request::new("GET", &edge.url(&stored.name)?).send()?;
    let took = began.elapsed();
    ensure!(answer.status() == 503, "{} for {}, which nobody can have", answer.status(), stored.name);
    let retry_after: u64 = answer.field("retry-after")?.parse().context("Retry-After is no number")?;
    ensure!(retry_after > 0, "Retry-After: {retry_after}");
    Ok(took)
}
