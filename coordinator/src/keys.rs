//! The keys of tokens and tickets, from files or from etcd, and what is told of them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sluice_shared::cluster::Freshness;
use sluice_shared::etcd::{Election, Etcd};
use sluice_shared::followed::Asked;
use sluice_shared::keys::rotation::RotationRules;
use sluice_shared::keys::{EtcdKeys, KeyFile, KeyFileError, KeyId, KeyKeeper, KeyPlace, KeyRing};
use sluice_shared::revocations::{Instant, RevocationBook};
use tokio::task::JoinHandle;

use crate::config::KeySource;
use crate::metrics;

/// Tokens that this coordinator mints with one key, at most. All coordinators together stay below the 2^32 that random
/// IVs allow (NIST SP 800-38D §8.3) as long as there are no more than 32 of them.
const TOKENS_MAX: u64 = 1 << 27;
/// How long the coordinator that exchanges keys keeps the office after it died.
const OFFICE_TTL: Duration = Duration::from_secs(10);

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
}

/// Both kinds of keys.
pub(crate) struct Keys {
    pub(crate) tokens: Arc<ArcSwap<KeyRing>>,
    pub(crate) tickets: Arc<ArcSwap<KeyRing>>,
    pub(crate) kept: Kept,
    /// Tokens minted, whatever the key.
    pub(crate) minted: Arc<AtomicU64>,
}

/// Where they are kept.
pub(crate) enum Kept {
    Files { files: [Arc<KeyFile>; 2], book: Arc<RevocationBook> },
    Etcd { tokens: Arc<KeyKeeper>, tickets: Arc<KeyKeeper>, uses: Arc<Uses>, office: Mutex<Option<Office>> },
}

/// What exchanges keys in etcd.
pub(crate) struct Office {
    election: Arc<Election>,
    tasks: [JoinHandle<()>; 2],
}

/// How many tokens the current key has minted here.
pub(crate) struct Uses {
    minted: Arc<AtomicU64>,
    /// The key, and what had been minted before it.
    of: Mutex<(Option<KeyId>, u64)>,
}

impl Uses {
    pub(crate) fn count(&self, key: &KeyId) -> u64 {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever noted the key has not seen more.
        let minted = self.minted.load(Ordering::Relaxed);
        if of.0.as_ref() != Some(key) {
            *of = (Some(key.clone()), minted);
        }
        minted.saturating_sub(of.1)
    }
}

/// Checks the files that are there. Makes nothing.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn check(source: &KeySource) -> Result<(), KeysError> {
    let KeySource::Files { keys, tickets } = source else { return Ok(()) };
    // What cannot even be looked for is reported by the attempt to read it.
    let is_there = |path: &Path| !matches!(path.try_exists(), Ok(false));
    let load = |file: &Path| is_there(file).then(|| KeyFile::load(file)).transpose();
    if let (Some(keys), Some(tickets)) = (load(keys)?, load(tickets)?) {
        tickets.check_apart_from(&keys)?;
    }
    Ok(())
}

