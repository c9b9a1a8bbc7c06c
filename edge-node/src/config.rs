//! RawConfig (what the file may say) → Config (what holds), once.

mod limits;
mod memory;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::client_source::ClientSource;
use sluice_shared::cluster::{EdgeId, Weight};
use sluice_shared::config::{ConfigError, load, resolve};
use sluice_shared::etcd::wrapped::WrappingKeys;
use sluice_shared::etcd::{EtcdSettings, RawEtcd};
use sluice_shared::file_id::FileId;
use sluice_shared::tls::{RawTls, TlsSettings};
use sluice_shared::units::{BaseUrl, MemorySize, Span};

use crate::cors::Cors;
use crate::logs::ShownAddress;
use crate::media_type::InlineTypes;
use crate::store::{self, PathTemplate};
pub(crate) use limits::Limits;
use memory::available_memory;
use raw::{KeyKind, RawConfig, RawKeys, RegistrySource};

const REVOCATIONS_FILE: &str = "revocations.json";
/// A store that takes longer to be looked at for the first time hangs.
const ROOT_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How entity tags are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EtagScheme {
    /// Size, modification time and inode: equal on every edge that mounts one store.
    InodeMtime,
    /// Size and modification time: for roots that are replicas, whose inodes differ.
    SizeMtime,
}

/// A configuration that can be run.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) id: EdgeId,
    pub(crate) listen: SocketAddr,
    /// There where something listens for TLS.
    pub(crate) tls: Option<TlsListening>,
    /// The kernel goes on with TLS where it can: so unless it is not to. `None`: nobody misses it where it cannot.
    pub(crate) kernel_tls: Option<bool>,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_hosts: Vec<String>,
    /// Where a successor asks for the listeners.
    pub(crate) control_socket: Option<PathBuf>,
    /// The kernel is asked to refuse files that are none of this edge's.
    pub(crate) confine: bool,
    /// Folders that may be read all the same.
    pub(crate) confine_reads: Vec<PathBuf>,
    pub(crate) root: PathBuf,
    /// A file that the root has where the store is mounted.
    pub(crate) root_marker: Option<String>,
    pub(crate) path_template: PathTemplate,
    pub(crate) follow_symlinks: bool,
    /// Files' hashes are looked for beside them.
    pub(crate) sha256_sidecars: bool,
    /// At least 1.
    pub(crate) threads: usize,
    /// Those that clients may be sent back to.
    pub(crate) coordinator_urls: Vec<BaseUrl>,
    pub(crate) clients: ClientSource,
    pub(crate) etag: EtagScheme,
    /// What browsers may show instead of saving it.
    pub(crate) inline: InlineTypes,
    /// Whose pages may read answers.
    pub(crate) cors: Cors,
    pub(crate) keys: KeySource,
    /// What is barred, for a start without anybody to ask.
    pub(crate) revocations_file: Option<PathBuf>,
    /// Bytes.
    pub(crate) cache_size: u64,
    /// On a tmpfs; else memfds are used.
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) revalidate: Duration,
    pub(crate) stale_limit: Duration,
    pub(crate) limits: Limits,
    pub(crate) logs: Logs,
    /// There where something of this edge's is in etcd; then revocations are, too.
    pub(crate) etcd: Option<EtcdSettings>,
    /// What is said of this edge in etcd, where it names itself; then `etcd` is there.
    pub(crate) advertised: Option<Advertised>,
}

/// How TLS is spoken, and where.
#[derive(Debug)]
pub(crate) struct TlsListening {
    pub(crate) settings: TlsSettings,
    /// Beside `listen`, which is plain then; else `listen` speaks TLS.
    pub(crate) listen: Option<SocketAddr>,
}

/// Where the keys are that tokens are opened with.
#[derive(Debug)]
pub(crate) enum KeySource {
    File(PathBuf),
    /// Sealed with this; then `etcd` is there.
    Etcd(WrappingKeys),
}

