//! What the file may say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluice_shared::client_source::TrustedProxies;
use sluice_shared::cluster::{EdgeId, Weight};
use sluice_shared::config::resolve;
use sluice_shared::etcd::RawEtcd;
use sluice_shared::tls::RawTls;
use sluice_shared::units::{BaseUrl, ByteSize, MemorySize, Span};

use super::limits::RawLimits;
use super::{EtagScheme, Logs};
use crate::logs::ShownAddress;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyKind {
    File,
    Etcd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RegistrySource {
    /// Coordinators have this edge in their configurations.
    Static,
    /// This edge names itself.
    Etcd,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) id: Option<EdgeId>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) tls_listen: Option<SocketAddr>,
    pub(super) kernel_tls: Option<bool>,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) advertise_url: Option<BaseUrl>,
    pub(super) admin_url: Option<BaseUrl>,
    pub(super) capacity: Option<ByteSize>,
    pub(super) admin_hosts: Vec<String>,
    pub(super) control_socket: Option<PathBuf>,
    pub(super) confine: Option<bool>,
    pub(super) confine_reads: Vec<PathBuf>,
    pub(super) root: Option<PathBuf>,
    pub(super) root_marker: Option<String>,
    pub(super) path_template: Option<String>,
    pub(super) follow_symlinks: bool,
    pub(super) sha256_sidecars: Option<bool>,
    pub(super) zone: String,
    pub(super) weight: Option<Weight>,
    pub(super) threads: usize,
    pub(super) coordinator_urls: Vec<BaseUrl>,
    pub(super) revocations_file: Option<PathBuf>,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) proxy_protocol: bool,
    pub(super) etag: Option<EtagScheme>,
    pub(super) inline: Vec<String>,
    pub(super) cors: RawCors,
    pub(super) tls: Option<RawTls>,
    pub(super) cache: RawCache,
    pub(super) keys: RawKeys,
    pub(super) registry: RawRegistry,
    pub(super) etcd: Option<RawEtcd>,
    pub(super) limits: RawLimits,
    pub(super) log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCache {
    pub(super) size: Option<MemorySize>,
    pub(super) dir: Option<PathBuf>,
    pub(super) revalidate: Option<Span>,
    pub(super) stale_limit: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) source: Option<KeyKind>,
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRegistry {
    pub(super) source: Option<RegistrySource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) filter: Option<String>,
    pub(super) access_file: Option<PathBuf>,
    pub(super) client_ip: ShownAddress,
    pub(super) usage_file: Option<PathBuf>,
}

impl RawLog {
    /// `config` is the configuration's path.
    pub(super) fn settle(self, config: &Path) -> Logs {
        Logs {
            filter: self.filter.unwrap_or_else(|| "info".to_owned()),
            access_file: self.access_file.map(|file| resolve(config, &file)),
            client_ip: self.client_ip,
            usage_file: self.usage_file.map(|file| resolve(config, &file)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCors {
    pub(super) origins: Vec<String>,
}
