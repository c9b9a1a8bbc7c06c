//! The section `[etcd]` of both programs' configurations: as written, then without impossible states.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::wrapped::WrappingKeys;
use crate::config::{self, ConfigError, resolve};
use crate::private_file;
use crate::secret::SecretText;

const PREFIX_DEFAULT: &str = "/sluice/";
/// An etcd cluster has seven members at most that vote; more names than that are a mistake.
const ENDPOINTS_MAX: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawEtcd {
    endpoints: Vec<String>,
    prefix: Option<String>,
    user: Option<String>,
    password: Option<SecretText>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    cluster_key: Option<SecretText>,
    cluster_key_file: Option<PathBuf>,
    coordinator_key: Option<SecretText>,
    coordinator_key_file: Option<PathBuf>,
}

/// How etcd is reached, and what is sealed in it.
#[derive(Debug, Clone)]
pub struct EtcdSettings {
    /// `http://host:port`, or all of them `https://`. Not empty.
    pub endpoints: Vec<String>,
    /// Under which all keys are; begins and ends with a slash.
    pub prefix: String,
    pub user: Option<EtcdUser>,
    /// There where the endpoints are `https://`.
    pub tls: Option<EtcdTls>,
    /// What edges and coordinators share.
    pub cluster_key: Option<WrappingKeys>,
    /// What coordinators share.
    pub coordinator_key: Option<WrappingKeys>,
}

/// Who this program is to etcd.
#[derive(Debug, Clone)]
pub struct EtcdUser {
    pub name: String,
    pub password: SecretText,
}

/// PEM texts.
#[derive(Clone)]
pub struct EtcdTls {
    /// Whose certificates etcd's members may have.
    pub ca: String,
    pub identity: Option<EtcdIdentity>,
}

/// This program's own certificate, and its key.
#[derive(Clone)]
pub struct EtcdIdentity {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl RawEtcd {
    /// Reads the files that the section names, and judges it all.
    ///
    /// # Errors
    /// The first fault, by key.
    pub fn settle(self, path: &Path) -> Result<EtcdSettings, ConfigError> {
        let endpoints = settle_endpoints(path, &self.endpoints)?;
        let is_tls = endpoints[0].starts_with("https://");
        let files = (self.ca_file.as_deref(), self.cert_file.as_deref(), self.key_file.as_deref());
        let cluster_key = wrapping_keys(
            path,
            "etcd.cluster_key",
            config::secret(path, "etcd.cluster_key", self.cluster_key, self.cluster_key_file.as_deref())?,
        )?;
        let coordinator_key = config::secret(
            path,
            "etcd.coordinator_key",
            self.coordinator_key,
            self.coordinator_key_file.as_deref(),
        )?;
        let coordinator_key = wrapping_keys(path, "etcd.coordinator_key", coordinator_key)?;
        if let (Some(one), Some(other)) = (&cluster_key, &coordinator_key)
            && one.shares_a_key_with(other)
        {
            let fault = "has a key of etcd.cluster_key, which every edge has; make another";
            return Err(ConfigError::key(path, "etcd.coordinator_key", fault));
        }
        let password = config::secret(path, "etcd.password", self.password, self.password_file.as_deref())?;
        Ok(EtcdSettings {
            tls: settle_tls(path, is_tls, files)?,
            endpoints,
            prefix: settle_prefix(path, self.prefix)?,
            user: settle_user(path, self.user, password)?,
            cluster_key,
            coordinator_key,
        })
    }
}

fn settle_endpoints(path: &Path, endpoints: &[String]) -> Result<Vec<String>, ConfigError> {
    const KEY: &str = "etcd.endpoints";
    let fault = |fault: String| Err(ConfigError::key(path, KEY, fault));
    if endpoints.is_empty() {
        return fault("is missing or empty; list etcd's members, as in [\"http://127.0.0.1:2379\"]".into());
    }
    if endpoints.len() > ENDPOINTS_MAX {
        return fault(format!("has {} entries; {ENDPOINTS_MAX} are the most", endpoints.len()));
    }
    let mut settled = Vec::new();
    for text in endpoints {
        match crate::units::BaseUrl::parse(text) {
            Ok(url) => settled.push(url.as_str().to_owned()),
            Err(error) => return fault(format!("has an entry that is no address: {error}")),
        }
    }
    let tls = settled.iter().filter(|url| url.starts_with("https://")).count();
    if tls != 0 && tls != settled.len() {
        return fault("mixes http:// and https://; use one of them for all".into());
    }
    Ok(settled)
}

fn settle_prefix(path: &Path, prefix: Option<String>) -> Result<String, ConfigError> {
    let prefix = prefix.unwrap_or_else(|| PREFIX_DEFAULT.to_owned());
    let plain = |byte: u8| byte.is_ascii_graphic();
    let has_ends = prefix.len() >= 2 && prefix.starts_with('/') && prefix.ends_with('/');
    if has_ends && prefix.len() <= 256 && prefix.bytes().all(plain) {
        return Ok(prefix);
    }
    let fault = "must begin and end with a slash, with printable ASCII in between, as in \"/sluice/\"";
    Err(ConfigError::key(path, "etcd.prefix", fault))
}

fn settle_user(
    path: &Path,
    user: Option<String>,
    password: Option<SecretText>,
) -> Result<Option<EtcdUser>, ConfigError> {
    match (user, password.filter(|password| !password.is_empty())) {
        (None, None) => Ok(None),
        (Some(name), Some(password)) if !name.is_empty() => Ok(Some(EtcdUser { name, password })),
        (Some(_), None) => Err(ConfigError::missing(path, "etcd.password")),
        (_, Some(_)) => Err(ConfigError::missing(path, "etcd.user")),
    }
}

type TlsFiles<'f> = (Option<&'f Path>, Option<&'f Path>, Option<&'f Path>);

