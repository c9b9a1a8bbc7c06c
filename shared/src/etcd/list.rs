//! Everything under a prefix as of one revision, page by page, however large hostile values are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::EtcdError;
use super::follow::{MirrorRules, Skip, Skipped};
use super::{Entry, Etcd, Page};

/// Keys of a page, usually: a few hundred KiB.
const PAGE_KEYS: i64 = 500;
/// A page that was too large is tried again with so many times fewer keys.
const SHRINK: i64 = 8;

/// What a listing found.
pub(super) struct Listing {
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    pub(super) skipped: Skipped,
    /// Of etcd as a whole, when it was taken.
    pub(super) revision: i64,
    /// Another etcd has another.
    pub(super) cluster: u64,
}

impl Etcd {
    /// Lists a prefix once, relative to that of the settings; it ends with a slash.
    ///
    /// # Errors
    /// As [`Etcd::get`].
    pub async fn list(
        &self,
        prefix: &str,
        rules: MirrorRules,
    ) -> Result<BTreeMap<Arc<str>, Entry>, EtcdError> {
        self.listing(prefix, rules).await.map(|listing| listing.entries)
    }

    pub(super) async fn listing(&self, prefix: &str, rules: MirrorRules) -> Result<Listing, EtcdError> {
        let prefix = self.path(prefix);
        let end = end_of(&prefix);
        let mut listing =
            Listing { entries: BTreeMap::new(), skipped: Skipped::default(), revision: 0, cluster: 0 };
        let (mut start, mut count) = (prefix.clone().into_bytes(), PAGE_KEYS);
        loop {
            let page = Page { start: &start, end: &end, count, revision: listing.revision, keys_only: false };
            let (mut page, is_unread) = match self.page(page).await {
                Err(EtcdError::TooLarge) if count > 1 => {
                    count = (count / SHRINK).max(1);
                    continue;
                }
                // One value that is too large to be read at all: its name only.
                Err(EtcdError::TooLarge) => {
                    let page =
                        Page { start: &start, end: &end, count, revision: listing.revision, keys_only: true };
                    (self.page(page).await?, true)
                }
                other => (other?, false),
            };
            if let Some(header) = page.header() {
                (listing.revision, listing.cluster) =
                    (header.revision().max(listing.revision), header.cluster_id());
            }
            let more = page.more();
            let kvs = page.take_kvs();
            let Some(last) = kvs.last() else { return Ok(listing) };
            start = [last.key(), b"\0"].concat();
            for kv in kvs {
                let key = kv.key().get(prefix.len()..).unwrap_or_default().to_vec();
                let skip = match rules.admit(&key, kv.value().len(), listing.entries.len()) {
                    Ok(_) if is_unread => Err(Skip::ValueTooLarge),
                    other => other,
                };
                match skip {
                    Ok(key) => drop(listing.entries.insert(key, Entry::from(kv))),
                    Err(why) => listing.skipped.insert(&key, kv.mod_revision(), why),
                }
            }
            // What is beyond the bound is not even looked at.
            if !more || listing.entries.len() >= rules.keys_max {
                return Ok(listing);
            }
            count = (count * 2).min(PAGE_KEYS);
        }
    }
}

/// The end of a prefix's range: the prefix with its last byte, a slash, one higher.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
