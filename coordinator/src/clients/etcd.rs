//! Clients in etcd, which all coordinators have in common: sealed with `etcd.coordinator_key`, which no edge has.
//!
//! What etcd says of a client holds until it says something later. That a record is gone, or older than what is known,
//! takes nothing back: a client that was disabled or removed does not come back with an old backup, and an etcd that
//! lost everything refuses nobody. A record that cannot be used leaves the client as it was, enabled or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use sluice_shared::cluster::{Freshness, SkippedRecord};
use sluice_shared::etcd::wrapped::WrappingKeys;
use sluice_shared::etcd::{Etcd, MirrorRules};
use sluice_shared::ledger::{Found, Ledger, LedgerForm, SealedAnew};
use sluice_shared::revocations::Instant;
use sluice_shared::secret::SecretText;

use super::{ClientSet, EditError, RawClient};

mod record;

use record::ClientRecord;
pub(crate) use record::RecordFault;

/// The clients in etcd, as they are known now.
pub(crate) struct EtcdClients(Ledger<Sealed>);

impl EtcdClients {
    /// Follows them from now on. Within a runtime.
    pub(crate) fn follow(etcd: &Etcd, sealing: WrappingKeys) -> Self {
        Self(Ledger::follow(etcd, Sealed { sealing, set: ArcSwap::default() }))
    }

    pub(crate) fn set(&self) -> Guard<Arc<ClientSet>> {
        self.0.form().set.load()
    }

    /// Whether there ever was a list. Until then nobody can be said to be no client.
    pub(crate) fn is_known(&self) -> bool {
        self.0.is_known()
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.0.freshness()
    }

    /// Records that are not used, and why.
    pub(crate) fn skipped(&self) -> Vec<SkippedRecord> {
        self.0.skipped()
    }

    /// Adds a client with a new secret, which is given back and shown nowhere else.
    pub(crate) async fn add(&self, client: RawClient) -> Result<SecretText, EditError> {
        let (name, secret) = (client.access_key.clone(), SecretText::random());
        let new = secret.clone();
        let add = |found: Found<'_, Sealed>, set| match found {
            Found::Record(known) if known.client().is_some() => Err(EditError::Exists(name.clone())),
            // It was removed, or never there.
            Found::Record(_) | Found::Nothing => Ok(ClientRecord::new(client, new, set)?),
            Found::Unreadable(fault) => Err(EditError::Unreadable(name.clone(), fault)),
        };
        self.0.change(&name, add).await?;
        Ok(secret)
    }

    /// Takes in a client with the secret that it has; tells whether it takes the place of one.
    pub(crate) async fn import(
        &self,
        client: RawClient,
        secret: SecretText,
        replace: bool,
    ) -> Result<bool, EditError> {
        let name = client.access_key.clone();
        let mut is_replaced = false;
        let import = |found: Found<'_, Sealed>, set| {
            is_replaced = match found {
                Found::Record(known) => known.client().is_some(),
                Found::Nothing => false,
                Found::Unreadable(fault) => return Err(EditError::Unreadable(name.clone(), fault)),
            };
            if is_replaced && !replace {
                return Err(EditError::Exists(name.clone()));
            }
            Ok(ClientRecord::new(client, secret, set)?)
        };
        self.0.change(&name, import).await?;
        Ok(is_replaced)
    }

    /// Seals clients with the first `coordinator_key`, `count_max` at most.
    pub(crate) async fn seal_anew(&self, count_max: usize) -> Result<SealedAnew, EditError> {
        Ok(self.0.seal_anew(count_max).await?)
    }

    pub(crate) async fn enable(&self, access_key: &str, enabled: bool) -> Result<(), EditError> {
        self.change(access_key, |known, set| known.enabled(enabled, set)).await
    }

    /// Gives a client a new secret; the old one is good no more.
    pub(crate) async fn rotate(&self, access_key: &str) -> Result<SecretText, EditError> {
        let secret = SecretText::random();
        self.change(access_key, |known, set| known.with_secret(secret.clone(), set)).await?;
        Ok(secret)
    }

    /// Removes a client, also one whose record cannot be used.
    pub(crate) async fn remove(&self, access_key: &str) -> Result<(), EditError> {
        let remove = |found: Found<'_, Sealed>, set| match found {
            Found::Record(known) if known.client().is_some() => Ok(ClientRecord::removed(access_key, set)),
            Found::Unreadable(_) => Ok(ClientRecord::removed(access_key, set)),
            Found::Record(_) | Found::Nothing => Err(EditError::Unknown(access_key.to_owned())),
        };
        self.0.change(access_key, remove).await
    }

    async fn change(
        &self,
        access_key: &str,
        change: impl FnOnce(&ClientRecord, Instant) -> Result<ClientRecord, RecordFault>,
    ) -> Result<(), EditError> {
        let unreadable = |fault| EditError::Unreadable(access_key.to_owned(), fault);
        let edit = |found: Found<'_, Sealed>, set| match found {
            Found::Record(known) if known.client().is_some() => change(known, set).map_err(unreadable),
            Found::Record(_) | Found::Nothing => Err(EditError::Unknown(access_key.to_owned())),
            Found::Unreadable(fault) => Err(unreadable(fault)),
        };
        self.0.change(access_key, edit).await
    }
}

/// How clients are kept in etcd, and the set that calls are judged by.
struct Sealed {
    sealing: WrappingKeys,
    set: ArcSwap<ClientSet>,
}

impl LedgerForm for Sealed {
    type Record = ClientRecord;
    type Fault = RecordFault;

    const PREFIX: &'static str = "clients/";
    /// Far more than anybody has; and room for a client with hundreds of prefixes.
    const RULES: MirrorRules = MirrorRules { keys_max: 20_000, value_bytes_max: 64 << 10 };

    fn read(&self, name: &str, path: &str, value: &[u8]) -> Result<ClientRecord, RecordFault> {
        ClientRecord::open(&self.sealing, name, path, value)
    }

    fn write(&self, path: &str, record: &ClientRecord) -> Vec<u8> {
        record.seal(&self.sealing, path)
    }

    fn is_sealed_anew(&self, value: &[u8]) -> bool {
        self.sealing.is_sealed_anew(value)
    }

    fn set(record: &ClientRecord) -> Instant {
        record.set()
    }

    fn is_void(record: &ClientRecord) -> bool {
        record.client().is_none()
    }

    fn take(&self, known: &BTreeMap<Arc<str>, ClientRecord>) {
        self.set.store(Arc::new(known.values().filter_map(ClientRecord::client).cloned().collect()));
    }
}
