//! Kept connections that ask for a small cached file all the time, and the longest that any of them went without an
//! answer. Beside them a metronome on each processor, which tells how long the emulated machine itself stood still.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_loadtest::client::Connection;

use crate::edge::Edge;
use crate::files::Stored;

/// The kernel gives each connection to one of the edge's two workers, by a hash: one in 2048 times a worker has none.
pub(crate) const CONNECTIONS: usize = 12;
const EVERY: Duration = Duration::from_millis(50);

const TICK: Duration = Duration::from_millis(10);

/// When answers came on one connection, or a metronome ticked.
pub(crate) struct Beats {
    answers: Vec<Instant>,
}

/// Asks every [`EVERY`] until told to stop, on one connection all the time.
pub(crate) fn beat(edge: &Edge, file: &Stored, stop: &AtomicBool) -> anyhow::Result<Beats> {
    let address = edge.address();
    let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n\r\n", edge.target(&file.name)?);
    let mut connection = Connection::open(&address)?;
    let mut answers = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        connection.send(request.as_bytes()).context("a heartbeat's connection broke")?;
        let answer = connection.read_answer("GET").context("a heartbeat stopped")?;
        ensure!(answer.status() == 200, "a heartbeat got {} {}", answer.status(), answer.text());
        file.content.check_whole(&answer.body)?;
        let now = Instant::now();
        answers.push(now);
        // One that is late is not made up for.
        next = (next + EVERY).max(now);
        thread::sleep(next - now);
    }
    Ok(Beats { answers })
}

/// Ticks on one processor until told to stop.
pub(crate) fn tick(processor: usize, stop: &AtomicBool) -> anyhow::Result<Beats> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).context("a metronome has no processor")?;
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        answers.push(Instant::now());
        thread::sleep(TICK);
    }
    Ok(Beats { answers })
}

impl Beats {
    /// The longest time without an answer between two moments.
    pub(crate) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let within = self.answers.iter().copied().filter(|answer| (from..to).contains(answer));
        let mut last = from;
        let mut longest = Duration::ZERO;
        for answer in within.chain([to]) {
            longest = longest.max(answer - last);
            last = answer;
        }
        longest
    }

    pub(crate) fn count(&self, from: Instant, to: Instant) -> usize {
        self.answers.iter().copied().filter(|answer| (from..to).contains(answer)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_from_edge_to_edge() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let beats = Beats { answers: [100, 200, 700, 800].map(at).to_vec() };
        let longest = |from, to| beats.longest_gap(at(from), at(to)).as_millis();
        assert_eq!(longest(100, 850), 500, "between two answers");
        assert_eq!(longest(0, 150), 100, "before the first");
        assert_eq!(longest(750, 2000), 1200, "after the last");
        assert_eq!(longest(300, 600), 300, "where none came");
        assert_eq!(beats.count(at(100), at(700)), 2);
    }
}
