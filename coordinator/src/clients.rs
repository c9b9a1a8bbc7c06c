//! The API's clients: who may call, for which files, how often. One set at a time, swapped whole; in a file of this
//! coordinator's, or in etcd for all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluice_shared::file_id::{FileId, Prefix};
use sluice_shared::secret::SecretText;
use sluice_shared::units::{Rate, Span};

use crate::state::Pace;

mod edit;
mod etcd;
mod file;
mod kept;

pub(crate) use edit::EditError;
pub use file::{ClientToImport, ClientsFileError, clients_to_import};
pub(crate) use kept::{Clients, NotKnown};

/// Longest access key, in bytes.
pub(crate) const ACCESS_KEY_BYTES_MAX: usize = 128;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientScheme {
    Signature,
    AppJwt,
}

/// One client. Its secret is in no `Debug` and in no answer.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its name: access key or app key; the token's `cid`.
    pub(crate) access_key: String,
    pub(crate) secret: SecretText,
    pub(crate) scheme: ClientScheme,
    pub(crate) enabled: bool,
    pub(crate) expires_at: Option<SystemTime>,
    /// Under which it may ask for files.
    pub(crate) prefixes: Vec<Prefix>,
    /// The longest life of what it is given.
    pub(crate) max_ttl: Option<Duration>,
    pub(crate) pace: Option<Pace>,
    pub(crate) note: String,
}

/// Why a client that exists is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    Disabled,
    Expired,
}

impl Client {
    pub(crate) fn bar(&self, now: SystemTime) -> Option<Barred> {
        if !self.enabled {
            Some(Barred::Disabled)
        } else if self.expires_at.is_some_and(|until| now >= until) {
            Some(Barred::Expired)
        } else {
            None
        }
    }

    pub(crate) fn may_ask_for(&self, file: &FileId<'_>) -> bool {
        self.prefixes.iter().any(|prefix| file.is_under(prefix.as_str()))
    }
}

/// A client as configuration and operators write it.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClient {
    pub(crate) access_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<SecretText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<std::path::PathBuf>,
    pub(crate) scheme: ClientScheme,
    #[serde(default = "enabled")]
    pub(crate) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
    pub(crate) prefixes: Vec<Prefix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_ttl: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

fn enabled() -> bool {
    true
}

/// Why a client's description is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientFault {
    #[error("access_key '{0}' is not 1 to {ACCESS_KEY_BYTES_MAX} visible ASCII characters")]
    AccessKey(String),
    #[error("client '{0}' is there twice")]
    Twice(String),
    #[error("client '{0}': secret or secret_file is missing, or both are given")]
    Secret(String),
    #[error("client '{0}': the secret is empty")]
    EmptySecret(String),
    #[error("client '{0}': secret_file {1}")]
    SecretFile(String, String),
    #[error("client '{0}': expires_at is no time as in 2027-01-01T00:00:00Z")]
    ExpiresAt(String),
    #[error("client '{0}': burst is 0, or there is no rate that it belongs to")]
    Burst(String),
    #[error("client '{0}': max_ttl is below 1s")]
    MaxTtl(String),
}

impl RawClient {
    /// Judges everything but the secret, which the caller has found.
    pub(crate) fn settle(self, secret: SecretText) -> Result<Client, ClientFault> {
        let name = || self.access_key.clone();
        if !is_access_key(&self.access_key) {
            return Err(ClientFault::AccessKey(self.access_key.chars().take(ACCESS_KEY_BYTES_MAX).collect()));
        }
        if secret.is_empty() {
            return Err(ClientFault::EmptySecret(name()));
        }
        let expires_at = self.expires_at.as_deref().map(humantime::parse_rfc3339).transpose();
        let expires_at = expires_at.map_err(|_| ClientFault::ExpiresAt(name()))?;
        if self.burst == Some(0) || (self.burst.is_some() && self.rate.is_none()) {
            return Err(ClientFault::Burst(name()));
        }
        if self.max_ttl.is_some_and(|ttl| ttl.0 < Duration::from_secs(1)) {
            return Err(ClientFault::MaxTtl(name()));
        }
        let pace = self.rate.map(|rate| Pace {
            per_second: rate.per_second(),
            burst: self.burst.unwrap_or_else(|| rate.whole_per_second()),
        });
        Ok(Client {
            access_key: self.access_key,
            secret,
            scheme: self.scheme,
            enabled: self.enabled,
            expires_at,
            prefixes: self.prefixes,
            max_ttl: self.max_ttl.map(|ttl| ttl.0),
            pace,
            note: self.note,
        })
    }
}

fn is_access_key(text: &str) -> bool {
    (1..=ACCESS_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// All clients of one moment.
#[derive(Default)]
pub(crate) struct ClientSet(HashMap<String, Arc<Client>>);

impl ClientSet {
    pub(crate) fn new(clients: Vec<Client>) -> Result<Self, ClientFault> {
        let mut set = HashMap::with_capacity(clients.len());
        for client in clients {
            if let Some(twin) = set.insert(client.access_key.clone(), Arc::new(client)) {
                return Err(ClientFault::Twice(twin.access_key.clone()));
            }
        }
        Ok(Self(set))
    }

    pub(crate) fn client(&self, access_key: &str) -> Option<&Arc<Client>> {
        self.0.get(access_key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.values()
    }
}

impl FromIterator<Arc<Client>> for ClientSet {
    fn from_iter<I: IntoIterator<Item = Arc<Client>>>(clients: I) -> Self {
        Self(clients.into_iter().map(|client| (client.access_key.clone(), client)).collect())
    }
}

impl fmt::Debug for ClientSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
