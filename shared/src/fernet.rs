//! Fernet (github.com/fernet/spec, version 0x80): AES-128-CBC, then HMAC-SHA-256 over everything before it. Written
//! here because the crate of that name links OpenSSL or older ciphers, and is not under a permissive licence.
//!
//! A token's own timestamp is written and never judged: whoever opens one knows the age that counts.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use rand::RngExt;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keys::{KEY_BYTES, Secret};
use crate::mac::{MAC_BYTES, hmac_sha256, is_equal};

const VERSION: u8 = 0x80;
const BLOCK_BYTES: usize = 16;
/// Version, timestamp, IV.
const HEAD_BYTES: usize = 1 + 8 + BLOCK_BYTES;

/// Why a text is no Fernet key. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FernetKeyError {
    #[error(
        "it is not base64url with its padding; a key of the standard alphabet has + and / where base64url has - and _"
    )]
    Encoding,
    #[error("it holds {0} bytes, and a Fernet key {KEY_BYTES}")]
    Length(usize),
}

/// A token that this key did not seal, or that was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Fernet token of this key")]
pub(crate) struct NotOpened;

/// A Fernet key: 16 bytes that sign, then 16 that encrypt.
#[derive(Clone)]
pub(crate) struct FernetKey(Secret);

impl FernetKey {
    /// Takes the base64url text of 32 bytes, padding included, as every Fernet library writes it.
    ///
    /// # Errors
    /// The fault, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, FernetKeyError> {
        let bytes = Zeroizing::new(URL_SAFE.decode(text).map_err(|_| FernetKeyError::Encoding)?);
        let key = <[u8; KEY_BYTES]>::try_from(&bytes[..]).map_err(|_| FernetKeyError::Length(bytes.len()))?;
        Ok(Self(Secret::new(key)))
    }

    fn signing(&self) -> &[u8] {
        &self.0.bytes()[..BLOCK_BYTES]
    }

    fn encryption(&self) -> &[u8] {
        &self.0.bytes()[BLOCK_BYTES..]
    }

    /// The first 16 hex digits of the SHA-256 of the key's text. Strict parsing leaves a key one text only, so this is
    /// what `printf %s "$ENCRYPTION_KEY" | sha256sum` begins with.
    pub(crate) fn fingerprint(&self) -> String {
        let text = Zeroizing::new(URL_SAFE.encode(self.0.bytes()));
        Sha256::digest(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Encrypts under a fresh random IV.
    pub(crate) fn seal(&self, plaintext: &[u8], now: SystemTime) -> String {
        let iv: [u8; BLOCK_BYTES] = rand::rng().random();
        self.seal_with(plaintext, now, iv)
    }

    fn seal_with(&self, plaintext: &[u8], now: SystemTime, iv: [u8; BLOCK_BYTES]) -> String {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let cipher = cbc::Encryptor::<Aes128>::new_from_slices(self.encryption(), &iv)
            .expect("key and IV are a block each");
        let mut token = vec![VERSION];
        token.extend_from_slice(&seconds.to_be_bytes());
        token.extend_from_slice(&iv);
        token.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(plaintext));
        let mac = hmac_sha256(self.signing(), &[&token]);
        token.extend_from_slice(&mac);
        URL_SAFE.encode(token)
    }

    /// Verifies, then decrypts. Nothing tells a bad MAC from bad padding.
    ///
    /// # Errors
    /// [`NotOpened`], whatever is wrong.
    pub(crate) fn open(&self, token: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let bytes = URL_SAFE.decode(token).map_err(|_| NotOpened)?;
        let (signed, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(NotOpened)?;
        let (head, ciphertext) = signed.split_at_checked(HEAD_BYTES).ok_or(NotOpened)?;
        if head[0] != VERSION || !is_equal(&hmac_sha256(self.signing(), &[signed]), mac) {
            return Err(NotOpened);
        }
        let iv = &head[HEAD_BYTES - BLOCK_BYTES..];
        let cipher = cbc::Decryptor::<Aes128>::new_from_slices(self.encryption(), iv)
            .expect("key and IV are a block each");
        cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).map_err(|_| NotOpened)
    }
}

