//! etcd, as far as both programs need it. Only files beneath this one know the library that speaks to it.
//!
//! [`Etcd`] asks, with a deadline each time. [`Mirror`] keeps what is under a prefix here. [`Registration`] and
//! [`Election`] keep a key there for as long as this process lives. [`wrapped`] seals what etcd must not read.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse};

mod backoff;
mod claim;
mod connection;
mod election;
mod error;
mod follow;
mod list;
mod register;
mod session;
mod settings;
pub mod wrapped;

pub use claim::Standing;
pub use election::Election;
pub use error::EtcdError;
pub use follow::{Contents, Mirror, MirrorRules, Skip};
pub use register::{Record, Registration};
pub use settings::{EtcdIdentity, EtcdSettings, EtcdTls, EtcdUser, RawEtcd};

use connection::{Connections, Repeat};

/// A handle to an etcd cluster, which need not be there: it connects when it is first used, and again after a failure.
/// Cheap to clone. Keys are relative to the prefix of its settings.
#[derive(Debug, Clone)]
pub struct Etcd {
    connections: Arc<Connections>,
    prefix: Arc<str>,
}

/// A key's value, and where it stands in etcd's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Arc<[u8]>,
    pub create_revision: i64,
    pub mod_revision: i64,
    /// The lease that it ends with; 0 for none.
    pub lease: i64,
}

impl From<KeyValue> for Entry {
    fn from(kv: KeyValue) -> Self {
        let (create_revision, mod_revision, lease) = (kv.create_revision(), kv.mod_revision(), kv.lease());
        let (_, value) = kv.into_key_value();
        Self { value: value.into(), create_revision, mod_revision, lease }
    }
}

/// What came of making a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// With the revision that it has.
    Created(i64),
    Exists(Entry),
}

/// What came of replacing a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// With the revision that it has now.
    Replaced(i64),
    /// It was no more what was expected: what it is, or nothing.
    Changed(Option<Entry>),
}

/// What is left of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeLeft {
    granted: Duration,
    /// Whole seconds.
    left: Duration,
}

impl Etcd {
    /// Makes the handle; nobody is asked yet.
    pub fn new(settings: &EtcdSettings) -> Self {
        Self { connections: Arc::new(Connections::new(settings)), prefix: settings.prefix.as_str().into() }
    }

