//! Calls between servers whose body is Fernet text under an HMAC: `data`, `timestamp`, `signature`.
//!
//! `signature` is the lowercase hex of HMAC-SHA-256 over `data` and `timestamp` with nothing between them. The timestamp
//! has exactly 13 digits, so that no other pair has the same text. Replays are the caller's to notice, by [`Call::mac`]
//! kept for twice the age.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::fernet::FernetKey;
pub use crate::fernet::FernetKeyError;
use crate::mac::{MAC_BYTES, hmac_sha256, is_equal};

/// Longest `data` that is looked at, in bytes.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// Digits of milliseconds since 1970, from 2001 to 2286.
const TIMESTAMP_DIGITS: usize = 13;
/// How far a caller's clock may be ahead.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// Why the program must not start. Neither secret is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedKeyError {
    #[error("ENCRYPTION_KEY is no Fernet key: {0}")]
    EncryptionKey(#[from] FernetKeyError),
    #[error("API_SECRET_KEY is empty")]
    NoApiSecret,
}

/// Why a call is refused, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SealedError {
    #[error("data is longer than {DATA_BYTES_MAX} bytes")]
    TooLong,
    #[error("timestamp is not the milliseconds since 1970 in {TIMESTAMP_DIGITS} digits")]
    Timestamp,
    #[error("signature is not {} lowercase hex digits", 2 * MAC_BYTES)]
    SignatureShape,
    #[error("signature does not match")]
    Signature,
    #[error("request is too old")]
    TooOld,
    #[error("request is from the future")]
    FromTheFuture,
    #[error("data does not decrypt")]
    Decryption,
}

/// A call that verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    pub plaintext: Vec<u8>,
    pub sent_at: SystemTime,
    /// No other call has it: what a replay is known by.
    pub mac: [u8; MAC_BYTES],
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("plaintext", &"redacted").finish_non_exhaustive()
    }
}

/// The two secrets of such calls.
pub struct SealedCalls {
    key: FernetKey,
    api_secret: Zeroizing<Vec<u8>>,
}

impl SealedCalls {
    /// # Errors
    /// A secret that cannot be used, named with its fault.
    pub fn new(encryption_key: &str, api_secret: &str) -> Result<Self, SealedKeyError> {
        if api_secret.is_empty() {
            return Err(SealedKeyError::NoApiSecret);
        }
        let key = FernetKey::parse(encryption_key)?;
        Ok(Self { key, api_secret: Zeroizing::new(api_secret.as_bytes().to_vec()) })
    }

    /// Takes the three members of a call; `max_age` is how old it may be.
    ///
    /// # Errors
    /// The first check that failed: shape, signature, age, decryption.
    pub fn verify(
        &self,
        data: &str,
        timestamp: &str,
        signature: &str,
        now: SystemTime,
        max_age: Duration,
    ) -> Result<Call, SealedError> {
        if data.len() > DATA_BYTES_MAX {
            return Err(SealedError::TooLong);
        }
        let sent_at = parse_timestamp(timestamp).ok_or(SealedError::Timestamp)?;
        let signature = parse_hex(signature).ok_or(SealedError::SignatureShape)?;
        let mac = hmac_sha256(&self.api_secret, &[data.as_bytes(), timestamp.as_bytes()]);
        if !is_equal(&mac, &signature) {
            return Err(SealedError::Signature);
        }
        match now.duration_since(sent_at) {
            Ok(age) if age > max_age => return Err(SealedError::TooOld),
            Err(ahead) if ahead.duration() > SKEW_MAX => return Err(SealedError::FromTheFuture),
            _ => {}
        }
        let plaintext = self.key.open(data.as_bytes()).map_err(|_| SealedError::Decryption)?;
        Ok(Call { plaintext, sent_at, mac })
    }

    /// The Fernet text of an answer.
    pub fn seal(&self, plaintext: &[u8], now: SystemTime) -> String {
        self.key.seal(plaintext, now)
    }

    /// The plaintext of an answer, as its caller opens it; none where another key sealed it.
    pub fn open(&self, answer: &str) -> Option<Vec<u8>> {
        self.key.open(answer.as_bytes()).ok()
    }

    /// What may be published of the encryption key: the first 16 hex digits of the SHA-256 of its text as configured.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }
}

impl fmt::Debug for SealedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedCalls").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn parse_timestamp(text: &str) -> Option<SystemTime> {
    if text.len() != TIMESTAMP_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::from_millis(text.parse().ok()?))
}

