//! What a client reads of its pace: the fields of draft-ietf-httpapi-ratelimit-headers.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::state::Pace;

/// What is left of a client's pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allowance {
    pace: Pace,
    remaining: u32,
    /// Until there is more: all of the burst after a call that passed, one call after one that did not.
    more_in: Duration,
}

impl Allowance {
    /// After a call that left so many.
    pub(crate) fn remaining(pace: Pace, remaining: u32) -> Self {
        let taken = f64::from(pace.burst.saturating_sub(remaining));
        let more_in = Duration::try_from_secs_f64(taken / pace.per_second).unwrap_or(Duration::MAX);
        Self { pace, remaining, more_in }
    }

    /// Where nothing is left for so long.
    pub(crate) fn used_up(pace: Pace, retry_after: Duration) -> Self {
        Self { pace, remaining: 0, more_in: retry_after }
    }

    pub(crate) fn insert_into(self, headers: &mut HeaderMap) {
        let Pace { per_second, burst } = self.pace;
        let window = (f64::from(burst) / per_second).ceil();
        let policy = format!("\"client\";q={burst};w={window:.0}");
        let limit = format!("\"client\";r={};t={}", self.remaining, whole_seconds(self.more_in));
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", limit)] {
            headers.insert(name, HeaderValue::try_from(value).expect("numbers are visible ASCII"));
        }
    }
}

/// Rounded up: who waits so long comes in time.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_say_what_is_left_and_when_there_is_more() {
        let pace = Pace { per_second: 0.5, burst: 3 };
        let millis = Duration::from_millis;
        let table = [
            (Allowance::remaining(pace, 2), "\"client\";r=2;t=2"),
            (Allowance::remaining(pace, 0), "\"client\";r=0;t=6"),
            (Allowance::used_up(pace, millis(1999)), "\"client\";r=0;t=2"),
            (Allowance::used_up(pace, millis(2000)), "\"client\";r=0;t=2"),
        ];
        for (allowance, limit) in table {
            let mut headers = HeaderMap::new();
            allowance.insert_into(&mut headers);
            assert_eq!(headers["ratelimit"], limit);
            assert_eq!(headers["ratelimit-policy"], "\"client\";q=3;w=6");
        }
    }
}
