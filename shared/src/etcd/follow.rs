//! What is under a prefix of etcd, kept here: listed, then watched from there on, and listed again each minute and after
//! whatever went wrong. While etcd is away, what was last known stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::backoff::Backoff;
use super::error::EtcdError;
use super::session::{Broken, Session};
use super::{Entry, Etcd};
use crate::cluster::Freshness;

/// A session that lasted so long was no failure from its start.
const STEADY: Duration = Duration::from_secs(10);
/// Skipped keys that are named; more are only counted.
const SKIPPED_NAMED_MAX: usize = 1000;
/// Of a skipped key's name.
const NAME_BYTES_MAX: usize = 200;

/// How much is kept. What is beyond is skipped and named; it never breaks the rest.
#[derive(Debug, Clone, Copy)]
pub struct MirrorRules {
    pub keys_max: usize,
    pub value_bytes_max: usize,
}

impl Default for MirrorRules {
    /// More edges than a cluster has, and more than any record of ours needs.
    fn default() -> Self {
        Self { keys_max: 20_000, value_bytes_max: 64 << 10 }
    }
}

/// Why a key is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    #[error("its value is too large")]
    ValueTooLarge,
    #[error("its name is not printable ASCII of at most {KEY_BYTES_MAX} bytes")]
    Name,
    #[error("there are too many keys")]
    TooMany,
}

/// Enough for a file id of 1024 bytes in base64url.
const KEY_BYTES_MAX: usize = 2048;

impl MirrorRules {
    /// Whether a key is kept where `known` others are.
    pub(super) fn admit(self, key: &[u8], value_bytes: usize, known: usize) -> Result<Arc<str>, Skip> {
        // Nothing after the prefix is a name too: that of a mark on all files.
        let plain = key.len() <= KEY_BYTES_MAX && key.iter().all(u8::is_ascii_graphic);
        let name = std::str::from_utf8(key).ok().filter(|_| plain).ok_or(Skip::Name)?;
        if value_bytes > self.value_bytes_max {
            return Err(Skip::ValueTooLarge);
        }
        if known >= self.keys_max {
            return Err(Skip::TooMany);
        }
        Ok(name.into())
    }
}

/// Keys that are not kept, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Skipped(BTreeMap<String, (i64, Skip)>);

impl Skipped {
    pub(super) fn insert(&mut self, key: &[u8], mod_revision: i64, why: Skip) {
        if self.0.len() < SKIPPED_NAMED_MAX {
            self.0.insert(shown(key), (mod_revision, why));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if !self.0.is_empty() {
            self.0.remove(&shown(key));
        }
    }

    /// Says what is skipped that was not before, or not in this form.
    fn log_news(&self, before: &Self, prefix: &str) {
        for (key, (mod_revision, why)) in &self.0 {
            if before.0.get(key).is_none_or(|(known, _)| known != mod_revision) {
                tracing::warn!(%key, prefix, %why, "a key in etcd is skipped");
            }
        }
    }
}

/// A key's name as it can be shown: escaped, and cut.
fn shown(key: &[u8]) -> String {
    key[..key.len().min(NAME_BYTES_MAX)].escape_ascii().to_string()
}

/// What was under the prefix at one moment.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// By what follows the prefix.
    pub entries: BTreeMap<Arc<str>, Entry>,
    /// What keys had last that were removed since the list that this grew from: a last word may be gone before anybody
    /// sees it among the entries.
    pub removed: BTreeMap<Arc<str>, Entry>,
    /// Whether anything was ever listed. Until then, absence means nothing.
    pub is_known: bool,
    /// Which etcd it was; another has another number, and revisions of its own.
    pub cluster: u64,
    pub(super) skipped: Skipped,
}

impl Contents {
    /// The keys that are not kept, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, Skip)> {
        self.skipped.0.iter().map(|(key, (_, why))| (key.as_str(), *why))
    }
}

/// How much the contents can be relied on.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    at: Mutex<Option<Instant>>,
    is_reached: AtomicBool,
    /// It answered last that this is not to be read.
    is_forbidden: AtomicBool,
}

