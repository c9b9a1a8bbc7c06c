//! Two files → a certificate with its key that clients will take. It judges what this side can know: not whether an
//! issuer is trusted, which is the client's to say.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::error::CertificateError;
use super::settings::CertificateFiles;
use crate::private_file::{self, PrivateFileError};

/// Larger files are no chain: a certificate has a few KiB.
const CHAIN_BYTES_MAX: u64 = 1 << 20;

/// A certificate that can be served with.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// Chain and key, which belong together.
    pub(super) certified: Arc<CertifiedKey>,
    /// Of the server: DNS names and addresses, as the certificate has them.
    pub(super) names: Vec<String>,
    /// The last moment that it is valid.
    pub(super) expires: SystemTime,
}

impl Certificate {
    /// # Errors
    /// A file is missing, unreadable or not what it should be; the key is exposed or another certificate's; the
    /// certificate is not for servers, or not for `now`.
    pub(super) fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let path = &files.cert_file;
        let chain = read_chain(path)?;
        let (names, expires) = judge(path, &chain, now)?;
        let key = read_key(&files.key_file)?;
        let signing = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| CertificateError::KeyUnsupported { path: files.key_file.clone() })?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::KeyOfAnother { path: path.clone(), key: files.key_file.clone() }
            }
            // A form that rustls does not take, and so no client of its kind.
            _ => CertificateError::Broken { path: path.clone(), at: 1 },
        })?;
        Ok(Self { certified: Arc::new(certified), names, expires })
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CertificateError::Missing { path: path.to_owned() },
        _ => CertificateError::Io { path: path.to_owned(), source },
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(CHAIN_BYTES_MAX).read_to_end(&mut bytes)).map_err(io)?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let broken = |_| CertificateError::Broken { path: path.to_owned(), at: chain.len() + 1 };
        chain.push(certificate.map_err(broken)?);
    }
    Ok(chain)
}

/// Names and expiry of a chain's first certificate, once all is well with the chain at `now`. That issuers' certificates
/// expire does not count: clients that know a newer one, or the root beneath, never look at them.
fn judge(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(Vec<String>, SystemTime), CertificateError> {
    let parsed = chain.iter().enumerate().map(|(at, der)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::Broken { path: path.to_owned(), at: at + 1 }),
    });
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    let own = parsed.first().ok_or_else(|| CertificateError::Empty { path: path.to_owned() })?;
    let broken = |_| CertificateError::Broken { path: path.to_owned(), at: 1 };
    let usage = own.extended_key_usage().map_err(broken)?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(CertificateError::NotForServers { path: path.to_owned() });
    }
    let (begins, expires) = (time(own.validity().not_before), time(own.validity().not_after));
    // Whole seconds, and the last one is still good (RFC 5280 §4.1.2.5).
    if now >= expires + Duration::from_secs(1) {
        return Err(CertificateError::Expired { path: path.to_owned(), expired: expires });
    }
    if now < begins {
        return Err(CertificateError::NotYetValid { path: path.to_owned(), begins });
    }
    let names = own.subject_alternative_name().map_err(broken)?;
    let names = names.map(|names| names.value.general_names.iter().filter_map(name).collect());
    Ok((names.unwrap_or_default(), expires))
}

/// No certificate that matters is from before 1970.
fn time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.timestamp().try_into().unwrap_or(0))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
            let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let path_of = || path.to_owned();
    let text = private_file::read(path).map_err(|fault| match fault {
        PrivateFileError::Missing => CertificateError::KeyMissing { path: path_of() },
        PrivateFileError::Text(_) => CertificateError::NoKey { path: path_of() },
        PrivateFileError::Io(source) => CertificateError::KeyIo { path: path_of(), source },
        source @ PrivateFileError::Exposed { .. } => CertificateError::KeyPrivate { path: path_of(), source },
    })?;
    // As PKCS #8 (RFC 7468 §11), or as OpenSSL wrote it before (RFC 1421 §4.6.1.1).
    if ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| text.contains(mark))
    {
        return Err(CertificateError::KeyEncrypted { path: path_of() });
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::NoKey { path: path_of() })
}
