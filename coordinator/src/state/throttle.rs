//! How often a client may ask, and what becomes of one that goes on asking in vain. [`Meter`] is pure arithmetic, which
//! `redis/throttle.lua` does alike, step by step; [`Throttle`] holds the meters of one coordinator's clients.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Pace, Throttled};

/// Refused calls are counted against a pace of their own: as many per second as are allowed, and so many more than the
/// burst at once. Who is refused more often than that is not waiting, and is blocked.
pub(super) const STRIKES_OVER_BURST: u64 = 10;
/// The first block; each further one is twice as long, up to the longest.
pub(super) const BLOCK_MIN: Duration = Duration::from_secs(10);
pub(super) const BLOCK_MAX: Duration = Duration::from_secs(3600);
/// So long after the end of a block, the blocks before are forgotten.
pub(super) const QUIET: Duration = Duration::from_secs(3600);
/// The slowest pace is a call a day.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// For fewer clashes of calls that come at the same time.
const SHARDS: usize = 16;
/// Meters in a shard, at most: some megabytes in all.
const METERS_MAX: usize = 8192;
/// What a client without a meter is told while there is no room for another.
const NO_ROOM: Throttled = Throttled::Yes { retry_after: Duration::from_secs(1) };

/// A [`Pace`] in whole microseconds, which Lua's numbers hold exactly too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) interval_us: u64,
    pub(super) burst: u64,
}

impl Terms {
    pub(super) fn of(pace: Pace) -> Self {
        let interval = Duration::try_from_secs_f64(pace.per_second.recip()).unwrap_or(INTERVAL_MAX);
        let interval_us = whole_micros(interval.min(INTERVAL_MAX)).max(1);
        Self { interval_us, burst: u64::from(pace.burst.max(1)) }
    }
}

/// One client's account. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// When the whole burst may be asked again: the "theoretical arrival time" of GCRA (ITU-T I.371).
    whole_at: u64,
    /// The same for refused calls.
    strikes_whole_at: u64,
    blocked_until: u64,
    /// Without a quiet time between them.
    blocks: u32,
}

impl Meter {
    /// Counts a call that is made now.
    pub(super) fn count(&mut self, terms: Terms, now_us: u64) -> Throttled {
        // A clock that was set back lengthens no block.
        self.blocked_until = self.blocked_until.min(now_us.saturating_add(whole_micros(BLOCK_MAX)));
        if now_us < self.blocked_until {
            return Throttled::Blocked { until: time_of(self.blocked_until) };
        }
        let wait_us = match take(&mut self.whole_at, terms, now_us) {
            Ok(remaining) => {
                return Throttled::No { remaining: u32::try_from(remaining).unwrap_or(u32::MAX) };
            }
            Err(wait_us) => wait_us,
        };
        let strikes = Terms { burst: terms.burst + STRIKES_OVER_BURST, ..terms };
        if take(&mut self.strikes_whole_at, strikes, now_us).is_ok() {
            return Throttled::Yes { retry_after: Duration::from_micros(wait_us) };
        }
        if self.is_quiet(now_us) {
            self.blocks = 0;
        }
        let length = BLOCK_MIN.saturating_mul(1 << self.blocks.min(16)).min(BLOCK_MAX);
        self.blocks += 1;
        self.blocked_until = now_us.saturating_add(whole_micros(length));
        self.strikes_whole_at = 0;
        Throttled::Blocked { until: time_of(self.blocked_until) }
    }

    /// Whether it says no more than a new one.
    fn is_idle(&self, now_us: u64) -> bool {
        self.whole_at <= now_us
            && self.strikes_whole_at <= now_us
            && (self.blocks == 0 || self.is_quiet(now_us))
    }

    fn is_quiet(&self, now_us: u64) -> bool {
        now_us >= self.blocked_until.saturating_add(whole_micros(QUIET))
    }
}

/// Takes one from an allowance: so many remain, or so many microseconds until there is one.
fn take(whole_at: &mut u64, Terms { interval_us, burst }: Terms, now_us: u64) -> Result<u64, u64> {
    let span_us = interval_us.saturating_mul(burst);
    // Nobody owes more than everything, whatever pace or clock it had before.
    let at = (*whole_at).clamp(now_us, now_us.saturating_add(span_us));
    let taken_us = (at - now_us).saturating_add(interval_us);
    if taken_us > span_us {
        *whole_at = at;
        return Err(taken_us - span_us);
    }
    *whole_at = now_us.saturating_add(taken_us);
    Ok((span_us - taken_us) / interval_us)
}

