//! Timed links: the tokens of itsdangerous 2.x (`URLSafeTimedSerializer`), as `payload.timestamp.signature`.
//!
//! The payload is base64url of compact JSON, or a dot and base64url of its zlib form where that is shorter; the
//! timestamp base64url of the big-endian seconds since 1970; the signature HMAC-SHA-1 under a key derived from salt and
//! secret (`django-concat`). Base64url has no padding. Nothing is decoded before the signature has verified.

use std::fmt;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::json::{Text, UnknownNames, set_once};
use crate::mac::is_equal;

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Longest payload after inflating, in bytes: 4 KiB could grow to 3 MiB.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// How far the clock of whoever signed may be ahead, in seconds.
const SKEW_SECONDS: u64 = 5;
/// Length of a SHA-1.
const SHA1_BYTES: usize = 20;

/// Why a token is refused. A client is told one of two things: it is bad, or it is not its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TimedError {
    #[error("{0}")]
    Bad(BadTimed),
    /// Too old, or from the future: itsdangerous says the same of both.
    #[error("expired")]
    Expired,
}

/// What is wrong with a bad token, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadTimed {
    #[error("longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("not a payload, a timestamp and a signature")]
    Structure,
    #[error("not authentic")]
    Authentication,
    #[error("timestamp is not the seconds since 1970")]
    Timestamp,
    #[error("payload is not base64url, or inflates to nothing sensible")]
    Encoding,
    #[error("payload is not a JSON object with to_user, or a name is repeated or of the wrong type")]
    Payload,
}

impl From<BadTimed> for TimedError {
    fn from(bad: BadTimed) -> Self {
        Self::Bad(bad)
    }
}

/// What a timed link says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimedPayload {
    /// Whom the link was made for.
    pub to_user: String,
    /// The file, where the link names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
}

/// Signs and opens timed links with one derived key.
#[derive(Clone)]
pub struct TimedSigner {
    key: Zeroizing<[u8; SHA1_BYTES]>,
}

impl TimedSigner {
    /// Derives the key: SHA-1 over salt, `signer`, secret. An empty secret is for the caller to refuse.
    pub fn new(secret: &str, salt: &str) -> Self {
        let hash = Sha1::new().chain_update(salt).chain_update("signer").chain_update(secret);
        Self { key: Zeroizing::new(hash.finalize().into()) }
    }

    fn mac(&self, signed: &str) -> [u8; SHA1_BYTES] {
        let mac = Hmac::<Sha1>::new_from_slice(&self.key[..]).expect("HMAC takes keys of any length");
        mac.chain_update(signed).finalize().into_bytes().into()
    }

    /// A token of now.
    pub fn sign(&self, payload: &TimedPayload, now: SystemTime) -> String {
        let json = serde_json::to_vec(payload).expect("texts serialize");
        let deflated = deflate(&json);
        // As itsdangerous has it: the dot in front has to be earned too.
        let mut token = if deflated.len() + 1 < json.len() {
            format!(".{}", URL_SAFE_NO_PAD.encode(deflated))
        } else {
            URL_SAFE_NO_PAD.encode(json)
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(timestamp_bytes(whole_seconds(now)), &mut token);
        let mac = self.mac(&token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        token
    }

    /// Verifies a token and reads it. It holds for `max_age`, whole seconds, the last one included.
    ///
    /// # Errors
    /// The first check that failed: length, signature, age, payload.
    pub fn open(&self, text: &str, now: SystemTime, max_age: Duration) -> Result<TimedPayload, TimedError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(BadTimed::TooLong.into());
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(BadTimed::Structure)?;
        let expected = URL_SAFE_NO_PAD.encode(self.mac(signed));
        if !is_equal(expected.as_bytes(), signature.as_bytes()) {
            return Err(BadTimed::Authentication.into());
        }
        let (payload, timestamp) = signed.rsplit_once('.').ok_or(BadTimed::Structure)?;
        let signed_at = parse_timestamp(timestamp).ok_or(BadTimed::Timestamp)?;
        let now = whole_seconds(now);
        let is_future = signed_at > now.saturating_add(SKEW_SECONDS);
        if is_future || now.saturating_sub(signed_at) > max_age.as_secs() {
            return Err(TimedError::Expired);
        }
        let json = match payload.strip_prefix('.') {
            None => decode(payload)?,
            Some(deflated) => inflate(&decode(deflated)?).ok_or(BadTimed::Encoding)?,
        };
        serde_json::from_slice(&json).map_err(|_| BadTimed::Payload.into())
    }
}

impl fmt::Debug for TimedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimedSigner(redacted)")
    }
}

fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Big-endian, as few bytes as hold it.
fn timestamp_bytes(seconds: u64) -> Vec<u8> {
    seconds.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

fn parse_timestamp(text: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let mut whole = [0; 8];
    let at = whole.len().checked_sub(bytes.len())?;
    whole[at..].copy_from_slice(&bytes);
    Some(u64::from_be_bytes(whole))
}

fn decode(text: &str) -> Result<Vec<u8>, BadTimed> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| BadTimed::Encoding)
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes every byte")
}

