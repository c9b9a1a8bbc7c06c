//! When to remind operators of a certificate's end. Pure: time is an argument.

use std::time::{Duration, SystemTime};

/// Time for people to see a line in the log, and to renew.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * DAY.as_secs());
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How it stands with a certificate that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    ExpiresSoon,
    Expired,
}

impl Standing {
    fn of(expires: SystemTime, now: SystemTime) -> Self {
        match expires.duration_since(now) {
            Err(_) => Self::Expired,
            Ok(left) if left < EXPIRES_SOON => Self::ExpiresSoon,
            Ok(_) => Self::Good,
        }
    }
}

/// Says the same once a day at most.
#[derive(Debug, Default)]
pub(super) struct Reminder(Option<(Standing, SystemTime)>);

impl Reminder {
    /// What is to be said now of a certificate, if anything.
    pub(super) fn due(&mut self, expires: SystemTime, now: SystemTime) -> Option<Standing> {
        let standing = Standing::of(expires, now);
        let is_said = self.0.is_some_and(|(said, at)| {
            said == standing && now.duration_since(at).is_ok_and(|passed| passed < DAY)
        });
        if standing == Standing::Good || is_said {
            return None;
        }
        self.0 = Some((standing, now));
        Some(standing)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_end_is_said_a_week_ahead_and_once_a_day() {
        let hours = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3600);
        let expires = hours(30 * 24);
        let mut reminder = Reminder::default();
        let mut said = Vec::new();
        for hour in 0..33 * 24 {
            said.extend(reminder.due(expires, hours(hour)).map(|standing| (hour, standing)));
        }
        let first = 23 * 24 + 1;
        let soon = (0..7).map(|day| (first + 24 * day, Standing::ExpiresSoon));
        // The last second is still good.
        let expired = (0..3).map(|day| (30 * 24 + 1 + 24 * day, Standing::Expired));
        let expected: Vec<_> = soon.chain(expired).filter(|(hour, _)| *hour < 33 * 24).collect();
        assert_eq!(said, expected);
        assert_eq!(Reminder::default().due(expires, hours(0)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        let day = |day: u64| UNIX_EPOCH + DAY * u32::try_from(day).unwrap();
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due(day(30), day(31)), Some(Standing::Expired));
        assert_eq!(reminder.due(day(30), day(29)), Some(Standing::ExpiresSoon));
        assert_eq!(reminder.due(day(30), day(28)), Some(Standing::ExpiresSoon));
    }
}
