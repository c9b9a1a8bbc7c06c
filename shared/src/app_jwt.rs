//! JWTs that callers make with their app's secret: HS256 (RFC 7515, 7519), short-lived, and with two liberties that
//! callers in the field take.
//!
//! The signature may be base64url of the MAC, or base64url of the *base64 text* of the MAC. And an `exp` of at most a
//! day is no moment in 1970 but a lifetime, counted from `iat`.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::json::{Text, UnknownNames, set_once};
use crate::mac::{MAC_BYTES, hmac_sha256, is_equal};
use crate::token::NumericDate;

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// How far ahead `exp` may be where nothing else is configured.
pub const MAX_EXP_DEFAULT: Duration = Duration::from_secs(86_400);
/// An `exp` up to this is a lifetime, in seconds.
const LIFETIME_MAX: f64 = 86_400.0;
/// How far a caller's clock may be ahead, in seconds.
const SKEW_SECONDS: f64 = 5.0;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AppJwtError {
    #[error("not a JWT of HS256 whose claims have exp once, as a number")]
    Malformed,
    #[error("signature does not match")]
    BadSignature,
    #[error("expired")]
    Expired,
    #[error(
        "exp is a lifetime, and without iat it cannot be checked: add iat, the time now in seconds since 1970"
    )]
    NeedsIat,
    #[error("exp is too far ahead")]
    ExpTooFar,
    #[error("iat is in the future")]
    FromTheFuture,
    #[error("not yet valid")]
    NotYetValid,
}

/// Verifies a bare token, without `Bearer`. An `exp` may be `max_exp` ahead at most.
///
/// # Errors
/// The first check that failed: form, header, signature, claims, times. An empty secret verifies nothing.
pub fn verify(token: &str, secret: &[u8], now: SystemTime, max_exp: Duration) -> Result<(), AppJwtError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AppJwtError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(AppJwtError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(AppJwtError::Malformed)?;
    let header = decode(header)?;
    serde_json::from_slice::<Header>(&header).map_err(|_| AppJwtError::Malformed)?;
    if secret.is_empty() || !is_signature(&decode(signature)?, &hmac_sha256(secret, &[signed.as_bytes()])) {
        return Err(AppJwtError::BadSignature);
    }
    let claims = decode(claims)?;
    let times: Times = serde_json::from_slice(&claims).map_err(|_| AppJwtError::Malformed)?;
    judge(&times, NumericDate::from_system_time(now).as_secs_f64(), max_exp.as_secs_f64())
}

fn decode(part: &str) -> Result<Vec<u8>, AppJwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AppJwtError::Malformed)
}

/// Whether these are the MAC's bytes or its base64 text; their length says which of the two.
fn is_signature(presented: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
    match presented.len() {
        MAC_BYTES => is_equal(mac, presented),
        _ => is_equal(STANDARD.encode(mac).as_bytes(), presented),
    }
}

fn judge(times: &Times, now: f64, max_exp: f64) -> Result<(), AppJwtError> {
    let exp = times.exp.as_secs_f64();
    let expires_at = if exp <= LIFETIME_MAX {
        let iat = times.iat.ok_or(AppJwtError::NeedsIat)?.as_secs_f64();
        if iat > now + SKEW_SECONDS {
            return Err(AppJwtError::FromTheFuture);
        }
        if exp > max_exp {
            return Err(AppJwtError::ExpTooFar);
        }
        iat + exp
    } else if exp > now + max_exp {
        return Err(AppJwtError::ExpTooFar);
    } else {
        exp
    };
    if now >= expires_at {
        return Err(AppJwtError::Expired);
    }
    if times.nbf.is_some_and(|nbf| nbf.as_secs_f64() > now + SKEW_SECONDS) {
        return Err(AppJwtError::NotYetValid);
    }
    Ok(())
}

/// A header that passed: `HS256`, `typ` absent or `JWT`, no `crit`.
struct Header;

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the header of a JWT of HS256")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
        let mut unknown = UnknownNames::default();
        let (mut alg, mut typ) = (None, None);
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "alg" => set_once(&mut alg, map.next_value::<Text<'de>>()?.0)?,
                "typ" => set_once(&mut typ, map.next_value::<Text<'de>>()?.0)?,
                "crit" => return Err(de::Error::custom("parameter not supported")),
                _ => {
                    unknown.insert(name)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let accepted = alg.as_deref() == Some("HS256") && matches!(typ.as_deref(), None | Some("JWT"));
        if accepted { Ok(Header) } else { Err(de::Error::custom("not a JWT of HS256")) }
    }
}

/// The claims that decide; the others are the caller's own.
struct Times {
    exp: NumericDate,
    iat: Option<NumericDate>,
    nbf: Option<NumericDate>,
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TimesVisitor)
    }
}

