//! JWK-set text (RFC 7517) ↔ [`KeyRing`], by josekit. No message repeats key material: a parser's own words can.

use josekit::jwk::{Jwk, JwkSet};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_BYTES, KeyId, KeyRing, KeyRingError, KeyState, Secret, TokenKey};

/// Why a text is no key set; keys are named by their place, counted from 0, or their kid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    #[error("not JSON (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("not a JWK set: an object with an array \"keys\" of JWKs")]
    Set,
    #[error("no keys")]
    Empty,
    #[error("keys[{0}]: \"kid\" is missing, or not 1 to 64 printable ASCII characters")]
    Id(usize),
    #[error("key '{id}': \"{member}\" must be \"{expected}\"")]
    Member { id: KeyId, member: &'static str, expected: &'static str },
    #[error("key '{0}' is no JWK of type \"oct\" whose \"k\" is base64url without padding")]
    Encoding(KeyId),
    #[error("key '{id}' is {length} bytes long; A256GCM takes {KEY_BYTES}")]
    Length { id: KeyId, length: usize },
    #[error("key '{0}': \"state\" must be \"next\", \"current\" or \"previous\"")]
    State(KeyId),
    #[error("\"state\" must stand on every key or on none")]
    StateOnSome,
    #[error(transparent)]
    Ring(#[from] KeyRingError),
}

/// Reads a JWK set. Without `state` anywhere, the first key is current and the others previous.
///
/// # Errors
/// The first fault, without key material.
pub(super) fn parse(text: &[u8]) -> Result<KeyRing, JwksError> {
    let map: Map<String, Value> = serde_json::from_slice(text)
        .map_err(|error| JwksError::Json { line: error.line(), column: error.column() })?;
    let Some(Value::Array(members)) = map.get("keys") else {
        return Err(JwksError::Set);
    };
    if members.is_empty() {
        return Err(JwksError::Empty);
    }
    // Key by key, not as a set, so that a fault names its key.
    let jwks = members.iter().enumerate().map(|(at, member)| parse_jwk(at, member));
    let jwks = jwks.collect::<Result<Vec<Jwk>, JwksError>>()?;
    let stated = jwks.iter().filter(|jwk| jwk.parameter("state").is_some()).count();
    if stated != 0 && stated != jwks.len() {
        return Err(JwksError::StateOnSome);
    }
    let keys = jwks.iter().enumerate().map(|(at, jwk)| parse_key(at, jwk)).collect::<Result<_, _>>()?;
    Ok(KeyRing::new(keys)?)
}

fn parse_jwk(at: usize, member: &Value) -> Result<Jwk, JwksError> {
    let Value::Object(members) = member else {
        return Err(JwksError::Set);
    };
    let id = members.get("kid").and_then(Value::as_str).and_then(KeyId::parse).ok_or(JwksError::Id(at))?;
    Jwk::from_map(members.clone()).map_err(|_| JwksError::Encoding(id))
}

fn parse_key(at: usize, jwk: &Jwk) -> Result<TokenKey, JwksError> {
    let id = jwk.key_id().and_then(KeyId::parse).ok_or(JwksError::Id(at))?;
    let members = [
        ("kty", Some(jwk.key_type()), "oct"),
        ("alg", jwk.algorithm(), "dir"),
        ("enc", jwk.parameter("enc").map(|enc| enc.as_str().unwrap_or_default()), "A256GCM"),
        ("use", jwk.key_use(), "enc"),
    ];
    for (member, value, expected) in members {
        if value.is_some_and(|value| value != expected) {
            return Err(JwksError::Member { id, member, expected });
        }
    }
    let bytes = Zeroizing::new(jwk.key_value().ok_or_else(|| JwksError::Encoding(id.clone()))?);
    let secret = match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Secret::new(bytes),
        Err(_) => {
            return Err(JwksError::Length { id, length: bytes.len() });
        }
    };
    let state = match jwk.parameter("state") {
        None if at == 0 => KeyState::Current,
        None => KeyState::Previous,
        Some(state) => match state.as_str() {
            Some("next") => KeyState::Next,
            Some("current") => KeyState::Current,
            Some("previous") => KeyState::Previous,
            _ => return Err(JwksError::State(id)),
        },
    };
    Ok(TokenKey::new(id, state, secret))
}

