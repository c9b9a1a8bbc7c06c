//! What clients saw of the cut, and what it should have been.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Beats, Download};
use crate::readiness::Look;
use crate::report::passed;
use crate::stalled::{BYTES, Ending};

/// No kept connection goes longer than this without an answer, standstills of the emulated machine apart.
const GAP_MAX: Duration = Duration::from_secs(1);
/// The store is asked once a second, has two to answer, and is looked at four times a second.
const DEGRADED_WITHIN: Duration = Duration::from_secs(5);

/// When what happened.
pub(super) struct Times {
    pub(super) started: Instant,
    pub(super) cut_at: Instant,
    pub(super) back_at: Instant,
    pub(super) ready_at: Instant,
    pub(super) ended_at: Instant,
}

/// Everything that was seen.
pub(super) struct Seen {
    pub(super) times: Times,
    /// Of the guest's own processors.
    pub(super) ticks: Vec<Beats>,
    pub(super) beats: Vec<Beats>,
    pub(super) looks: Vec<Look>,
    /// By downloader.
    pub(super) downloads: Vec<Vec<Download>>,
    pub(super) slow: Vec<Download>,
    /// What slow ones had received when the server vanished.
    pub(super) slow_before_cut: u64,
    pub(super) refusals: Vec<Duration>,
    /// The transfer of what was not wholly cached.
    pub(super) half: Ending,
}

impl Seen {
    /// Says what held, claim by claim.
    ///
    /// # Errors
    /// The first claim that did not.
    pub(super) fn judge(&self, files: usize, refused_within: Duration) -> anyhow::Result<()> {
        self.judge_heartbeats()?;
        self.judge_slow()?;
        self.judge_downloads(files)?;
        self.judge_refusals(refused_within)?;
        self.judge_readiness()?;
        self.judge_half(refused_within)
    }

    fn judge_heartbeats(&self) -> anyhow::Result<()> {
        let Times { started, cut_at, back_at, ended_at, .. } = self.times;
        // Threads begin in the first second, and end in the last.
        let second = Duration::from_secs(1);
        let before = longest_gap(&self.beats, started + second, cut_at);
        let away = longest_gap(&self.beats, cut_at, back_at);
        let after = longest_gap(&self.beats, back_at, ended_at - second);
        let still = longest_gap(&self.ticks, cut_at, ended_at - second);
        let count: usize = self.beats.iter().map(|beats| beats.count(cut_at, back_at)).sum();
        let connections = self.beats.len();
        let measured = format!(
            "{connections} connections, {count} answers; the longest without one: {away:.2?} while it is away, \
             {after:.2?} while it comes back, {before:.2?} before; the guest itself stood still for {still:.2?} at most"
        );
        ensure!(still <= GAP_MAX, "this machine is too busy to tell anything from gaps: {measured}");
        let longest = away.max(after).saturating_sub(still);
        ensure!(longest <= GAP_MAX, "kept connections went without answers: {measured}");
        passed("kept connections get answers all the time", &measured)
    }

    fn judge_slow(&self) -> anyhow::Result<()> {
        let total: u64 = self.slow.iter().map(|download| download.bytes).sum();
        let left = total - self.slow_before_cut;
        let last = self.slow.iter().map(|download| download.ended).max().context("no slow download")?;
        let measured = format!(
            "{}, with {left} of {total} bytes to come when it vanished; the last ended after {:.0} s without it",
            self.slow.len(),
            (last - self.times.cut_at).as_secs_f64()
        );
        let in_time = |download: &Download| {
            download.began < self.times.cut_at
                && (self.times.cut_at..self.times.back_at).contains(&download.ended)
        };
        ensure!(self.slow.iter().all(in_time), "slow downloads were not cut into: {measured}");
        ensure!(left * 2 > total, "slow downloads were too fast to show anything: {measured}");
        passed("slow downloads begun before complete, byte for byte", &measured)
    }

    fn judge_downloads(&self, files: usize) -> anyhow::Result<()> {
        let meanwhile =
            |download: &&Download| (self.times.cut_at..self.times.back_at).contains(&download.began);
        let of_each: Vec<_> =
            self.downloads.iter().map(|downloads| downloads.iter().filter(meanwhile).count()).collect();
        let all: Vec<_> = self.downloads.iter().flatten().filter(meanwhile).collect();
        let bytes: u64 = all.iter().map(|download| download.bytes).sum();
        let slowest = all.iter().map(|download| download.ended - download.began).max().unwrap_or_default();
        let measured = format!("{} downloads, {bytes} bytes, the slowest in {slowest:.2?}", all.len());
        // Each downloader goes through all files in turn: whole in one round, ranges in the next.
        ensure!(of_each.iter().all(|count| *count >= 2 * files), "too few to show anything: {measured}");
        ensure!(
            all.iter().all(|download| download.ended < self.times.back_at),
            "some came too late: {measured}"
        );
        passed("cached files, whole and by range, come meanwhile, byte for byte", &measured)
    }

    fn judge_refusals(&self, within: Duration) -> anyhow::Result<()> {
        let slowest = self.refusals.iter().max().context("no cold file was asked for")?;
        let measured = format!("{}, the slowest after {slowest:.2?}", self.refusals.len());
        ensure!(*slowest <= within, "refusals of cold files took more than {within:?}: {measured}");
        passed("cold files are refused in time, 503 with Retry-After", &measured)
    }

    fn judge_readiness(&self) -> anyhow::Result<()> {
        let unready = |look: &&Look| !look.is_ready;
        let first = self.looks.iter().find(unready).context("/readyz never said degraded")?;
        ensure!(first.at >= self.times.cut_at, "/readyz said degraded before the server vanished");
        let after = first.at - self.times.cut_at;
        ensure!(after <= DEGRADED_WITHIN, "/readyz said degraded only after {after:.1?}");
        let wrong =
            self.looks.iter().find(|look| look.is_ready && (first.at..self.times.back_at).contains(&look.at));
        ensure!(wrong.is_none(), "/readyz said ready while the server was away");
        let relapsed = self.looks.iter().filter(unready).any(|look| look.at > self.times.ready_at);
        ensure!(!relapsed, "/readyz said ready, then degraded again");
        passed(
            "/readyz says degraded",
            &format!("{after:.1?} after the server vanished, until it was back"),
        )?;
        let again = self.times.ready_at - self.times.back_at;
        passed("/readyz says ready again by itself", &format!("{again:.1?} after the cable was back"))
    }

    fn judge_half(&self, within: Duration) -> anyhow::Result<()> {
        let Ending { received, silence } = self.half;
        let measured = format!("at {received} of {BYTES} bytes, {silence:.2?} after the last of them");
        ensure!(received < BYTES, "a transfer got bytes that nobody had");
        ensure!(silence <= within, "a transfer that could not go on ended {measured}");
        passed("a transfer of what is not wholly cached ends short in time, all of it right", &measured)
    }
}

/// The longest that any of them went without an answer.
fn longest_gap(beats: &[Beats], from: Instant, to: Instant) -> Duration {
    beats.iter().map(|beats| beats.longest_gap(from, to)).max().unwrap_or_default()
}