/// The meters of all clients.
pub(super) struct Throttle {
    shards: [Mutex<HashMap<Box<str>, Meter>>; SHARDS],
    hasher: RandomState,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }

    pub(super) fn count(&self, client: &str, pace: Pace, now: SystemTime) -> Throttled {
        let (terms, now_us) = (Terms::of(pace), micros(now));
        let mut meters =
            self.shards[self.shard_of(client)].lock().expect("nobody panics while holding a shard");
        if let Some(meter) = meters.get_mut(client) {
            return meter.count(terms, now_us);
        }
        if meters.len() >= METERS_MAX {
            meters.retain(|_, meter| !meter.is_idle(now_us));
        }
        if meters.len() >= METERS_MAX {
            return NO_ROOM;
        }
        meters.entry(client.into()).or_default().count(terms, now_us)
    }

    /// Drops the meters that say nothing any more.
    pub(super) fn forget_idle(&self, now: SystemTime) {
        let now_us = micros(now);
        for shard in &self.shards {
            let mut meters = shard.lock().expect("nobody panics while holding a shard");
            meters.retain(|_, meter| !meter.is_idle(now_us));
            let roomy = 2 * meters.len();
            meters.shrink_to(roomy);
        }
    }

    fn shard_of(&self, client: &str) -> usize {
        let hash = self.hasher.hash_one(client);
        usize::try_from(hash % SHARDS as u64).expect("less than the number of shards")
    }
}