/// Writes a ring as a JWK set that [`parse`] and every JOSE library reads.
pub(super) fn print(ring: &KeyRing) -> Zeroizing<String> {
    let mut set = JwkSet::new();
    for key in ring.newest_first() {
        let mut jwk = Jwk::new("oct");
        jwk.set_key_id(key.id().as_str());
        jwk.set_algorithm("dir");
        jwk.set_key_use("enc");
        jwk.set_key_value(key.secret().bytes());
        let state = match key.state() {
            KeyState::Next => "next",
            KeyState::Current => "current",
            KeyState::Previous => "previous",
        };
        for (name, value) in [("enc", "A256GCM"), ("state", state)] {
            jwk.set_parameter(name, Some(value.into())).expect("a free member takes a string");
        }
        set.push_key(jwk);
    }
    let mut map: Map<String, Value> = set.into();
    let text = Zeroizing::new(serde_json::to_string_pretty(&map).expect("a map serializes"));
    map.values_mut().for_each(wipe);
    text
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn fault(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn sets_without_states_take_the_first_as_current() {
        let text = format!(
            r#"{{"keys":[{{"kty":"oct","kid":"b","k":"{K}"}},{{"kty":"oct","kid":"a","k":"{K}","alg":"dir"}}]}}"#
        );
        let ring = parse(text.as_bytes()).unwrap();
        assert_eq!(ring.current().id().as_str(), "b");
        assert_eq!(ring.by_id("a").unwrap().state(), KeyState::Previous);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let key = |id: &str, state| TokenKey::new(KeyId::parse(id).unwrap(), state, Secret::random());
        let ring = KeyRing::new(vec![
            key("old", KeyState::Previous),
            key("new", KeyState::Next),
            key("now", KeyState::Current),
        ])
        .unwrap();
        let again = parse(print(&ring).as_bytes()).unwrap();
        let facts = |ring: &KeyRing| -> Vec<_> {
            ring.newest_first().map(|k| (k.id().clone(), k.state(), *k.secret().bytes())).collect()
        };
        assert_eq!(facts(&again), facts(&ring));
    }

    #[test]
    fn every_fault_is_named_without_the_key() {
        let one = |members: &str| format!(r#"{{"keys":[{{"kty":"oct","kid":"a",{members}}}]}}"#);
        let short = "dGhpc19pc19hXzMyYnl0ZV9zZWNyZXRfa2V5ISEhIQ"; // 31 bytes
        let table = [
            ("".to_owned(), "not JSON"),
            (r#"{"keys":"AAEC"}"#.to_owned(), "not a JWK set"),
            (r#"{"keys":[]}"#.to_owned(), "no keys"),
            (one(&format!(r#""k":"{short}""#)), "key 'a' is 31 bytes long; A256GCM takes 32"),
            (one(r#""k":"AA=A""#), "key 'a' is no JWK of type \"oct\""),
            (one(&format!(r#""k":"{K}","alg":"A256KW""#)), "\"alg\" must be \"dir\""),
            (one(&format!(r#""k":"{K}","state":"live""#)), "\"state\" must be"),
            (one(&format!(r#""k":"{K}","state":"previous""#)), "0 keys are 'current'"),
            (format!(r#"{{"keys":[{{"kty":"oct","k":"{K}"}}]}}"#), "keys[0]: \"kid\" is missing"),
            (
                format!(
                    r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{K}"}},{{"kty":"oct","kid":"a","k":"{K}"}}]}}"#
                ),
                "two keys share the kid 'a'",
            ),
        ];
        for (text, expected) in table {
            let fault = fault(&text);
            assert!(fault.contains(expected), "{text}: {fault}");
            assert!(!fault.contains(K) && !fault.contains(short), "{fault}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let ring = parse(format!(r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{K}"}}]}}"#).as_bytes()).unwrap();
        let shown = format!("{ring:?} {:?}", ring.current().secret());
        assert!(shown.contains("redacted") && !shown.contains(K) && !shown.contains("1, 2, 3"));
    }
}
