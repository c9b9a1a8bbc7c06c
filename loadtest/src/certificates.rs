//! Certificates for clusters that speak TLS: one authority, which clients are to trust, and one server for all programs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Names of the files in a cluster's folder.
pub const AUTHORITY: &str = "authority.pem";
pub const SERVER: &str = "server.pem";
pub const SERVER_KEY: &str = "server.key";

const HOUR: Duration = Duration::from_secs(3600);
/// What is good for less will soon have somebody woken.
pub const USUAL: Duration = Duration::from_secs(90 * 24 * 3600);

/// Writes an authority's certificate, and one for a server at 127.0.0.1 with its key. Good since an hour ago, and for
/// so long from now on.
///
/// # Errors
/// No randomness, or the folder cannot be written to.
pub fn write(folder: &Path, good_for: Duration) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    fs::write(folder.join(AUTHORITY), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    // Another name than its issuer's, or OpenSSL takes it for its own issuer.
    params.distinguished_name.push(DnType::CommonName, "server");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    params.not_before = date_time_ymd(1970, 1, 1) + (now - HOUR);
    params.not_after = date_time_ymd(1970, 1, 1) + (now + good_for);
    fs::write(folder.join(SERVER), params.signed_by(&key, &issuer)?.pem())?;
    let path = folder.join(SERVER_KEY);
    fs::write(&path, key.serialize_pem())?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}
