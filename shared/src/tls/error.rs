//! Why a certificate is not served with: one sentence each, with the file and what to do. None has a part of a key.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;

use crate::private_file::PrivateFileError;

/// The fault of a certificate, of its key, or of the two together.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(
        "certificate file {path} does not exist; write the server's certificate there as PEM, its issuers' behind it"
    )]
    Missing { path: PathBuf },
    #[error(
        "certificate file {path} cannot be read ({source}); make it a file that this program's user may read"
    )]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "certificate file {path} has no certificate; the server's own comes first, after a line \
         -----BEGIN CERTIFICATE-----, and its issuers' behind it"
    )]
    Empty { path: PathBuf },
    #[error("certificate {at} in {path} cannot be read; write the file anew, as its issuer gave it")]
    Broken { path: PathBuf, at: usize },
    #[error("the certificate in {path} expired at {}; renew it", format_rfc3339_seconds(*.expired))]
    Expired { path: PathBuf, expired: SystemTime },
    #[error(
        "the certificate in {path} is not valid before {}; use it from then on, or set this machine's clock",
        format_rfc3339_seconds(*.begins)
    )]
    NotYetValid { path: PathBuf, begins: SystemTime },
    #[error(
        "the certificate in {path} is not for servers (its extended key usage has no serverAuth); \
         ask its issuer for one that is"
    )]
    NotForServers { path: PathBuf },
    #[error("key file {path} does not exist; write the certificate's private key there as PEM, mode 0600")]
    KeyMissing { path: PathBuf },
    /// Others can read it.
    #[error("key file {path} {source}")]
    KeyPrivate { path: PathBuf, source: PrivateFileError },
    #[error("key file {path} cannot be read ({source}); make it a file that this program's user may read")]
    KeyIo { path: PathBuf, source: io::Error },
    #[error(
        "key file {path} has no private key; it is PEM, and the key comes after a line -----BEGIN PRIVATE KEY-----"
    )]
    NoKey { path: PathBuf },
    #[error(
        "the key in {path} is under a passphrase, which nobody is there to type; \
         write it without one: openssl pkey -in OLD -out NEW"
    )]
    KeyEncrypted { path: PathBuf },
    #[error(
        "the key in {path} is broken or of a kind that cannot be used; \
         make one for ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) or Ed25519, and a certificate for it"
    )]
    KeyUnsupported { path: PathBuf },
    #[error(
        "the key in {key} does not belong to the first certificate in {path}; \
         the server's own comes first there, and its issuers' behind it"
    )]
    KeyOfAnother { path: PathBuf, key: PathBuf },
}

impl CertificateError {
    /// When the same files will be good, where time is all that is missing.
    pub(super) fn begins(&self) -> Option<SystemTime> {
        match self {
            Self::NotYetValid { begins, .. } => Some(*begins),
            _ => None,
        }
    }
}
