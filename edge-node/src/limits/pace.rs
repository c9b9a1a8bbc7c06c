//! How fast a body goes out: at most its rate, and at least what a client has to take. Pure; time is an argument.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A limited body goes out in so many portions a second, so that any second of it is within a few percent.
const PORTIONS_PER_SECOND: u64 = 20;
/// No portion is smaller: below, a wake-up costs more than what it sends.
const PORTION_BYTES_MIN: u64 = 1024;

/// The rate of one connection's bodies, kept from body to body: a leaky bucket that holds one portion.
///
/// In user space and by portions, not by `SO_MAX_PACING_RATE`: the kernel lets the first ten segments go unpaced, which
/// over loopback and jumbo frames is most of a small file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// When all that was sent is paid for.
    paid_at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// Bytes that may go now, or how long to wait until some may.
    pub(crate) fn allow(&mut self, rate: NonZeroU64, now: Instant) -> Result<u64, Duration> {
        // What was not used is lost: an idle connection saves nothing up.
        self.paid_at = self.paid_at.max(now);
        let ahead = self.paid_at - now;
        if ahead.is_zero() {
            Ok((rate.get() / PORTIONS_PER_SECOND).max(PORTION_BYTES_MIN))
        } else {
            Err(ahead)
        }
    }

    /// Notes what was sent.
    pub(crate) fn sent(&mut self, bytes: u64, rate: NonZeroU64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        self.paid_at += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    }
}

/// The least a client has to acknowledge of a body, judged over spans: one that is slow for a whole span is too slow.
#[derive(Debug)]
pub(crate) struct LeastRate {
    bytes_per_span: u64,
    span: Duration,
    span_began: Instant,
    acknowledged: u64,
}

impl LeastRate {
    /// `rate` in bytes per second. Even where that is 0, something has to be taken in each span.
    pub(crate) fn new(rate: u64, span: Duration, now: Instant) -> Self {
        let bytes_per_span = u128::from(rate) * span.as_millis() / 1000;
        let bytes_per_span = u64::try_from(bytes_per_span).unwrap_or(u64::MAX).max(1);
        Self { bytes_per_span, span, span_began: now, acknowledged: 0 }
    }

    /// Until the span is over.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        (self.span_began + self.span).saturating_duration_since(now)
    }

    /// A wait that was not the client's does not count against it.
    pub(crate) fn forgive(&mut self, waited: Duration) {
        self.span_began += waited;
    }

    /// Whether a span is over in which less was acknowledged than has to be; a span that is over begins anew.
    /// `acknowledged` counts from the body's begin.
    pub(crate) fn is_missed(&mut self, now: Instant, acknowledged: u64) -> bool {
        if !self.left(now).is_zero() {
            return false;
        }
        let missed = acknowledged.saturating_sub(self.acknowledged) < self.bytes_per_span;
        (self.span_began, self.acknowledged) = (now, acknowledged);
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    /// Sends through a pace on a clock of its own; gives the seconds until `bytes` were allowed.
    fn seconds_for(bytes: u64, rate: NonZeroU64, socket_takes: u64) -> f64 {
        let began = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(began), began, 0);
        while sent < bytes {
            match pace.allow(rate, now) {
                Ok(allowed) => {
                    let taken = allowed.min(socket_takes).min(bytes - sent);
                    sent += taken;
                    pace.sent(taken, rate);
                }
                Err(wait) => now += wait,
            }
        }
        (now - began).as_secs_f64()
    }

    #[test]
    fn rates_are_kept_within_five_percent() {
        for (bytes, bytes_per_second) in [(20_000, 5_000), (10 << 20, 1 << 20), (1 << 30, 100 << 20)] {
            for socket_takes in [1000, u64::MAX] {
                let expected = bytes as f64 / bytes_per_second as f64;
                let seconds = seconds_for(bytes, rate(bytes_per_second), socket_takes);
                let off = (seconds - expected).abs() / expected;
                assert!(
                    off < 0.05 || (expected - seconds) * bytes_per_second as f64 <= 1024.0,
                    "{bytes} at {bytes_per_second}: {seconds} s"
                );
            }
        }
    }

    #[test]
    fn an_idle_connection_saves_nothing_up() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let later = began + Duration::from_secs(3600);
        assert_eq!(pace.allow(rate(1 << 20), later), Ok((1 << 20) / 20));
        pace.sent(1 << 20, rate(1 << 20));
        assert_eq!(pace.allow(rate(1 << 20), later), Err(Duration::from_secs(1)));
    }

    #[test]
    fn only_a_whole_slow_span_is_too_slow() {
        let (began, span) = (Instant::now(), Duration::from_secs(60));
        let due = 60 * 1024;
        let mut least = LeastRate::new(1024, span, began);
        assert!(!least.is_missed(began + span / 2, 0));
        assert!(!least.is_missed(began + span, due));
        assert!(!least.is_missed(began + span * 2 - Duration::from_secs(1), due));
        assert!(least.is_missed(began + span * 2, due * 2 - 1));
        let mut anything = LeastRate::new(0, span, began);
        assert!(!anything.is_missed(began + span, 1));
        assert!(anything.is_missed(began + span * 2, 1));
        let mut waiting = LeastRate::new(1024, span, began);
        waiting.forgive(span);
        assert!(!waiting.is_missed(began + span, 0));
    }
}
