//! Tables of links, counts, redemptions and revocations, and what each question does to them. Knows nothing of files,
//! threads or batches.
//!
//! Everything of a link goes when the link has expired: `EXPIRIES` orders links by that time, and [`Tables::sweep`]
//! takes them from its front.

use std::ops::RangeInclusive;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::state::{Redeemed, Revocation};

/// What has expired is kept for so long. A clock that is ahead for a while must not take what lives: once it is set
/// back, links that were taken back or used up would be good again.
const SWEPT_AFTER_MS: u64 = 2 * 24 * 3600 * 1000;

/// Id → owner as [`owner_field`](crate::state::owner_field) writes it, expiry.
const LINKS: TableDefinition<&str, (&str, u64)> = TableDefinition::new("links");
/// Id → downloads.
const COUNTS: TableDefinition<&str, u32> = TableDefinition::new("counts");
/// Id, address → open until, visits.
pub(super) const REDEMPTIONS: TableDefinition<(&str, u128), (u64, u32)> = TableDefinition::new("redemptions");
/// Id.
pub(super) const REVOKED: TableDefinition<&str, ()> = TableDefinition::new("revoked");
/// Client → the latest time ahead of the clock that a call of its bore, in milliseconds.
pub(super) const BORNE: TableDefinition<&str, u64> = TableDefinition::new("borne");
/// Id → when everything of it may go. The key to its place in `EXPIRIES`.
const KEPT: TableDefinition<&str, u64> = TableDefinition::new("kept");
const EXPIRIES: TableDefinition<(u64, &str), ()> = TableDefinition::new("expiries");

/// A visit in the terms of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Redemption {
    pub(super) who: u128,
    pub(super) downloads_max: u32,
    pub(super) now_ms: u64,
    pub(super) open_until_ms: u64,
    pub(super) keep_until_ms: u64,
}

/// The tables within one change.
pub(super) struct Tables<'a> {
    links: Table<'a, &'static str, (&'static str, u64)>,
    counts: Table<'a, &'static str, u32>,
    redemptions: Table<'a, (&'static str, u128), (u64, u32)>,
    revoked: Table<'a, &'static str, ()>,
    borne: Table<'a, &'static str, u64>,
    kept: Table<'a, &'static str, u64>,
    expiries: Table<'a, (u64, &'static str), ()>,
}

