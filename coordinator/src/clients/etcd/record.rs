//! A client's record in etcd: what an operator said of it last, in a form that coordinators of other versions read too.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_shared::etcd::wrapped::{WrappedError, WrappingKeys};
use sluice_shared::file_id::Prefix;
use sluice_shared::revocations::Instant;
use sluice_shared::secret::SecretText;
use sluice_shared::units::{Rate, Span};

use crate::clients::{Client, ClientFault, ClientScheme, RawClient};

/// What the members of a record mean. A change that older programs would misread has another number; new members have
/// not, for whoever does not know them keeps them as they are.
const FORMAT: u32 = 1;

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordFault {
    #[error("it does not open with this coordinator's etcd.coordinator_key")]
    NotOpened,
    #[error(transparent)]
    Sealed(WrappedError),
    #[error("it is of format {0}, and this program reads format {FORMAT}")]
    Format(u32),
    #[error("it says that it is of '{0}'")]
    Name(String),
    #[error("it has no scheme")]
    Scheme,
    #[error(transparent)]
    Client(#[from] ClientFault),
}

impl From<WrappedError> for RecordFault {
    fn from(error: WrappedError) -> Self {
        match error {
            WrappedError::NotOpened => Self::NotOpened,
            other => Self::Sealed(other),
        }
    }
}

/// A record as it was written, and the client that it describes; none where that was removed.
#[derive(Clone)]
pub(super) struct ClientRecord {
    written: Written,
    client: Option<Arc<Client>>,
}

/// The members of a record.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Written {
    format: u32,
    access_key: String,
    /// When it was said: of two records the later stands.
    set: Instant,
    /// The client is no more; then nothing else is said of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    /// Always there: what is missing must not let anybody in.
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<ClientScheme>,
    #[serde(default)]
    prefixes: Vec<Prefix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_ttl: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
    /// Of newer programs; written again with every change.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Written {
    fn new(access_key: String, set: Instant) -> Self {
        Self {
            format: FORMAT,
            access_key,
            set,
            removed: false,
            enabled: false,
            secret: None,
            scheme: None,
            prefixes: Vec::new(),
            expires_at: None,
            max_ttl: None,
            rate: None,
            burst: None,
            note: String::new(),
            unknown: Map::new(),
        }
    }

    /// Judges what is said.
    fn settle(self) -> Result<ClientRecord, RecordFault> {
        if self.removed {
            return Ok(ClientRecord { written: self, client: None });
        }
        let raw = RawClient {
            access_key: self.access_key.clone(),
            secret: None,
            secret_file: None,
            scheme: self.scheme.ok_or(RecordFault::Scheme)?,
            enabled: self.enabled,
            expires_at: self.expires_at.clone(),
            prefixes: self.prefixes.clone(),
            max_ttl: self.max_ttl,
            rate: self.rate,
            burst: self.burst,
            note: self.note.clone(),
        };
        let secret = self.secret.clone().ok_or_else(|| ClientFault::Secret(self.access_key.clone()))?;
        let client = Some(Arc::new(raw.settle(secret)?));
        Ok(ClientRecord { written: self, client })
    }
}

impl ClientRecord {
    pub(super) fn new(client: RawClient, secret: SecretText, set: Instant) -> Result<Self, ClientFault> {
        let described = Written {
            enabled: client.enabled,
            secret: Some(secret.clone()),
            scheme: Some(client.scheme),
            prefixes: client.prefixes.clone(),
            expires_at: client.expires_at.clone(),
            max_ttl: client.max_ttl,
            rate: client.rate,
            burst: client.burst,
            note: client.note.clone(),
            ..Written::new(client.access_key.clone(), set)
        };
        Ok(Self { written: described, client: Some(Arc::new(client.settle(secret)?)) })
    }

    /// What is left of a client that was removed.
    pub(super) fn removed(access_key: &str, set: Instant) -> Self {
        let written = Written { removed: true, ..Written::new(access_key.to_owned(), set) };
        Self { written, client: None }
    }

    /// The same client, let in or not.
    pub(super) fn enabled(&self, enabled: bool, set: Instant) -> Result<Self, RecordFault> {
        Written { enabled, set, ..self.written.clone() }.settle()
    }

    pub(super) fn with_secret(&self, secret: SecretText, set: Instant) -> Result<Self, RecordFault> {
        Written { secret: Some(secret), set, ..self.written.clone() }.settle()
    }

    /// None where it was removed.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    pub(super) fn set(&self) -> Instant {
        self.written.set
    }

    pub(super) fn open(
        sealing: &WrappingKeys,
        name: &str,
        path: &str,
        value: &[u8],
    ) -> Result<Self, RecordFault> {
        // The format first: of another one, nothing else is known.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = sealing.open(path, value)?;
        if head.format != FORMAT {
            return Err(RecordFault::Format(head.format));
        }
        let written: Written = sealing.open(path, value)?;
        // It is known by one name.
        if written.access_key != name {
            return Err(RecordFault::Name(written.access_key));
        }
        written.settle()
    }

    pub(super) fn seal(&self, sealing: &WrappingKeys, path: &str) -> Vec<u8> {
        sealing.seal(path, &self.written, SystemTime::now()).into_bytes()
    }
}

