//! Who is in the cluster: an edge's record, and the registry that lists them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::units::BaseUrl;
use announcement::Announcement;

pub mod announcement;
pub mod etcd;
pub mod static_list;
pub mod url_pattern;

/// The field by which an edge names itself in its answer to who asks for a download without a token.
pub const ANSWERED_BY: &str = "Sluice-Edge";

/// An edge's name: 1 to 63 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(Arc<str>);

impl EdgeId {
    pub const BYTES_MAX: usize = 63;

    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EdgeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EdgeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("an id is 1 to 63 of A-Z a-z 0-9 . _ -"))
    }
}

/// An edge's share of the ring relative to the others: 1 to 10,000, 100 being usual. Never 0: the ring would not
/// terminate over it, and an edge without a share is one to leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Weight(u16);

impl Weight {
    pub const USUAL: Self = Self(100);

    pub fn new(weight: u16) -> Option<Self> {
        (1..=10_000).contains(&weight).then_some(Self(weight))
    }

    pub fn value(self) -> u16 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let weight = i64::deserialize(deserializer)?;
        let weight = u16::try_from(weight).ok().and_then(Self::new);
        weight.ok_or_else(|| de::Error::custom(
                "a weight is a whole number from 1 to 10000; an edge that is to get nobody is drained, not given a weight",
            ))
    }
}

/// What the cluster knows of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeRecord {
    pub id: EdgeId,
    /// Where clients are sent.
    pub url: BaseUrl,
    /// Where its health is asked.
    pub admin_url: BaseUrl,
    #[serde(default = "usual_weight")]
    pub weight: Weight,
    #[serde(default)]
    pub zone: String,
}

fn usual_weight() -> Weight {
    Weight::USUAL
}

/// The edges of one moment, ordered by id, ids distinct.
pub type EdgeList = Arc<[EdgeRecord]>;

/// Where the list of edges comes from.
pub trait Registry: Send + Sync {
    /// The list now, and every later one.
    fn watch(&self) -> watch::Receiver<EdgeList>;

    /// What edges say of themselves, where that is known without asking them; ordered by id.
    fn announced(&self) -> Arc<[Announcement]> {
        Arc::default()
    }

    /// Records that are not taken, for operators to see.
    fn skipped(&self) -> Arc<[SkippedRecord]> {
        Arc::default()
    }

    /// How much the list can be relied on; `None` for one that never changes.
    fn freshness(&self) -> Option<Freshness> {
        None
    }
}

/// A record that is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedRecord {
    pub key: String,
    pub fault: String,
}

/// Of what is shown of a fault: it may quote what a stranger wrote.
const FAULT_CHARS_MAX: usize = 300;

/// A fault as it can be printed anywhere.
pub(crate) fn shown(fault: &dyn fmt::Display) -> String {
    let mut shown = String::new();
    for character in fault.to_string().chars().take(FAULT_CHARS_MAX) {
        match character {
            ' '..='~' => shown.push(character),
            other => shown.extend(other.escape_default()),
        }
    }
    shown
}

/// How much a list can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Since when it was confirmed last; `None` before the first time.
    pub staleness: Option<Duration>,
    /// Whether whoever keeps it answers.
    pub is_reached: bool,
    /// Whether the answer is that it is not to be read.
    pub is_forbidden: bool,
}
