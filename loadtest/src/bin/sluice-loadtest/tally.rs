//! Downloads, counted: what one worker saw in one stretch of time, or all workers in all of it. Two can be added.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Times;
use crate::outcome::{End, Outcome};
use crate::scenario::Files;

/// Faults that are kept with all they say; all are counted.
const FAULTS_KEPT: usize = 20;
/// Servers that are told apart: a hostile one could redirect to any number of names.
const SERVERS_MAX: usize = 4096;
const OTHER_SERVERS: &str = "others";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Downloads that began.
    pub(crate) begun: u64,
    /// Ended well: complete, or broken off as they were to.
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    /// Of those, because a server said what was not so.
    pub(crate) wrong: u64,
    /// Under way when the run was over.
    pub(crate) unfinished: u64,
    /// Due in what is measured, and not begun when the run was over.
    #[serde(default)]
    pub(crate) never_begun: u64,
    /// Parts of downloads that were gone on with by a Range, wanted and not.
    pub(crate) resumed: u64,
    pub(crate) bytes: u64,
    /// From the intended start to the last byte.
    pub(crate) latency: Times,
    /// From the intended start to the file's first byte.
    pub(crate) first_byte: Times,
    /// From the first request to where to go.
    pub(crate) asked: Times,
    /// From the intended start to the actual one.
    pub(crate) lateness: Times,
    /// Starts that waited because as many were under way as may be.
    pub(crate) held: u64,
    /// Why downloads failed.
    pub(crate) failures: BTreeMap<String, u64>,
    /// What broke of downloads that came again.
    pub(crate) breaks: BTreeMap<String, u64>,
    pub(crate) servers: BTreeMap<String, Server>,
    pub(crate) kinds: BTreeMap<String, Times>,
    /// Some of the failures in full.
    pub(crate) faults: Vec<String>,
}

/// What one server, as its URLs name it, was seen to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Times,
}

impl Tally {
    /// A download has ended. Its times count if it is of what is measured.
    pub(crate) fn record(&mut self, outcome: &Outcome, files: &Files, is_measured: bool) {
        let latency = outcome.ended.saturating_duration_since(outcome.intended);
        let server = outcome.server.as_deref().map(|name| self.server(name));
        match &outcome.end {
            End::Complete | End::BrokenOff => {
                if let Some(server) = server {
                    server.ended += 1;
                    if is_measured {
                        server.latency.record(latency);
                    }
                }
                self.ended += 1;
                if is_measured {
                    self.record_times(outcome, latency);
                }
            }
            End::Failed(fault) => {
                if let Some(server) = server {
                    server.failed += 1;
                }
                self.failed += 1;
                self.wrong += u64::from(fault.is_wrong());
                *self.failures.entry(fault.reason().into_owned()).or_default() += 1;
                if self.faults.len() < FAULTS_KEPT {
                    let server = outcome.server.as_deref().unwrap_or("nobody");
                    let file = files.name(outcome.file);
                    self.faults.push(format!("{} of {file} from {server}: {fault}", outcome.kind.name()));
                }
            }
        }
        self.resumed += u64::from(outcome.parts.saturating_sub(1));
        for reason in &outcome.breaks {
            *self.breaks.entry(reason.clone().into_owned()).or_default() += 1;
        }
    }

    fn record_times(&mut self, outcome: &Outcome, latency: Duration) {
        self.latency.record(latency);
        match self.kinds.get_mut(outcome.kind.name()) {
            Some(times) => times.record(latency),
            None => self.kinds.entry(outcome.kind.name().to_owned()).or_default().record(latency),
        }
        if let Some(first_byte) = outcome.first_byte {
            self.first_byte.record(first_byte);
        }
        if let Some(asked) = outcome.asked {
            self.asked.record(asked);
        }
    }

    fn server(&mut self, name: &str) -> &mut Server {
        let is_known = self.servers.contains_key(name);
        let name = if is_known || self.servers.len() < SERVERS_MAX { name } else { OTHER_SERVERS };
        self.servers.entry(name.to_owned()).or_default()
    }

    /// A download is under way and will not end; it has lasted so long.
    pub(crate) fn give_up(&mut self, age: Duration, is_measured: bool) {
        self.unfinished += 1;
        if is_measured {
            // At least so long: left out, it would look as if what hangs cost nothing.
            self.latency.record(age);
        }
    }

    /// A download of what is measured was due so long ago, and will not begin.
    pub(crate) fn never_begin(&mut self, age: Duration) {
        self.never_begun += 1;
        // Left out, a server that stands still until the end would look as if it was asked for nothing.
        self.latency.record(age);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.unfinished += other.unfinished;
        self.never_begun += other.never_begun;
        self.resumed += other.resumed;
        self.bytes += other.bytes;
        self.held += other.held;
        let own = [&mut self.latency, &mut self.first_byte, &mut self.asked, &mut self.lateness];
        let others = [&other.latency, &other.first_byte, &other.asked, &other.lateness];
        own.into_iter().zip(others).for_each(|(own, other)| own.add(other));
        for (own, other) in [(&mut self.failures, &other.failures), (&mut self.breaks, &other.breaks)] {
            other.iter().for_each(|(reason, count)| *own.entry(reason.clone()).or_default() += count);
        }
        for (name, other) in &other.servers {
            let own = self.servers.entry(name.clone()).or_default();
            own.ended += other.ended;
            own.failed += other.failed;
            own.latency.add(&other.latency);
        }
        for (kind, times) in &other.kinds {
            self.kinds.entry(kind.clone()).or_default().add(times);
        }
        let free = FAULTS_KEPT.saturating_sub(self.faults.len());
        self.faults.extend(other.faults.iter().take(free).cloned());
    }
}
