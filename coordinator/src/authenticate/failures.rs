//! Proofs that failed, by address: who guesses is told less and less, and nobody else notices.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::error::ApiError;
use crate::state::Subscriber;

/// Failures that an address is told of within [`PERIOD`].
const FAILURES_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered. Beyond them, nobody's failures are counted until the period is over: what is lost is
/// a limit on guessing, which 256-bit secrets can do without.
const ADDRESSES_MAX: usize = 100_000;

/// Counts failures of the current period.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Period>);

#[derive(Default)]
struct Period {
    /// In periods since 1970.
    number: u64,
    counts: HashMap<Subscriber, u32>,
}

impl Failures {
    /// A failed proof: told as it is, until its address has failed too often. A good one is never refused for that.
    pub(crate) fn judged(&self, who: Subscriber, error: ApiError, now: SystemTime) -> ApiError {
        match self.count(who, now) {
            None => error,
            Some(retry_after) => ApiError::FailedTooOften { retry_after },
        }
    }

    /// Counts one; where there were too many, says when the next is told again.
    fn count(&self, who: Subscriber, now: SystemTime) -> Option<Duration> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let number = since.as_secs() / PERIOD.as_secs();
        let mut period = self.0.lock().expect("nothing panics while counting");
        if period.number != number {
            *period = Period { number, counts: HashMap::new() };
        }
        let has_room = period.counts.len() < ADDRESSES_MAX;
        let count = match period.counts.get_mut(&who) {
            Some(count) => count,
            None if has_room => period.counts.entry(who).or_default(),
            None => return None,
        };
        *count = count.saturating_add(1);
        let left = PERIOD - Duration::from_secs(since.as_secs() % PERIOD.as_secs());
        (*count > FAILURES_MAX).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_fails_is_limited_and_only_for_a_while() {
        let failures = Failures::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(6000);
        let guesser = Subscriber::of("2001:db8::1".parse().unwrap());
        let neighbour = Subscriber::of("2001:db8::2".parse().unwrap());
        let other = Subscriber::of("192.0.2.1".parse().unwrap());
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.count(guesser, start), None);
        }
        let later = start + Duration::from_secs(50);
        assert_eq!(failures.count(neighbour, later), Some(Duration::from_secs(10)), "one /64 is one");
        assert_eq!(failures.count(other, later), None);
        assert_eq!(failures.count(guesser, start + PERIOD), None);
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::default();
        for address in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 10 {
            let who = Subscriber::of(std::net::Ipv4Addr::from(address).into());
            failures.count(who, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(failures.0.lock().unwrap().counts.len(), ADDRESSES_MAX);
    }
}