pub(super) fn micros(time: SystemTime) -> u64 {
    whole_micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn time_of(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_US: u64 = 1_800_000_000_000_000;

    fn at(millis: u64) -> u64 {
        START_US + millis * 1000
    }

    fn yes(millis: u64) -> Throttled {
        Throttled::Yes { retry_after: Duration::from_millis(millis) }
    }

    fn blocked(until_millis: u64) -> Throttled {
        Throttled::Blocked { until: time_of(at(until_millis)) }
    }

    fn no(remaining: u32) -> Throttled {
        Throttled::No { remaining }
    }

    const TEN_A_SECOND: Pace = Pace { per_second: 10.0, burst: 3 };

    /// Calls until the meter blocks, all at one time; gives when the block ends, in milliseconds.
    fn hammer(meter: &mut Meter, pace: Pace, millis: u64) -> u64 {
        for _ in 0..10_000 {
            if let Throttled::Blocked { until } = meter.count(Terms::of(pace), at(millis)) {
                return (micros(until) - START_US) / 1000;
            }
        }
        panic!("never blocked");
    }

    #[test]
    fn a_burst_then_one_each_interval() {
        let mut meter = Meter::default();
        let calls = [
            (0, no(2)),
            (0, no(1)),
            (0, no(0)),
            (0, yes(100)),
            (40, yes(60)),
            (100, no(0)),
            (100, yes(100)),
            // As much as the burst comes back, and no more.
            (60_000, no(2)),
            (60_200, no(2)),
        ];
        for (millis, expected) in calls {
            assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(millis)), expected, "at {millis}");
        }
    }

    #[test]
    fn a_pace_may_change_from_call_to_call() {
        let slow = Pace { per_second: 1.0, burst: 10 };
        let mut meter = Meter::default();
        for remaining in (0..10).rev() {
            assert_eq!(meter.count(Terms::of(slow), at(0)), no(remaining));
        }
        // Ten seconds of debt become the whole of the new allowance, 0.3 s, and not more.
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(0)), yes(100));
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(100)), no(0));
    }

    #[test]
    fn paces_at_the_edges_of_sense_are_taken_as_near_as_can_be() {
        let table = [
            (Pace { per_second: 1e9, burst: 1 }, Terms { interval_us: 1, burst: 1 }),
            (Pace { per_second: 0.0, burst: 0 }, Terms { interval_us: 86_400_000_000, burst: 1 }),
            (Pace { per_second: -1.0, burst: 1 }, Terms { interval_us: 86_400_000_000, burst: 1 }),
            (Pace { per_second: f64::NAN, burst: 1 }, Terms { interval_us: 86_400_000_000, burst: 1 }),
            (Pace { per_second: 3.0, burst: 7 }, Terms { interval_us: 333_333, burst: 7 }),
        ];
        for (pace, terms) in table {
            assert_eq!(Terms::of(pace), terms, "{pace:?}");
        }
    }

    #[test]
    fn who_waits_as_told_is_never_blocked() {
        let mut meter = Meter::default();
        let mut now_us = at(0);
        for _ in 0..10_000 {
            match meter.count(Terms::of(TEN_A_SECOND), now_us) {
                Throttled::No { .. } => {}
                Throttled::Yes { retry_after } => now_us += whole_micros(retry_after),
                Throttled::Blocked { .. } => panic!("blocked after {} µs", now_us - at(0)),
            }
        }
    }

    #[test]
    fn more_refusals_than_burst_and_ten_block() {
        let mut meter = Meter::default();
        let answers: Vec<_> = (0..17).map(|_| meter.count(Terms::of(TEN_A_SECOND), at(0))).collect();
        assert_eq!(answers[..3], [no(2), no(1), no(0)]);
        assert!(answers[3..16].iter().all(|answer| *answer == yes(100)), "burst + 10 refusals");
        assert_eq!(answers[16], blocked(10_000));
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(9_999)), blocked(10_000), "not lengthened");
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(10_000)), no(2));
    }

    #[test]
    fn hammering_at_more_than_twice_the_pace_blocks_though_some_calls_pass() {
        for (every_millis, blocks) in [(60, false), (30, true)] {
            let mut meter = Meter::default();
            let is_blocked = (0..1000).any(|call| {
                let answer = meter.count(Terms::of(TEN_A_SECOND), at(call * every_millis));
                matches!(answer, Throttled::Blocked { .. })
            });
            assert_eq!(is_blocked, blocks, "each {every_millis} ms");
        }
    }

    #[test]
    fn blocks_double_up_to_an_hour_and_are_forgotten_after_a_quiet_one() {
        let mut meter = Meter::default();
        let mut now = 0;
        for seconds in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            let until = hammer(&mut meter, TEN_A_SECOND, now);
            assert_eq!(until - now, seconds * 1000);
            now = until;
        }
        now += 3_599_999;
        let until = hammer(&mut meter, TEN_A_SECOND, now);
        assert_eq!(until - now, 3_600_000, "a moment too early");
        now = until + 3_600_000;
        assert!(meter.is_idle(at(now)));
        assert_eq!(hammer(&mut meter, TEN_A_SECOND, now) - now, 10_000);
    }

    #[test]
    fn a_clock_that_is_set_back_blocks_nobody_for_longer() {
        let mut meter = Meter::default();
        hammer(&mut meter, TEN_A_SECOND, 100_000_000);
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(0)), blocked(3_600_000));
        assert_eq!(meter.count(Terms::of(TEN_A_SECOND), at(3_600_000)), yes(100));
    }

    #[test]
    fn idle_meters_are_dropped_and_others_kept() {
        let throttle = Throttle::new();
        let held = || throttle.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        for client in 0..1000 {
            throttle.count(&format!("client-{client}"), TEN_A_SECOND, time_of(at(0)));
        }
        for _ in 0..20 {
            throttle.count("client-7", TEN_A_SECOND, time_of(at(0)));
        }
        throttle.forget_idle(time_of(at(50)));
        assert_eq!(held(), 1000);
        throttle.forget_idle(time_of(at(1000)));
        assert_eq!(held(), 1, "its block is remembered");
        throttle.forget_idle(time_of(at(3_610_000)));
        assert_eq!(held(), 0);
    }

    #[test]
    fn where_there_is_no_room_newcomers_wait_and_the_known_go_on() {
        let throttle = Throttle::new();
        let now = time_of(at(0));
        let crowd = (0..SHARDS * METERS_MAX + 3000).map(|client| format!("client-{client}"));
        let refused = crowd.filter(|client| throttle.count(client, TEN_A_SECOND, now) == NO_ROOM).count();
        assert!(refused >= 3000, "{refused}");
        assert_eq!(throttle.count("client-0", TEN_A_SECOND, now), no(1));
        assert_eq!(throttle.count("late", TEN_A_SECOND, time_of(at(1000))), no(2));
    }
}
