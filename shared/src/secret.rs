//! Secrets that are text: compared in constant time where they are compared, never printed, wiped when dropped.

use std::fmt;

use rand::RngExt;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password, or the text of a key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// 43 characters of base64url, 256 random bits.
    pub fn random() -> Self {
        use base64::Engine;
        let bits: [u8; 32] = rand::rng().random();
        Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits))
    }

    /// The secret itself: for ciphers, and for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Takes text. What is none may be meant as a secret all the same: no fault repeats it, as serde's own would.
struct TextVisitor;

impl TextVisitor {
    fn fault<E: de::Error>(self) -> Result<SecretText, E> {
        Err(E::custom("a secret is text: write it in quotes"))
    }
}

impl Visitor<'_> for TextVisitor {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret, in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
        Ok(SecretText::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
        self.fault()
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<SecretText, E> {
        self.fault()
    }
}

/// Into the private file that it is kept in, and nowhere else.
impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed_and_not_repeated() {
        let (one, other) = (SecretText::random(), SecretText::random());
        assert_eq!(one.reveal().len(), 43);
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains(one.reveal()));
    }

    #[test]
    fn what_is_no_text_is_refused_and_not_repeated() {
        #[derive(Debug, Deserialize)]
        struct Raw {
            secret: SecretText,
        }
        let toml =
            ["12345678", "-12345678", "1234.5678", "true", "1979-05-27", "[12345678]", "{ a = 12345678 }"];
        let json =
            ["12345678", "-12345678", "1234.5678", "false", "12345678e300", "[12345678]", "{\"a\":12345678}"];
        let toml = toml.map(|value| {
            let fault = toml::from_str::<Raw>(&format!("secret = {value}")).unwrap_err();
            (value, fault.message().to_owned())
        });
        let json = json.map(|value| {
            let fault = serde_json::from_str::<Raw>(&format!("{{\"secret\":{value}}}")).unwrap_err();
            (value, fault.to_string())
        });
        for (value, fault) in toml.into_iter().chain(json) {
            assert!(
                !["1234", "5678", "1979", "true", "false"].iter().any(|part| fault.contains(part)),
                "{value}: {fault}"
            );
        }
        let raw: Raw = toml::from_str("secret = \"12345678\"").unwrap();
        assert_eq!(raw.secret.reveal(), "12345678");
    }
}
