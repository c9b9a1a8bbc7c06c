//! Bytes and keys → claims, and with now → claims that hold. Nothing in a token is believed before its tag has verified, save the header's
//! choice among keys that we already hold.

use std::borrow::Cow;
use std::fmt;

use aes_gcm::AeadInOut;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::claims::Draft;
use super::{Claims, IV_BYTES, NumericDate, TAG_BYTES, TOKEN_BYTES_MAX, TokenError, base64url, minted};
use crate::json::{Text, UnknownNames, set_once};
use crate::keys::{KeyId, KeyRing, Kind, TokenKey};

/// Longest header, decoded, in bytes. Ours are below 100.
const HEADER_BYTES_MAX: usize = 512;
/// `{"alg":"dir","enc":"A256GCM"}`, the header of tokens without a key id.
const HEADER_WITHOUT_KID: &[u8] = b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0";

/// Where a token is decrypted, in place. Kept by the caller from token to token; its content is the last one's
/// claims.
pub struct Scratch(Box<[u8; TOKEN_BYTES_MAX]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new([0; TOKEN_BYTES_MAX]))
    }
}

/// Verifies and decrypts a token that holds now.
///
/// # Errors
/// The first check that failed. Times are judged last, on authentic claims.
pub fn open<'s>(
    token: &[u8],
    keys: &KeyRing,
    now: NumericDate,
    scratch: &'s mut Scratch,
) -> Result<Claims<'s>, TokenError> {
    let opened = open_authentic(token, keys, scratch);
    if let Ok(claims) = &opened {
        claims.judge(now)?;
    }
    opened
}

/// Verifies and decrypts a token, be it expired or not yet valid: [`Claims::judge`] is the caller's to ask.
///
/// A token with a `kid` is tried with that key only; one without, with every live key, newest first.
///
/// # Errors
/// The first check that failed; never `Expired` or `NotYetValid`.
pub fn open_authentic<'s>(
    token: &[u8],
    keys: &KeyRing,
    scratch: &'s mut Scratch,
) -> Result<Claims<'s>, TokenError> {
    Ok(open_by_key(token, keys, scratch)?.0)
}

/// As [`open_authentic`]; and says which key it was.
///
/// # Errors
/// Those of [`open_authentic`].
pub fn open_by_key<'s, 'k>(
    token: &[u8],
    keys: &'k KeyRing,
    scratch: &'s mut Scratch,
) -> Result<(Claims<'s>, &'k KeyId), TokenError> {
    let (plaintext, key) = decrypt(token, Kind::Token, keys, scratch)?;
    Ok((read(plaintext)?, key.id()))
}

/// The authentic plaintext of a token or ticket, and the key that it came by.
pub(super) fn decrypt<'s, 'k>(
    token: &[u8],
    kind: Kind,
    keys: &'k KeyRing,
    scratch: &'s mut Scratch,
) -> Result<(&'s [u8], &'k TokenKey), TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let [header, encrypted_key, iv, ciphertext, tag] = split(token).ok_or(TokenError::Structure)?;
    if !encrypted_key.is_empty() {
        return Err(TokenError::Structure);
    }
    let sealed = Sealed { header, iv: decode_exact(iv)?, ciphertext, tag: decode_exact(tag)? };
    let (length, key) = match select(header, kind, keys)? {
        Selected::One(key) => (sealed.decrypt(key, &mut scratch.0[..])?, key),
        Selected::Any => {
            let mut opened = Err(TokenError::UnknownKey);
            for key in keys.newest_first() {
                opened = sealed.decrypt(key, &mut scratch.0[..]).map(|length| (length, key));
                if !matches!(opened, Err(TokenError::Authentication)) {
                    break;
                }
            }
            opened?
        }
    };
    Ok((&scratch.0[..length], key))
}

/// The five parts of a compact JWE, or `None`.
fn split(token: &[u8]) -> Option<[&[u8]; 5]> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let [a, b, c, d] = [dots.next()?, dots.next()?, dots.next()?, dots.next()?];
    dots.next().is_none().then_some([
        &token[..a],
        &token[a + 1..b],
        &token[b + 1..c],
        &token[c + 1..d],
        &token[d + 1..],
    ])
}

