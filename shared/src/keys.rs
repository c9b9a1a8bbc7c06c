//! Token keys: what they are, which of them mints, which only open.

use std::fmt;
use std::time::SystemTime;

use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

mod etcd;
mod file;
mod jwks;
mod keeper;
mod record;
pub mod rotation;

pub use etcd::{EtcdKeys, KeyPlace};
pub use file::{KeyFile, KeyFileError};
pub use jwks::JwksError;
pub use keeper::{KeyKeeper, KeyKeeperError};
pub use record::{KeyRecord, KeySet};

/// Length of an A256GCM key.
pub const KEY_BYTES: usize = 32;

/// A key's name, the `kid` of RFC 7517 §4.5: 1 to 64 printable ASCII characters without `"` and `\`, so that it
/// stands in a header and a log as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    pub fn parse(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then_some(Self(text))
    }

    /// A name that no other key has: its day, and a random part.
    pub fn random(now: SystemTime) -> Self {
        let day = humantime::format_rfc3339_seconds(now).to_string();
        Self(format!("{}-{}", &day[..10], &crate::token::random_id()[..6]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of a key: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; KEY_BYTES]);

impl Secret {
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// From the operating system's generator.
    pub fn random() -> Self {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The first 16 hex digits of the SHA-256 of the key: to be compared and shown.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.0)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A key's place in its life: known before it is used, used, kept for what it sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Opens; nobody mints with it yet.
    Next,
    /// Mints and opens.
    Current,
    /// Opens only.
    Previous,
}

/// What a key seals: tokens for edges, or tickets, which only coordinators open. Their keys are never the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Token,
    Ticket,
}

/// One key, its cipher set up once (the AES key schedule costs 220 ns).
#[derive(Clone)]
pub struct TokenKey {
    id: KeyId,
    state: KeyState,
    secret: Secret,
    cipher: Aes256Gcm,
    header: String,
    ticket_header: String,
}

impl TokenKey {
    pub fn new(id: KeyId, state: KeyState, secret: Secret) -> Self {
        let header = format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{id}"}}"#);
        let ticket_header = format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{id}","typ":"ticket"}}"#);
        Self {
            cipher: Aes256Gcm::new(secret.bytes().into()),
            header: URL_SAFE_NO_PAD.encode(header),
            ticket_header: URL_SAFE_NO_PAD.encode(ticket_header),
            id,
            state,
            secret,
        }
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn state(&self) -> KeyState {
        self.state
    }

    /// To be compared and shown.
    pub fn fingerprint(&self) -> String {
        self.secret.fingerprint()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn cipher(&self) -> &Aes256Gcm {
        &self.cipher
    }

    /// The protected header of what is sealed with this key, base64url.
    pub(crate) fn header(&self, kind: Kind) -> &str {
        match kind {
            Kind::Token => &self.header,
            Kind::Ticket => &self.ticket_header,
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Why keys make no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    #[error("two keys share the kid '{0}'")]
    SharedId(KeyId),
    #[error("{0} keys are 'current'; exactly one must be")]
    Current(usize),
}

/// The keys of one moment: distinct ids; one of them is current, unless nobody may mint.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// In the order they are tried: the current key, then those to come, then the previous ones as listed.
    keys: Vec<TokenKey>,
}

impl KeyRing {
    /// # Errors
    /// Two keys with one id; none or several current.
    pub fn new(keys: Vec<TokenKey>) -> Result<Self, KeyRingError> {
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.id == key.id) {
                return Err(KeyRingError::SharedId(key.id.clone()));
            }
        }
        let current = keys.iter().filter(|key| key.state == KeyState::Current).count();
        if current != 1 {
            return Err(KeyRingError::Current(current));
        }
        Ok(Self::of(keys))
    }

    /// Of keys with distinct ids, one of them current at most.
    fn of(mut keys: Vec<TokenKey>) -> Self {
        keys.sort_by_key(|key| match key.state {
            KeyState::Current => 0,
            KeyState::Next => 1,
            KeyState::Previous => 2,
        });
        Self { keys }
    }

    /// The keys that are not revoked. Where the current one is, the first that everybody knows already takes its place;
    /// one that was current before never does.
    #[must_use]
    pub fn without(&self, is_revoked: impl Fn(&str) -> bool) -> Self {
        let mut keys: Vec<_> = self.keys.iter().filter(|key| !is_revoked(key.id.as_str())).cloned().collect();
        if !keys.iter().any(|key| key.state == KeyState::Current)
            && let Some(next) = keys.iter_mut().find(|key| key.state == KeyState::Next)
        {
            next.state = KeyState::Current;
        }
        Self { keys }
    }

    /// The key to mint with; none where there is no key that may.
    pub fn minting(&self) -> Option<&TokenKey> {
        self.keys.first().filter(|key| key.state == KeyState::Current)
    }

    /// The key to mint with, of a ring that was made by [`KeyRing::new`].
    ///
    /// # Panics
    /// There is none: revoked, or not known yet.
    pub fn current(&self) -> &TokenKey {
        self.minting().expect("a key set has a current key")
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every key that opens, most likely first.
    pub fn newest_first(&self) -> impl Iterator<Item = &TokenKey> {
        self.keys.iter()
    }

    /// Whether two rings have a key in common.
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        let is_in_other = |key: &TokenKey| other.keys.iter().any(|known| known.secret == key.secret);
        self.keys.iter().any(is_in_other)
    }

    pub fn by_id(&self, id: &str) -> Option<&TokenKey> {
        self.keys.iter().find(|key| key.id.as_str() == id)
    }
}
