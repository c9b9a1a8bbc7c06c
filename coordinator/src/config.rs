//! The coordinator's configuration: the file as written (`Raw…`) → [`Config`], in which nothing is missing and
//! nothing contradicts. It reads the file and nothing that the file names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use sluice_shared::client_source::{ClientSource, TrustedProxies};
use sluice_shared::cluster::EdgeRecord;
use sluice_shared::cluster::static_list::StaticList;
use sluice_shared::config::{self, ConfigError};
use sluice_shared::file_id::FileId;
use sluice_shared::units::{BaseUrl, Span};

/// How long a token lives unless the configuration says otherwise, and at most.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Times in tokens are whole seconds: a shorter life could be over before the token is sent.
const TOKEN_TTL_MIN: Duration = Duration::from_secs(1);
/// All weights together: 1,000 edges of the usual weight. The ring's build is quadratic in them, and takes seconds
/// there.
const WEIGHT_SUM_MAX: u32 = 100_000;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Config {
    pub id: String,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    /// Under which callers reach this coordinator; the `iss` of its tokens.
    pub public_url: BaseUrl,
    pub admin_token_file: PathBuf,
    /// Names under which the admin pages may be asked for, beside IP addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// File ids that `/download/` gives to anyone; by `FileId::is_under`.
    pub public_prefixes: Vec<String>,
    /// Where callers of the API are; not of the admin port.
    pub clients: ClientSource,
    pub key_file: PathBuf,
    pub registry: StaticList,
    /// Not empty.
    pub schemes: Vec<SchemeName>,
    pub token_ttl: Duration,
    pub log_filter: String,
}

/// A way to authenticate calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// None at all.
    Open,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    id: Option<CoordinatorId>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    public_url: Option<BaseUrl>,
    admin_token_file: Option<PathBuf>,
    admin_hosts: Vec<String>,
    public_prefixes: Vec<Prefix>,
    trusted_proxies: TrustedProxies,
    proxy_protocol: bool,
    keys: RawKeys,
    registry: RawRegistry,
    auth: RawAuth,
    links: RawLinks,
    log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKeys {
    source: KeySource,
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeySource {
    #[default]
    File,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRegistry {
    source: RegistrySource,
    edges: Vec<EdgeRecord>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RegistrySource {
    #[default]
    Static,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAuth {
    schemes: Option<Vec<SchemeName>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLinks {
    token_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    filter: Option<String>,
}

/// The name of a coordinator: by the rules of edge ids.
#[derive(Debug)]
struct CoordinatorId(String);

impl<'de> Deserialize<'de> for CoordinatorId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = sluice_shared::cluster::EdgeId::deserialize(deserializer)?;
        Ok(Self(id.as_str().to_owned()))
    }
}

/// A prefix of file ids: one itself, with or without a trailing `/`, or empty for all.
#[derive(Debug)]
struct Prefix(String);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() {
            FileId::parse(text.strip_suffix('/').unwrap_or(&text))
                .map_err(|fault| de::Error::custom(format_args!("'{text}' can hold no file: {fault}")))?;
        }
        Ok(Self(text))
    }
}

/// The flags that stand for keys of the file: none so far.
#[derive(Serialize)]
struct Flags {}

impl Config {
    /// Reads the file, then the environment's `SLUICE_…` variables over it.
    ///
    /// # Errors
    /// The first fault, by file, line and key where it has them, and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::settle(path, config::load::<RawConfig>(path, Flags {})?)
    }

    fn settle(path: &Path, raw: RawConfig) -> Result<Self, ConfigError> {
        let missing = |key| ConfigError::missing(path, key);
        let (KeySource::File, RegistrySource::Static) = (raw.keys.source, raw.registry.source);
        let clients = ClientSource::settle(raw.trusted_proxies, raw.proxy_protocol)
            .map_err(|fault| ConfigError::key(path, "proxy_protocol", fault))?;
        Ok(Self {
            id: raw.id.ok_or_else(|| missing("id"))?.0,
            listen: raw.listen.ok_or_else(|| missing("listen"))?,
            admin_listen: raw.admin_listen.ok_or_else(|| missing("admin_listen"))?,
            public_url: raw.public_url.ok_or_else(|| missing("public_url"))?,
            admin_token_file: match raw.admin_token_file {
                Some(file) => config::resolve(path, &file),
                None => return Err(missing("admin_token_file")),
            },
            admin_hosts: raw.admin_hosts,
            public_prefixes: raw.public_prefixes.into_iter().map(|prefix| prefix.0).collect(),
            clients,
            key_file: match raw.keys.path {
                Some(file) => config::resolve(path, &file),
                None => return Err(missing("keys.path")),
            },
            registry: settle_edges(path, raw.registry.edges)?,
            schemes: settle_schemes(path, raw.auth.schemes)?,
            token_ttl: settle_token_ttl(path, raw.links.token_ttl)?,
            log_filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

fn settle_edges(path: &Path, edges: Vec<EdgeRecord>) -> Result<StaticList, ConfigError> {
    let fault = |fault: String| ConfigError::key(path, "registry.edges", fault);
    if edges.is_empty() {
        return Err(fault(
            "is empty; list every edge in a [[registry.edges]] section with its id, url and admin_url".into(),
        ));
    }
    if let Some(edge) = edges.iter().find(|edge| !edge.admin_url.as_str().starts_with("http://")) {
        return Err(fault(format!(
            "edge '{}': admin_url must begin with http://; edges are probed without TLS",
            edge.id
        )));
    }
    let weights: u32 = edges.iter().map(|edge| u32::from(edge.weight.value())).sum();
    if weights > WEIGHT_SUM_MAX {
        return Err(fault(format!(
            "has weights of {weights} in all, and at most {WEIGHT_SUM_MAX} make a ring in good time; \
             divide all of them by the same number"
        )));
    }
    StaticList::new(edges).map_err(|shared| fault(format!("is ambiguous: {shared}; give each edge its own")))
}

fn settle_schemes(path: &Path, schemes: Option<Vec<SchemeName>>) -> Result<Vec<SchemeName>, ConfigError> {
    const KEY: &str = "auth.schemes";
    // No default: a coordinator that serves everybody says so in its own file.
    let schemes = schemes.filter(|schemes| !schemes.is_empty()).ok_or_else(|| {
        ConfigError::key(
            path,
            KEY,
            "is missing or empty; to serve without authentication write [auth] schemes = [\"open\"]",
        )
    })?;
    if schemes.len() > 1 && schemes.contains(&SchemeName::Open) {
        return Err(ConfigError::key(
            path,
            KEY,
            "has \"open\" beside other entries; \"open\" lets everybody in and must stand alone",
        ));
    }
    Ok(schemes)
}

fn settle_token_ttl(path: &Path, ttl: Option<Span>) -> Result<Duration, ConfigError> {
    let ttl = ttl.map_or(TOKEN_TTL_DEFAULT, |ttl| ttl.0);
    if !(TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&ttl) {
        return Err(ConfigError::key(
            path,
            "links.token_ttl",
            format!("is {}; a token lives from 1s to 24h", humantime::format_duration(ttl)),
        ));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests;
