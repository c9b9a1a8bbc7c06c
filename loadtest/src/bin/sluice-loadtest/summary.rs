//! What a run comes to: the JSON that is written, sent to a conductor, compared and shown. Two summaries of one run can be
//! added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::generator::{self, Generator};
use crate::histogram::Times;
use crate::machine::Machine;
use crate::tally::Tally;

/// Of this file. Others are refused.
pub(crate) const FORMAT: u32 = 1;

/// The quantiles that are written and shown.
pub(crate) const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) format: u32,
    /// RFC 3339.
    pub(crate) began: String,
    /// Who was asked.
    pub(crate) target: Vec<String>,
    /// What the coordinator says that it is, if it does.
    pub(crate) server_version: Option<String>,
    /// As it was written, and what the command line said in place of it.
    pub(crate) scenario: String,
    pub(crate) said: Vec<String>,
    /// Seconds that were to be measured, and that were.
    pub(crate) seconds_wanted: f64,
    pub(crate) seconds: f64,
    pub(crate) figures: Figures,
    pub(crate) generators: Vec<Part>,
    /// Machines that were to take part and did not to the end, and why.
    pub(crate) lost: BTreeMap<String, String>,
    /// What was done to the cluster, and when: seconds since the start.
    pub(crate) faults: Vec<(f64, String)>,
    pub(crate) intervals: Vec<Interval>,
    /// All but the warm-up.
    pub(crate) tally: Tally,
    /// Of the warm-up, whose times count nowhere; what failed in it, and what was wrong, is told all the same.
    #[serde(default)]
    pub(crate) warm_up: Tally,
}

/// What most readers look for, worked out from the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Downloads that ended well in a second of what was measured, and their bytes.
    pub(crate) downloads_per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) failed_part: f64,
    /// Seconds, by name; none where nothing ended.
    pub(crate) latency: BTreeMap<String, f64>,
    pub(crate) first_byte: BTreeMap<String, f64>,
    pub(crate) asked: BTreeMap<String, f64>,
    pub(crate) generator_was_the_limit: bool,
}

/// A machine's part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) machine: Machine,
    pub(crate) generator: Generator,
    /// Why it was the limit; empty where it was not.
    pub(crate) limits: Vec<String>,
    pub(crate) remarks: Vec<String>,
    /// How late its downloads began.
    #[serde(default)]
    pub(crate) lateness: Times,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stretch {
    WarmUp,
    Measured,
    Drain,
}

/// A stretch of time, of which there are up to a few hundred in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) stretch: Stretch,
    /// Seconds since the start.
    pub(crate) from: f64,
    pub(crate) seconds: f64,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    pub(crate) latency: Times,
    /// Downloads that ended well, by server.
    pub(crate) servers: BTreeMap<String, u64>,
}

impl Interval {
    pub(crate) fn of(stretch: Stretch, from: f64, seconds: f64, tally: &Tally) -> Self {
        Self {
            stretch,
            from,
            seconds,
            begun: tally.begun,
            ended: tally.ended,
            failed: tally.failed,
            bytes: tally.bytes,
            latency: tally.latency.clone(),
            servers: tally.servers.iter().map(|(name, server)| (name.clone(), server.ended)).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        // Each machine cut it at its own clock; the longest holds all.
        self.seconds = self.seconds.max(other.seconds);
        self.begun += other.begun;
        self.ended += other.ended;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.latency.add(&other.latency);
        for (name, count) in &other.servers {
            *self.servers.entry(name.clone()).or_default() += count;
        }
    }
}

impl Part {
    pub(crate) fn new(machine: Machine, generator: Generator, tally: &Tally) -> Self {
        let (limits, remarks) = (generator::limits(&generator, tally), generator::remarks(&generator, tally));
        Self { machine, generator, limits, remarks, lateness: tally.lateness.clone() }
    }
}

impl Summary {
    /// Another machine's part of the same run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.generators.extend(other.generators.iter().cloned());
        self.tally.add(&other.tally);
        self.warm_up.add(&other.warm_up);
        for (at, interval) in other.intervals.iter().enumerate() {
            match self.intervals.get_mut(at) {
                Some(own) if own.stretch == interval.stretch => own.add(interval),
                _ => self.intervals.push(interval.clone()),
            }
        }
        self.figure();
    }

    /// Answers that were wrong, at whatever time.
    pub(crate) fn wrong(&self) -> u64 {
        self.tally.wrong + self.warm_up.wrong
    }

    /// A count of what is measured, without what ended as the run drained.
    pub(crate) fn measured(&self, of: impl Fn(&Interval) -> u64) -> u64 {
        self.intervals.iter().filter(|interval| interval.stretch == Stretch::Measured).map(of).sum()
    }

    /// Works the figures out anew.
    pub(crate) fn figure(&mut self) {
        let per_second = |count: u64| if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 };
        let all = self.tally.ended + self.tally.failed;
        self.figures = Figures {
            downloads_per_second: per_second(self.measured(|interval| interval.ended)),
            bytes_per_second: per_second(self.measured(|interval| interval.bytes)),
            failed_part: if all == 0 { 0.0 } else { self.tally.failed as f64 / all as f64 },
            latency: quantiles(&self.tally.latency),
            first_byte: quantiles(&self.tally.first_byte),
            asked: quantiles(&self.tally.asked),
            generator_was_the_limit: self.generators.iter().any(|part| !part.limits.is_empty()),
        };
    }

    /// Reads what [`Summary`] was written as.
    ///
    /// # Errors
    /// It is something else, or of another version.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        let format = json["format"].as_u64();
        anyhow::ensure!(
            format == Some(FORMAT.into()),
            "this is no report of this version of sluice-loadtest (its format is {format:?}, not {FORMAT})"
        );
        Ok(serde_json::from_value(json)?)
    }
}

fn quantiles(times: &Times) -> BTreeMap<String, f64> {
    if times.is_empty() {
        return BTreeMap::new();
    }
    let mean = [("mean".to_owned(), times.mean())];
    QUANTILES.iter().map(|(name, part)| ((*name).to_owned(), times.quantile(*part))).chain(mean).collect()
}
