//! What the edge opens once it runs: its store, and the files that its configuration names.

use std::fs;
use std::path::PathBuf;

use sluice_shared::confinement::{Confined, Confinement};
use sluice_shared::handover::{self, HandoverError};

use crate::cache::Backing;
use crate::config::{Config, KeySource};
use crate::store;

/// Binds this process to it. To be called before there are other threads.
///
/// # Errors
/// There is no place for `control_socket`.
pub(super) fn bind(config: &Config, backing: &Backing) -> Result<Confined, HandoverError> {
    if !config.confine {
        return Ok(Confined::Unwanted);
    }
    // A folder that is made later is in no rule.
    config.control_socket.as_deref().map(handover::prepare_place).transpose()?;
    Ok(confinement(config, Some(backing)).bind())
}

/// What would come of [`bind`]; makes nothing and binds nobody.
pub(super) fn try_out(config: &Config) -> Confined {
    if config.confine { confinement(config, None).try_out() } else { Confined::Unwanted }
}

fn confinement(config: &Config, backing: Option<&Backing>) -> Confinement {
    let mut confinement = Confinement::of_program();
    if config.etcd.is_some() {
        confinement.looks_up_names();
    }
    confinement.reads(&root(config));
    if let KeySource::File(path) = &config.keys {
        confinement.rereads(path);
    }
    if let Some(tls) = &config.tls {
        tls.settings.files().for_each(|path| confinement.rereads(path));
    }
    if let Some(path) = &config.revocations_file {
        confinement.keeps(path);
    }
    let logs = [&config.logs.access_file, &config.logs.usage_file];
    logs.into_iter().flatten().for_each(|path| confinement.appends(path));
    if let Some(path) = &config.control_socket {
        confinement.listens(path);
    }
    if let Some(folder) = backing.and_then(Backing::folder) {
        confinement.keeps_nameless(folder, config.cache_dir.as_deref().unwrap_or("cache".as_ref()));
    }
    config.confine_reads.iter().for_each(|folder| confinement.reads(folder));
    confinement
}

/// The store's folder; the one that it is in, where a mount may yet come over it and with it what was said of it.
fn root(config: &Config) -> PathBuf {
    let marker = config.root_marker.as_deref();
    let may_come = marker.is_some() || store::is_absent(&config.root, marker) == Some(true);
    let parent = || Some(fs::canonicalize(&config.root).ok()?.parent()?.to_owned());
    if may_come { parent() } else { None }.unwrap_or_else(|| config.root.clone())
}
