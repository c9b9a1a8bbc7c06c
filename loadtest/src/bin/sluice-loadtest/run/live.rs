//! What is shown while a run is under way: a second's worth of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Times;
use crate::tally::Tally;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Since the start.
    pub(crate) seconds: f64,
    pub(crate) under_way: u64,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) wrong: u64,
    pub(crate) bytes: u64,
    pub(crate) latency: Times,
    pub(crate) servers: BTreeMap<String, u64>,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Live {
    pub(crate) fn take(&mut self, tally: &Tally) {
        self.begun += tally.begun;
        self.ended += tally.ended;
        self.failed += tally.failed;
        self.wrong += tally.wrong;
        self.bytes += tally.bytes;
        self.latency.add(&tally.latency);
        tally.servers.iter().for_each(|(name, server)| count(&mut self.servers, name, server.ended));
        tally.failures.iter().for_each(|(reason, number)| count(&mut self.failures, reason, *number));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.under_way += other.under_way;
        self.begun += other.begun;
        self.ended += other.ended;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.bytes += other.bytes;
        self.latency.add(&other.latency);
        other.servers.iter().for_each(|(name, number)| count(&mut self.servers, name, *number));
        other.failures.iter().for_each(|(reason, number)| count(&mut self.failures, reason, *number));
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str, number: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += number,
        None => drop(counts.insert(name.to_owned(), number)),
    }
}
