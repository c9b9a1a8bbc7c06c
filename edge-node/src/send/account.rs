//! What is kept of a body on its way out: how much has gone, at most how fast, at least how fast.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::Sent;
use crate::limits::{LeastRate, Pace};
use crate::logs::Meter;
use crate::metrics::WorkerMetrics;

/// One answer's.
pub(crate) struct Account<'c> {
    pub(crate) metrics: &'c WorkerMetrics,
    pub(crate) meter: Option<&'c Meter>,
    /// How long a client may take nothing; and the span that the least rate is judged over.
    pub(crate) send_timeout: Duration,
    /// Bytes per second that the client has to take.
    pub(crate) send_rate_min: u64,
    /// Bytes per second that it gets, at most.
    pub(crate) rate: Option<NonZeroU64>,
    /// What the connection has had of that.
    pub(crate) pace: &'c Cell<Pace>,
    pub(crate) sent: &'c Sent,
    /// What is to come of the body is counted, and taken off as it goes.
    pub(crate) is_in_flight: bool,
}

impl Account<'_> {
    /// Waits until the rate lets bytes go; gives how many.
    pub(crate) async fn allowance(&self) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        loop {
            let mut pace = self.pace.get();
            let allowed = pace.allow(rate, Instant::now());
            self.pace.set(pace);
            match allowed {
                Ok(bytes) => return bytes,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Counts bytes of a body that have gone.
    pub(crate) fn count(&self, bytes: u64) {
        self.metrics.body_bytes.add_alone(bytes);
        if self.is_in_flight {
            self.metrics.in_flight_bytes.subtract(bytes);
        }
        self.sent.body_bytes.set(self.sent.body_bytes.get() + bytes);
        if let Some(meter) = self.meter {
            meter.sent(bytes);
        }
        if let Some(rate) = self.rate {
            let mut pace = self.pace.get();
            pace.sent(bytes, rate);
            self.pace.set(pace);
        }
    }

    /// What the client has to take of a body. It never has to take more than it gets.
    pub(crate) fn least_rate(&self) -> LeastRate {
        let least = self.rate.map_or(self.send_rate_min, |rate| self.send_rate_min.min(rate.get() / 2));
        LeastRate::new(least, self.send_timeout, Instant::now())
    }
}
