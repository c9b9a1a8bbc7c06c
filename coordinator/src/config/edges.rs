//! The section `[registry]`: which edges there are, or who may say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sluice_shared::cluster::EdgeRecord;
use sluice_shared::cluster::static_list::StaticList;
use sluice_shared::cluster::url_pattern::UrlPattern;
use sluice_shared::config::{self, ConfigError};

use super::{EdgeSource, WEIGHT_SUM_MAX};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRegistry {
    source: Source,
    edges: Vec<EdgeRecord>,
    allow_urls: Vec<UrlPattern>,
    edges_ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    #[default]
    Static,
    Etcd,
}

impl RawRegistry {
    pub(super) fn is_etcd(&self) -> bool {
        self.source == Source::Etcd
    }

    /// What signs edges' certificates, where it is not what the system trusts.
    pub(super) fn authorities(&self, path: &Path) -> Option<PathBuf> {
        self.edges_ca_file.as_ref().map(|file| config::resolve(path, file))
    }
}

pub(super) fn settle(path: &Path, raw: RawRegistry) -> Result<EdgeSource, ConfigError> {
    let fixed = judge(path, raw.edges)?;
    match raw.source {
        Source::Static if fixed.is_empty() => Err(ConfigError::key(
            path,
            "registry.edges",
            "is empty; list every edge in a [[registry.edges]] section with its id, url and admin_url",
        )),
        Source::Static if !raw.allow_urls.is_empty() => Err(ConfigError::key(
            path,
            "registry.allow_urls",
            "is for edges that name themselves: set registry.source = \"etcd\", or leave it out",
        )),
        Source::Static => Ok(EdgeSource::Static(Arc::new(list(path, fixed)?))),
        Source::Etcd if raw.allow_urls.is_empty() => Err(ConfigError::key(
            path,
            "registry.allow_urls",
            "is empty, so that no edge in etcd could be taken; list patterns of the URLs that your edges have, as in \
             [\"https://*.edges.example\"]",
        )),
        Source::Etcd => Ok(EdgeSource::Etcd { fixed, allow_urls: raw.allow_urls }),
    }
}

/// The edges of the configuration, each by itself and all together.
fn judge(path: &Path, edges: Vec<EdgeRecord>) -> Result<Vec<EdgeRecord>, ConfigError> {
    let fault = |fault: String| ConfigError::key(path, "registry.edges", fault);
    if let Some(edge) = edges.iter().find(|edge| !edge.admin_url.as_str().starts_with("http://")) {
        return Err(fault(format!(
            "edge '{}': admin_url must begin with http://; edges are probed without TLS",
            edge.id
        )));
    }
    let mut weights: BTreeMap<&str, u32> = BTreeMap::new();
    for edge in &edges {
        *weights.entry(&edge.zone).or_default() += u32::from(edge.weight.value());
    }
    if let Some((zone, weights)) = weights.into_iter().find(|(_, weights)| *weights > WEIGHT_SUM_MAX) {
        return Err(fault(format!(
            "has weights of {weights} in all in zone '{zone}', and at most {WEIGHT_SUM_MAX} make a ring in good time; \
             divide all weights by the same number, or the zone into several"
        )));
    }
    // Also where they stand beside etcd's: of two with one id, nobody can say which is meant.
    list(path, edges.clone())?;
    Ok(edges)
}

fn list(path: &Path, edges: Vec<EdgeRecord>) -> Result<StaticList, ConfigError> {
    StaticList::new(edges).map_err(|shared| {
        let fault = format!("is ambiguous: {shared}; give each edge its own");
        ConfigError::key(path, "registry.edges", fault)
    })
}
