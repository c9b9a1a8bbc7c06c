//! How long to wait before trying again: longer each time, up to a bound, and never in step with others.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Half as long up to half as much again: a thousand edges that lost etcd together come back one by one.
const JITTER: std::ops::Range<f64> = 0.5..1.5;

#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// What was tried has worked for a while.
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(JITTER));
        self.0 = (self.0 * 2).min(LONGEST);
        pause
    }
}

/// A tenth more or less of a span, so that what many do regularly is not done by all at once.
pub(super) fn jittered(span: Duration) -> Duration {
    span.mul_f64(rand::rng().random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..40).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST * 2);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST * 3 / 2));
        assert!(pauses[20..].iter().all(|pause| *pause >= LONGEST / 2));
        assert_ne!(pauses[38], pauses[39]);
        backoff.reset();
        assert!(backoff.pause() <= FIRST * 2);
    }
}