    /// A key in full, as others see it in etcd.
    pub fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Reads a key, as of now: by agreement of the cluster.
    ///
    /// # Errors
    /// There is no answer in time, or none is given.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, EtcdError> {
        let path = self.path(key);
        let answer = self.connections.call(Repeat::Always, |live| {
            let path = path.clone();
            async move { live.kv().get(path, None).await }
        });
        Ok(answer.await?.take_kvs().into_iter().next().map(Entry::from))
    }

    /// Writes a key, whatever it was.
    ///
    /// # Errors
    /// As [`Etcd::get`]; it may have been written all the same, unless etcd refused it.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        let path = self.path(key);
        let answer = self.connections.call(Repeat::IfUndone, |live| {
            let (path, value) = (path.clone(), value.to_vec());
            async move { live.kv().put(path, value, None).await }
        });
        answer.await.map(drop)
    }

    /// Removes a key; tells whether it was there.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub async fn remove(&self, key: &str) -> Result<bool, EtcdError> {
        let path = self.path(key);
        let answer = self.connections.call(Repeat::IfUndone, |live| {
            let path = path.clone();
            async move { live.kv().delete(path, None).await }
        });
        Ok(answer.await?.deleted() > 0)
    }

    /// Removes a key that has not changed since `mod_revision`; tells whether it did.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub async fn remove_unchanged(&self, key: &str, mod_revision: i64) -> Result<bool, EtcdError> {
        let path = self.path(key);
        let compare = Compare::mod_revision(path.clone(), CompareOp::Equal, mod_revision);
        let txn = Txn::new().when([compare]).and_then([TxnOp::delete(path, None)]);
        let answer = self.connections.call(Repeat::IfUndone, |live| {
            let txn = txn.clone();
            async move { live.kv().txn(txn).await }
        });
        Ok(answer.await?.succeeded())
    }

    /// Makes a key, where there is none.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<Created, EtcdError> {
        Ok(match self.swap(key, Expected::Absent, value, 0).await? {
            Replaced::Replaced(revision) => Created::Created(revision),
            Replaced::Changed(Some(entry)) => Created::Exists(entry),
            // Removed between the comparison and the reading, which are one: no server does that.
            Replaced::Changed(None) => {
                return Err(EtcdError::Refused("a key is neither there nor absent".into()));
            }
        })
    }

    /// Replaces a value that has not changed since `mod_revision`.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub async fn replace(&self, key: &str, mod_revision: i64, value: &[u8]) -> Result<Replaced, EtcdError> {
        self.swap(key, Expected::Revision(mod_revision), value, 0).await
    }

    /// Writes a key under a lease (0 for none), if it is what is expected.
    async fn swap(
        &self,
        key: &str,
        expected: Expected,
        value: &[u8],
        lease: i64,
    ) -> Result<Replaced, EtcdError> {
        let path = self.path(key);
        let compare = match expected {
            Expected::Absent => Compare::create_revision(path.clone(), CompareOp::Equal, 0),
            Expected::Revision(revision) => Compare::mod_revision(path.clone(), CompareOp::Equal, revision),
            Expected::Lease(lease) => Compare::lease(path.clone(), CompareOp::Equal, lease),
        };
        let put = TxnOp::put(path.clone(), value, Some(PutOptions::new().with_lease(lease)));
        let get = TxnOp::get(path, None);
        let txn = Txn::new().when([compare]).and_then([put]).or_else([get]);
        // Who holds the lease finds after the first time what it was before.
        let repeat = if matches!(expected, Expected::Lease(_)) { Repeat::Always } else { Repeat::IfUndone };
        let answer = self.connections.call(repeat, |live| {
            let txn = txn.clone();
            async move { live.kv().txn(txn).await }
        });
        let answer = answer.await?;
        if answer.succeeded() {
            return Ok(Replaced::Replaced(answer.header().map_or(0, |header| header.revision())));
        }
        let mut found = answer.op_responses().into_iter().filter_map(|response| match response {
            TxnOpResponse::Get(mut got) => got.take_kvs().into_iter().next(),
            _ => None,
        });
        Ok(Replaced::Changed(found.next().map(Entry::from)))
    }

    /// A new lease, and its TTL as granted.
    async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), EtcdError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        // A lease that nobody hears of ends by itself.
        let answer = self
            .connections
            .call(Repeat::Always, |live| async move { live.lease().grant(seconds, None).await });
        let granted = answer.await?;
        Ok((granted.id(), seconds_of(granted.ttl())))
    }

    /// Renews a lease.
    ///
    /// # Errors
    /// [`EtcdError::LeaseOver`] where it is over.
    async fn renew(&self, lease: i64) -> Result<(), EtcdError> {
        // The library asks once as it opens the stream, which is all that is wanted of it: nothing is left open that
        // could fall silent.
        let answer = self
            .connections
            .call(Repeat::Always, |live| async move { live.lease().keep_alive(lease).await.map(drop) });
        answer.await
    }

    /// Ends a lease, and with it what is kept under it.
    async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let answer =
            self.connections.call(Repeat::Always, |live| async move { live.lease().revoke(lease).await });
        match answer.await {
            Ok(_) | Err(EtcdError::LeaseOver) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is left of a lease; `None` where it is over.
    async fn time_left(&self, lease: i64) -> Result<Option<TimeLeft>, EtcdError> {
        let answer = self
            .connections
            .call(Repeat::Always, |live| async move { live.lease().time_to_live(lease, None).await });
        match answer.await {
            Ok(answer) if answer.ttl() > 0 => {
                let (granted, left) = (seconds_of(answer.granted_ttl()), seconds_of(answer.ttl()));
                Ok(Some(TimeLeft { granted, left }))
            }
            Ok(_) | Err(EtcdError::LeaseOver) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of a listing: `count` keys from `start` on, as of `revision` (0 for now).
    async fn page(&self, page: Page<'_>) -> Result<etcd_client::GetResponse, EtcdError> {
        let options =
            GetOptions::new().with_range(page.end).with_limit(page.count).with_revision(page.revision);
        let options = if page.keys_only { options.with_keys_only() } else { options };
        let answer = self.connections.call(Repeat::Always, |live| {
            let (start, options) = (page.start.to_vec(), options.clone());
            async move { live.kv().get(start, Some(options)).await }
        });
        answer.await
    }
}

/// What a key has to be for its value to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Absent,
    Revision(i64),
    Lease(i64),
}

struct Page<'p> {
    start: &'p [u8],
    end: &'p [u8],
    count: i64,
    revision: i64,
    keys_only: bool,
}

fn seconds_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