impl<'a> Tables<'a> {
    pub(super) fn open(written: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            links: written.open_table(LINKS)?,
            counts: written.open_table(COUNTS)?,
            redemptions: written.open_table(REDEMPTIONS)?,
            revoked: written.open_table(REVOKED)?,
            borne: written.open_table(BORNE)?,
            kept: written.open_table(KEPT)?,
            expiries: written.open_table(EXPIRIES)?,
        })
    }

    pub(super) fn bear(&mut self, client: &str, time_ms: u64) -> Result<(), redb::Error> {
        let known = self.borne.get(client)?.map_or(0, |known| known.value());
        self.borne.insert(client, time_ms.max(known))?;
        Ok(())
    }

    pub(super) fn create_link(&mut self, id: &str, owner: &str, expires_ms: u64) -> Result<(), redb::Error> {
        self.links.insert(id, (owner, expires_ms))?;
        self.keep(id, expires_ms)
    }

    pub(super) fn revoke_link(
        &mut self,
        id: &str,
        owner: &str,
        now_ms: u64,
    ) -> Result<Revocation, redb::Error> {
        let is_theirs = self.links.get(id)?.is_some_and(|link| {
            let (made_by, expires_ms) = link.value();
            made_by == owner && now_ms < expires_ms
        });
        if !is_theirs {
            return Ok(Revocation::NotYours);
        }
        self.revoked.insert(id, ())?;
        Ok(Revocation::Revoked)
    }

    pub(super) fn redeem(&mut self, link: &str, visit: Redemption) -> Result<Redeemed, redb::Error> {
        if self.revoked.get(link)?.is_some() {
            return Ok(Redeemed::Revoked);
        }
        let key = (link, visit.who);
        let open = self.redemptions.get(key)?.map(|redemption| redemption.value());
        if let Some((open_until_ms, visits)) = open
            && visit.now_ms < open_until_ms
        {
            self.redemptions.insert(key, (open_until_ms, visits.saturating_add(1)))?;
            return Ok(Redeemed::Joined { visits });
        }
        let count = self.counts.get(link)?.map_or(0, |count| count.value());
        if count >= visit.downloads_max {
            return Ok(Redeemed::Exhausted);
        }
        self.counts.insert(link, count + 1)?;
        self.redemptions.insert(key, (visit.open_until_ms, 1))?;
        self.keep(link, visit.keep_until_ms)?;
        Ok(Redeemed::Opened)
    }

    /// Everything of a link stays until then at least.
    fn keep(&mut self, link: &str, until_ms: u64) -> Result<(), redb::Error> {
        let known = self.kept.get(link)?.map(|known| known.value());
        if known.is_some_and(|known| known >= until_ms) {
            return Ok(());
        }
        if let Some(known) = known {
            self.expiries.remove((known, link))?;
        }
        self.kept.insert(link, until_ms)?;
        self.expiries.insert((until_ms, link), ())?;
        Ok(())
    }

    /// Removes what has expired, `max` entries at most, and puts revoked links that went into `forgotten`. Whether
    /// there may be more.
    pub(super) fn sweep(
        &mut self,
        now_ms: u64,
        max: usize,
        forgotten: &mut Vec<String>,
    ) -> Result<bool, redb::Error> {
        let mut left = max;
        while left > 0 {
            let Some((until_ms, link)) = self.first_to_expire()? else {
                return Ok(false);
            };
            if now_ms < until_ms.saturating_add(SWEPT_AFTER_MS) {
                return Ok(false);
            }
            let redeemed = self.redeemed_by(&link, left)?;
            left -= redeemed.len();
            for who in redeemed {
                self.redemptions.remove((link.as_str(), who))?;
            }
            if left > 0 {
                self.remove(&link, until_ms, forgotten)?;
                left -= 1;
            }
        }
        Ok(true)
    }

    fn first_to_expire(&self) -> Result<Option<(u64, String)>, redb::Error> {
        let first = self.expiries.first()?;
        Ok(first.map(|(key, _)| {
            let (until_ms, link) = key.value();
            (until_ms, link.to_owned())
        }))
    }

    fn redeemed_by(&self, link: &str, max: usize) -> Result<Vec<u128>, redb::Error> {
        let everybody: RangeInclusive<(&str, u128)> = (link, 0)..=(link, u128::MAX);
        let entries = self.redemptions.range(everybody)?.take(max);
        entries.map(|entry| Ok(entry?.0.value().1)).collect()
    }

    fn remove(&mut self, link: &str, until_ms: u64, forgotten: &mut Vec<String>) -> Result<(), redb::Error> {
        self.links.remove(link)?;
        self.counts.remove(link)?;
        self.kept.remove(link)?;
        self.expiries.remove((until_ms, link))?;
        if self.revoked.remove(link)?.is_some() {
            forgotten.push(link.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    const VISIT: Redemption =
        Redemption { who: 0, downloads_max: u32::MAX, now_ms: 0, open_until_ms: 10, keep_until_ms: 1000 };

    fn new_store(folder: &tempfile::TempDir) -> Store {
        Store::open(&folder.path().join("state.redb")).unwrap()
    }

    fn sweep(store: &Store, now_ms: u64, max: usize) -> (bool, Vec<String>) {
        let mut forgotten = Vec::new();
        let more = store.write(|tables| tables.sweep(now_ms, max, &mut forgotten)).unwrap();
        (more, forgotten)
    }

    /// Links, counts, redemptions, revoked, kept, expiries.
    fn held(store: &Store) -> [u64; 6] {
        use redb::ReadableTableMetadata;
        let lengths = store.write(|tables| {
            Ok([
                tables.links.len()?,
                tables.counts.len()?,
                tables.redemptions.len()?,
                tables.revoked.len()?,
                tables.kept.len()?,
                tables.expiries.len()?,
            ])
        });
        lengths.unwrap()
    }

    #[test]
    fn what_has_expired_goes_little_by_little_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = new_store(&folder);
        let filled = store.write(|tables| {
            tables.create_link("a", "=A", 1000)?;
            tables.create_link("b", "", 1000)?;
            tables.create_link("later", "", 1001)?;
            tables.revoke_link("b", "", 0)?;
            tables.revoke_link("later", "", 0)?;
            for who in 0..25 {
                tables.redeem("a", Redemption { who, ..VISIT })?;
            }
            // Names on either side of "a", without a record of the link.
            tables.redeem("a\0", Redemption { keep_until_ms: 5000, ..VISIT })?;
            tables.redeem("Z", Redemption { keep_until_ms: 5000, ..VISIT })
        });
        assert_eq!(filled.unwrap(), Redeemed::Opened);
        assert_eq!(held(&store), [3, 3, 27, 2, 5, 5]);
        assert_eq!(sweep(&store, 1000 + SWEPT_AFTER_MS - 1, 10), (false, vec![]));
        assert_eq!(held(&store), [3, 3, 27, 2, 5, 5]);

        let now_ms = 1000 + SWEPT_AFTER_MS;
        assert_eq!(sweep(&store, now_ms, 10), (true, vec![]));
        assert_eq!(held(&store), [3, 3, 17, 2, 5, 5]);
        assert_eq!(sweep(&store, now_ms, 10), (true, vec![]));
        assert_eq!(sweep(&store, now_ms, 10), (false, vec!["b".to_owned()]));
        assert_eq!(held(&store), [1, 2, 2, 1, 3, 3]);
        assert_eq!(sweep(&store, 5000 + SWEPT_AFTER_MS, 10), (false, vec!["later".to_owned()]));
        assert_eq!(held(&store), [0; 6]);
    }

    #[test]
    fn a_clock_that_is_ahead_by_a_day_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = new_store(&folder);
        let came = store.write(|tables| {
            tables.create_link("l", "", 1000)?;
            tables.revoke_link("l", "", 0)
        });
        assert_eq!(came.unwrap(), Revocation::Revoked);
        assert_eq!(sweep(&store, 24 * 3600 * 1000, 10), (false, vec![]));
        assert_eq!(store.write(|tables| tables.redeem("l", VISIT)).unwrap(), Redeemed::Revoked);
    }

    #[test]
    fn a_link_stays_as_long_as_anything_of_it_is_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = new_store(&folder);
        let kept = store.write(|tables| {
            tables.redeem("l", Redemption { keep_until_ms: 500, ..VISIT })?;
            tables.create_link("l", "", 1000)?;
            tables.redeem("l", Redemption { who: 1, keep_until_ms: 700, ..VISIT })
        });
        assert_eq!(kept.unwrap(), Redeemed::Opened);
        assert_eq!(sweep(&store, 700 + SWEPT_AFTER_MS, 10), (false, vec![]));
        assert_eq!(held(&store), [1, 1, 2, 0, 1, 1]);
        assert_eq!(sweep(&store, 1000 + SWEPT_AFTER_MS, 10), (false, vec![]));
        assert_eq!(held(&store), [0; 6]);
    }
}