/// What an edge says of itself that does not change.
#[derive(Debug, Clone)]
pub(crate) struct Advertised {
    /// Where clients are sent.
    pub(crate) url: BaseUrl,
    /// Where coordinators ask its health.
    pub(crate) admin_url: BaseUrl,
    pub(crate) zone: String,
    pub(crate) weight: Weight,
    /// Bytes a second that it can send.
    pub(crate) capacity: Option<u64>,
}

/// What is written, and where.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) filter: String,
    pub(crate) access_file: Option<PathBuf>,
    pub(crate) client_ip: ShownAddress,
    pub(crate) usage_file: Option<PathBuf>,
}

impl Config {
    /// Loads and judges the configuration.
    ///
    /// # Errors
    /// The first fault, with file and line or key.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = load(path, std::collections::BTreeMap::<String, String>::new())?;
        Self::judge(path, raw)
    }

    fn judge(path: &Path, raw: RawConfig) -> Result<Self, ConfigError> {
        let missing = |key| ConfigError::missing(path, key);
        let fault = |key, fault: String| ConfigError::key(path, key, fault);
        let template = raw.path_template.as_deref().unwrap_or("{file_id}");
        let path_template =
            PathTemplate::parse(template).map_err(|error| fault("path_template", error.to_string()))?;
        let cache_size = raw.cache.size.unwrap_or(MemorySize::Percent(50)).of(available_memory());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let span =
            |span: Option<Span>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
        let clients = ClientSource::settle(raw.trusted_proxies, raw.proxy_protocol)
            .map_err(|error| fault("proxy_protocol", error.to_string()))?;
        let advertised = match raw.registry.source {
            Some(RegistrySource::Etcd) => Some(Advertised {
                url: raw.advertise_url.ok_or_else(|| missing("advertise_url"))?,
                admin_url: judge_admin_url(path, raw.admin_url)?,
                zone: raw.zone,
                weight: raw.weight.unwrap_or(Weight::USUAL),
                capacity: raw.capacity.map(|capacity| capacity.0),
            }),
            Some(RegistrySource::Static) | None => None,
        };
        let uses_etcd = advertised.is_some() || raw.keys.source == Some(KeyKind::Etcd);
        let etcd = judge_etcd(path, raw.etcd, uses_etcd)?.filter(|_| uses_etcd);
        // What is heard from etcd is kept for a start without it.
        let revocations_default = || uses_etcd.then(|| REVOCATIONS_FILE.into());
        let revocations_file = raw.revocations_file.or_else(revocations_default);
        let root_marker = raw.root_marker.map(|marker| judge_marker(path, marker)).transpose()?;
        Ok(Self {
            keys: judge_keys(path, raw.keys, etcd.as_ref())?,
            etcd,
            advertised,
            id: raw.id.ok_or_else(|| missing("id"))?,
            listen: raw.listen.ok_or_else(|| missing("listen"))?,
            tls: judge_tls(path, raw.tls, raw.tls_listen)?,
            kernel_tls: raw.kernel_tls,
            admin_listen: raw.admin_listen.ok_or_else(|| missing("admin_listen"))?,
            admin_hosts: raw.admin_hosts,
            control_socket: raw.control_socket.map(|file| resolve(path, &file)),
            confine: raw.confine.unwrap_or(true),
            confine_reads: raw.confine_reads.iter().map(|folder| resolve(path, folder)).collect(),
            root: judge_root(path, raw.root, root_marker.clone())?,
            root_marker,
            path_template,
            follow_symlinks: raw.follow_symlinks,
            sha256_sidecars: raw.sha256_sidecars.unwrap_or(true),
            threads: if raw.threads == 0 { cores } else { raw.threads },
            coordinator_urls: raw.coordinator_urls,
            clients,
            etag: raw.etag.unwrap_or(EtagScheme::InodeMtime),
            inline: InlineTypes::settle(raw.inline).map_err(|error| fault("inline", error.to_string()))?,
            cors: Cors::settle(raw.cors.origins).map_err(|error| fault("cors.origins", error.to_string()))?,
            revocations_file: revocations_file.map(|file| resolve(path, &file)),
            cache_size,
            cache_dir: raw.cache.dir.map(|dir| resolve(path, &dir)),
            revalidate: span(raw.cache.revalidate, 1),
            stale_limit: span(raw.cache.stale_limit, 600),
            limits: raw.limits.settle(path, cache_size)?,
            logs: raw.log.settle(path),
        })
    }
}

