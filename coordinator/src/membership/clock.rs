//! How far an edge's clock is from ours, by the `Date` of an answer. Tokens say until when they are good, so an edge
//! whose clock is off refuses those that live and serves those that do not. Pure; clocks are arguments.

use std::time::{Duration, SystemTime};

/// What tokens allow on `nbf`, and what anything that keeps time at all stays well within.
const SKEW_MAX_SECONDS: f64 = 5.0;
/// `Date` has whole seconds (RFC 9110 §5.6.7), cut off.
const DATE_STEP: Duration = Duration::from_secs(1);

/// An edge's clock less ours, in seconds: positive where it is ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Skew {
    /// The difference nearest to none that the answer leaves possible: neither the way of question and answer nor what
    /// is cut off a `Date` is held against an edge.
    least: f64,
    likely: f64,
}

impl Skew {
    /// From an answer's date, which was said at some time between question and answer.
    pub(crate) fn read(date: SystemTime, asked: SystemTime, answered: SystemTime) -> Self {
        // Ours may have been set back meanwhile.
        let (from, to) = (asked.min(answered), asked.max(answered));
        let lowest = seconds_from(to, date);
        let highest = seconds_from(from, date) + DATE_STEP.as_secs_f64();
        Self { least: 0_f64.clamp(lowest, highest), likely: f64::midpoint(lowest, highest) }
    }

    pub(crate) fn is_too_much(self) -> bool {
        self.least.abs() > SKEW_MAX_SECONDS
    }

    /// The likeliest difference.
    pub(crate) fn seconds(self) -> f64 {
        self.likely
    }
}

fn seconds_from(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_the_way_explains_is_not_held_against_an_edge() {
        // In milliseconds: date, asked, answered → likely, too much
        let table = [
            (10_000, 10_000, 10_000, 500, false),
            (10_000, 10_400, 10_600, 0, false),
            // Said within the last second before 5 s ahead, or 5 s behind.
            (15_000, 10_000, 10_000, 5_500, false),
            (16_000, 10_999, 10_999, 5_501, true),
            (4_000, 10_000, 10_000, -5_500, false),
            (4_000, 10_001, 10_001, -5_501, true),
            // A slow answer may have been said at its beginning or its end.
            (16_000, 10_000, 11_000, 6_000, false),
            (17_000, 10_000, 11_000, 7_000, true),
            (3_610_000, 10_000, 10_010, 3_600_495, true),
            (10_000, 3_610_000, 3_610_010, -3_599_505, true),
            // Our own clock was set back by an hour between question and answer: the edge is as it was.
            (3_610_000, 3_610_000, 10_000, 1_800_500, false),
        ];
        for (date, asked, answered, likely, too_much) in table {
            let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
            let skew = Skew::read(at(date), at(asked), at(answered));
            let millis = (skew.seconds() * 1000.0).round();
            assert_eq!(
                (millis, skew.is_too_much()),
                (f64::from(likely), too_much),
                "{date}, {asked} to {answered}: {skew:?}"
            );
        }
    }
}