fn settle_tls(path: &Path, is_tls: bool, files: TlsFiles<'_>) -> Result<Option<EtcdTls>, ConfigError> {
    let (ca, certificate, key) = files;
    let fault = |key, fault: &str| Err(ConfigError::key(path, key, fault));
    if !is_tls {
        if ca.is_some() || certificate.is_some() || key.is_some() {
            return fault("etcd.endpoints", "are http://, and etcd.ca_file and the like are for https://");
        }
        return Ok(None);
    }
    let Some(ca) = ca else {
        return fault(
            "etcd.ca_file",
            "is missing; https:// endpoints are known by who signed their certificates",
        );
    };
    let ca = certificates(path, "etcd.ca_file", ca)?;
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(EtcdIdentity {
            certificate: certificates(path, "etcd.cert_file", certificate)?,
            key: private_key(path, "etcd.key_file", key)?,
        }),
        (Some(_), None) => return fault("etcd.key_file", "is missing; etcd.cert_file is of no use without"),
        (None, Some(_)) => return fault("etcd.cert_file", "is missing; etcd.key_file is of no use without"),
    };
    Ok(Some(EtcdTls { ca, identity }))
}

/// A PEM file with one certificate at least.
fn certificates(path: &Path, key: &'static str, file: &Path) -> Result<String, ConfigError> {
    let file = resolve(path, file);
    let fault = |fault: String| ConfigError::key(path, key, format!("is {}, {fault}", file.display()));
    let text = fs::read_to_string(&file).map_err(|error| fault(format!("which cannot be read: {error}")))?;
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    if !found.is_ok_and(|certificates| !certificates.is_empty()) {
        return Err(fault("which has no certificate in PEM".into()));
    }
    Ok(text)
}

