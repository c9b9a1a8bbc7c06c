//! A mark: since when and until when something is barred.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::Kind;

/// A point in time, in milliseconds since 1970; RFC 3339 where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }
}

/// Marks are kept so long after their end: an older list that turns up again must not outlive what lifted it.
pub(super) const KEPT_AFTER_END_MS: u64 = 7 * 24 * 3600 * 1000;
/// A link's that lifted nothing: what it barred is over with it. Clocks differ, and are set back.
pub(super) const LINK_KEPT_AFTER_END_MS: u64 = 10 * 60 * 1000;

/// The last moment that RFC 3339 can write.
pub(super) const LAST_MS: u64 = 253_402_300_799_999;

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MS));
        serializer.collect_str(&humantime::format_rfc3339_millis(time))
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text);
        time.map(Self::of).map_err(|_| de::Error::custom("a time is as in 2027-01-01T00:00:00Z"))
    }
}

/// What is said of a target. Unknown members are for newer programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Mark {
    /// When it was said: of two marks, the later one stands.
    pub set: Instant,
    /// Until when it holds; passed where the mark lifts an earlier one.
    pub until: Instant,
    /// Transfers under way are ended, too.
    #[serde(default)]
    pub cut: bool,
}

impl Mark {
    pub fn is_in_force(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether it ended so long ago that nobody keeps it; `kind` is its target's.
    pub fn is_forgotten(&self, kind: Kind, now: Instant) -> bool {
        let lifts = self.until <= self.set;
        let kept_ms = if kind == Kind::Link && !lifts { LINK_KEPT_AFTER_END_MS } else { KEPT_AFTER_END_MS };
        self.until.0.saturating_add(kept_ms) < now.0
    }

    /// Whether this one stands where there are both. Of two that were set in the same moment the stricter does, so
    /// that everybody comes to the same.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.set, self.until, self.cut) > (other.set, other.until, other.cut)
    }
}
