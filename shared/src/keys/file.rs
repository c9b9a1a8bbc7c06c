//! The key file: made when missing, refused when others can read it, reread when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::jwks::{self, JwksError};
use super::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use crate::followed::{Asked, Stamp, follow};
use crate::private_file::{self, PrivateFileError, write_new};
use crate::revocations::{Instant, RevocationBook, Revocations};

/// Why a key file is not used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "key file {path} does not exist; copy it from the coordinator, which makes it at its first start"
    )]
    Missing { path: PathBuf },
    #[error("key file {path} {source}")]
    Private { path: PathBuf, source: PrivateFileError },
    #[error("key file {path}: {source}")]
    Content { path: PathBuf, source: JwksError },
    #[error("key file {path} has a key that {other} has, too; tickets need keys that no edge has")]
    SharedKey { path: PathBuf, other: PathBuf },
}

/// A key file and the ring last read from it.
pub struct KeyFile {
    path: PathBuf,
    loaded: Stamp,
    /// As the file has it.
    read: ArcSwap<KeyRing>,
    /// Without what is revoked.
    ring: Arc<ArcSwap<KeyRing>>,
}

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It is missing, exposed, unreadable or holds no key set.
    pub fn load(path: &Path) -> Result<Arc<Self>, KeyFileError> {
        let loaded = Stamp::of([path]);
        let read = Arc::new(read(path)?);
        let ring = Arc::new(ArcSwap::new(Arc::clone(&read)));
        Ok(Arc::new(Self { path: path.to_owned(), loaded, read: ArcSwap::new(read), ring }))
    }

    /// Reads the file, or makes it with one random key, mode 0600, where it is missing. Whoever finds it made by
    /// another process in between uses that one.
    ///
    /// # Errors
    /// As [`KeyFile::load`]; and the file cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Arc<Self>, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Missing { .. }) => {}
            other => return other,
        }
        let ring = fresh_ring();
        match write_new(path, &jwks::print(&ring)) {
            Ok(()) => tracing::warn!(
                path = %path.display(), kid = %ring.current().id(),
                "made a new token key file; give every edge a copy of it"
            ),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(KeyFileError::Io { path: path.to_owned(), source });
            }
        }
        Self::load(path)
    }

    /// The ring to use.
    pub fn ring(&self) -> &Arc<ArcSwap<KeyRing>> {
        &self.ring
    }

    /// Uses no key that is revoked.
    pub fn bar(&self, revocations: &Revocations) {
        let now = Instant::now();
        self.ring.store(Arc::new(self.read.load().without(|id| revocations.is_key_revoked(id, now))));
        if self.ring.load().minting().is_none() {
            tracing::error!(path = %self.path.display(), "every key that may mint is revoked; put a new one there");
        }
    }

    /// Follows the file, and what is revoked of it, for ever: a good change is taken, a bad one is logged once and leaves
    /// the ring as it is.
    pub async fn follow(self: Arc<Self>, asked: Asked, book: Arc<RevocationBook>) {
        self.follow_apart_from(None, asked, book).await;
    }

    /// As [`KeyFile::follow`]; and what has a key of the other is a bad change. Whoever follows that one as well does so
    /// in the same task, that not both are read at once.
    pub async fn follow_apart_from(&self, other: Option<&Self>, asked: Asked, book: Arc<RevocationBook>) {
        let paths = [&*self.path];
        let mut changes = book.changes();
        let following = follow(&paths, self.loaded.clone(), asked, || self.reread(other, &book.load()));
        let barring = async {
            while changes.changed().await.is_ok() {
                self.bar(&book.load());
            }
            std::future::pending::<()>().await;
        };
        self.bar(&book.load());
        tokio::join!(following, barring);
    }

    /// # Errors
    /// It has a key of the other.
    pub fn check_apart_from(&self, other: &Self) -> Result<(), KeyFileError> {
        self.check_ring(&self.read.load(), other)
    }

    fn check_ring(&self, ring: &KeyRing, other: &Self) -> Result<(), KeyFileError> {
        if ring.shares_a_key_with(&other.read.load()) {
            return Err(KeyFileError::SharedKey { path: self.path.clone(), other: other.path.clone() });
        }
        Ok(())
    }

    fn reread(&self, other: Option<&Self>, revocations: &Revocations) {
        let ring = read(&self.path).and_then(|ring| {
            other.map_or(Ok(()), |other| self.check_ring(&ring, other))?;
            Ok(ring)
        });
        match ring {
            Ok(ring) => {
                tracing::info!(path = %self.path.display(), current = %ring.current().id(), "key file reread");
                self.read.store(Arc::new(ring));
                self.bar(revocations);
            }
            Err(error) => tracing::error!(%error, "key file not taken; the keys read before stay in use"),
        }
    }
}