impl Confirmation {
    /// etcd has just said that nothing is missing.
    pub(super) fn confirm(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// A prefix that is followed until this is dropped.
pub struct Mirror {
    contents: watch::Receiver<Arc<Contents>>,
    confirmation: Arc<Confirmation>,
    task: AbortHandle,
}

impl Mirror {
    /// Follows what is under `prefix`, relative to that of the settings; it ends with a slash. Within a runtime.
    pub fn start(etcd: Etcd, prefix: &str, rules: MirrorRules) -> Self {
        let (sender, contents) = watch::channel(Arc::default());
        let confirmation = Arc::<Confirmation>::default();
        let publisher = Publisher {
            sender,
            confirmation: Arc::clone(&confirmation),
            prefix: prefix.to_owned(),
            seen: (0, 0),
        };
        let session = Session { etcd, prefix: prefix.to_owned(), rules };
        let task = tokio::spawn(follow(session, publisher)).abort_handle();
        Self { contents, confirmation, task }
    }

    /// What is there now, and every later state.
    pub fn watch(&self) -> watch::Receiver<Arc<Contents>> {
        self.contents.clone()
    }

    pub fn contents(&self) -> Arc<Contents> {
        self.contents.borrow().clone()
    }

    /// How long ago etcd last confirmed the contents: seconds, while it is there. `None` before the first time.
    pub fn staleness(&self) -> Option<Duration> {
        let at = *self.confirmation.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }

    /// Whether etcd answers, be it that this is not to be read.
    pub fn is_reached(&self) -> bool {
        self.confirmation.is_reached.load(Ordering::Acquire)
    }

    /// Whether etcd answers that this is not to be read: what is known is no longer confirmed.
    pub fn is_forbidden(&self) -> bool {
        self.confirmation.is_forbidden.load(Ordering::Acquire)
    }

    pub fn freshness(&self) -> Freshness {
        Freshness {
            staleness: self.staleness(),
            is_reached: self.is_reached(),
            is_forbidden: self.is_forbidden(),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.contents.borrow().entries.len();
        f.debug_struct("Mirror").field("keys", &keys).finish_non_exhaustive()
    }
}

/// Where sessions put what they find.
pub(super) struct Publisher {
    sender: watch::Sender<Arc<Contents>>,
    pub(super) confirmation: Arc<Confirmation>,
    prefix: String,
    /// Cluster and revision of the last list.
    seen: (u64, i64),
}

impl Publisher {
    /// Publishes contents, where they are others than before.
    pub(super) fn publish(&self, contents: &Contents) {
        let before = self.sender.borrow().clone();
        let is_same = before.is_known
            && before.cluster == contents.cluster
            && before.skipped == contents.skipped
            && before.entries == contents.entries;
        if !is_same {
            contents.skipped.log_news(&before.skipped, &self.prefix);
            self.sender.send_replace(Arc::new(contents.clone()));
        }
    }

    /// etcd has answered with a list: it is there.
    pub(super) fn reached(&mut self, cluster: u64, revision: i64) {
        self.confirmation.confirm();
        let (known_cluster, known_revision) = std::mem::replace(&mut self.seen, (cluster, revision));
        // One that is started anew with the same flags has the same cluster id, and counts revisions from 1.
        if known_cluster != 0 && (known_cluster != cluster || revision < known_revision) {
            tracing::warn!(
                prefix = self.prefix,
                "this is another etcd than before, or one that lost what it had; what it has now counts"
            );
        }
        let was_forbidden = self.confirmation.is_forbidden.swap(false, Ordering::AcqRel);
        if !self.confirmation.is_reached.swap(true, Ordering::AcqRel) || was_forbidden {
            tracing::info!(prefix = self.prefix, "etcd is followed");
        }
    }

    fn lost(&self, broken: &Broken) {
        // That it does not let this be read is an answer: what is known here grows old, and etcd is not away.
        let is_forbidden = matches!(broken, Broken::Etcd(EtcdError::Forbidden(_)));
        let was_reached = self.confirmation.is_reached.swap(is_forbidden, Ordering::AcqRel);
        let was_forbidden = self.confirmation.is_forbidden.swap(is_forbidden, Ordering::AcqRel);
        if is_forbidden && !was_forbidden {
            tracing::warn!(prefix = self.prefix, %broken, "etcd tells nothing of this; what was last known stands");
        } else if was_reached && !is_forbidden {
            tracing::warn!(prefix = self.prefix, %broken, "etcd is lost; what was last known stands");
        } else {
            tracing::debug!(prefix = self.prefix, %broken, "etcd is not back yet");
        }
    }
}

/// Session after session, for ever.
async fn follow(session: Session, mut publisher: Publisher) {
    let mut backoff = Backoff::new();
    let mut has_complained = false;
    loop {
        let began = Instant::now();
        match session.run(&mut publisher).await {
            Ok(()) => backoff.reset(),
            Err(broken) => {
                // Once also where it was never there: silence would be taken for patience.
                if !has_complained && !publisher.sender.borrow().is_known {
                    tracing::warn!(prefix = publisher.prefix, %broken, "etcd is not there yet");
                    has_complained = true;
                }
                publisher.lost(&broken);
                if began.elapsed() >= STEADY {
                    backoff.reset();
                }
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

#[cfg(test)]
#[path = "../../tests/support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use super::support::EtcdServer;
    use super::*;

    /// Between a list and its watch etcd may forget what lies between: the session has to end, for the next to list.
    #[tokio::test]
    async fn a_watch_from_a_compacted_revision_ends_its_session() {
        let server = EtcdServer::start().await;
        let etcd = server.etcd();
        for value in ["1", "2", "3"] {
            etcd.put("edges/one", value.as_bytes()).await.unwrap();
        }
        server.raw().await.compact(3, None).await.unwrap();
        let session =
            Session { etcd: etcd.clone(), prefix: "edges/".to_owned(), rules: MirrorRules::default() };
        let (sender, confirmation) = (watch::channel(Arc::default()).0, Arc::default());
        let publisher = Publisher { sender, confirmation, prefix: "edges/".to_owned(), seen: (0, 0) };
        let listing = etcd.listing("edges/", MirrorRules::default()).await.unwrap();
        let soon = tokio::time::Instant::now() + Duration::from_secs(30);
        let live = etcd.connections.live(soon).await.unwrap();
        let mut contents = Contents { cluster: listing.cluster, is_known: true, ..Contents::default() };
        let ended = session.watch(&live, 2, &mut contents, &publisher, soon).await;
        assert!(matches!(ended, Err(Broken::Compacted(3))), "{ended:?}");
        let elsewhere = &mut Contents { cluster: listing.cluster + 1, ..contents };
        let watched = session.watch(&live, listing.revision, elsewhere, &publisher, soon).await;
        assert!(matches!(watched, Err(Broken::OtherCluster)), "{watched:?}");
    }

    #[test]
    fn what_is_too_large_too_many_or_unprintable_is_not_admitted() {
        let rules = MirrorRules { keys_max: 2, value_bytes_max: 10 };
        let long = vec![b'k'; KEY_BYTES_MAX + 1];
        let longest = &long[1..];
        let table: [(&[u8], usize, usize, Option<Skip>); 10] = [
            (b"edge-1", 10, 1, None),
            (b"edge-1", 11, 1, Some(Skip::ValueTooLarge)),
            (b"edge-1", 0, 2, Some(Skip::TooMany)),
            (b"", 1, 0, None),
            (longest, 1, 0, None),
            (b"a b", 1, 0, Some(Skip::Name)),
            (b"a\n", 1, 0, Some(Skip::Name)),
            ("é".as_bytes(), 1, 0, Some(Skip::Name)),
            (b"\xff", 1, 0, Some(Skip::Name)),
            (&long, 1, 0, Some(Skip::Name)),
        ];
        for (key, bytes, known, expected) in table {
            assert_eq!(rules.admit(key, bytes, known).err(), expected, "{}", shown(key));
        }
        assert_eq!(shown(b"a\n\"\xff"), "a\\n\\\"\\xff");
        assert!(shown(&long).len() <= NAME_BYTES_MAX);
    }
}