impl Keys {
    /// Within a runtime. `outlives`: how long what is sealed may be opened.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn start(
        source: &KeySource,
        etcd: Option<&Etcd>,
        id: &str,
        outlives: Duration,
        book: &Arc<RevocationBook>,
    ) -> Result<Self, KeysError> {
        let minted = Arc::<AtomicU64>::default();
        match source {
            KeySource::Files { keys, tickets } => {
                let files = [KeyFile::load_or_create(keys)?, KeyFile::load_or_create(tickets)?];
                let [tokens, ticket_keys] = [Arc::clone(files[0].ring()), Arc::clone(files[1].ring())];
                files[1].check_apart_from(&files[0])?;
                files.iter().for_each(|file| file.bar(&book.load()));
                let kept = Kept::Files { files, book: Arc::clone(book) };
                Ok(Self { tokens, tickets: ticket_keys, kept, minted })
            }
            KeySource::Etcd { cluster_key, coordinator_key, rotate_every, propagation } => {
                let etcd = etcd.expect("a configuration with keys in etcd has etcd's settings");
                let rules =
                    RotationRules { rotate_every: *rotate_every, propagation: *propagation, outlives };
                let keeper = |place, sealing: &_| {
                    let keys = EtcdKeys::follow(etcd, place, Clone::clone(sealing), Arc::clone(book));
                    KeyKeeper::new(etcd.clone(), Clone::clone(sealing), keys, Arc::clone(book), rules)
                };
                let tokens = keeper(KeyPlace::Tokens, cluster_key);
                let tickets = keeper(KeyPlace::Tickets, coordinator_key);
                let uses = Arc::new(Uses { minted: Arc::clone(&minted), of: Mutex::default() });
                let election = Arc::new(Election::stand(etcd.clone(), "keys", id, OFFICE_TTL));
                let worn = Arc::clone(&uses);
                let tasks = [
                    tokio::spawn(
                        Arc::clone(&tokens)
                            .keep(Arc::clone(&election), move |key| worn.count(key) >= TOKENS_MAX),
                    ),
                    tokio::spawn(Arc::clone(&tickets).keep(Arc::clone(&election), |_| false)),
                ];
                let office = Mutex::new(Some(Office { election, tasks }));
                Ok(Self {
                    tokens: Arc::clone(tokens.keys().ring()),
                    tickets: Arc::clone(tickets.keys().ring()),
                    kept: Kept::Etcd { tokens, tickets, uses, office },
                    minted,
                })
            }
        }
    }

    /// Rereads files when they change, and when asked.
    pub(crate) fn follow_files(&self, asked: &Asked) {
        if let Kept::Files { files, book } = &self.kept {
            let ([keys, tickets], book, asked) = (files.clone(), Arc::clone(book), asked.clone());
            tokio::spawn(async move {
                tokio::join!(
                    keys.follow_apart_from(Some(&*tickets), asked.clone(), Arc::clone(&book)),
                    tickets.follow_apart_from(Some(&*keys), asked, book),
                );
            });
        }
    }

    /// How the keys in etcd stand, each kind by itself.
    pub(crate) fn freshness(&self) -> impl Iterator<Item = Freshness> {
        let keepers = match &self.kept {
            Kept::Files { .. } => [None, None],
            Kept::Etcd { tokens, tickets, .. } => [Some(tokens), Some(tickets)],
        };
        keepers.into_iter().flatten().map(|keeper| keeper.keys().freshness())
    }

    /// Why nothing can be minted.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let is_there = |ring: &ArcSwap<KeyRing>| ring.load().minting().is_some();
        if is_there(&self.tokens) && is_there(&self.tickets) {
            return None;
        }
        let reason = match &self.kept {
            Kept::Files { .. } => None,
            Kept::Etcd { tokens, tickets, .. } => tokens.keys().missing().or(tickets.keys().missing()),
        };
        Some(reason.unwrap_or("no key to mint with"))
    }

    pub(crate) fn gather(&self) {
        let Kept::Etcd { tokens, uses, .. } = &self.kept else { return };
        let known = tokens.good();
        if let Some(current) = known.current() {
            let since = current.current_since.unwrap_or(current.created);
            let age = Duration::from_millis(Instant::now().0.saturating_sub(since.0));
            metrics::keys(age, uses.count(&current.id));
        }
    }

    /// Gives the office up, where this coordinator has it; in five seconds at most.
    pub(crate) async fn leave(&self) {
        let Kept::Etcd { office, .. } = &self.kept else { return };
        let office = office.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Office { election, tasks }) = office else { return };
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(election) = Arc::into_inner(election) {
            election.withdraw().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_finds_a_key_that_both_files_have() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, tickets) = (folder.path().join("keys"), folder.path().join("tickets"));
        let source = KeySource::Files { keys: keys.clone(), tickets: tickets.clone() };
        KeyFile::load_or_create(&keys).unwrap();
        assert!(check(&source).is_ok(), "the other is made at the first start");
        std::fs::copy(keys, tickets).unwrap();
        let fault = check(&source).unwrap_err();
        assert!(matches!(fault, KeysError::File(KeyFileError::SharedKey { .. })), "{fault}");
    }

    #[test]
    fn a_key_s_tokens_are_never_less_than_none() {
        let key = KeyId::parse("k").unwrap();
        let minted = Arc::new(AtomicU64::new(5));
        // As noted by somebody who counted later.
        let uses = Uses { minted: Arc::clone(&minted), of: Mutex::new((Some(key.clone()), 7)) };
        assert_eq!(uses.count(&key), 0);
        minted.store(9, Ordering::Relaxed);
        assert_eq!(uses.count(&key), 2);
        assert_eq!(uses.count(&KeyId::parse("another").unwrap()), 0);
    }
}
