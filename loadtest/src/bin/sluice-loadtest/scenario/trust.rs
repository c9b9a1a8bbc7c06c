//! Whose certificates clients believe: what a scenario names, or what the system trusts.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use sluice_shared::config::{self, ConfigError};
use toml::Spanned;

use super::Source;
use crate::fault::Fault;

/// Where Debian and its relatives have them.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Read at the first connection with TLS, but for what a scenario names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust(Arc<OnceLock<Result<Arc<ClientConfig>, String>>>);

impl Trust {
    /// # Errors
    /// What the scenario names are no certificates.
    pub(super) fn of(source: &Source, ca_file: Option<&Spanned<String>>) -> Result<Self, ConfigError> {
        let trust = Self::default();
        if let Some(key) = ca_file {
            let path = config::resolve(&source.path, key.get_ref().as_ref());
            let config = read(&path).map_err(|fault| source.fault(key, fault))?;
            trust.0.get_or_init(|| Ok(config));
        }
        Ok(trust)
    }

    /// What connections speak TLS with.
    ///
    /// # Errors
    /// The system trusts nobody, or where it says so is not known.
    pub(crate) fn config(&self) -> Result<&Arc<ClientConfig>, Fault> {
        let config = self.0.get_or_init(|| {
            let hint = |fault| format!("{fault}; name whom to trust as `ca_file` of [client]");
            read(Path::new(SYSTEM)).map_err(hint)
        });
        config.as_ref().map_err(|fault| Fault::Tls(io::Error::other(fault.clone())))
    }
}

fn read(path: &Path) -> Result<Arc<ClientConfig>, String> {
    let fault = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let text = fs::read(path).map_err(|error| fault(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| fault(&error))?;
        // A bundle may have one that is too old to be read; the others are as good.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(fault(&"it has no certificate of an authority"));
    }
    let versions = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = versions.with_safe_default_protocol_versions().map_err(|error| fault(&error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