fn judge_root(path: &Path, root: Option<PathBuf>, marker: Option<String>) -> Result<PathBuf, ConfigError> {
    let root = resolve(path, &root.ok_or_else(|| ConfigError::missing(path, "root"))?);
    let looked_at = root.clone();
    let look = move || {
        // All that is looked at before the edge serves, for attributes alone may be out of a cache.
        let _ = store::is_absent(&looked_at, marker.as_deref());
        looked_at.is_dir()
    };
    let fault = match seen_within(ROOT_ANSWERS_WITHIN, look) {
        Some(true) => return Ok(root),
        Some(false) => format!("is no folder: {}; mount the store there, or name another", root.display()),
        None => format!(
            "does not answer: {}; see that the store's server is there and its mount is not stale, and start again",
            root.display()
        ),
    };
    Err(ConfigError::key(path, "root", fault))
}

/// What a look at the store sees, from a thread of its own, for it may hang: then `None`.
fn seen_within(patience: Duration, look: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
    let (see, seen) = mpsc::channel();
    let looking = thread::Builder::new().name("root".to_owned()).spawn(move || see.send(look())).ok()?;
    let seen = seen.recv_timeout(patience).ok()?;
    // Nobody else is to be there when the edge is confined.
    let _ = looking.join();
    Some(seen)
}

fn judge_marker(path: &Path, marker: String) -> Result<String, ConfigError> {
    match FileId::parse(marker.as_str()) {
        Ok(_) => Ok(marker),
        Err(error) => {
            let fault = format!("is no path of a file beneath `root`: {error}; write one as in \".store\"");
            Err(ConfigError::key(path, "root_marker", fault))
        }
    }
}

/// `etcd` is there where something of this edge's is in it.
fn judge_keys(path: &Path, raw: RawKeys, etcd: Option<&EtcdSettings>) -> Result<KeySource, ConfigError> {
    let missing = |key| ConfigError::missing(path, key);
    match (etcd, raw.path) {
        (Some(etcd), _) if raw.source == Some(KeyKind::Etcd) => {
            Ok(KeySource::Etcd(etcd.cluster_key.clone().ok_or_else(|| missing("etcd.cluster_key"))?))
        }
        (_, file) => Ok(KeySource::File(resolve(path, &file.ok_or_else(|| missing("keys.path"))?))),
    }
}

fn judge_tls(
    path: &Path,
    raw: Option<RawTls>,
    listen: Option<SocketAddr>,
) -> Result<Option<TlsListening>, ConfigError> {
    match (raw, listen) {
        (Some(raw), listen) => Ok(Some(TlsListening { settings: raw.settle(path)?, listen })),
        (None, Some(_)) => {
            let fault = "needs the section [tls], with a cert_file and a key_file";
            Err(ConfigError::key(path, "tls_listen", fault))
        }
        (None, None) => Ok(None),
    }
}

fn judge_admin_url(path: &Path, url: Option<BaseUrl>) -> Result<BaseUrl, ConfigError> {
    match url {
        None => Err(ConfigError::missing(path, "admin_url")),
        Some(url) if !url.as_str().starts_with("http://") => {
            let fault = "must begin with http://; coordinators probe edges without TLS";
            Err(ConfigError::key(path, "admin_url", fault))
        }
        Some(url) => Ok(url),
    }
}

fn judge_etcd(
    path: &Path,
    raw: Option<RawEtcd>,
    is_wanted: bool,
) -> Result<Option<EtcdSettings>, ConfigError> {
    // Where it is wanted and missing, the fault is that of an empty section.
    let raw = raw.or_else(|| is_wanted.then(RawEtcd::default));
    let settings = raw.map(|raw| raw.settle(path)).transpose()?;
    if settings.as_ref().is_some_and(|settings| settings.coordinator_key.is_some()) {
        let fault =
            "is for coordinators alone; take it off this machine, and make another if others could read it";
        return Err(ConfigError::key(path, "etcd.coordinator_key", fault));
    }
    Ok(settings)
}