fn private_key(path: &Path, key: &'static str, file: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let file = resolve(path, file);
    let fault = |fault: String| ConfigError::key(path, key, format!("is {}, which {fault}", file.display()));
    let text = private_file::read(&file).map_err(|error| fault(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| fault("has no private key in PEM".into()))?;
    Ok(text)
}

fn wrapping_keys(
    path: &Path,
    key: &'static str,
    text: Option<SecretText>,
) -> Result<Option<WrappingKeys>, ConfigError> {
    let keys = text.map(|text| WrappingKeys::parse(text.reveal())).transpose();
    keys.map_err(|fault| ConfigError::key(path, key, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_file::write_new;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn settle(text: &str, folder: &Path) -> Result<EtcdSettings, String> {
        let raw: RawEtcd = toml::from_str(text).map_err(|error| error.to_string())?;
        raw.settle(&folder.join("edge.toml")).map_err(|error| error.to_string())
    }

    fn fault(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        settle(text, folder.path()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn an_address_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settle("endpoints = [\"http://127.0.0.1:2379/\"]", folder.path()).unwrap();
        assert_eq!(settings.endpoints, ["http://127.0.0.1:2379"]);
        assert_eq!(settings.prefix, "/sluice/");
        assert!(settings.user.is_none() && settings.tls.is_none() && settings.cluster_key.is_none());
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let text = "endpoints = [\"http://a:1\"]\nuser = \"edge\"\npassword_file = \"pw\"\ncluster_key_file = \"key\"";
        write_new(&folder.path().join("pw"), "hunter22\n").unwrap();
        write_new(&folder.path().join("key"), KEY).unwrap();
        let settings = settle(text, folder.path()).unwrap();
        assert_eq!(settings.user.as_ref().unwrap().password.reveal(), "hunter22");
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter22") && !shown.contains("MDEy"), "{shown}");
    }

    #[test]
    fn faults_name_the_key_and_the_remedy() {
        let at = "endpoints = [\"http://a:1\"]\n";
        let tls = "endpoints = [\"https://a:1\"]\n";
        let table = [
            (String::new(), "`etcd.endpoints` is missing or empty"),
            ("endpoints = [\"a:1\"]".into(), "`etcd.endpoints` has an entry that is no address"),
            ("endpoints = [\"http://a:1\", \"https://b:1\"]".into(), "`etcd.endpoints` mixes"),
            (format!("{at}prefix = \"sluice\""), "`etcd.prefix` must begin and end with a slash"),
            (format!("{at}prefix = \"/\""), "`etcd.prefix` must begin and end with a slash"),
            (format!("{at}user = \"edge\""), "`etcd.password` is missing"),
            (format!("{at}password = \"x\""), "`etcd.user` is missing"),
            (format!("{at}user = \"edge\"\npassword = \"\""), "`etcd.password` is missing"),
            (format!("{at}ca_file = \"ca\""), "`etcd.endpoints` are http://"),
            (tls.to_owned(), "`etcd.ca_file` is missing"),
            (format!("{tls}ca_file = \"none.pem\""), "none.pem, which cannot be read"),
            (format!("{at}cluster_key = \"short\""), "`etcd.cluster_key` has an entry that is no Fernet key"),
            (
                format!("{at}cluster_key = \"{KEY}\"\ncoordinator_key = \"{KEY}\""),
                "`etcd.coordinator_key` has a key of etcd.cluster_key",
            ),
            (format!("{at}colour = \"blue\""), "colour"),
        ];
        for (text, expected) in table {
            let fault = fault(&text);
            assert!(fault.contains(expected), "{expected:?} in {fault:?}");
            assert!(!fault.contains(KEY), "{fault}");
        }
    }

    #[test]
    fn files_of_tls_are_read_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        file("ca", &made.cert.pem());
        file("exposed", &made.signing_key.serialize_pem());
        file("garbage", "not PEM");
        write_new(&folder.path().join("key"), &made.signing_key.serialize_pem()).unwrap();
        let text = |more: &str| format!("endpoints = [\"https://a:1\"]\n{more}");
        let settings =
            settle(&text("ca_file = \"ca\"\ncert_file = \"ca\"\nkey_file = \"key\""), folder.path());
        assert!(settings.unwrap().tls.unwrap().identity.is_some());
        let table = [
            ("ca_file = \"garbage\"", "has no certificate in PEM"),
            ("ca_file = \"ca\"\ncert_file = \"ca\"", "`etcd.key_file` is missing"),
            ("ca_file = \"ca\"\nkey_file = \"key\"", "`etcd.cert_file` is missing"),
            ("ca_file = \"ca\"\ncert_file = \"ca\"\nkey_file = \"exposed\"", "chmod 600"),
        ];
        for (more, expected) in table {
            let fault = settle(&text(more), folder.path()).map(|_| ()).unwrap_err();
            assert!(fault.contains(expected), "{expected:?} in {fault:?}");
        }
    }
}
