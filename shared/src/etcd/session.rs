//! One go at following a prefix: a list, then its changes, until a minute is over or something is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Event, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::backoff::jittered;
use super::connection::Live;
use super::error::EtcdError;
use super::follow::{Contents, MirrorRules, Publisher};
use super::list::end_of;
use super::{Entry, Etcd};

/// From one list to the next: what a watch should have told and did not is made good by then.
const RELIST_EVERY: Duration = Duration::from_secs(60);
/// After so long without news, etcd is asked whether it is still there.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// For it to say so, or to begin a watch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes that come together are published together: of thousands of edges, some change at any time.
const GATHER: Duration = Duration::from_millis(20);

/// Why a session is over before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("the watch was ended")]
    Ended,
    #[error("the watch was cancelled: {0}")]
    Cancelled(String),
    #[error("what the watch should begin with was compacted away, up to revision {0}")]
    Compacted(i64),
    #[error("the member fell silent")]
    Silent,
    #[error("another etcd answers than the one that was listed")]
    OtherCluster,
}

pub(super) struct Session {
    pub(super) etcd: Etcd,
    pub(super) prefix: String,
    pub(super) rules: MirrorRules,
}

impl Session {
    /// Lists and watches.
    ///
    /// # Errors
    /// What broke it; it is to be run again after a pause. Without an error it is to be run again at once.
    pub(super) async fn run(&self, publisher: &mut Publisher) -> Result<(), Broken> {
        let until = Instant::now() + jittered(RELIST_EVERY);
        let listing = self.etcd.listing(&self.prefix, self.rules).await?;
        publisher.reached(listing.cluster, listing.revision);
        let mut contents = Contents {
            entries: listing.entries,
            removed: BTreeMap::new(),
            is_known: true,
            cluster: listing.cluster,
            skipped: listing.skipped,
        };
        publisher.publish(&contents);
        let live = self.etcd.connections.live(Instant::now() + ANSWER_TIMEOUT).await?;
        let watched = self.watch(&live, listing.revision + 1, &mut contents, publisher, until).await;
        publisher.publish(&contents);
        if watched.is_err() {
            self.etcd.connections.give_up(&live);
        }
        watched
    }

    pub(super) async fn watch(
        &self,
        live: &Live,
        from: i64,
        contents: &mut Contents,
        publisher: &Publisher,
        until: Instant,
    ) -> Result<(), Broken> {
        let mut stream = self.open(live, from).await?;
        let mut heard = Instant::now();
        let mut is_asked = false;
        let mut publish_at = None;
        loop {
            let ask_at = heard + ASK_AFTER;
            tokio::select! {
                message = timeout_at(ask_at + ANSWER_TIMEOUT, stream.message()) => {
                    let message = message.map_err(|_| Broken::Silent)?.map_err(EtcdError::from)?;
                    let message = message.ok_or(Broken::Ended)?;
                    (heard, is_asked) = (Instant::now(), false);
                    if self.apply(&message, contents)? {
                        publish_at.get_or_insert(heard + GATHER);
                    }
                    publisher.confirmation.confirm();
                }
                () = sleep_until(ask_at), if !is_asked => {
                    is_asked = true;
                    stream.request_progress().await.map_err(EtcdError::from)?;
                }
                () = sleep_until(publish_at.unwrap_or(until)), if publish_at.is_some() => {
                    publish_at = None;
                    publisher.publish(contents);
                }
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    /// The watch, once etcd has said that it has begun.
    async fn open(&self, live: &Live, from: i64) -> Result<WatchStream, Broken> {
        let path = self.etcd.path(&self.prefix);
        // In pieces: what happened while nobody watched may be more than fits a message.
        let options = WatchOptions::new().with_range(end_of(&path)).with_start_revision(from).with_fragment();
        let mut client = live.watch();
        let opening = async {
            let mut stream = client.watch(path, Some(options)).await.map_err(EtcdError::from)?;
            let first = stream.message().await.map_err(EtcdError::from)?.ok_or(Broken::Ended)?;
            judge(&first)?;
            Ok(stream)
        };
        timeout(ANSWER_TIMEOUT, opening).await.map_err(|_| Broken::Silent)?
    }

    /// Takes changes in; tells whether there were any.
    fn apply(&self, message: &WatchResponse, contents: &mut Contents) -> Result<bool, Broken> {
        judge(message)?;
        if message.header().is_some_and(|header| header.cluster_id() != contents.cluster) {
            return Err(Broken::OtherCluster);
        }
        for event in message.events() {
            self.take(event, contents);
        }
        Ok(!message.events().is_empty())
    }

    fn take(&self, event: &Event, contents: &mut Contents) {
        let path_bytes = self.etcd.prefix.len() + self.prefix.len();
        let Some(kv) = event.kv() else { return };
        let Some(key) = kv.key().get(path_bytes..) else { return };
        contents.skipped.remove(key);
        // A key that is removed has no version left. (To ask the library for the event's type is to panic at one that
        // it does not know.)
        if kv.version() == 0 {
            let removed = std::str::from_utf8(key).ok().and_then(|name| contents.entries.remove_entry(name));
            if let Some((name, entry)) = removed
                && contents.removed.len() < self.rules.keys_max
            {
                contents.removed.insert(name, entry);
            }
            return;
        }
        let is_known = std::str::from_utf8(key).is_ok_and(|name| contents.entries.contains_key(name));
        let others = contents.entries.len() - usize::from(is_known);
        match self.rules.admit(key, kv.value().len(), others) {
            Ok(name) => {
                contents.removed.remove(&name);
                contents.entries.insert(name, Entry::from(kv.clone()));
            }
            Err(why) => {
                if let Ok(name) = std::str::from_utf8(key) {
                    contents.entries.remove(name);
                }
                contents.skipped.insert(key, kv.mod_revision(), why);
            }
        }
    }
}

/// Whether a watch goes on.
fn judge(message: &WatchResponse) -> Result<(), Broken> {
    if message.compact_revision() > 0 {
        return Err(Broken::Compacted(message.compact_revision()));
    }
    if message.canceled() {
        return Err(Broken::Cancelled(message.cancel_reason().to_owned()));
    }
    Ok(())
}
