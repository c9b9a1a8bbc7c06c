//! RawConfig (what the file may say) → Config (what holds), once.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::client_source::{ClientSource, TrustedProxies};
use sluice_shared::cluster::{EdgeId, Weight};
use sluice_shared::config::{ConfigError, load, resolve};
use sluice_shared::units::{BaseUrl, ByteSize, MemorySize, Span};

use crate::logs::ShownAddress;
use crate::store::PathTemplate;

/// How entity tags are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EtagScheme {
    /// Size, modification time and inode: equal on every edge that mounts one store.
    InodeMtime,
    /// Size and modification time: for roots that are replicas, whose inodes differ.
    SizeMtime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeySource {
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RegistrySource {
    Static,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    id: Option<EdgeId>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    advertise_url: Option<BaseUrl>,
    admin_hosts: Vec<String>,
    root: Option<PathBuf>,
    path_template: Option<String>,
    follow_symlinks: bool,
    zone: String,
    weight: Option<Weight>,
    threads: usize,
    coordinator_urls: Vec<BaseUrl>,
    trusted_proxies: TrustedProxies,
    proxy_protocol: bool,
    etag: Option<EtagScheme>,
    cache: RawCache,
    keys: RawKeys,
    registry: RawRegistry,
    limits: RawLimits,
    log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCache {
    size: Option<MemorySize>,
    dir: Option<PathBuf>,
    revalidate: Option<Span>,
    stale_limit: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKeys {
    source: Option<KeySource>,
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRegistry {
    source: Option<RegistrySource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLimits {
    connections: Option<usize>,
    storage_timeout: Option<Span>,
    storage_concurrency: Option<usize>,
    head_timeout: Option<Span>,
    idle_timeout: Option<Span>,
    send_timeout: Option<Span>,
    drain_grace: Option<Span>,
    drain_timeout: Option<Span>,
    connections_per_address: Option<usize>,
    transfers_per_token: Option<usize>,
    rate: Option<ByteSize>,
    send_rate_min: Option<ByteSize>,
    inflight: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    filter: Option<String>,
    access_file: Option<PathBuf>,
    client_ip: ShownAddress,
    usage_file: Option<PathBuf>,
}

/// A configuration that can be run.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) id: EdgeId,
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_hosts: Vec<String>,
    pub(crate) root: PathBuf,
    pub(crate) path_template: PathTemplate,
    pub(crate) follow_symlinks: bool,
    /// At least 1.
    pub(crate) threads: usize,
    /// Those that clients may be sent back to.
    pub(crate) coordinator_urls: Vec<BaseUrl>,
    pub(crate) clients: ClientSource,
    pub(crate) etag: EtagScheme,
    pub(crate) key_path: PathBuf,
    /// Bytes.
    pub(crate) cache_size: u64,
    /// On a tmpfs; else memfds are used.
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) revalidate: Duration,
    pub(crate) stale_limit: Duration,
    pub(crate) limits: Limits,
    pub(crate) logs: Logs,
}

/// What is written, and where.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) filter: String,
    pub(crate) access_file: Option<PathBuf>,
    pub(crate) client_ip: ShownAddress,
    pub(crate) usage_file: Option<PathBuf>,
}

/// The bounds of one edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All workers together.
    pub(crate) connections: usize,
    /// For what has to come from the store before an answer can begin, or go on.
    pub(crate) storage_timeout: Duration,
    /// Reads in the store at a time.
    pub(crate) storage_concurrency: usize,
    /// For a request head to arrive whole.
    pub(crate) head_timeout: Duration,
    /// For a kept connection to send its next request.
    pub(crate) idle_timeout: Duration,
    /// For a client to take anything at all of what it is sent; and the span that `send_rate_min` is judged over.
    pub(crate) send_timeout: Duration,
    /// Bytes per second that a client has to take; 0 for none.
    pub(crate) send_rate_min: u64,
    /// Bytes per second that one connection gets, at most.
    pub(crate) rate: Option<NonZeroU64>,
    /// Of one address: an IPv4 address, an IPv6 /64.
    pub(crate) connections_per_address: usize,
    /// Of large files, with one token.
    pub(crate) transfers_per_token: usize,
    /// Bytes that reads of the store may be under way for.
    pub(crate) inflight_bytes: u64,
    /// Between the first sign of draining and refusing requests: for coordinators to notice.
    pub(crate) drain_grace: Duration,
    /// For downloads to finish after that.
    pub(crate) drain_timeout: Duration,
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
        let template = raw.path_template.as_deref().unwrap_or("{file_id}");
        let path_template = PathTemplate::parse(template)
            .map_err(|error| ConfigError::key(path, "path_template", error.to_string()))?;
        let root = resolve(path, &raw.root.ok_or_else(|| missing("root"))?);
        if !root.is_dir() {
            let fault = format!("is no folder: {}; mount the store there, or name another", root.display());
            return Err(ConfigError::key(path, "root", fault));
        }
        let cache_size = raw.cache.size.unwrap_or(MemorySize::Percent(50)).of(available_memory());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let span =
            |span: Option<Span>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
        let limits = raw.limits;
        let positive =
            |key: &'static str, value: Option<usize>, default: usize| match value.unwrap_or(default) {
                0 => Err(ConfigError::key(path, key, "must be at least 1")),
                value => Ok(value),
            };
        let clients = ClientSource::settle(raw.trusted_proxies, raw.proxy_protocol)
            .map_err(|fault| ConfigError::key(path, "proxy_protocol", fault))?;
        Ok(Self {
            id: raw.id.ok_or_else(|| missing("id"))?,
            listen: raw.listen.ok_or_else(|| missing("listen"))?,
            admin_listen: raw.admin_listen.ok_or_else(|| missing("admin_listen"))?,
            admin_hosts: raw.admin_hosts,
            root,
            path_template,
            follow_symlinks: raw.follow_symlinks,
            threads: if raw.threads == 0 { cores } else { raw.threads },
            coordinator_urls: raw.coordinator_urls,
            clients,
            etag: raw.etag.unwrap_or(EtagScheme::InodeMtime),
            key_path: resolve(path, &raw.keys.path.ok_or_else(|| missing("keys.path"))?),
            cache_size,
            cache_dir: raw.cache.dir.map(|dir| resolve(path, &dir)),
            revalidate: span(raw.cache.revalidate, 1),
            stale_limit: span(raw.cache.stale_limit, 600),
            limits: Limits {
                connections: positive("limits.connections", limits.connections, 50_000)?,
                storage_timeout: span(limits.storage_timeout, 30),
                storage_concurrency: positive("limits.storage_concurrency", limits.storage_concurrency, 512)?,
                head_timeout: span(limits.head_timeout, 15),
                idle_timeout: span(limits.idle_timeout, 75),
                send_timeout: span(limits.send_timeout, 60),
                drain_grace: span(limits.drain_grace, 3),
                drain_timeout: span(limits.drain_timeout, 300),
                send_rate_min: limits.send_rate_min.map_or(512, |rate| rate.0),
                rate: limits.rate.and_then(|rate| NonZeroU64::new(rate.0)),
                connections_per_address: positive(
                    "limits.connections_per_address",
                    limits.connections_per_address,
                    1000,
                )?,
                transfers_per_token: positive("limits.transfers_per_token", limits.transfers_per_token, 100)?,
                // An eighth of the cache: reads under way hold room, and as many stuck ones may; they must not empty it.
                inflight_bytes: limits.inflight.map_or(u64::MAX, |bytes| bytes.0).min(cache_size / 8),
            },
            logs: Logs {
                filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
                access_file: raw.log.access_file.map(|file| resolve(path, &file)),
                client_ip: raw.log.client_ip,
                usage_file: raw.log.usage_file.map(|file| resolve(path, &file)),
            },
        })
    }
}

