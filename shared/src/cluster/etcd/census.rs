//! From what stands in etcd to the list of edges: pure, but for its memory of who was there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::announcement::{AnnouncedState, Announcement, AnnouncementError};
use super::super::{EdgeId, EdgeRecord, SkippedRecord, shown};
use super::EtcdRegistryRules;
use crate::etcd::Contents;

/// Why a record that can be read is not taken all the same.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Unreadable(#[from] AnnouncementError),
    #[error("its url {0} matches no pattern of registry.allow_urls")]
    Url(String),
    #[error("its admin_url {0} is neither of its url's host nor of one in registry.allow_urls")]
    AdminUrl(String),
    #[error("registry.edges has an edge of this id")]
    Fixed,
    #[error(
        "with its weight of {0} there would be more than {1} in its zone, of which no ring is built in good time"
    )]
    Weight(u16, u32),
}

/// Who is there, and who was.
pub(super) struct Census {
    /// Ordered by id.
    fixed: Vec<EdgeRecord>,
    rules: EtcdRegistryRules,
    grace: Duration,
    /// Records as last read, by key: most of thousands are as they were.
    read: BTreeMap<Arc<str>, Read>,
    /// Those whose records are gone without a word, and until when they stay.
    vanished: BTreeMap<EdgeId, (Announcement, Instant)>,
}

struct Read {
    value: Arc<[u8]>,
    outcome: Result<Announcement, String>,
}

pub(super) struct Outcome {
    /// Ordered by id.
    pub(super) edges: Vec<EdgeRecord>,
    pub(super) announced: Vec<Announcement>,
    pub(super) skipped: Vec<SkippedRecord>,
    /// When it changes by itself.
    pub(super) next: Option<Instant>,
}

impl Census {
    pub(super) fn new(fixed: &[EdgeRecord], rules: EtcdRegistryRules, grace: Duration) -> Self {
        let mut fixed = fixed.to_vec();
        fixed.sort_by(|a, b| a.id.cmp(&b.id));
        Self { fixed, rules, grace, read: BTreeMap::new(), vanished: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, contents: &Contents, now: Instant) -> Outcome {
        if contents.is_known {
            self.read_all(contents, now);
        }
        self.vanished.retain(|id, (_, until)| {
            let stays = *until > now;
            if !stays {
                tracing::warn!(edge = %id, "edge is off the list: its record did not come back");
            }
            stays
        });
        self.outcome(contents)
    }

    fn read_all(&mut self, contents: &Contents, now: Instant) {
        let before = std::mem::take(&mut self.read);
        for (key, entry) in &contents.entries {
            let read = match before.get(key) {
                Some(known) if known.value == entry.value => {
                    Read { value: Arc::clone(&known.value), outcome: known.outcome.clone() }
                }
                _ => {
                    let outcome = self.judge(key, &entry.value).map_err(|fault| shown(&fault));
                    // Once for each value: a record that stays as it is, is not news.
                    if let Err(fault) = &outcome {
                        tracing::warn!(%key, fault, "an edge's record in etcd is skipped");
                    }
                    Read { value: Arc::clone(&entry.value), outcome }
                }
            };
            self.read.insert(Arc::clone(key), read);
        }
        for (key, gone) in before {
            if self.read.contains_key(&key) {
                continue;
            }
            // What it said last may be news.
            let last = contents.removed.get(&key).map(|entry| Announcement::parse(&key, &entry.value));
            let last = last.and_then(Result::ok).map(|announcement| announcement.state);
            if let Ok(announcement) = gone.outcome
                && last.unwrap_or(announcement.state) != AnnouncedState::Draining
            {
                tracing::warn!(edge = %announcement.id, "edge's record vanished; its health decides for now");
                self.vanished.insert(announcement.id.clone(), (announcement, now + self.grace));
            }
        }
        let read = &self.read;
        self.vanished.retain(|id, _| !read.contains_key(id.as_str()));
    }

    fn judge(&self, key: &str, value: &[u8]) -> Result<Announcement, NotTaken> {
        let announcement = Announcement::parse(key, value)?;
        if self.fixed.iter().any(|fixed| fixed.id == announcement.id) {
            return Err(NotTaken::Fixed);
        }
        let (url, admin_url) = (&announcement.url, &announcement.admin_url);
        let allowed = &self.rules.allow_urls;
        if !allowed.iter().any(|pattern| pattern.matches(url)) {
            return Err(NotTaken::Url(url.to_string()));
        }
        // It is where this coordinator sends requests of its own.
        if url.host() != admin_url.host() && !allowed.iter().any(|pattern| pattern.matches_host(admin_url)) {
            return Err(NotTaken::AdminUrl(admin_url.to_string()));
        }
        Ok(announcement)
    }

    fn outcome(&self, contents: &Contents) -> Outcome {
        let mut skipped: Vec<SkippedRecord> = contents
            .skipped()
            .map(|(key, why)| SkippedRecord { key: key.to_owned(), fault: why.to_string() })
            .collect();
        let refused = self.read.iter().filter_map(|(key, read)| {
            let fault = read.outcome.as_ref().err()?;
            Some(SkippedRecord { key: key.to_string(), fault: fault.clone() })
        });
        skipped.extend(refused);
        // One that says that it leaves is off the list by its word, however long its record stands.
        let stays = |announcement: &&Announcement| announcement.state != AnnouncedState::Draining;
        let present = self.read.values().filter_map(|read| read.outcome.as_ref().ok()).filter(stays);
        let vanished = self.vanished.values().map(|(announcement, _)| announcement);
        let mut weights: BTreeMap<&str, u32> = BTreeMap::new();
        for edge in &self.fixed {
            *weights.entry(&edge.zone).or_default() += u32::from(edge.weight.value());
        }
        let mut announced = Vec::new();
        for announcement in present.chain(vanished) {
            let (weight, max) = (announcement.weight.value(), self.rules.weight_sum_max);
            let sum = weights.entry(&announcement.zone).or_default();
            if *sum + u32::from(weight) > max {
                let fault = NotTaken::Weight(weight, max).to_string();
                skipped.push(SkippedRecord { key: announcement.id.to_string(), fault });
                continue;
            }
            *sum += u32::from(weight);
            announced.push(announcement.clone());
        }
        announced.sort_by(|a, b| a.id.cmp(&b.id));
        let mut edges = self.fixed.clone();
        edges.extend(announced.iter().map(Announcement::record));
        edges.sort_by(|a, b| a.id.cmp(&b.id));
        let next = self.vanished.values().map(|(_, until)| *until).min();
        Outcome { edges, announced, skipped, next }
    }
}

#[cfg(test)]
mod tests;
