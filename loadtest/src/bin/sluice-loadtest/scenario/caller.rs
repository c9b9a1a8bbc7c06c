//! As whom the coordinator is asked. Secrets are in files of their own.

use sluice_shared::config::{self, ConfigError};
use sluice_shared::secret::SecretText;
use toml::Spanned;

use super::Source;
use super::raw::{RawCaller, Scheme, Via};

/// What a caller proves itself with.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    Open,
    Signature { access_key: String, secret: SecretText },
    AppJwt { access_key: String, secret: SecretText },
    Sealed { encryption_key: SecretText, api_secret: SecretText },
}

impl Credentials {
    pub(super) fn of(source: &Source, raw: &RawCaller, via: Via) -> Result<Self, ConfigError> {
        let Some(scheme) = &raw.scheme else { return Ok(Self::Open) };
        let missing = |key: &str| source.fault(scheme, format!("needs `{key}`"));
        let secret = |name: &'static str, key: Option<&Spanned<String>>| {
            let key = key.ok_or_else(|| missing(name))?;
            let path = config::resolve(&source.path, key.get_ref().as_ref());
            config::secret_file(&source.path, name, &path).map_err(|fault| match fault {
                ConfigError::Key { fault, .. } => source.fault(key, fault),
                other => other,
            })
        };
        let access_key =
            || raw.access_key.clone().map(Spanned::into_inner).ok_or_else(|| missing("access_key"));
        let own_secret = || secret("secret_file", raw.secret_file.as_ref());
        match scheme.get_ref() {
            Scheme::Open => Ok(Self::Open),
            Scheme::Signature => Ok(Self::Signature { access_key: access_key()?, secret: own_secret()? }),
            Scheme::AppJwt => Ok(Self::AppJwt { access_key: access_key()?, secret: own_secret()? }),
            Scheme::Sealed if via != Via::Api => Err(source.fault(scheme, "goes with via = \"api\" only")),
            Scheme::Sealed => Ok(Self::Sealed {
                encryption_key: secret("encryption_key_file", raw.encryption_key_file.as_ref())?,
                api_secret: own_secret()?,
            }),
        }
    }
}
