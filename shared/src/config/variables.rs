//! The environment's layer of a configuration: `SLUICE_SECTION__KEY`.
//!
//! A variable has no types: `12345678` is a password, an id or a number. Each is taken as the text that it is, and read as
//! a number, a flag or a list only where its key refuses text; so a secret is never changed, and never in a fault.

use std::collections::BTreeSet;

use figment::providers::Env;
use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// Prefix of the variables; `SLUICE_CONFIG` names the file and is no key.
const PREFIX: &str = "SLUICE_";

/// The variables, and which of them are read as more than text.
#[derive(Clone)]
pub(super) struct Variables {
    named: Metadata,
    /// Keys, their parts joined by dots, and what the variables say.
    texts: Vec<(String, String)>,
    read: BTreeSet<String>,
}

impl Variables {
    pub(super) fn of_environment() -> Self {
        let env = Env::prefixed(PREFIX).ignore(&["config"]).split("__");
        let texts = env.iter().map(|(key, text)| (key.as_str().to_owned(), text)).collect();
        Self { named: env.metadata(), texts, read: BTreeSet::new() }
    }

    /// Tries with texts alone, then with what is refused as a text read as a value, one key after another.
    ///
    /// # Errors
    /// The fault of a key that is refused either way, or is no variable's.
    pub(super) fn extract<T>(
        mut self,
        try_with: impl Fn(Self) -> Result<T, Box<Error>>,
    ) -> Result<T, Box<Error>> {
        loop {
            let error = match try_with(self.clone()) {
                Ok(extracted) => return Ok(extracted),
                Err(error) => error,
            };
            let key = error.path.join(".");
            let is_variable = self.texts.iter().any(|(name, _)| *name == key);
            if !is_variable || !self.read.insert(key) {
                return Err(error);
            }
        }
    }
}

impl Provider for Variables {
    fn metadata(&self) -> Metadata {
        self.named.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut all = Dict::new();
        for (key, text) in &self.texts {
            let value = if self.read.contains(key) {
                text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
            } else {
                Value::from(text.as_str())
            };
            put(&mut all, key, value);
        }
        Ok(Profile::Default.collect(all))
    }
}

/// Puts a value where a dotted key says. What is no section is not made one: the later of two contradicting variables
/// stands, as it would in two layers.
fn put(dict: &mut Dict, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once('.') else {
        dict.insert(key.to_owned(), value);
        return;
    };
    let place = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if place.as_dict().is_none() {
        *place = Value::from(Dict::new());
    }
    if let Value::Dict(_, inner) = place {
        put(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::Serialized;
    use serde::Deserialize;

    use super::*;
    use crate::secret::SecretText;
    use crate::units::ByteSize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        id: Option<String>,
        names: Vec<String>,
        proxy: bool,
        etcd: RawEtcd,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct RawEtcd {
        password: Option<SecretText>,
        connections: Option<u32>,
        size: Option<ByteSize>,
    }

    fn load(texts: &[(&str, &str)]) -> Result<Raw, Box<Error>> {
        let texts = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let variables = Variables { named: Metadata::named("test"), texts, read: BTreeSet::new() };
        let layers = Figment::from(Serialized::defaults(Dict::new()));
        variables.extract(|variables| layers.clone().merge(variables).extract().map_err(Box::new))
    }

    #[test]
    fn a_secret_is_taken_as_it_is_whatever_it_looks_like() {
        let secrets =
            ["12345678", "00012", "1e5", "-7", "true", "[1]", "{a=1}", "\"quoted\"", " spaced ", "3.10", ""];
        for secret in secrets {
            let raw = load(&[("etcd.password", secret), ("id", "0815"), ("etcd.connections", "5")]).unwrap();
            assert_eq!(raw.etcd.password.unwrap().reveal(), secret);
            assert_eq!((raw.id.as_deref(), raw.etcd.connections), (Some("0815"), Some(5)));
        }
    }

    #[test]
    fn what_is_no_text_is_read_as_what_its_key_wants() {
        let raw = load(&[
            ("names", "[\"a\", \"7\"]"),
            ("proxy", "true"),
            ("etcd.connections", "500"),
            ("etcd.size", "1048576"),
        ]);
        let raw = raw.unwrap();
        assert_eq!((raw.names, raw.proxy), (vec!["a".to_owned(), "7".to_owned()], true));
        assert_eq!(raw.etcd.connections, Some(500));
        assert_eq!(raw.etcd.size.map(|size| size.0), Some(1_048_576));
        for (key, text) in [("etcd.connections", "many"), ("proxy", "perhaps"), ("etcd.colour", "5")] {
            let fault = load(&[(key, text), ("etcd.password", "1234567")]).unwrap_err().to_string();
            assert!(fault.contains(key.split('.').next_back().unwrap()), "{fault}");
            assert!(!fault.contains("1234567"), "{fault}");
        }
    }
}