fn read(path: &Path) -> Result<KeyRing, KeyFileError> {
    let path_of = || path.to_owned();
    let text = private_file::read(path).map_err(|error| match error {
        PrivateFileError::Missing => KeyFileError::Missing { path: path_of() },
        source => KeyFileError::Private { path: path_of(), source },
    })?;
    jwks::parse(text.as_bytes()).map_err(|source| KeyFileError::Content { path: path_of(), source })
}

fn fresh_ring() -> KeyRing {
    let id = KeyId::random(SystemTime::now());
    KeyRing::new(vec![TokenKey::new(id, KeyState::Current, Secret::random())])
        .expect("one current key is a ring")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Duration;

    use super::*;
    use crate::followed::LOOK_EVERY;
    use crate::revocations::{Kind, Mark, Target};

    #[test]
    fn a_missing_file_is_made_private_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jwks.json");
        assert!(matches!(KeyFile::load(&path), Err(KeyFileError::Missing { .. })));
        let made = KeyFile::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let again = KeyFile::load_or_create(&path).unwrap();
        assert_eq!(again.ring().load().current().id(), made.ring().load().current().id());
    }

    #[test]
    fn an_exposed_file_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jwks.json");
        KeyFile::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = KeyFile::load(&path).err().unwrap().to_string();
        assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
    }

    #[test]
    fn a_revoked_key_is_used_no_more_and_one_that_was_to_come_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jwks.json");
        let key = |id: &str, state| TokenKey::new(KeyId::parse(id).unwrap(), state, Secret::random());
        let keys = [("old", KeyState::Previous), ("now", KeyState::Current), ("next", KeyState::Next)]
            .map(|(id, state)| key(id, state));
        write_new(&path, &jwks::print(&KeyRing::new(keys.into()).unwrap())).unwrap();
        let file = KeyFile::load(&path).unwrap();
        let book = RevocationBook::open(None).unwrap();
        let now = Instant::now();
        let table = [("now", Some("next"), 2), ("next", None, 1), ("old", None, 0)];
        for (revoked, minting, count) in table {
            let mark = Mark { set: now, until: Instant(now.0 + 60_000), cut: false };
            book.merge([(Target::new(Kind::Key, revoked).unwrap(), mark)]);
            file.bar(&book.load());
            let ring = file.ring().load();
            assert_eq!(ring.minting().map(|key| key.id().as_str()), minting, "{revoked}");
            assert_eq!(ring.newest_first().count(), count, "{revoked}");
        }
    }

    #[test]
    fn what_has_a_key_of_the_other_file_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let load = |name: &str| KeyFile::load_or_create(&path(name)).unwrap();
        let (tokens, tickets) = (load("keys"), load("tickets"));
        assert!(tickets.check_apart_from(&tokens).is_ok());
        let before = tickets.ring().load().current().id().clone();
        let none = Revocations::default();
        fs::copy(path("keys"), path("tickets")).unwrap();
        tickets.reread(Some(&tokens), &none);
        assert_eq!(*tickets.ring().load().current().id(), before);
        let fault = KeyFile::load(&path("tickets")).unwrap().check_apart_from(&tokens).unwrap_err();
        assert!(matches!(fault, KeyFileError::SharedKey { .. }), "{fault}");
        let another = fresh_ring();
        private_file::replace(&path("tickets"), &jwks::print(&another)).unwrap();
        tickets.reread(Some(&tokens), &none);
        assert_eq!(tickets.ring().load().current().id(), another.current().id());
    }

    #[tokio::test]
    async fn changes_are_followed_and_bad_ones_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jwks.json");
        let file = KeyFile::load_or_create(&path).unwrap();
        let first = file.ring().load().current().id().clone();
        let follower =
            tokio::spawn(Arc::clone(&file).follow(Asked::never(), RevocationBook::open(None).unwrap()));
        tokio::task::yield_now().await;

        fs::write(&path, "{").unwrap();
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(*file.ring().load().current().id(), first, "a bad file keeps the old set");

        fs::remove_file(&path).unwrap();
        let ring = fresh_ring();
        write_new(&path, &jwks::print(&ring)).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while file.ring().load().current().id() != ring.current().id() {
            assert!(tokio::time::Instant::now() < deadline, "the new file is taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        follower.abort();
    }
}
