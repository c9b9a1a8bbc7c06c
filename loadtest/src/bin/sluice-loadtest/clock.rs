//! The times of a run: when it begins, what of it is measured, and its end.

use std::time::Duration;

use tokio::time::Instant;

use crate::scenario::Scenario;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) start: Instant,
    warm_up: Duration,
    duration: Duration,
    drain: Duration,
}

/// How far a run is. Workers begin nothing new once it is ending, and end with what is under way once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Ending,
    Over,
}

impl Clock {
    pub(crate) fn new(start: Instant, scenario: &Scenario) -> Self {
        Self { start, warm_up: scenario.warm_up, duration: scenario.duration, drain: scenario.drain }
    }

    /// From here on, it is measured.
    pub(crate) fn measured_from(&self) -> Instant {
        self.start + self.warm_up
    }

    /// Nothing begins any more.
    pub(crate) fn end(&self) -> Instant {
        self.measured_from() + self.duration
    }

    /// What is under way is given up.
    pub(crate) fn over(&self) -> Instant {
        self.end() + self.drain
    }

    pub(crate) fn is_measured(&self, intended: Instant) -> bool {
        (self.measured_from()..self.end()).contains(&intended)
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.start).as_secs_f64()
    }
}
