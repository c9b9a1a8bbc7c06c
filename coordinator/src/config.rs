//! The coordinator's configuration: the file as written (`Raw…`) → [`Config`], in which nothing is missing and
//! nothing contradicts. It reads the file and nothing that the file names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use sluice_shared::client_source::{ClientSource, TrustedProxies};
use sluice_shared::cluster::EdgeRecord;
use sluice_shared::cluster::static_list::StaticList;
use sluice_shared::cluster::url_pattern::UrlPattern;
use sluice_shared::config::{self, ConfigError};
use sluice_shared::etcd::wrapped::WrappingKeys;
use sluice_shared::etcd::{EtcdSettings, RawEtcd};
use sluice_shared::file_id::Prefix;
use sluice_shared::secret::SecretText;
use sluice_shared::shown_address::ShownAddress;
use sluice_shared::tls::{RawTls, TlsSettings};
use sluice_shared::units::{BaseUrl, Span};

pub mod access;
mod edges;
pub mod routing;

pub use access::Access;
pub use routing::Routing;

/// How long a token lives unless the configuration says otherwise, and at most.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The same of links; and what the configuration may allow at most.
const LINK_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const LINK_TTL_MAX_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
const LINK_TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How long a key mints; and by when every edge knows a new one.
const ROTATE_EVERY_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
const PROPAGATION_DEFAULT: Duration = Duration::from_secs(60);
/// Times in tokens are whole seconds: a shorter life could be over before the token is sent.
const TTL_MIN: Duration = Duration::from_secs(1);
/// A zone's weights together: 1,000 edges of the usual weight. A ring's build is quadratic in them, and takes seconds
/// there.
pub(crate) const WEIGHT_SUM_MAX: u32 = 100_000;

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
    /// Where a successor asks for the listeners.
    pub control_socket: Option<PathBuf>,
    /// The kernel is asked to refuse files that are none of this coordinator's.
    pub confine: bool,
    /// Folders that may be read all the same.
    pub confine_reads: Vec<PathBuf>,
    /// File ids that `/download/` gives to anyone; by `FileId::is_under`.
    pub public_prefixes: Vec<Prefix>,
    /// Where callers of the API are; not of the admin port.
    pub clients: ClientSource,
    /// Of `listen`, and of it alone; without it that is plain HTTP.
    pub tls: Option<TlsSettings>,
    pub keys: KeySource,
    pub registry: EdgeSource,
    /// PEM of what signs edges' certificates, for questions where their clients would ask; the system's without it.
    pub edges_ca_file: Option<PathBuf>,
    /// There where the file has its section.
    pub etcd: Option<EtcdSettings>,
    /// What operators have barred.
    pub revocations_file: PathBuf,
    pub routing: Routing,
    pub access: Access,
    pub links: LinkRules,
    pub state: StateSource,
    pub log_filter: String,
    /// In the line of each call.
    pub client_ip: ShownAddress,
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

/// Where keys are kept.
#[derive(Debug)]
pub enum KeySource {
    Files {
        keys: PathBuf,
        tickets: PathBuf,
    },
    /// In etcd, exchanged by themselves; then `etcd` is there.
    Etcd {
        cluster_key: WrappingKeys,
        coordinator_key: WrappingKeys,
        rotate_every: Duration,
        propagation: Duration,
    },
}

/// Where the edges are named.
#[derive(Debug)]
pub enum EdgeSource {
    /// In the configuration.
    Static(Arc<StaticList>),
    /// In etcd, by themselves; and those of the configuration.
    Etcd {
        fixed: Vec<EdgeRecord>,
        /// Not empty.
        allow_urls: Vec<UrlPattern>,
    },
}

