//! What a mark is on, and the name under which it is kept where programs share their marks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::file_id::{FileId, FileIdError, Prefix, is_allowed};

/// Longest value, in bytes: that of a file id.
const VALUE_BYTES_MAX: usize = 1024;
pub(super) const REVOKED: &str = "revoked/";
pub(super) const BLOCKED: &str = "blocked/";

/// What can be barred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Link,
    User,
    Client,
    File,
    /// A key of tokens, by its id.
    Key,
    /// All file ids under a prefix.
    Prefix,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Link, Self::User, Self::Client, Self::File, Self::Key, Self::Prefix];

    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::User => "user",
            Self::Client => "client",
            Self::File => "file",
            Self::Key => "key",
            Self::Prefix => "prefix",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One thing that is barred.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    kind: Kind,
    value: Box<str>,
}

/// Why a value is none of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    #[error("it is not 1 to {VALUE_BYTES_MAX} bytes without control characters")]
    Value,
    #[error("it can be no file: {0}")]
    File(#[from] FileIdError),
}

impl Target {
    /// # Errors
    /// The value could belong to nothing of its kind.
    pub fn new(kind: Kind, value: &str) -> Result<Self, TargetFault> {
        match kind {
            Kind::File => drop(FileId::parse(value)?),
            Kind::Prefix => drop(Prefix::parse(value)?),
            Kind::Link | Kind::User | Kind::Client | Kind::Key => {
                if value.is_empty() || value.len() > VALUE_BYTES_MAX || !value.chars().all(is_allowed) {
                    return Err(TargetFault::Value);
                }
            }
        }
        Ok(Self { kind, value: value.into() })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// `revoked/KIND/VALUE`, or `blocked/VALUE` for a prefix; the value in base64url.
    pub fn key(&self) -> String {
        let value = URL_SAFE_NO_PAD.encode(&*self.value);
        match self.kind {
            Kind::Prefix => format!("{BLOCKED}{value}"),
            kind => format!("{REVOKED}{}/{value}", kind.name()),
        }
    }

    /// `None` for what [`Target::key`] never writes.
    pub fn parse_key(key: &str) -> Option<Self> {
        let (kind, value) = match key.strip_prefix(REVOKED) {
            Some(rest) => {
                let (kind, value) = rest.split_once('/')?;
                (Kind::parse(kind).filter(|kind| *kind != Kind::Prefix)?, value)
            }
            None => (Kind::Prefix, key.strip_prefix(BLOCKED)?),
        };
        let value = String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
        Self::new(kind, &value).ok()
    }
}
