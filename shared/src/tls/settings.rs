//! `[tls]` in both programs' configurations: as written → which files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{ConfigError, resolve};

/// The section as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// Further ones, for other names of the server.
    certificates: Vec<RawCertificate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCertificate {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// What a listener serves TLS with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// At least one. A client is served with the first that has the name it asks for, or with the first of all.
    pub(super) certificates: Vec<CertificateFiles>,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateFiles {
    /// PEM: the server's own certificate, then its issuers'.
    pub(super) cert_file: PathBuf,
    /// PEM, mode 0600.
    pub(super) key_file: PathBuf,
}

impl TlsSettings {
    /// All files that are read, again and again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.certificates.iter().flat_map(|files| [files.cert_file.as_path(), files.key_file.as_path()])
    }
}

impl RawTls {
    /// `config` is the configuration's path. A section with a file missing, or both, is no plain listener: whoever wrote
    /// it wanted TLS.
    ///
    /// # Errors
    /// A file is not named.
    pub fn settle(self, config: &Path) -> Result<TlsSettings, ConfigError> {
        let first = RawCertificate { cert_file: self.cert_file, key_file: self.key_file };
        let missing =
            "is missing; [tls] names a cert_file and a key_file, and a listener without TLS has no [tls]";
        let mut certificates = vec![first.settle(config, ["tls.cert_file", "tls.key_file"], missing)?];
        let keys = ["tls.certificates.cert_file", "tls.certificates.key_file"];
        for further in self.certificates {
            let missing = "is missing; each [[tls.certificates]] names a cert_file and a key_file";
            certificates.push(further.settle(config, keys, missing)?);
        }
        Ok(TlsSettings { certificates })
    }
}

impl RawCertificate {
    fn settle(
        self,
        config: &Path,
        [cert_key, key_key]: [&'static str; 2],
        missing: &str,
    ) -> Result<CertificateFiles, ConfigError> {
        let file = |key, file: Option<PathBuf>| match file {
            Some(file) => Ok(resolve(config, &file)),
            None => Err(ConfigError::key(config, key, missing)),
        };
        Ok(CertificateFiles {
            cert_file: file(cert_key, self.cert_file)?,
            key_file: file(key_key, self.key_file)?,
        })
    }
}

impl TlsSettings {
    /// All files, to be followed.
    pub(super) fn paths(&self) -> Vec<&Path> {
        self.certificates.iter().flat_map(|files| [&*files.cert_file, &*files.key_file]).collect()
    }
}
