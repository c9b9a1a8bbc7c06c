//! Tickets: what a durable link says, sealed like a token but under keys that edges never have, with `"typ":"ticket"`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::open::decrypt;
use super::seal::encrypt;
use super::{NumericDate, Scratch, SealError, TokenError};
use crate::file_id::FileId;
use crate::keys::{KeyRing, Kind, TokenKey};

/// A durable link. Names as in tokens where they mean the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ticket<'a> {
    /// The link's id.
    pub lnk: Cow<'a, str>,
    pub file_id: FileId<'a>,
    /// The link is good for nothing from then on.
    pub exp: NumericDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    /// The client that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#fn: Option<Cow<'a, str>>,
    /// How often it may be redeemed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Whom its tokens are bound to: an address, a CIDR block, or [`BIND_REDEEMER`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// The binding to whoever redeems the link.
pub const BIND_REDEEMER: &str = "redeemer";

/// As it stands in the JSON. Tickets are ours alone, so nothing is unknown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTicket<'a> {
    #[serde(borrow)]
    lnk: Cow<'a, str>,
    #[serde(borrow)]
    file_id: Cow<'a, str>,
    exp: NumericDate,
    user_id: Option<Cow<'a, str>>,
    cid: Option<Cow<'a, str>>,
    r#fn: Option<Cow<'a, str>>,
    max: Option<u32>,
    bind: Option<Cow<'a, str>>,
    rate: Option<u64>,
}

impl<'a> Ticket<'a> {
    /// Seals it under the ring's current key.
    ///
    /// # Errors
    /// It would be too long for a URL.
    pub fn seal(&self, key: &TokenKey) -> Result<String, SealError> {
        let text = serde_json::to_vec(self).expect("a ticket always serializes to memory");
        encrypt(text, Kind::Ticket, key)
    }

    /// Opens one, whether it has expired or not.
    ///
    /// # Errors
    /// It is none, or not authentic.
    pub fn open(text: &[u8], keys: &KeyRing, scratch: &'a mut Scratch) -> Result<Self, TokenError> {
        let (plaintext, _) = decrypt(text, Kind::Ticket, keys, scratch)?;
        let raw: RawTicket<'_> = serde_json::from_slice(plaintext).map_err(|_| TokenError::Claims)?;
        Ok(Self {
            lnk: raw.lnk,
            file_id: FileId::parse(raw.file_id).map_err(|_| TokenError::FileId)?,
            exp: raw.exp,
            user_id: raw.user_id,
            cid: raw.cid,
            r#fn: raw.r#fn,
            max: raw.max,
            bind: raw.bind,
            rate: raw.rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyId, KeyState, Secret};
    use crate::token::{Claims, open, seal};

    fn ring(id: &str) -> KeyRing {
        let id = KeyId::parse(id).unwrap();
        KeyRing::new(vec![TokenKey::new(id, KeyState::Current, Secret::random())]).unwrap()
    }

    fn ticket() -> Ticket<'static> {
        Ticket {
            lnk: "c0123".into(),
            file_id: FileId::parse("a/b \"c\".bin").unwrap(),
            exp: NumericDate::from_secs(4_000_000_000),
            user_id: Some("ann".into()),
            cid: None,
            r#fn: Some("報告.pdf".into()),
            max: Some(3),
            bind: Some(BIND_REDEEMER.into()),
            rate: Some(1_000_000),
        }
    }

    #[test]
    fn tickets_are_read_back_and_are_no_tokens() {
        let ring = ring("t");
        let mut scratch = Scratch::default();
        let sealed = ticket().seal(ring.current()).unwrap();
        assert_eq!(Ticket::open(sealed.as_bytes(), &ring, &mut scratch).unwrap(), ticket());
        // Not even under the same key are they taken for each other.
        let now = NumericDate::from_secs(0);
        assert_eq!(open(sealed.as_bytes(), &ring, now, &mut scratch), Err(TokenError::Header));
        let claims = Claims::new(FileId::parse("a").unwrap(), NumericDate::from_secs(4_000_000_000));
        let token = seal(&claims, ring.current()).unwrap();
        assert_eq!(Ticket::open(token.as_bytes(), &ring, &mut scratch), Err(TokenError::Header));
    }

    #[test]
    fn any_changed_byte_and_any_other_key_is_refused() {
        let ours = ring("t");
        let mut scratch = Scratch::default();
        let sealed = ticket().seal(ours.current()).unwrap();
        assert!(Ticket::open(sealed.as_bytes(), &ring("t"), &mut scratch).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(Ticket::open(&changed, &ours, &mut scratch).is_err(), "byte {at}");
        }
    }
}
