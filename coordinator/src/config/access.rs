//! The sections that say who may ask: `[auth]`, `[sealed]`, `[app_jwt]`, `[timed]`.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::config::{self, ConfigError, resolve};
use sluice_shared::etcd::EtcdSettings;
use sluice_shared::file_id::{FileId, Prefix};
use sluice_shared::secret::SecretText;
use sluice_shared::token::sealed::SealedCalls;
use sluice_shared::token::timed::TimedSigner;
use sluice_shared::units::Span;

use super::{ClientListSource, SchemeName};

/// How far a call's timestamp may be from now, unless the configuration says otherwise.
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(300);
const MAX_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Nonces remembered of one client, unless the configuration says otherwise: at the default age, 833 calls in each
/// second of the 20 minutes that one is kept at most; some 40 MB.
const NONCES_MAX_DEFAULT: usize = 1_000_000;
const APP_JWT_MAX_EXP_DEFAULT: Duration = Duration::from_secs(86_400);
const TIMED_MAX_AGE_DEFAULT: Duration = Duration::from_secs(600);
const TIMED_SALT_DEFAULT: &str = "itsdangerous";

/// Who may ask, and how it is proven.
#[derive(Debug)]
pub struct Access {
    /// Not empty.
    pub schemes: Vec<SchemeName>,
    pub max_age: Duration,
    pub nonces_max: usize,
    pub clients: ClientListSource,
    pub app_jwt_max_exp: Duration,
    /// There where `schemes` has it.
    pub sealed: Option<Sealed>,
    pub timed: Option<Timed>,
}

impl Access {
    /// Whether a scheme relies on nonces being remembered.
    pub(crate) fn remembers_nonces(&self) -> bool {
        self.schemes.iter().any(|scheme| matches!(scheme, SchemeName::Signature | SchemeName::Sealed))
    }
}

/// Encrypted, signed calls between servers.
#[derive(Debug)]
pub struct Sealed {
    pub calls: SealedCalls,
    pub max_age: Duration,
}