/// What it describes follows from what is written.
impl PartialEq for ClientRecord {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl fmt::Debug for ClientRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { access_key, set, removed, enabled, .. } = &self.written;
        let mut shown = f.debug_struct("ClientRecord");
        shown.field("access_key", access_key).field("set", set);
        shown.field("removed", removed).field("enabled", enabled).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/sluice/clients/AK1";

    fn sealing() -> WrappingKeys {
        WrappingKeys::parse("Y29vcmRpbmF0b3Jjb29yZGluYXRvcmNvb3JkaW5hdG8=").unwrap()
    }

    fn raw() -> RawClient {
        let text = "access_key = \"AK1\"\nscheme = \"signature\"\nprefixes = [\"a/\"]\nmax_ttl = \"90s\"\n\
                    rate = \"100/s\"\nburst = 7\nnote = \"of Ann\"\nexpires_at = \"2030-01-01T00:00:00Z\"\n";
        toml::from_str(text).unwrap()
    }

    fn sealed(value: &Value) -> Result<ClientRecord, RecordFault> {
        let text = sealing().seal(PATH, value, SystemTime::now());
        ClientRecord::open(&sealing(), "AK1", PATH, text.as_bytes())
    }

    /// The members of a record as they are written.
    fn members(record: &ClientRecord) -> Value {
        sealing().open(PATH, &record.seal(&sealing(), PATH)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_only_in_its_place() {
        let record = ClientRecord::new(raw(), SecretText::new("s"), Instant(5)).unwrap();
        let text = record.seal(&sealing(), PATH);
        assert!(!String::from_utf8(text.clone()).unwrap().contains("AK1"));
        let read = ClientRecord::open(&sealing(), "AK1", PATH, &text).unwrap();
        assert_eq!(read, record);
        let client = read.client().unwrap();
        assert_eq!((client.secret.reveal(), client.note.as_str(), client.enabled), ("s", "of Ann", true));
        assert!(!format!("{record:?}").contains("\"s\""));
        let elsewhere = ClientRecord::open(&sealing(), "AK2", "/sluice/clients/AK2", &text);
        assert_eq!(elsewhere.unwrap_err(), RecordFault::Sealed(WrappedError::Misplaced));
        let other = WrappingKeys::parse("Y2x1c3RlcmNsdXN0ZXJjbHVzdGVyY2x1c3RlcmNsdXM=").unwrap();
        let fault = ClientRecord::open(&other, "AK1", PATH, &text).unwrap_err();
        assert_eq!(fault, RecordFault::NotOpened);
    }

    #[test]
    fn what_newer_programs_say_is_kept_by_every_change() {
        let mut newer = members(&ClientRecord::new(raw(), SecretText::new("s"), Instant(5)).unwrap());
        newer["colour"] = serde_json::json!({ "of": ["b", "l"] });
        let record = sealed(&newer).unwrap();
        for changed in
            [record.enabled(false, Instant(6)), record.with_secret(SecretText::new("t"), Instant(6))]
        {
            let changed = changed.unwrap();
            assert_eq!(changed.set(), Instant(6));
            assert_eq!(members(&changed)["colour"], newer["colour"]);
            assert_eq!(members(&changed)["note"], "of Ann");
        }
        let disabled = record.enabled(false, Instant(6)).unwrap();
        assert!(!disabled.client().unwrap().enabled);
        let removed = ClientRecord::removed("AK1", Instant(7));
        assert!(sealed(&members(&removed)).unwrap().client().is_none());
        assert_eq!(members(&removed).get("secret"), None);
    }

    #[test]
    fn records_that_say_no_client_are_refused_by_their_fault() {
        let whole = members(&ClientRecord::new(raw(), SecretText::new("hush"), Instant(5)).unwrap());
        let with = |name: &str, value: Value| {
            let mut changed = whole.clone();
            changed[name] = value;
            changed
        };
        let without = |name: &str| {
            let mut changed = whole.clone();
            changed.as_object_mut().unwrap().remove(name);
            changed
        };
        let table = [
            (with("format", 2.into()), "of format 2"),
            (serde_json::json!({ "format": 2 }), "of format 2"),
            (without("format"), "not what belongs there"),
            (without("enabled"), "not what belongs there"),
            (without("set"), "not what belongs there"),
            (with("enabled", "yes".into()), "not what belongs there"),
            (with("access_key", "AK2".into()), "of 'AK2'"),
            (without("scheme"), "no scheme"),
            (with("scheme", "certificate".into()), "not what belongs there"),
            (without("secret"), "secret"),
            (with("secret", "".into()), "empty"),
            (with("burst", 0.into()), "burst"),
            (with("expires_at", "soon".into()), "expires_at"),
            (with("prefixes", serde_json::json!(["../x"])), "not what belongs there"),
            (Value::Null, "not what belongs there"),
        ];
        for (value, expected) in table {
            let fault = sealed(&value).unwrap_err().to_string();
            assert!(fault.contains(expected) && !fault.contains("hush"), "{expected:?} in {fault:?}");
        }
    }
}
