//! Claims and a key → compact JWE. The IV is drawn here and nowhere else, so that no caller can repeat one.

use aes_gcm::AeadInOut;
use rand::RngExt;

use super::{Claims, IV_BYTES, MINTED_TOKEN_BYTES_MAX, TAG_BYTES, base64url, minted};
use crate::keys::{Kind, TokenKey};

/// Why claims cannot become a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the token would be longer than {MINTED_TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("no key is there to seal with")]
    NoKey,
}

/// Seals claims with a key, under a fresh random 96-bit IV (NIST SP 800-38D §8.2.2: at most 2^32 tokens a key).
///
/// # Errors
/// [`SealError::TooLong`] where the token would be longer than [`MINTED_TOKEN_BYTES_MAX`].
pub fn seal(claims: &Claims<'_>, key: &TokenKey) -> Result<String, SealError> {
    let mut text = Vec::with_capacity(512);
    if !minted::write(claims, &mut text) {
        text = serde_json::to_vec(claims).expect("claims always serialize to memory");
    }
    encrypt(text, Kind::Token, key)
}

/// Seals the JSON text of an object.
pub(super) fn encrypt(mut text: Vec<u8>, kind: Kind, key: &TokenKey) -> Result<String, SealError> {
    let mut iv = [0; IV_BYTES];
    rand::rng().fill(&mut iv);
    let header = key.header(kind);
    let tag = key
        .cipher()
        .encrypt_inout_detached(&iv.into(), header.as_bytes(), text.as_mut_slice().into())
        .expect("A256GCM takes far more than a token's length");

    // header ".." iv "." ciphertext "." tag; the encrypted key of `dir` is empty (RFC 7516 §5.1).
    let encoded = [IV_BYTES, text.len(), TAG_BYTES].map(base64url::encoded_len);
    let length = header.len() + "....".len() + encoded.iter().sum::<usize>();
    if length > MINTED_TOKEN_BYTES_MAX {
        return Err(SealError::TooLong);
    }
    let mut token = Vec::with_capacity(length);
    token.extend_from_slice(header.as_bytes());
    token.extend_from_slice(b"..");
    base64url::encode(&iv, &mut token);
    token.push(b'.');
    base64url::encode(&text, &mut token);
    token.push(b'.');
    base64url::encode(&tag, &mut token);
    debug_assert_eq!(token.len(), length);
    Ok(String::from_utf8(token).expect("headers, base64url and dots are ASCII"))
}

/// A random identifier of 128 bits, as 22 base64url characters: for `jti` and request ids.
pub fn random_id() -> String {
    let mut bits = [0; 16];
    rand::rng().fill(&mut bits);
    let mut text = Vec::with_capacity(base64url::encoded_len(bits.len()));
    base64url::encode(&bits, &mut text);
    String::from_utf8(text).expect("base64url is ASCII")
}