/// The memory this process may use: its control group's limit, or the machine's.
fn available_memory() -> u64 {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group =
        groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    // A limit holds for all below it.
    let limits = Path::new("/sys/fs/cgroup").join(group);
    let limits = limits.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let group =
        limits.filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok().and_then(number)).min();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        number(line.replace("kB", "")).map(|kib| kib * 1024)
    });
    match (group, machine) {
        (Some(group), Some(machine)) => group.min(machine),
        (one, other) => one.or(other).unwrap_or(1 << 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    const FULL: &str = r#"
        id = "edge-1"
        listen = "127.0.0.1:9001"
        admin_listen = "127.0.0.1:9101"
        root = "/"
        [keys]
        path = "keys.jwks.json"
        [cache]
        size = "64MiB"
    "#;

    #[test]
    fn a_short_configuration_is_whole() {
        let config = judge(FULL).unwrap();
        assert_eq!((config.id.as_str(), config.cache_size), ("edge-1", 64 << 20));
        assert!(config.threads >= 1 && config.key_path.is_absolute());
    }

    #[test]
    fn faults_are_named() {
        let table = [
            (FULL.replace("id = \"edge-1\"", ""), "`id` is missing"),
            (FULL.replace("root = \"/\"", ""), "`root` is missing"),
            (FULL.replace("root = \"/\"", "root = \"/nowhere\""), "`root` is no folder: /nowhere"),
            (FULL.replace("64MiB", "lots"), "edge.toml:9:"),
            (FULL.replace("[cache]", "[cash]"), "edge.toml:8:"),
            (FULL.replace("127.0.0.1:9001", "9001"), "edge.toml:3:"),
            (FULL.replace("root = \"/\"", "root = \"/\"\nweight = 0"), "a weight is a whole number from 1"),
            (
                FULL.replace("root = \"/\"", "root = \"/\"\npath_template = \"x\""),
                "`path_template` must contain",
            ),
            (
                FULL.replace("root = \"/\"", "root = \"/\"\nproxy_protocol = true"),
                "`proxy_protocol` needs `trusted_proxies`",
            ),
            (FULL.replace("root = \"/\"", "trusted_proxies = [\"proxy-1\"]"), "edge.toml:5:"),
            (format!("{FULL}\n[limits]\nconnections = 0"), "`limits.connections` must be at least 1"),
        ];
        for (text, expected) in table {
            let fault = judge(&text).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
