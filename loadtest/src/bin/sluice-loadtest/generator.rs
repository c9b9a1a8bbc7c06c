//! Whether the generator kept up: a run whose limit was the generator says little of the server. What was measured of it,
//! and the judgement, which is pure.

use serde::{Deserialize, Serialize};

use crate::histogram::shown;
use crate::machine::{self, ThreadTimes};
use crate::tally::Tally;

/// Above this part of its time, a thread is too busy to note times as they are.
const BUSY_MAX: f64 = 0.9;
/// Above this part of its time without a core, a thread's times are the machine's and not the server's.
const WAITING_MAX: f64 = 0.05;
/// A start later than this, and than this part of the usual latency, is seen in the percentiles.
const LATE_SECONDS: f64 = 0.001;
const LATE_PART: f64 = 0.1;
const MACHINE_BUSY_MAX: f64 = 0.97;

/// How one machine's generator fared while it was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generator {
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
    /// Processor time of the process.
    pub(crate) cpu_seconds: f64,
    /// The busiest thread's part of the time, and what the one that waited most had to wait for a core.
    pub(crate) busiest: f64,
    pub(crate) waiting: f64,
    /// All cores of the machine, with whatever else ran there.
    pub(crate) machine_busy: f64,
    pub(crate) memory_bytes: u64,
}

impl Generator {
    /// A run that ends in its warm-up has measured nothing of it.
    pub(crate) fn has_measured(&self) -> bool {
        self.threads > 0
    }
}

/// Readings of the kernel's clocks, to be compared with later ones.
#[derive(Debug)]
pub(crate) struct Reading {
    at: tokio::time::Instant,
    threads: Vec<(i32, ThreadTimes)>,
    cores: (u64, u64),
    process: f64,
}

impl Reading {
    pub(crate) fn of(threads: impl IntoIterator<Item = i32>) -> Self {
        Self {
            at: tokio::time::Instant::now(),
            threads: threads.into_iter().map(|thread| (thread, ThreadTimes::of(thread))).collect(),
            cores: machine::core_ticks(),
            process: machine::process_seconds(),
        }
    }

    /// What came to pass since an earlier reading of the same threads.
    pub(crate) fn since(&self, earlier: &Self) -> Generator {
        let seconds = (self.at - earlier.at).as_secs_f64().max(1e-9);
        let part = |of: fn(&ThreadTimes) -> f64| {
            let pairs = self.threads.iter().zip(&earlier.threads);
            pairs.map(|((_, now), (_, then))| (of(now) - of(then)) / seconds).fold(0.0, f64::max)
        };
        let (busy, all) = (self.cores.0.abs_diff(earlier.cores.0), self.cores.1.abs_diff(earlier.cores.1));
        Generator {
            threads: self.threads.len(),
            seconds,
            cpu_seconds: self.process - earlier.process,
            busiest: part(|times| times.busy).min(1.0),
            waiting: part(|times| times.waiting).min(1.0),
            machine_busy: if all == 0 { 0.0 } else { busy as f64 / all as f64 },
            memory_bytes: machine::memory_peak_bytes(),
        }
    }
}

/// Why the generator was the limit, a sentence each; none where it was not.
pub(crate) fn limits(generator: &Generator, tally: &Tally) -> Vec<String> {
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let mut limits = Vec::new();
    if generator.busiest > BUSY_MAX {
        limits.push(format!(
            "its busiest thread used {} of a core; give it more threads, or more machines (--join)",
            percent(generator.busiest)
        ));
    }
    if generator.waiting > WAITING_MAX {
        limits.push(format!(
            "a thread of it was ready and had no core for {} of the time; other programs, perhaps the server \
             itself, use this machine",
            percent(generator.waiting)
        ));
    }
    let late = tally.lateness.quantile(0.99);
    if late > LATE_SECONDS.max(LATE_PART * tally.latency.quantile(0.5)) {
        limits.push(format!("of 100 downloads one began {} late or more", shown(late)));
    }
    limits
}

/// What may have been slow besides, and is no fault of the generator.
pub(crate) fn remarks(generator: &Generator, tally: &Tally) -> Vec<String> {
    let mut remarks = Vec::new();
    if generator.machine_busy > MACHINE_BUSY_MAX {
        remarks.push(
            "all cores of the generator's machine were busy: if the server runs there too, each slowed the other"
                .to_owned(),
        );
    }
    if tally.held > 0 {
        remarks.push(format!(
            "{} downloads waited because `in_flight_max` were under way; their waiting is in their latency",
            tally.held
        ));
    }
    if tally.unfinished > 0 {
        remarks.push(format!(
            "{} downloads were under way when the run was over; they count with the time that they had lasted",
            tally.unfinished
        ));
    }
    if tally.never_begun > 0 {
        remarks.push(format!(
            "{} downloads were due and had not begun when the run was over; they count with the time that they had \
             waited",
            tally.never_begun
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Times;

    fn tally(latency: u64, late: u64) -> Tally {
        Tally {
            latency: Times::of_pairs([(latency, 100)]),
            lateness: Times::of_pairs([(10, 90), (late, 10)]),
            ..Tally::default()
        }
    }

    #[test]
    fn a_generator_that_keeps_up_is_no_limit() {
        let generator = Generator { busiest: 0.8, waiting: 0.01, ..Generator::default() };
        assert_eq!(limits(&generator, &tally(200, 900)), Vec::<String>::new());
        assert_eq!(limits(&generator, &tally(50_000, 4_000)), Vec::<String>::new());
        assert_eq!(limits(&generator, &Tally::default()), Vec::<String>::new());
    }

    #[test]
    fn a_generator_that_is_busy_displaced_or_late_is_a_limit() {
        let busy = Generator { busiest: 0.95, ..Generator::default() };
        assert!(limits(&busy, &tally(200, 10))[0].contains("95 % of a core"));
        let displaced = Generator { waiting: 0.2, ..Generator::default() };
        assert!(limits(&displaced, &tally(200, 10))[0].contains("20 % of the time"));
        assert!(limits(&Generator::default(), &tally(200, 1_500))[0].contains("1.50 ms late"));
        assert!(limits(&Generator::default(), &tally(10_000, 5_000)).len() == 1);
    }
}
