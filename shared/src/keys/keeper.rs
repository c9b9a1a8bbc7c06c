//! Keys in etcd, kept by coordinators: made, exchanged, retired, and put back where etcd lost them.
//!
//! One coordinator at a time, by election, takes the steps of [`super::rotation`]. Each is one write that compares, so
//! that two that both believe to be it do no harm, and whoever follows goes on from where the last one stopped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::etcd::{EtcdKeys, KeyPlace, RULES, open};
use super::record::{KeyRecord, KeySet};
use super::rotation::{RotationRules, Step, next_step, rotation_now};
use super::{KeyId, KeyState};
use crate::etcd::wrapped::WrappingKeys;
use crate::etcd::{Created, Election, Entry, Etcd, EtcdError, Replaced};
use crate::ledger::SealedAnew;
use crate::revocations::{Instant, RevocationBook};

/// How often it is looked whether something is to be done, at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After etcd did not do what was asked.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why an operator's wish about keys is not met.
#[derive(Debug, thiserror::Error)]
pub enum KeyKeeperError {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("no key is called so")]
    Unknown,
    #[error("the next key is not known to every edge yet; try again in {0:?}")]
    NotYet(Duration),
    #[error("the key is in use, or is to be; rotate first, or revoke it")]
    InUse,
    #[error("somebody else changed the keys at the same time; look again")]
    Changed,
}

/// What keeps the keys of one place.
pub struct KeyKeeper {
    etcd: Etcd,
    sealing: WrappingKeys,
    keys: Arc<EtcdKeys>,
    book: Arc<RevocationBook>,
    rules: RotationRules,
}

impl KeyKeeper {
    pub fn new(
        etcd: Etcd,
        sealing: WrappingKeys,
        keys: Arc<EtcdKeys>,
        book: Arc<RevocationBook>,
        rules: RotationRules,
    ) -> Arc<Self> {
        Arc::new(Self { etcd, sealing, keys, book, rules })
    }

    pub fn keys(&self) -> &Arc<EtcdKeys> {
        &self.keys
    }

    /// For ever. `is_worn` tells whether a key, by its id, has minted as much as one may.
    pub async fn keep(self: Arc<Self>, election: Arc<Election>, is_worn: impl Fn(&KeyId) -> bool + Send) {
        let mut known = self.keys.known();
        let mut changes = self.book.changes();
        let mut has_complained = false;
        loop {
            let done = self.step(&election, &is_worn).await;
            let pause = match &done {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK_EVERY,
                Err(_) => AGAIN_AFTER,
            };
            match done {
                Ok(_) => has_complained = false,
                Err(error) if !has_complained => {
                    has_complained = true;
                    tracing::warn!(place = self.keys.place().prefix(), %error, "keys in etcd are not kept up");
                }
                Err(_) => {}
            }
            // A step shows in the mirror; where it does not soon, it is looked at again.
            let is_over = tokio::select! {
                changed = known.changed() => changed.is_err(),
                changed = changes.changed() => changed.is_err(),
                () = tokio::time::sleep(pause.max(LOOK_EVERY / 10)) => false,
            };
            if is_over {
                return;
            }
        }
    }

    /// Does one thing, if there is one to do; tells whether it did.
    async fn step(&self, election: &Election, is_worn: &impl Fn(&KeyId) -> bool) -> Result<bool, EtcdError> {
        let contents = self.keys.contents();
        // Before etcd was heard, its silence means nothing.
        if !contents.is_known {
            return Ok(false);
        }
        let known = self.keys.known().borrow().clone();
        let now = Instant::now();
        let revocations = self.book.load_full();
        let is_revoked = |id: &str| revocations.is_key_revoked(id, now);
        for record in known.iter().filter(|record| !record.is_retired(now) && !is_revoked(record.id.as_str()))
        {
            let entry = contents.entries.get(record.id.as_str());
            if self.is_lacking(record, entry) {
                return self.put_back(record, entry).await;
            }
        }
        let is_in_office = election.is_won();
        if let Some((name, entry)) = contents.entries.iter().find(|(name, _)| is_revoked(name)) {
            return if is_in_office { self.remove(name, entry.mod_revision).await } else { Ok(false) };
        }
        let mut good = KeySet::clone(&known);
        good.retain(|record| !is_revoked(record.id.as_str()));
        let is_worn = good.current().is_some_and(|current| is_worn(&current.id));
        // What is over may be among the known no more; etcd may have it yet.
        for (name, entry) in &contents.entries {
            if let Ok(record) = open(&self.etcd, self.keys.place(), &self.sealing, name, entry) {
                good.merge(&record);
            }
        }
        match next_step(&good, &self.rules, now, is_worn) {
            // Whoever wears a key out exchanges it: its count is its own.
            Some(step @ Step::Promote(..)) if is_in_office || is_worn => self.take(&good, step).await,
            // Where there are keys that this program cannot open, others can; to add more would help nobody.
            Some(Step::Create) if good.iter().next().is_none() && !contents.entries.is_empty() => Ok(false),
            Some(step) if is_in_office => self.take(&good, step).await,
            _ => Ok(false),
        }
    }

    /// Whether etcd has a key no more, or an older state of it.
    fn is_lacking(&self, record: &KeyRecord, entry: Option<&Entry>) -> bool {
        let Some(entry) = entry else { return true };
        match open(&self.etcd, self.keys.place(), &self.sealing, record.id.as_str(), entry) {
            Ok(there) => there.clone().merged(record) != there,
            // Not ours to judge: it may be sealed with a newer key than we have.
            Err(_) => false,
        }
    }

