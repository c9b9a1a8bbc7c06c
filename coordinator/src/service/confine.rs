//! What the coordinator opens once it runs: the files that its configuration names.

use sluice_shared::confinement::{Confined, Confinement};
use sluice_shared::handover::{self, HandoverError};

use crate::config::{ClientListSource, Config, KeySource, StateSource};

/// Binds this process to it. To be called before there are other threads.
///
/// # Errors
/// There is no place for `control_socket`.
pub fn bind(config: &Config) -> Result<Confined, HandoverError> {
    if !config.confine {
        return Ok(Confined::Unwanted);
    }
    // A folder that is made later is in no rule.
    config.control_socket.as_deref().map(handover::prepare_place).transpose()?;
    Ok(confinement(config).bind())
}

/// What would come of [`bind`]; makes nothing and binds nobody.
pub fn try_out(config: &Config) -> Confined {
    if config.confine { confinement(config).try_out() } else { Confined::Unwanted }
}

fn confinement(config: &Config) -> Confinement {
    let mut confinement = Confinement::of_program();
    confinement.looks_up_names();
    if let KeySource::Files { keys, tickets } = &config.keys {
        confinement.keeps(keys);
        confinement.keeps(tickets);
    }
    if let ClientListSource::File(path) = &config.access.clients {
        confinement.keeps(path);
    }
    if let StateSource::Embedded(path) = &config.state {
        confinement.keeps(path);
    }
    confinement.keeps(&config.admin_token_file);
    confinement.keeps(&config.revocations_file);
    if let Some(path) = &config.audit_file {
        confinement.appends(path);
    }
    if let Some(tls) = &config.tls {
        tls.files().for_each(|path| confinement.rereads(path));
    }
    if let Some(path) = &config.edges_ca_file {
        confinement.rereads(path);
    }
    if let Some(path) = &config.control_socket {
        confinement.listens(path);
    }
    config.confine_reads.iter().for_each(|folder| confinement.reads(folder));
    confinement
}