/// Links that others sign with a shared secret.
#[derive(Debug)]
pub struct Timed {
    pub signer: TimedSigner,
    pub max_age: Duration,
    /// The file where the payload names none.
    pub file_id: Option<FileId<'static>>,
    /// Under which the payload may name another.
    pub prefixes: Vec<Prefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuth {
    schemes: Option<Vec<SchemeName>>,
    max_age: Option<Span>,
    nonces_max: Option<usize>,
    clients_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSealed {
    encryption_key: Option<SecretText>,
    encryption_key_file: Option<PathBuf>,
    api_secret_key: Option<SecretText>,
    api_secret_key_file: Option<PathBuf>,
    max_age: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAppJwt {
    max_exp: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTimed {
    secret: Option<SecretText>,
    secret_file: Option<PathBuf>,
    salt: Option<String>,
    max_age: Option<Span>,
    file_id: Option<String>,
    prefixes: Vec<Prefix>,
}

pub(super) fn settle(
    path: &Path,
    auth: RawAuth,
    sealed: RawSealed,
    app_jwt: &RawAppJwt,
    timed: Option<RawTimed>,
    clients_in_etcd: Option<&EtcdSettings>,
) -> Result<Access, ConfigError> {
    let schemes = settle_schemes(path, auth.schemes)?;
    let clients = settle_clients(path, auth.clients_file, &schemes, clients_in_etcd)?;
    let max_age = settle_age(path, "auth.max_age", auth.max_age, MAX_AGE_DEFAULT)?;
    let sealed = schemes.contains(&SchemeName::Sealed).then(|| settle_sealed(path, sealed, max_age));
    let max_exp = settle_age(path, "app_jwt.max_exp", app_jwt.max_exp, APP_JWT_MAX_EXP_DEFAULT)?;
    Ok(Access {
        max_age,
        nonces_max: match auth.nonces_max {
            Some(0) => return Err(ConfigError::key(path, "auth.nonces_max", "is 0; no call could be made")),
            other => other.unwrap_or(NONCES_MAX_DEFAULT),
        },
        clients,
        app_jwt_max_exp: max_exp,
        sealed: sealed.transpose()?,
        timed: timed.map(|timed| settle_timed(path, timed)).transpose()?,
        schemes,
    })
}

fn settle_schemes(path: &Path, schemes: Option<Vec<SchemeName>>) -> Result<Vec<SchemeName>, ConfigError> {
    const KEY: &str = "auth.schemes";
    // No default: a coordinator that serves everybody says so in its own file.
    let schemes = schemes.filter(|schemes| !schemes.is_empty()).ok_or_else(|| {
        ConfigError::key(
            path,
            KEY,
            "is missing or empty; list those of \"signature\", \"app-jwt\" and \"sealed\" that callers use, or \
             write [\"open\"] to serve without authentication",
        )
    })?;
    if schemes.len() > 1 && schemes.contains(&SchemeName::Open) {
        return Err(ConfigError::key(
            path,
            KEY,
            "has \"open\" beside other entries; \"open\" lets everybody in and must stand alone",
        ));
    }
    let is_repeated = |(at, scheme): (usize, &SchemeName)| schemes[..at].contains(scheme);
    if schemes.iter().enumerate().any(is_repeated) {
        return Err(ConfigError::key(path, KEY, "has an entry twice"));
    }
    Ok(schemes)
}

/// In etcd where that is wanted and can be, unless a file is named.
fn settle_clients(
    path: &Path,
    file: Option<PathBuf>,
    schemes: &[SchemeName],
    etcd: Option<&EtcdSettings>,
) -> Result<ClientListSource, ConfigError> {
    const FILE: &str = "clients.toml";
    let (Some(etcd), None) = (etcd, &file) else {
        return Ok(ClientListSource::File(resolve(path, &file.unwrap_or_else(|| FILE.into()))));
    };
    let has_clients = |scheme: &SchemeName| matches!(scheme, SchemeName::Signature | SchemeName::AppJwt);
    match &etcd.coordinator_key {
        Some(sealing) => Ok(ClientListSource::Etcd(sealing.clone())),
        None if schemes.iter().any(has_clients) => Err(ConfigError::key(
            path,
            "etcd.coordinator_key",
            "is missing; clients are in etcd like edges, sealed with it. To keep them in a file, name that: \
             auth.clients_file = \"clients.toml\"",
        )),
        // Nobody calls as a client: a file that need not be there is as good.
        None => Ok(ClientListSource::File(resolve(path, Path::new(FILE)))),
    }
}

fn settle_age(
    path: &Path,
    key: &'static str,
    age: Option<Span>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let age = age.map_or(default, |age| age.0);
    if !(Duration::from_secs(1)..=MAX_AGE_MAX).contains(&age) {
        let is = humantime::format_duration(age);
        return Err(ConfigError::key(path, key, format!("is {is}; it is from 1s to 24h")));
    }
    Ok(age)
}

fn settle_sealed(path: &Path, raw: RawSealed, max_age: Duration) -> Result<Sealed, ConfigError> {
    let (key, named) = required_secret(
        path,
        "ENCRYPTION_KEY",
        "sealed.encryption_key",
        raw.encryption_key,
        raw.encryption_key_file,
    )?;
    let (api_secret, _) = required_secret(
        path,
        "API_SECRET_KEY",
        "sealed.api_secret_key",
        raw.api_secret_key,
        raw.api_secret_key_file,
    )?;
    let calls = SealedCalls::new(key.reveal(), api_secret.reveal());
    let calls = calls.map_err(|fault| ConfigError::key(path, named, fault))?;
    let key = "MAX_REQUEST_AGE_SECONDS";
    let age = match env::var(key) {
        Ok(seconds) => match seconds.trim().parse() {
            Ok(seconds) => Some(Span::from_secs(seconds)),
            Err(_) => return Err(ConfigError::key(path, key, "is no whole number of seconds")),
        },
        Err(_) => raw.max_age,
    };
    Ok(Sealed { calls, max_age: settle_age(path, key, age, max_age)? })
}

fn settle_timed(path: &Path, raw: RawTimed) -> Result<Timed, ConfigError> {
    let secret = config::secret(path, "timed.secret", raw.secret, raw.secret_file.as_deref())?;
    let secret = secret.filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| ConfigError::missing(path, "timed.secret"))?;
    let file_id = raw.file_id.map(|text| FileId::parse(text).map(FileId::into_owned)).transpose();
    Ok(Timed {
        signer: TimedSigner::new(secret.reveal(), raw.salt.as_deref().unwrap_or(TIMED_SALT_DEFAULT)),
        max_age: settle_age(path, "timed.max_age", raw.max_age, TIMED_MAX_AGE_DEFAULT)?,
        file_id: file_id.map_err(|fault| ConfigError::key(path, "timed.file_id", fault))?,
        prefixes: raw.prefixes,
    })
}

/// A secret that has to be there: from the environment (itself, or a file that `…_FILE` names), else from the
/// configuration. With the name under which it was found.
fn required_secret(
    path: &Path,
    variable: &'static str,
    key: &'static str,
    text: Option<SecretText>,
    file: Option<PathBuf>,
) -> Result<(SecretText, &'static str), ConfigError> {
    let found = match (env::var(variable), env::var_os(format!("{variable}_FILE"))) {
        (Ok(text), None) => Some((SecretText::new(text), variable)),
        (Err(_), Some(file)) => Some((config::secret_file(path, variable, Path::new(&file))?, variable)),
        (Ok(_), Some(_)) => {
            return Err(ConfigError::key(path, variable, "is set, and as …_FILE too; set one of them"));
        }
        (Err(_), None) => config::secret(path, key, text, file.as_deref())?.map(|secret| (secret, key)),
    };
    let (secret, named) = found.ok_or_else(|| {
        ConfigError::key(path, key, format!("is missing, and {variable} is not in the environment"))
    })?;
    if secret.is_empty() {
        return Err(ConfigError::key(path, named, "is empty"));
    }
    Ok((secret, named))
}