struct TimesVisitor;

impl<'de> Visitor<'de> for TimesVisitor {
    type Value = Times;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Times, M::Error> {
        let mut unknown = UnknownNames::default();
        let (mut exp, mut iat, mut nbf) = (None, None, None);
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "exp" => set_once(&mut exp, map.next_value()?)?,
                "iat" => set_once(&mut iat, map.next_value()?)?,
                "nbf" => set_once(&mut nbf, map.next_value()?)?,
                _ => {
                    unknown.insert(name)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let exp = exp.ok_or_else(|| de::Error::missing_field("exp"))?;
        Ok(Times { exp, iat, nbf })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const SECRET: &[u8] = b"your_app_secret";
    const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    #[derive(Clone, Copy)]
    enum Style {
        Bytes,
        Text,
    }

    fn sign(header: &str, claims: &str, style: Style) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = hmac_sha256(SECRET, &[signed.as_bytes()]);
        let signature = match style {
            Style::Bytes => URL_SAFE_NO_PAD.encode(mac),
            Style::Text => URL_SAFE_NO_PAD.encode(STANDARD.encode(mac)),
        };
        format!("{signed}.{signature}")
    }

    #[test]
    fn the_vectors_of_both_callers_hold() {
        let vectors: Value = serde_json::from_str(include_str!("../tests/data/vectors.json")).unwrap();
        let vectors = vectors["app_jwt"].as_array().unwrap();
        assert!(vectors.len() >= 7);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(vector["now"].as_u64().unwrap());
            let expected = match text("result") {
                "ok" => Ok(()),
                "expired" => Err(AppJwtError::Expired),
                "needs_iat" => Err(AppJwtError::NeedsIat),
                "exp_too_far" => Err(AppJwtError::ExpTooFar),
                "bad_signature" => Err(AppJwtError::BadSignature),
                other => panic!("{other}"),
            };
            let result = verify(text("token"), text("secret").as_bytes(), now, MAX_EXP_DEFAULT);
            assert_eq!(result, expected, "{}", text("name"));
        }
    }

