//! The coordinator's configuration: the file as written (`Raw…`) → [`Config`], in which nothing is missing and
//! nothing contradicts. It reads the file and nothing that the file names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use sluice_shared::client_source::{ClientSource, TrustedProxies};
use sluice_shared::cluster::EdgeRecord;
use sluice_shared::cluster::static_list::StaticList;
use sluice_shared::config::{self, ConfigError};
use sluice_shared::file_id::Prefix;
use sluice_shared::secret::SecretText;
use sluice_shared::units::{BaseUrl, Span};

pub mod access;

pub use access::Access;

/// How long a token lives unless the configuration says otherwise, and at most.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The same of links; and what the configuration may allow at most.
const LINK_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const LINK_TTL_MAX_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
const LINK_TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Times in tokens are whole seconds: a shorter life could be over before the token is sent.
const TTL_MIN: Duration = Duration::from_secs(1);
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
    pub public_prefixes: Vec<Prefix>,
    /// Where callers of the API are; not of the admin port.
    pub clients: ClientSource,
    pub key_file: PathBuf,
    pub ticket_file: PathBuf,
    pub registry: StaticList,
    pub access: Access,
    pub links: LinkRules,
    pub state: StateSource,
    pub log_filter: String,
    /// Where operators' changes are noted beside the log.
    pub audit_file: Option<PathBuf>,
}

/// How long what is given lives.
#[derive(Debug, Clone, Copy)]
pub struct LinkRules {
    /// Of a link, unless its maker says otherwise, and at most.
    pub ttl: Duration,
    pub max_ttl: Duration,
    pub token_ttl: Duration,
}

/// Where counts, links and nonces are kept.
#[derive(Debug)]
pub enum StateSource {
    /// A file of this coordinator's own.
    Embedded(PathBuf),
    /// A Redis that several coordinators share; its URL may hold a password.
    Redis(SecretText),
}

/// A way to authenticate calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// Access keys and signed requests.
    Signature,
    /// App keys with a JWT.
    AppJwt,
    /// Encrypted and signed calls between servers.
    Sealed,
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
    auth: access::RawAuth,
    sealed: access::RawSealed,
    app_jwt: access::RawAppJwt,
    timed: Option<access::RawTimed>,
    links: RawLinks,
    state: RawState,
    log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKeys {
    source: KeySource,
    path: Option<PathBuf>,
    ticket_path: Option<PathBuf>,
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
struct RawLinks {
    ttl: Option<Span>,
    max_ttl: Option<Span>,
    token_ttl: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawState {
    source: StateKind,
    path: Option<PathBuf>,
    url: Option<SecretText>,
    url_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateKind {
    #[default]
    Embedded,
    Redis,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    filter: Option<String>,
    audit_file: Option<PathBuf>,
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
            public_prefixes: raw.public_prefixes,
            clients,
            key_file: match raw.keys.path {
                Some(file) => config::resolve(path, &file),
                None => return Err(missing("keys.path")),
            },
            ticket_file: {
                let file = raw.keys.ticket_path.unwrap_or_else(|| "tickets.jwks.json".into());
                config::resolve(path, &file)
            },
            registry: settle_edges(path, raw.registry.edges)?,
            access: access::settle(path, raw.auth, raw.sealed, &raw.app_jwt, raw.timed)?,
            links: settle_links(path, &raw.links)?,
            state: settle_state(path, raw.state)?,
            log_filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
            audit_file: raw.log.audit_file.map(|file| config::resolve(path, &file)),
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

fn settle_links(path: &Path, raw: &RawLinks) -> Result<LinkRules, ConfigError> {
    let span = |key, span: Option<Span>, default: Duration, max: Duration| {
        let span = span.map_or(default, |span| span.0);
        if (TTL_MIN..=max).contains(&span) {
            return Ok(span);
        }
        let (is, max) = (humantime::format_duration(span), humantime::format_duration(max));
        Err(ConfigError::key(path, key, format!("is {is}; it is from 1s to {max}")))
    };
    let max_ttl = span("links.max_ttl", raw.max_ttl, LINK_TTL_MAX_DEFAULT, LINK_TTL_MAX)?;
    Ok(LinkRules {
        max_ttl,
        ttl: span("links.ttl", raw.ttl, LINK_TTL_DEFAULT.min(max_ttl), max_ttl)?,
        token_ttl: span("links.token_ttl", raw.token_ttl, TOKEN_TTL_DEFAULT, TOKEN_TTL_MAX)?,
    })
}

fn settle_state(path: &Path, raw: RawState) -> Result<StateSource, ConfigError> {
    let url = access::in_configuration(path, "state.url", raw.url, raw.url_file)?;
    match raw.source {
        StateKind::Embedded => {
            let file = raw.path.unwrap_or_else(|| "state.redb".into());
            Ok(StateSource::Embedded(config::resolve(path, &file)))
        }
        StateKind::Redis => {
            url.map(StateSource::Redis).ok_or_else(|| ConfigError::missing(path, "state.url"))
        }
    }
}

#[cfg(test)]
mod tests;