    async fn put_back(&self, record: &KeyRecord, entry: Option<&Entry>) -> Result<bool, EtcdError> {
        tracing::warn!(key = %record.id, place = self.keys.place().prefix(), "etcd lost a key, or what became of it; put back");
        match entry {
            None => self.create(record).await,
            Some(entry) => self.replace(record, entry.mod_revision).await,
        }
    }

    async fn take(&self, keys: &KeySet, step: Step) -> Result<bool, EtcdError> {
        tracing::info!(?step, place = self.keys.place().prefix(), "keys are exchanged");
        let revision =
            |id: &KeyId| self.keys.contents().entries.get(id.as_str()).map(|entry| entry.mod_revision);
        let changed = |id: &KeyId, change: &dyn Fn(KeyRecord) -> KeyRecord| {
            Some((change(keys.get(id.as_str())?.clone()), revision(id)?))
        };
        match step {
            Step::Create => self.create(&KeyRecord::random(Instant::now())).await,
            Step::Promote(id, at) => {
                let promote = |record| KeyRecord { current_since: Some(at), ..record };
                let Some((record, revision)) = changed(&id, &promote) else { return Ok(false) };
                self.replace(&record, revision).await
            }
            Step::Retire(id, at) => {
                let retire = |record| KeyRecord { retire_at: Some(at), ..record };
                let Some((record, revision)) = changed(&id, &retire) else { return Ok(false) };
                self.replace(&record, revision).await
            }
            Step::Remove(id) => match revision(&id) {
                Some(revision) => self.remove(id.as_str(), revision).await,
                None => Ok(false),
            },
        }
    }

    fn sealed(&self, record: &KeyRecord) -> (String, String) {
        let key = format!("{}{}", self.keys.place().prefix(), record.id);
        let sealed = self.sealing.seal(&self.etcd.path(&key), &record.value(), SystemTime::now());
        (key, sealed)
    }

    async fn create(&self, record: &KeyRecord) -> Result<bool, EtcdError> {
        let (key, sealed) = self.sealed(record);
        Ok(matches!(self.etcd.create(&key, sealed.as_bytes()).await?, Created::Created(_)))
    }

    async fn replace(&self, record: &KeyRecord, revision: i64) -> Result<bool, EtcdError> {
        let (key, sealed) = self.sealed(record);
        Ok(matches!(self.etcd.replace(&key, revision, sealed.as_bytes()).await?, Replaced::Replaced(_)))
    }

    async fn remove(&self, name: &str, revision: i64) -> Result<bool, EtcdError> {
        self.etcd.remove_unchanged(&format!("{}{name}", self.keys.place().prefix()), revision).await
    }

    /// Seals the keys in etcd with what seals now. What they are and do stays as it is.
    ///
    /// # Errors
    /// etcd does not answer; what was sealed until then is.
    pub async fn seal_anew(&self) -> Result<SealedAnew, EtcdError> {
        let mut came = SealedAnew::default();
        // Not what is mirrored: who has just changed something asks about that.
        for (name, entry) in &self.etcd.list(self.keys.place().prefix(), RULES).await? {
            let Ok(record) = open(&self.etcd, self.keys.place(), &self.sealing, name, entry) else {
                came.unreadable.push(format!("{}{name}", self.keys.place().prefix()));
                continue;
            };
            if self.sealing.is_sealed_anew(&entry.value) {
                came.good += 1;
            } else if self.replace(&record, entry.mod_revision).await? {
                came.sealed += 1;
            } else {
                came.left += 1;
            }
        }
        Ok(came)
    }

    /// Whether the next key may mint, as far as this coordinator knows.
    ///
    /// # Errors
    /// There is none that everybody knows.
    pub fn can_rotate(&self) -> Result<(), KeyKeeperError> {
        self.rotation_of(&self.good()).map(drop)
    }

    fn rotation_of(&self, keys: &KeySet) -> Result<Step, KeyKeeperError> {
        let now = Instant::now();
        rotation_now(keys, &self.rules, now).ok_or_else(|| {
            let waited = keys.next().map_or(0, |next| now.0.saturating_sub(next.created.0));
            let waited = Duration::from_millis(waited);
            KeyKeeperError::NotYet(self.rules.propagation.saturating_sub(waited))
        })
    }

    /// Lets the next key mint at once.
    ///
    /// # Errors
    /// There is none that everybody knows; etcd does not answer, or somebody else was faster.
    pub async fn rotate(&self) -> Result<KeyId, KeyKeeperError> {
        let keys = self.good();
        let step = self.rotation_of(&keys)?;
        let Step::Promote(id, _) = &step else { return Err(KeyKeeperError::Changed) };
        let id = id.clone();
        if self.take(&keys, step).await? { Ok(id) } else { Err(KeyKeeperError::Changed) }
    }

    /// Lets a key open nothing more that mints no more.
    ///
    /// # Errors
    /// It is unknown, or mints, or is to; etcd does not answer, or somebody else was faster.
    pub async fn retire(&self, id: &str) -> Result<(), KeyKeeperError> {
        let keys = self.good();
        let record = keys.get(id).ok_or(KeyKeeperError::Unknown)?;
        if record.state() != KeyState::Previous {
            return Err(KeyKeeperError::InUse);
        }
        let step = Step::Retire(record.id.clone(), Instant::now());
        if self.take(&keys, step).await? { Ok(()) } else { Err(KeyKeeperError::Changed) }
    }

    /// The keys that are known, not over and not revoked.
    pub fn good(&self) -> KeySet {
        let (revocations, now) = (self.book.load(), Instant::now());
        let mut keys = KeySet::clone(&self.keys.known().borrow());
        keys.retain(|record| !record.is_retired(now) && !revocations.is_key_revoked(record.id.as_str(), now));
        keys
    }

    pub fn place(&self) -> KeyPlace {
        self.keys.place()
    }
}
