//! Whose certificates edges may show where clients are sent: for this coordinator's own questions there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Where systems keep the authorities that all programs trust: Debian and Alpine, Red Hat, SUSE.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Why edges cannot be asked as the operator wants it.
#[derive(Debug, thiserror::Error)]
pub enum EdgeTrustError {
    #[error("cannot read registry.edges_ca_file {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error(
        "registry.edges_ca_file {path} has no certificate in PEM; put in what signs your edges' certificates"
    )]
    Nothing { path: PathBuf },
}

/// The authorities of a file, or the system's.
#[derive(Clone)]
pub(crate) struct EdgeTrust {
    tls: TlsConnector,
    is_empty: bool,
}

impl EdgeTrust {
    /// # Errors
    /// The file cannot be read, or has none.
    pub(crate) fn load(authorities: Option<&Path>) -> Result<Self, EdgeTrustError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let text =
                    fs::read(path).map_err(|cause| EdgeTrustError::Read { path: path.to_owned(), cause })?;
                if add(&mut roots, &text) == 0 {
                    return Err(EdgeTrustError::Nothing { path: path.to_owned() });
                }
            }
            None => {
                if let Some(text) = SYSTEM_AUTHORITIES.iter().find_map(|path| fs::read(path).ok()) {
                    add(&mut roots, &text);
                }
            }
        }
        let is_empty = roots.is_empty();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.expect("the library has the versions it thinks safe");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), is_empty })
    }

    pub(crate) fn tls(&self) -> &TlsConnector {
        &self.tls
    }

    /// Whether the system has none: then nothing can be said of any certificate.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }
}

/// Adds the certificates of a PEM text; says how many.
fn add(roots: &mut RootCertStore, text: &[u8]) -> usize {
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    added
}