impl fmt::Debug for FernetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FernetKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// `generate.json` and `verify.json` of the specification.
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn the_specification_s_token_is_made_and_opened() {
        let key = FernetKey::parse(SPEC_KEY).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(499_162_800);
        let iv = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(key.seal_with(b"hello", now, iv), SPEC_TOKEN);
        assert_eq!(key.open(SPEC_TOKEN.as_bytes()).unwrap(), b"hello");
    }

    /// Text → token with a right MAC over it, to reach what lies behind the MAC.
    fn signed(key: &FernetKey, mut bytes: Vec<u8>) -> String {
        let mac = hmac_sha256(key.signing(), &[&bytes]);
        bytes.extend_from_slice(&mac);
        URL_SAFE.encode(bytes)
    }

    #[test]
    fn what_is_not_exactly_a_token_is_refused() {
        let key = FernetKey::parse(SPEC_KEY).unwrap();
        let mut good = URL_SAFE.decode(SPEC_TOKEN).unwrap();
        good.truncate(good.len() - MAC_BYTES);
        assert!(key.open(signed(&key, good.clone()).as_bytes()).is_ok());
        let another_version = [&[0x81], &good[1..]].concat();
        let cut_block = good[..good.len() - 1].to_vec();
        let no_block = good[..HEAD_BYTES].to_vec();
        let no_iv = good[..HEAD_BYTES - 1].to_vec();
        let mut bad_padding = good.clone();
        bad_padding[HEAD_BYTES - 1] ^= 1;
        for bytes in [another_version, cut_block, no_block, no_iv, bad_padding, Vec::new()] {
            assert_eq!(key.open(signed(&key, bytes.clone()).as_bytes()), Err(NotOpened), "{bytes:?}");
        }
        let unpadded = SPEC_TOKEN.trim_end_matches('=');
        for text in [unpadded, &format!("{SPEC_TOKEN}\n"), &SPEC_TOKEN.replace('_', "/"), "", "gAAA"] {
            assert_eq!(key.open(text.as_bytes()), Err(NotOpened), "{text}");
        }
    }

    #[test]
    fn bad_keys_are_named_by_their_fault_only() {
        let fault = |text: &str| FernetKey::parse(text).unwrap_err();
        assert_eq!(fault(&URL_SAFE.encode([1; 31])), FernetKeyError::Length(31));
        assert_eq!(fault(&URL_SAFE.encode([1; 33])), FernetKeyError::Length(33));
        assert_eq!(fault(""), FernetKeyError::Length(0));
        assert_eq!(fault(SPEC_KEY.trim_end_matches('=')), FernetKeyError::Encoding);
        assert_eq!(fault(&SPEC_KEY.replace('_', "/")), FernetKeyError::Encoding);
        assert_eq!(fault(&format!("{SPEC_KEY} ")), FernetKeyError::Encoding);
        let spare_bits = SPEC_KEY.replace("4e4=", "4e5=");
        assert_eq!(fault(&spare_bits), FernetKeyError::Encoding);
        let key = format!("{:?}", FernetKey::parse(SPEC_KEY).unwrap());
        assert!(!key.contains("cw_0") && !key.contains("115"), "{key}");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..100), secs in any::<u32>()) {
            let key = FernetKey::parse(SPEC_KEY).unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(secs.into());
            prop_assert_eq!(key.open(key.seal(&plaintext, now).as_bytes()).unwrap(), plaintext);
        }

        #[test]
        fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut token = SPEC_TOKEN.as_bytes().to_vec();
            let at = at.index(token.len());
            prop_assume!(token[at] != to);
            token[at] = to;
            prop_assert_eq!(FernetKey::parse(SPEC_KEY).unwrap().open(&token), Err(NotOpened));
        }
    }
}