fn decode_exact<const N: usize>(part: &[u8]) -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    if part.len() != (N * 4).div_ceil(3) {
        return Err(TokenError::Length);
    }
    base64url::decode(part, &mut bytes).ok_or(TokenError::Encoding)?;
    Ok(bytes)
}

struct Sealed<'t> {
    header: &'t [u8],
    iv: [u8; IV_BYTES],
    ciphertext: &'t [u8],
    tag: [u8; TAG_BYTES],
}

impl Sealed<'_> {
    /// Decrypts into the front of `scratch`; gives the number of bytes.
    fn decrypt(&self, key: &TokenKey, scratch: &mut [u8]) -> Result<usize, TokenError> {
        let length = base64url::decode(self.ciphertext, scratch).ok_or(TokenError::Encoding)?;
        key.cipher()
            .decrypt_inout_detached(
                &self.iv.into(),
                self.header,
                (&mut scratch[..length]).into(),
                &self.tag.into(),
            )
            .map_err(|_| TokenError::Authentication)?;
        Ok(length)
    }
}

enum Selected<'k> {
    One(&'k TokenKey),
    Any,
}

/// Which key the header asks for. The two headers that we mint ourselves, and that every library writes for a token
/// without a key id, are compared as text and never parsed.
fn select<'k>(header: &[u8], kind: Kind, keys: &'k KeyRing) -> Result<Selected<'k>, TokenError> {
    if let Some(key) = keys.newest_first().find(|key| key.header(kind).as_bytes() == header) {
        return Ok(Selected::One(key));
    }
    if kind == Kind::Token && header == HEADER_WITHOUT_KID {
        return Ok(Selected::Any);
    }
    let mut decoded = [0; HEADER_BYTES_MAX];
    let length = match URL_SAFE_NO_PAD.decode_slice(header, &mut decoded) {
        Ok(length) => length,
        Err(base64::DecodeSliceError::OutputSliceTooSmall) => return Err(TokenError::Header),
        Err(base64::DecodeSliceError::DecodeError(_)) => return Err(TokenError::Encoding),
    };
    let header: Header<'_> = serde_json::from_slice(&decoded[..length]).map_err(|_| TokenError::Header)?;
    if header.kind != kind {
        return Err(TokenError::Header);
    }
    match header.kid {
        None => Ok(Selected::Any),
        Some(kid) => keys.by_id(&kid).map(Selected::One).ok_or(TokenError::UnknownKey),
    }
}

/// A protected header that passed: `dir`, `A256GCM`, a `typ` of ours or none, neither `zip` nor `crit`.
struct Header<'a> {
    kind: Kind,
    kid: Option<Cow<'a, str>>,
}

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the header of a dir/A256GCM token")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        use serde::de::Error;
        let mut unknown = UnknownNames::default();
        let (mut alg, mut enc, mut typ, mut kid) = (None, None, None, None);
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "alg" => set_once(&mut alg, map.next_value::<Text<'de>>()?.0)?,
                "enc" => set_once(&mut enc, map.next_value::<Text<'de>>()?.0)?,
                "typ" => set_once(&mut typ, map.next_value::<Text<'de>>()?.0)?,
                "kid" => set_once(&mut kid, map.next_value::<Text<'de>>()?.0)?,
                "zip" | "crit" => return Err(M::Error::custom("parameter not supported")),
                _ => {
                    unknown.insert(name)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let kind = match typ.as_deref() {
            None | Some("JWT") => Some(Kind::Token),
            Some("ticket") => Some(Kind::Ticket),
            Some(_) => None,
        };
        match kind {
            Some(kind) if alg.as_deref() == Some("dir") && enc.as_deref() == Some("A256GCM") => {
                Ok(Header { kind, kid })
            }
            _ => Err(M::Error::custom("neither a token nor a ticket")),
        }
    }
}

/// Authentic plaintext → claims.
fn read(plaintext: &[u8]) -> Result<Claims<'_>, TokenError> {
    let mut draft = Draft::new();
    if minted::read(plaintext, &mut draft).is_none() {
        draft = serde_json::from_slice(plaintext).map_err(|_| TokenError::Claims)?;
    }
    draft.finish()
}
