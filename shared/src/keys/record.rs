//! A key as etcd has it: a JWK of the same members as in a key file, with the times of its life.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KEY_BYTES, KeyId, KeyRing, KeyState, Secret, TokenKey};
use crate::revocations::Instant;
use crate::secret::SecretText;

/// A key and its life. A key only ever moves on: it is made, becomes current once, is to be retired at some time.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub secret: Secret,
    pub created: Instant,
    /// Set once it may mint.
    pub current_since: Option<Instant>,
    /// Set once another is current; from then on it opens nothing more.
    pub retire_at: Option<Instant>,
}

/// As it is written. Unknown members are for newer programs.
#[derive(Serialize, Deserialize)]
struct RawRecord {
    kty: String,
    kid: String,
    k: SecretText,
    alg: String,
    enc: String,
    r#use: String,
    /// For people: it follows from the times.
    state: String,
    created: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_since: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retire_at: Option<Instant>,
}

/// Why a record is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no key of A256GCM, or not that of its name")]
pub(super) struct RecordFault;

impl KeyRecord {
    /// A new key, which waits to be current.
    pub fn random(now: Instant) -> Self {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now.0);
        Self {
            id: KeyId::random(time),
            secret: Secret::random(),
            created: now,
            current_since: None,
            retire_at: None,
        }
    }

    /// As far as it can be told of a key alone; of several current ones the latest is.
    pub fn state(&self) -> KeyState {
        match (self.current_since, self.retire_at) {
            (_, Some(_)) => KeyState::Previous,
            (Some(_), None) => KeyState::Current,
            (None, None) => KeyState::Next,
        }
    }

    pub fn is_retired(&self, now: Instant) -> bool {
        self.retire_at.is_some_and(|at| at <= now)
    }

    /// What is known of a key when somebody else says this of it: nothing is undone by an older list.
    #[must_use]
    pub(super) fn merged(mut self, other: &Self) -> Self {
        self.current_since = self.current_since.or(other.current_since);
        self.retire_at = [self.retire_at, other.retire_at].into_iter().flatten().min();
        self
    }

    pub(super) fn value(&self) -> impl Serialize + use<> {
        let state = match self.state() {
            KeyState::Next => "next",
            KeyState::Current => "current",
            KeyState::Previous => "previous",
        };
        RawRecord {
            kty: "oct".to_owned(),
            kid: self.id.to_string(),
            k: SecretText::new(URL_SAFE_NO_PAD.encode(self.secret.bytes())),
            alg: "dir".to_owned(),
            enc: "A256GCM".to_owned(),
            r#use: "enc".to_owned(),
            state: state.to_owned(),
            created: self.created,
            current_since: self.current_since,
            retire_at: self.retire_at,
        }
    }
}

impl<'de> Deserialize<'de> for KeyRecord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawRecord::deserialize(deserializer)?;
        Self::try_from(raw).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<RawRecord> for KeyRecord {
    type Error = RecordFault;

    fn try_from(raw: RawRecord) -> Result<Self, RecordFault> {
        if raw.kty != "oct" || raw.alg != "dir" || raw.enc != "A256GCM" {
            return Err(RecordFault);
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(raw.k.reveal()).map_err(|_| RecordFault)?);
        let bytes = <[u8; KEY_BYTES]>::try_from(&bytes[..]).map_err(|_| RecordFault)?;
        Ok(Self {
            id: KeyId::parse(raw.kid).ok_or(RecordFault)?,
            secret: Secret::new(bytes),
            created: raw.created,
            current_since: raw.current_since,
            retire_at: raw.retire_at,
        })
    }
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("created", &self.created)
            .field("current_since", &self.current_since)
            .field("retire_at", &self.retire_at)
            .finish_non_exhaustive()
    }
}

/// The keys of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet(BTreeMap<KeyId, KeyRecord>);

impl KeySet {
    /// Takes a record in; says whether anything is known now that was not.
    pub fn merge(&mut self, record: &KeyRecord) -> bool {
        let Some(known) = self.0.get_mut(&record.id) else {
            self.0.insert(record.id.clone(), record.clone());
            return true;
        };
        // Two keys with one name: nobody makes them. The first is in use.
        if known.secret != record.secret {
            return false;
        }
        let merged = known.clone().merged(record);
        let is_news = *known != merged;
        *known = merged;
        is_news
    }

    /// Forgets keys.
    pub fn retain(&mut self, is_kept: impl Fn(&KeyRecord) -> bool) {
        self.0.retain(|_, record| is_kept(record));
    }

    pub fn get(&self, id: &str) -> Option<&KeyRecord> {
        self.iter().find(|record| record.id.as_str() == id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.0.values()
    }

    /// The key that became current last, and is not to be retired.
    pub fn current(&self) -> Option<&KeyRecord> {
        let current = self.iter().filter(|record| record.state() == KeyState::Current);
        current.max_by_key(|record| (record.current_since, &record.id))
    }

    /// The key that takes the current one's place next: the oldest that waits.
    pub fn next(&self) -> Option<&KeyRecord> {
        let waiting = self.iter().filter(|record| record.state() == KeyState::Next);
        waiting.min_by_key(|record| (record.created, &record.id))
    }

    /// What is minted and opened with, newest first. Where no key is current, the next one is: everybody comes to the
    /// same.
    pub(super) fn ring(&self) -> KeyRing {
        let minting = self.current().or_else(|| self.next()).map(|record| &record.id);
        let mut records: Vec<_> = self.iter().collect();
        records.sort_by_key(|record| std::cmp::Reverse((record.created, &record.id)));
        let key = |record: &KeyRecord| {
            let state = match record.state() {
                _ if Some(&record.id) == minting => KeyState::Current,
                KeyState::Current => KeyState::Previous,
                other => other,
            };
            TokenKey::new(record.id.clone(), state, record.secret.clone())
        };
        KeyRing::of(records.into_iter().map(key).collect())
    }
}