/// `None` where the stream is broken, followed by something, or longer than [`PAYLOAD_BYTES_MAX`].
fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let mut decoder = ZlibDecoder::new(bytes);
    let limit = u64::try_from(PAYLOAD_BYTES_MAX).ok()? + 1;
    decoder.by_ref().take(limit).read_to_end(&mut inflated).ok()?;
    let is_whole =
        inflated.len() <= PAYLOAD_BYTES_MAX && usize::try_from(decoder.total_in()) == Ok(bytes.len());
    is_whole.then_some(inflated)
}

impl<'de> Deserialize<'de> for TimedPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = TimedPayload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with to_user")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut unknown = UnknownNames::default();
        let (mut to_user, mut file_id) = (None, None);
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "to_user" => set_once(&mut to_user, map.next_value()?)?,
                "file_id" => set_once(&mut file_id, map.next_value::<String>()?)?,
                _ => {
                    unknown.insert(name)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let to_user = to_user.ok_or_else(|| de::Error::missing_field("to_user"))?;
        Ok(TimedPayload { to_user, file_id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const NOW: u64 = 1_795_359_975;
    const MAX_AGE: Duration = Duration::from_secs(600);

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn signer() -> TimedSigner {
        TimedSigner::new("your secret key", "itsdangerous")
    }

    fn payload(to_user: &str) -> TimedPayload {
        TimedPayload { to_user: to_user.into(), file_id: None }
    }

    /// Any text and timestamp under a right signature, to reach what lies behind it.
    fn sign_text(payload: &str, timestamp: &str) -> String {
        let signed = format!("{payload}.{timestamp}");
        let mac = URL_SAFE_NO_PAD.encode(signer().mac(&signed));
        format!("{signed}.{mac}")
    }

    fn sign_json(json: &[u8]) -> String {
        sign_text(&URL_SAFE_NO_PAD.encode(json), &URL_SAFE_NO_PAD.encode(timestamp_bytes(NOW)))
    }

    fn sign_deflated(deflated: &[u8]) -> String {
        let payload = format!(".{}", URL_SAFE_NO_PAD.encode(deflated));
        sign_text(&payload, &URL_SAFE_NO_PAD.encode(timestamp_bytes(NOW)))
    }

    #[test]
    fn the_vectors_of_itsdangerous_hold() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/data/vectors.json")).unwrap();
        let vectors = vectors["itsdangerous"].as_array().unwrap();
        assert!(vectors.len() >= 4);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let signer = TimedSigner::new(text("secret"), "itsdangerous");
            let result = signer.open(text("token"), at(vector["now"].as_u64().unwrap()), MAX_AGE);
            match &vector["payload"] {
                Value::Null => assert_eq!(result, Err(BadTimed::Authentication.into()), "{}", text("name")),
                said => {
                    let opened = result.unwrap();
                    assert_eq!(&serde_json::to_value(&opened).unwrap(), said, "{}", text("name"));
                    // Signed 5 s before "now", to the byte what itsdangerous made of it.
                    let again = signer.sign(&opened, at(vector["now"].as_u64().unwrap() - 5));
                    assert_eq!(again.starts_with('.'), text("token").starts_with('.'));
                    if !again.starts_with('.') {
                        assert_eq!(again, text("token"));
                    }
                }
            }
        }
    }

    #[test]
    fn a_link_holds_for_its_age_and_no_longer() {
        let token = signer().sign(&payload("alice"), at(NOW));
        let table = [
            (NOW, true),
            (NOW + 600, true),
            (NOW + 601, false),
            (NOW - 5, true),
            (NOW - 6, false),
            (0, false),
            (u64::from(u32::MAX) * 2, false),
        ];
        for (now, holds) in table {
            let expected = if holds { Ok(payload("alice")) } else { Err(TimedError::Expired) };
            assert_eq!(signer().open(&token, at(now), MAX_AGE), expected, "{now}");
        }
        let half_a_second_on = at(NOW + 600) + Duration::from_millis(500);
        assert!(signer().open(&token, half_a_second_on, MAX_AGE).is_ok(), "whole seconds, as itsdangerous");
    }

    #[test]
    fn another_secret_or_salt_opens_nothing() {
        let token = signer().sign(&payload("alice"), at(NOW));
        for (secret, salt) in [("your secret kez", "itsdangerous"), ("your secret key", "download")] {
            let result = TimedSigner::new(secret, salt).open(&token, at(NOW), MAX_AGE);
            assert_eq!(result, Err(BadTimed::Authentication.into()));
        }
        assert!(!format!("{:?}", signer()).contains("secret key"));
    }

    #[test]
    fn payloads_are_read_strictly() {
        let table: [(&str, Result<(), BadTimed>); 13] = [
            (r#"{"to_user":"a"}"#, Ok(())),
            (r#" {"x":{"y":[1]},"to_user":"\u0061","file_id":"b/c.bin","z":null} "#, Ok(())),
            (r#"{"to_user":"a","to_user":"a"}"#, Err(BadTimed::Payload)),
            (r#"{"to_user":"a","file_id":"b","file_\u0069d":"c"}"#, Err(BadTimed::Payload)),
            (r#"{"to_user":"a","x":1,"x":1}"#, Err(BadTimed::Payload)),
            (r#"{"to_user":7}"#, Err(BadTimed::Payload)),
            (r#"{"to_user":null}"#, Err(BadTimed::Payload)),
            (r#"{"to_user":"a","file_id":null}"#, Err(BadTimed::Payload)),
            (r#"{"file_id":"b"}"#, Err(BadTimed::Payload)),
            (r#"["a"]"#, Err(BadTimed::Payload)),
            (r#"{"to_user":"a"} x"#, Err(BadTimed::Payload)),
            (r#""a""#, Err(BadTimed::Payload)),
            ("", Err(BadTimed::Payload)),
        ];
        for (json, expected) in table {
            let expected = expected.map_err(TimedError::Bad);
            assert_eq!(
                signer().open(&sign_json(json.as_bytes()), at(NOW), MAX_AGE).map(|_| ()),
                expected,
                "{json}"
            );
            let deflated = sign_deflated(&deflate(json.as_bytes()));
            assert_eq!(signer().open(&deflated, at(NOW), MAX_AGE).map(|_| ()), expected, "{json}");
        }
        let no_text = sign_json(b"{\"to_user\":\"\xff\"}");
        assert_eq!(signer().open(&no_text, at(NOW), MAX_AGE), Err(BadTimed::Payload.into()));
    }

    #[test]
    fn what_is_signed_and_malformed_is_bad() {
        let stamp = URL_SAFE_NO_PAD.encode(timestamp_bytes(NOW));
        let zlib = deflate(br#"{"to_user":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#);
        let bomb = deflate(&vec![b' '; PAYLOAD_BYTES_MAX + 1]);
        assert!(bomb.len() < 200);
        let mut bad_sum = zlib.clone();
        *bad_sum.last_mut().unwrap() ^= 1;
        let table = [
            (sign_text("eyJ0b191c2VyIjoiYWxpY2UifQ==", &stamp), BadTimed::Encoding),
            (sign_text("eyJ0b191c2VyIjoiYWxpY2UifR", &stamp), BadTimed::Encoding),
            (sign_text("eyJ0b191c2VyIjoiYWxpY2Ui+Q", &stamp), BadTimed::Encoding),
            (sign_text("..eyJ0b191c2VyIjoiYWxpY2UifQ", &stamp), BadTimed::Encoding),
            (sign_text(".eyJ0b191c2VyIjoiYWxpY2UifQ", &stamp), BadTimed::Encoding),
            (sign_deflated(&zlib[..zlib.len() - 1]), BadTimed::Encoding),
            (sign_deflated(&[&zlib[..], b"x"].concat()), BadTimed::Encoding),
            (sign_deflated(&bad_sum), BadTimed::Encoding),
            (sign_deflated(&bomb), BadTimed::Encoding),
            (sign_deflated(&deflate(&vec![b' '; PAYLOAD_BYTES_MAX])), BadTimed::Payload),
            (sign_text("e30", "AAAAAAAAAAAA"), BadTimed::Timestamp),
            (sign_text("e30", "aw=="), BadTimed::Timestamp),
            (sign_text("e30", "a"), BadTimed::Timestamp),
            (format!("e30.{}", URL_SAFE_NO_PAD.encode(signer().mac("e30"))), BadTimed::Structure),
            ("e30".into(), BadTimed::Structure),
            (String::new(), BadTimed::Structure),
            ("..".into(), BadTimed::Authentication),
            ("x".repeat(TOKEN_BYTES_MAX + 1), BadTimed::TooLong),
        ];
        for (token, expected) in table {
            assert_eq!(signer().open(&token, at(NOW), MAX_AGE), Err(TimedError::Bad(expected)), "{token}");
        }
        // Not an attack, only 1970.
        assert_eq!(signer().open(&sign_text("e30", ""), at(NOW), MAX_AGE), Err(TimedError::Expired));
    }

    proptest! {
        #[test]
        fn what_is_signed_opens(
            to_user in r#"[a-zé漢"\\\\ \x00-\x1f\x7f]{0,60}|a{100,900}"#,
            file_id in proptest::option::of("[a-z/漢]{1,40}"),
            secs in 0..1u64 << 33,
        ) {
            let payload = TimedPayload { to_user, file_id };
            let token = signer().sign(&payload, at(secs));
            prop_assert_eq!(signer().open(&token, at(secs), MAX_AGE), Ok(payload));
        }

        #[test]
        fn any_changed_byte_is_refused(
            name in "[a-z]{1,10}|a{100,200}",
            index in any::<prop::sample::Index>(),
            to in proptest::char::range('\0', '\u{7f}'),
        ) {
            let mut token = signer().sign(&payload(&name), at(NOW));
            let index = index.index(token.len());
            prop_assume!(token.as_bytes()[index] != to as u8);
            token.replace_range(index..=index, to.encode_utf8(&mut [0; 4]));
            prop_assert!(matches!(signer().open(&token, at(NOW), MAX_AGE), Err(TimedError::Bad(_))));
        }
    }
}