fn parse_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = <&[u8; 2 * MAC_BYTES]>::try_from(text.as_bytes()).ok()?;
    let mut bytes = [0; MAC_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(300);
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const SENT_MS: u64 = 1_700_000_000_000;

    fn at(offset_ms: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(SENT_MS.checked_add_signed(offset_ms).unwrap())
    }

    fn calls() -> SealedCalls {
        SealedCalls::new(KEY, "api-secret").unwrap()
    }

    fn signature(data: &str, timestamp: &str) -> String {
        let mac = hmac_sha256(b"api-secret", &[data.as_bytes(), timestamp.as_bytes()]);
        mac.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_the_reference_system_verify() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/data/vectors.json")).unwrap();
        let vectors = vectors["fernet"].as_array().unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let calls = SealedCalls::new(text("key"), text("api_secret")).unwrap();
            let (data, timestamp, signature) = (text("token"), text("timestamp_ms"), text("signature"));
            let now = UNIX_EPOCH + Duration::from_millis(timestamp.parse().unwrap());
            let call = calls.verify(data, timestamp, signature, now, MAX_AGE).unwrap();
            assert_eq!(call.plaintext, text("plaintext").as_bytes());
            assert_eq!(Some(call.mac), parse_hex(signature));
        }
    }

    #[test]
    fn checks_come_in_their_order() {
        let calls = calls();
        let data = calls.seal(b"{}", at(0));
        let now = SENT_MS.to_string();
        let old = (SENT_MS - 300_001).to_string();
        let good = signature(&data, &now);
        let wrong = "0".repeat(64);
        let bad = "not Fernet";
        let long = "x".repeat(DATA_BYTES_MAX + 1);
        let table = [
            (&*data, &*now, &*good, None),
            (&long, "", "", Some(SealedError::TooLong)),
            (&data, "170000000000", &wrong, Some(SealedError::Timestamp)),
            (&data, "17000000000000", &wrong, Some(SealedError::Timestamp)),
            (&data, "+170000000000", &wrong, Some(SealedError::Timestamp)),
            (&data, "1700000000.00", &wrong, Some(SealedError::Timestamp)),
            (&data, "١٢٣٤٥٦a", &wrong, Some(SealedError::Timestamp)),
            (&data, "", &wrong, Some(SealedError::Timestamp)),
            (&data, &old, &good.to_uppercase(), Some(SealedError::SignatureShape)),
            (&data, &old, &good[1..], Some(SealedError::SignatureShape)),
            (&data, &old, &format!("{good}0"), Some(SealedError::SignatureShape)),
            (&data, &old, "", Some(SealedError::SignatureShape)),
            (bad, &old, &good, Some(SealedError::Signature)),
            (bad, &old, &signature(bad, &old), Some(SealedError::TooOld)),
            (bad, &now, &signature(bad, &now), Some(SealedError::Decryption)),
            ("", &now, &signature("", &now), Some(SealedError::Decryption)),
        ];
        for (data, timestamp, signature, expected) in table {
            let result = calls.verify(data, timestamp, signature, at(0), MAX_AGE);
            assert_eq!(result.err(), expected, "{timestamp} {signature}");
        }
    }

    #[test]
    fn the_age_is_judged_to_the_millisecond() {
        let calls = calls();
        // Sealed at another time altogether: what the Fernet token says of its age does not count.
        let data = calls.seal(b"{}", UNIX_EPOCH);
        let timestamp = SENT_MS.to_string();
        let signature = signature(&data, &timestamp);
        let table = [
            (300_000, None),
            (300_001, Some(SealedError::TooOld)),
            (0, None),
            (-5000, None),
            (-5001, Some(SealedError::FromTheFuture)),
        ];
        for (offset_ms, expected) in table {
            let result = calls.verify(&data, &timestamp, &signature, at(offset_ms), MAX_AGE);
            assert_eq!(result.err(), expected, "{offset_ms} ms");
        }
    }

    #[test]
    fn bad_secrets_are_named_and_never_shown() {
        assert_eq!(SealedCalls::new(KEY, "").unwrap_err(), SealedKeyError::NoApiSecret);
        let secret = "this_is_no_fernet_key_but_a_secret!";
        let fault = SealedCalls::new(secret, "s").unwrap_err().to_string();
        assert!(fault.contains("ENCRYPTION_KEY") && fault.contains("base64url"), "{fault}");
        assert!(!fault.contains(secret), "{fault}");
        let fault = SealedCalls::new("MDEyMzQ1Njc4OQ==", "s").unwrap_err().to_string();
        assert!(fault.contains("holds 10 bytes") && !fault.contains("MDEy"), "{fault}");
        let shown = format!("{:?}", calls());
        assert!(!shown.contains("MDEy") && !shown.contains("api-secret"), "{shown}");
    }

    /// `printf %s MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= | sha256sum`.
    #[test]
    fn the_fingerprint_is_that_of_the_key_s_text() {
        assert_eq!(calls().fingerprint(), "2cf5e6ec387461b4");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(
            part in 0..3usize,
            at_index in any::<prop::sample::Index>(),
            to in proptest::char::range('\0', '\u{7f}'),
        ) {
            let calls = calls();
            let data = calls.seal(br#"{"file_id":"abc123"}"#, at(0));
            let timestamp = SENT_MS.to_string();
            let signature = signature(&data, &timestamp);
            let mut parts = [data, timestamp, signature];
            let index = at_index.index(parts[part].len());
            prop_assume!(parts[part].as_bytes()[index] != to as u8);
            parts[part].replace_range(index..=index, to.encode_utf8(&mut [0; 4]));
            let [data, timestamp, signature] = &parts;
            prop_assert!(calls.verify(data, timestamp, signature, at(0), MAX_AGE).is_err());
        }
    }
}
