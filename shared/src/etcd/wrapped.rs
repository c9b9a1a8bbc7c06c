//! Values that etcd keeps without being able to read or move them: Fernet of `{"path","value"}`, where `path` is the
//! key that the value is kept under. What is copied to another key does not open there.

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::fernet::{FernetKey, FernetKeyError};

/// More keys than an exchange of one for another needs are a mistake.
const KEYS_MAX: usize = 8;

/// Why a text holds no keys. The text is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrappingKeysError {
    #[error("is empty; make a key with: head -c 32 /dev/urandom | base64 | tr +/ -_")]
    Empty,
    #[error("has an entry that is no Fernet key: {0}")]
    Key(#[from] FernetKeyError),
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
}

/// Why a sealed value is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrappedError {
    #[error("it is not sealed with a key that is known here, or was altered")]
    NotOpened,
    #[error("it was sealed for another place")]
    Misplaced,
    #[error("what is sealed is not what belongs there")]
    Content,
}

/// Keys that seal values: the first seals, all open. So a key is exchanged by putting the new one in front everywhere,
/// and taking the old one out once nothing is sealed with it.
#[derive(Debug, Clone)]
pub struct WrappingKeys(Vec<FernetKey>);

#[derive(Serialize, Deserialize)]
struct Sealed<P, V> {
    path: P,
    value: V,
}

impl WrappingKeys {
    /// Takes Fernet keys, separated by commas or line ends; empty lines are none.
    ///
    /// # Errors
    /// One of them is no Fernet key, or there is none.
    pub fn parse(text: &str) -> Result<Self, WrappingKeysError> {
        let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        let keys = entries.map(FernetKey::parse).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(WrappingKeysError::Empty),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(WrappingKeysError::TooMany),
        }
    }

    /// Seals a value for the key `path` of etcd, in full.
    ///
    /// # Panics
    /// The value cannot be written as JSON: a map whose keys are no strings.
    pub fn seal<V: Serialize>(&self, path: &str, value: &V, now: SystemTime) -> String {
        let text = serde_json::to_vec(&Sealed { path, value }).expect("values are written as JSON");
        self.0[0].seal(&Zeroizing::new(text), now)
    }

    /// Opens the value under the key `path` of etcd.
    ///
    /// # Errors
    /// None of the keys opens it; it was sealed for another path; it is no `V`.
    pub fn open<V: DeserializeOwned>(&self, path: &str, sealed: &[u8]) -> Result<V, WrappedError> {
        let text = self.0.iter().find_map(|key| key.open(sealed).ok()).ok_or(WrappedError::NotOpened)?;
        let text = Zeroizing::new(text);
        // The path first: what lies in a wrong place is not looked at further.
        let found: Sealed<String, serde::de::IgnoredAny> =
            serde_json::from_slice(&text).map_err(|_| WrappedError::Content)?;
        if found.path != path {
            return Err(WrappedError::Misplaced);
        }
        let found: Sealed<String, V> = serde_json::from_slice(&text).map_err(|_| WrappedError::Content)?;
        Ok(found.value)
    }

    /// Whether a value is sealed with the key that seals now.
    pub fn is_sealed_anew(&self, sealed: &[u8]) -> bool {
        self.0[0].open(sealed).map(Zeroizing::new).is_ok()
    }

    /// The first 16 hex digits of the SHA-256 of each key's text, the one that seals first: to be compared and shown.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(FernetKey::fingerprint).collect()
    }

    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        let others = other.fingerprints();
        self.fingerprints().iter().any(|fingerprint| others.contains(fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE;

    use super::*;

    fn key(byte: u8) -> String {
        URL_SAFE.encode([byte; 32])
    }

    fn keys(text: &str) -> WrappingKeys {
        WrappingKeys::parse(text).unwrap()
    }

    type Value = BTreeMap<String, u32>;

    fn value() -> Value {
        BTreeMap::from([("one".to_owned(), 1)])
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let keys = keys(&key(1));
        let sealed = keys.seal("/sluice/clients/AK1", &value(), SystemTime::now());
        let open = |path| keys.open::<Value>(path, sealed.as_bytes());
        assert_eq!(open("/sluice/clients/AK1"), Ok(value()));
        for other in ["/sluice/clients/AK2", "/sluice/keys/AK1", "/other/clients/AK1", ""] {
            assert_eq!(open(other), Err(WrappedError::Misplaced), "{other}");
        }
        let other = WrappingKeys::parse(&key(2)).unwrap();
        assert_eq!(
            other.open::<Value>("/sluice/clients/AK1", sealed.as_bytes()),
            Err(WrappedError::NotOpened)
        );
    }

    #[test]
    fn any_other_text_is_refused() {
        let keys = keys(&key(1));
        let raw = |text: &str| keys.0[0].seal(text.as_bytes(), SystemTime::now());
        let table = [
            (raw(r#"{"path":"p","value":"text"}"#), WrappedError::Content),
            (raw(r#"{"path":"p"}"#), WrappedError::Content),
            (raw(r#"{"path":"q","path":"p","value":{}}"#), WrappedError::Content),
            (raw(r#"{"path":"p","value":{},"value":{}}"#), WrappedError::Content),
            (raw("{}"), WrappedError::Content),
            (raw(""), WrappedError::Content),
            (r#"{"path":"p","value":{}}"#.to_owned(), WrappedError::NotOpened),
            (String::new(), WrappedError::NotOpened),
        ];
        for (sealed, expected) in table {
            assert_eq!(keys.open::<Value>("p", sealed.as_bytes()), Err(expected), "{sealed}");
        }
    }

    #[test]
    fn a_key_is_exchanged_while_both_are_known() {
        let (old, new) = (keys(&key(1)), keys(&key(2)));
        let both = keys(&format!("{},{}", key(2), key(1)));
        let (by_old, by_both) =
            (old.seal("p", &value(), SystemTime::now()), both.seal("p", &value(), SystemTime::now()));
        assert_eq!(both.open::<Value>("p", by_old.as_bytes()), Ok(value()));
        assert_eq!(new.open::<Value>("p", by_both.as_bytes()), Ok(value()), "the first seals");
        assert!(both.is_sealed_anew(by_both.as_bytes()) && !both.is_sealed_anew(by_old.as_bytes()));
        assert!(both.shares_a_key_with(&old) && !old.shares_a_key_with(&new));
        let lines = keys(&format!("\n{}\r\n{}\n", key(2), key(1)));
        assert_eq!(lines.fingerprints(), both.fingerprints());
    }

    #[test]
    fn texts_without_keys_are_named_by_their_fault() {
        for text in ["", " \n,\n"] {
            assert_eq!(WrappingKeys::parse(text).unwrap_err(), WrappingKeysError::Empty);
        }
        let many = vec![key(3); KEYS_MAX + 1].join("\n");
        assert_eq!(WrappingKeys::parse(&many).unwrap_err(), WrappingKeysError::TooMany);
        let fault = WrappingKeys::parse(&format!("{},secret-text", key(1))).unwrap_err().to_string();
        assert!(fault.contains("no Fernet key") && !fault.contains("secret-text"), "{fault}");
    }
}