/// Where the API's clients are kept.
#[derive(Debug)]
pub enum ClientListSource {
    /// A file, by hand and by the admin API of this coordinator.
    File(PathBuf),
    /// In etcd, for all coordinators, sealed with this; then `etcd` is there.
    Etcd(WrappingKeys),
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
    control_socket: Option<PathBuf>,
    confine: Option<bool>,
    confine_reads: Vec<PathBuf>,
    public_prefixes: Vec<Prefix>,
    trusted_proxies: TrustedProxies,
    proxy_protocol: bool,
    tls: Option<RawTls>,
    revocations_file: Option<PathBuf>,
    keys: RawKeys,
    registry: edges::RawRegistry,
    etcd: Option<RawEtcd>,
    zones: Vec<routing::RawZone>,
    routing: routing::RawRouting,
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
    source: KeyKind,
    path: Option<PathBuf>,
    ticket_path: Option<PathBuf>,
    rotate_every: Option<Span>,
    propagation: Option<Span>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeyKind {
    #[default]
    File,
    Etcd,
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
    client_ip: ShownAddress,
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
        let clients = ClientSource::settle(raw.trusted_proxies, raw.proxy_protocol)
            .map_err(|fault| ConfigError::key(path, "proxy_protocol", fault))?;
        let etcd = settle_etcd(path, raw.etcd, raw.registry.is_etcd() || raw.keys.source == KeyKind::Etcd)?;
        // Where edges are in etcd, so are clients, unless the operator names a file.
        let clients_in_etcd = etcd.as_ref().filter(|_| raw.registry.is_etcd());
        let access = access::settle(path, raw.auth, raw.sealed, &raw.app_jwt, raw.timed, clients_in_etcd)?;
        check_keys_differ(path, etcd.as_ref(), &access)?;
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
            control_socket: raw.control_socket.map(|file| config::resolve(path, &file)),
            confine: raw.confine.unwrap_or(true),
            confine_reads: raw.confine_reads.iter().map(|folder| config::resolve(path, folder)).collect(),
            public_prefixes: raw.public_prefixes,
            clients,
            tls: raw.tls.map(|tls| tls.settle(path)).transpose()?,
            keys: settle_keys(path, &raw.keys, etcd.as_ref())?,
            edges_ca_file: raw.registry.authorities(path),
            registry: edges::settle(path, raw.registry)?,
            etcd,
            revocations_file: {
                let file = raw.revocations_file.unwrap_or_else(|| "revocations.json".into());
                config::resolve(path, &file)
            },
            routing: routing::settle(path, &raw.routing, raw.zones)?,
            access,
            links: settle_links(path, &raw.links)?,
            state: settle_state(path, raw.state)?,
            log_filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
            client_ip: raw.log.client_ip,
            audit_file: raw.log.audit_file.map(|file| config::resolve(path, &file)),
        })
    }
}

fn settle_keys(path: &Path, raw: &RawKeys, etcd: Option<&EtcdSettings>) -> Result<KeySource, ConfigError> {
    let fault = |key, fault: &str| Err(ConfigError::key(path, key, fault));
    let Some(etcd) = etcd.filter(|_| raw.source == KeyKind::Etcd) else {
        let only_etcd = "is for keys in etcd: set keys.source = \"etcd\", or leave it out";
        if raw.rotate_every.is_some() {
            return fault("keys.rotate_every", only_etcd);
        }
        if raw.propagation.is_some() {
            return fault("keys.propagation", only_etcd);
        }
        let keys = raw.path.as_ref().ok_or_else(|| ConfigError::missing(path, "keys.path"))?;
        let tickets = raw.ticket_path.as_deref().unwrap_or(Path::new("tickets.jwks.json"));
        return Ok(KeySource::Files {
            keys: config::resolve(path, keys),
            tickets: config::resolve(path, tickets),
        });
    };
    let propagation = raw.propagation.map_or(PROPAGATION_DEFAULT, |span| span.0);
    let rotate_every = raw.rotate_every.map_or(ROTATE_EVERY_DEFAULT, |span| span.0);
    if propagation < Duration::from_secs(1) {
        return fault(
            "keys.propagation",
            "is less than 1s, in which not even one edge hears of a key for sure",
        );
    }
    if rotate_every < propagation * 2 {
        return fault(
            "keys.rotate_every",
            "is less than twice keys.propagation: keys would change before edges know them",
        );
    }
    let key =
        |key, sealing: &Option<WrappingKeys>| sealing.clone().ok_or_else(|| ConfigError::missing(path, key));
    Ok(KeySource::Etcd {
        cluster_key: key("etcd.cluster_key", &etcd.cluster_key)?,
        coordinator_key: key("etcd.coordinator_key", &etcd.coordinator_key)?,
        rotate_every,
        propagation,
    })
}

fn settle_etcd(
    path: &Path,
    raw: Option<RawEtcd>,
    is_wanted: bool,
) -> Result<Option<EtcdSettings>, ConfigError> {
    // Where it is wanted and missing, the fault is that of an empty section.
    let raw = raw.or_else(|| is_wanted.then(RawEtcd::default));
    raw.map(|raw| raw.settle(path)).transpose()
}

/// The key of sealed calls is known to those who call: nothing in etcd may be sealed with it.
fn check_keys_differ(path: &Path, etcd: Option<&EtcdSettings>, access: &Access) -> Result<(), ConfigError> {
    let (Some(etcd), Some(sealed)) = (etcd, &access.sealed) else { return Ok(()) };
    let callers = sealed.calls.fingerprint();
    let keys = [("etcd.cluster_key", &etcd.cluster_key), ("etcd.coordinator_key", &etcd.coordinator_key)];
    for (key, wrapping) in keys {
        if wrapping.as_ref().is_some_and(|wrapping| wrapping.fingerprints().contains(&callers)) {
            return Err(ConfigError::key(path, key, "has ENCRYPTION_KEY, which callers know; make another"));
        }
    }
    Ok(())
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
    let url = config::secret(path, "state.url", raw.url, raw.url_file.as_deref())?;
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