    #[test]
    fn times_are_judged_to_the_instant() {
        let day = MAX_EXP_DEFAULT;
        let hour = Duration::from_secs(3600);
        let table = [
            (r#"{"exp":1700000001}"#, day, Ok(())),
            (r#"{"exp":1700000000.5}"#, day, Ok(())),
            (r#"{"exp":1700000000}"#, day, Err(AppJwtError::Expired)),
            (r#"{"exp":1700086400}"#, day, Ok(())),
            (r#"{"exp":1700086400.5}"#, day, Err(AppJwtError::ExpTooFar)),
            (r#"{"exp":1700003601}"#, hour, Err(AppJwtError::ExpTooFar)),
            (r#"{"exp":1e300}"#, day, Err(AppJwtError::ExpTooFar)),
            (r#"{"exp":86401,"iat":1700000000}"#, day, Err(AppJwtError::Expired)),
            (r#"{"exp":86400,"iat":1700000005}"#, day, Ok(())),
            (r#"{"exp":86400,"iat":1700000005.5}"#, day, Err(AppJwtError::FromTheFuture)),
            (r#"{"exp":86400,"iat":1e300}"#, day, Err(AppJwtError::FromTheFuture)),
            (r#"{"exp":3601,"iat":1700000000}"#, hour, Err(AppJwtError::ExpTooFar)),
            (r#"{"exp":3600,"iat":1699996401}"#, hour, Ok(())),
            (r#"{"exp":3600,"iat":1699996400}"#, hour, Err(AppJwtError::Expired)),
            (r#"{"exp":0,"iat":1700000000}"#, day, Err(AppJwtError::Expired)),
            (r#"{"exp":-1,"iat":1700000001}"#, day, Err(AppJwtError::Expired)),
            (r#"{"exp":3600}"#, day, Err(AppJwtError::NeedsIat)),
            (r#"{"exp":1700000001,"nbf":1700000005}"#, day, Ok(())),
            (r#"{"exp":1700000001,"nbf":1700000006}"#, day, Err(AppJwtError::NotYetValid)),
            // An iat that nothing is counted from is the caller's own affair.
            (r#"{"exp":1700000001,"iat":1800000000}"#, day, Ok(())),
        ];
        for (claims, max_exp, expected) in table {
            for style in [Style::Bytes, Style::Text] {
                assert_eq!(
                    verify(&sign(HEADER, claims, style), SECRET, now(), max_exp),
                    expected,
                    "{claims}"
                );
            }
        }
    }

    #[test]
    fn headers_and_claims_are_read_strictly() {
        let good = r#"{"exp":1700003600}"#;
        let fine = [
            (r#"{"alg":"HS256"}"#, good),
            (r#" { "alg" : "HS256" , "kid" : "x", "typ":"JWT"} "#, good),
            (HEADER, r#"{"appKey":{"a":[1]},"\u0065xp":1700003600,"sub":"x"}"#),
        ];
        for (header, claims) in fine {
            assert_eq!(
                verify(&sign(header, claims, Style::Bytes), SECRET, now(), MAX_EXP_DEFAULT),
                Ok(()),
                "{header}"
            );
        }
        let refused = [
            (r#"{"alg":"none"}"#, good),
            (r#"{"alg":"hs256"}"#, good),
            (r#"{"alg":"HS384"}"#, good),
            (r#"{"alg":["HS256"]}"#, good),
            (r#"{"typ":"JWT"}"#, good),
            (r#"{"alg":"HS256","typ":"JWE"}"#, good),
            (r#"{"alg":"HS256","typ":null}"#, good),
            (r#"{"alg":"HS256","crit":[]}"#, good),
            (r#"{"alg":"HS256","alg":"HS256"}"#, good),
            (r#"{"alg":"none","al\u0067":"HS256"}"#, good),
            (r#"{"alg":"HS256","x":1,"x":1}"#, good),
            (r#"["HS256"]"#, good),
            ("", good),
            (HEADER, r#"{}"#),
            (HEADER, r#"{"exp":"1700003600"}"#),
            (HEADER, r#"{"exp":null}"#),
            (HEADER, r#"{"exp":1e999}"#),
            (HEADER, r#"{"exp":1700003600,"exp":1700003600}"#),
            (HEADER, r#"{"exp":1700003600,"iat":"x"}"#),
            (HEADER, r#"{"exp":1700003600,"x":1,"x":1}"#),
            (HEADER, r#"{"exp":1700003600} x"#),
            (HEADER, "[1700003600]"),
            (HEADER, ""),
        ];
        for (header, claims) in refused {
            let result = verify(&sign(header, claims, Style::Bytes), SECRET, now(), MAX_EXP_DEFAULT);
            assert_eq!(result, Err(AppJwtError::Malformed), "{header} {claims}");
        }
    }

    #[test]
    fn tokens_of_another_form_are_refused() {
        let good = sign(HEADER, r#"{"exp":1700003600}"#, Style::Bytes);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let mac = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let text_unpadded = URL_SAFE_NO_PAD.encode(STANDARD.encode(&mac).trim_end_matches('='));
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let table = [
            (String::new(), AppJwtError::Malformed),
            ("..".into(), AppJwtError::Malformed),
            (signed.to_owned(), AppJwtError::Malformed),
            (format!("{good}.x"), AppJwtError::Malformed),
            (format!(".{good}"), AppJwtError::Malformed),
            (format!("Bearer {good}"), AppJwtError::Malformed),
            (format!("{good}="), AppJwtError::Malformed),
            (format!("{signed}."), AppJwtError::BadSignature),
            (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&mac[..31])), AppJwtError::BadSignature),
            (format!("{signed}.{text_unpadded}"), AppJwtError::BadSignature),
            (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hex)), AppJwtError::BadSignature),
            (format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)), AppJwtError::Malformed),
        ];
        for (token, expected) in table {
            assert_eq!(verify(&token, SECRET, now(), MAX_EXP_DEFAULT), Err(expected), "{token}");
        }
        let unkeyed = hmac_sha256(b"", &[signed.as_bytes()]);
        let unkeyed = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(unkeyed));
        assert_eq!(verify(&unkeyed, b"", now(), MAX_EXP_DEFAULT), Err(AppJwtError::BadSignature));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(
            as_text in any::<bool>(),
            index in any::<prop::sample::Index>(),
            to in proptest::char::range('\0', '\u{7f}'),
        ) {
            let style = if as_text { Style::Text } else { Style::Bytes };
            let mut token = sign(HEADER, r#"{"iat":1700000000,"exp":3600}"#, style);
            let index = index.index(token.len());
            prop_assume!(token.as_bytes()[index] != to as u8);
            token.replace_range(index..=index, to.encode_utf8(&mut [0; 4]));
            let result = verify(&token, SECRET, now(), MAX_EXP_DEFAULT);
            prop_assert!(matches!(result, Err(AppJwtError::Malformed | AppJwtError::BadSignature)), "{:?}", result);
        }
    }
}
