//! The protected header of what nobody has verified yet: for faults to name, never to be believed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// As `open` takes it at most.
const HEADER_CHARACTERS_MAX: usize = 700;
/// What is named is cut here.
const KID_CHARACTERS_MAX: usize = 64;

/// What the header says; empty where it is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    is_read: bool,
    pub(super) is_ticket: bool,
    pub(super) kid: Option<String>,
}

impl Header {
    pub(super) fn read(text: &str) -> Self {
        let part = text.split('.').next().filter(|part| part.len() <= HEADER_CHARACTERS_MAX);
        let bytes = part.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let Some(Value::Object(header)) = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
            return Self::default();
        };
        let word = |name: &str| header.get(name).and_then(Value::as_str);
        Self {
            is_read: true,
            is_ticket: word("typ") == Some("ticket"),
            kid: word("kid").map(|kid| kid.chars().take(KID_CHARACTERS_MAX).collect()),
        }
    }

    pub(super) fn kind(&self) -> Option<&'static str> {
        self.is_read.then_some(if self.is_ticket { "ticket" } else { "token" })
    }
}
