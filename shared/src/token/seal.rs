//! Claims and a key → compact JWE. The IV is drawn here and nowhere else, so that no caller can repeat one.

use aes_gcm::AeadInOut;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;

use super::{Claims, IV_BYTES, MINTED_TOKEN_BYTES_MAX, minted};
use crate::keys::{Kind, TokenKey};

/// Why claims cannot become a token; both are the caller's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the token would be longer than {MINTED_TOKEN_BYTES_MAX} bytes")]
    TooLong,
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
    let iv: [u8; IV_BYTES] = rand::rng().random();
    let header = key.header(kind);
    let tag = key
        .cipher()
        .encrypt_inout_detached(&iv.into(), header.as_bytes(), text.as_mut_slice().into())
        .expect("A256GCM takes far more than a token's length");

    // header ".." iv "." ciphertext "." tag; the encrypted key of `dir` is empty (RFC 7516 §5.1).
    let length = header.len() + 2 + 16 + 1 + (text.len() * 4).div_ceil(3) + 1 + 22;
    if length > MINTED_TOKEN_BYTES_MAX {
        return Err(SealError::TooLong);
    }
    let mut token = String::with_capacity(length);
    token.push_str(header);
    token.push_str("..");
    URL_SAFE_NO_PAD.encode_string(iv, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&text, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut token);
    debug_assert_eq!(token.len(), length);
    Ok(token)
}

/// A random identifier of 128 bits, as 22 base64url characters: for `jti` and request ids.
pub fn random_id() -> String {
    let bits: [u8; 16] = rand::rng().random();
    URL_SAFE_NO_PAD.encode(bits)
}
