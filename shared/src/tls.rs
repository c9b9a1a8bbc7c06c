//! TLS for a listener: certificates that are judged when they are read, and exchanged under way when their files change.
//!
//! Connections take the configuration that is current when they begin and keep it, so an exchange ends none of them.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use humantime::format_rfc3339_seconds;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};

use crate::followed::{Asked, Follower, Stamp};

mod by_name;
mod certificate;
mod error;
mod reminder;
mod settings;

use by_name::ByName;
use certificate::Certificate;
pub use error::CertificateError;
use reminder::{Reminder, Standing};
use settings::CertificateFiles;
pub use settings::{RawTls, TlsSettings};

/// HTTP/1.1 by ALPN (RFC 7301).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// HTTP/2 by ALPN (RFC 9113 §3.2).
pub const HTTP_2: &[u8] = b"h2";

/// What a listener speaks TLS with.
pub struct ServerTls {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    /// What ALPN offers, best first; a client that wants none of it is refused.
    protocols: Vec<Vec<u8>>,
    /// Connections' keys can be had of rustls.
    gives_keys: bool,
    loaded: Stamp,
    current: ArcSwap<Current>,
}

struct Current {
    /// As many as there are files, in their order.
    certificates: Vec<Certificate>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads and judges certificates and keys. `protocols` are ALPN names, best first.
    ///
    /// # Errors
    /// One cannot be served with: see [`CertificateError`].
    pub fn load(settings: &TlsSettings, protocols: &[&[u8]]) -> Result<Arc<Self>, CertificateError> {
        Self::load_as(settings, protocols, false)
    }

    /// As [`Self::load`], of which connections' keys can be had: for a kernel that encrypts in rustls' place.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_giving_keys(
        settings: &TlsSettings,
        protocols: &[&[u8]],
    ) -> Result<Arc<Self>, CertificateError> {
        Self::load_as(settings, protocols, true)
    }

    fn load_as(
        settings: &TlsSettings,
        protocols: &[&[u8]],
        gives_keys: bool,
    ) -> Result<Arc<Self>, CertificateError> {
        let loaded = Stamp::of(settings.paths());
        let provider = Arc::new(default_provider());
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        let now = SystemTime::now();
        let load = |files| Certificate::load(files, &provider, now);
        let certificates = settings.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let config = server_config(&certificates, &provider, &protocols, gives_keys);
        let current = ArcSwap::from_pointee(Current { certificates, config });
        Ok(Arc::new(Self { settings: settings.clone(), provider, protocols, gives_keys, loaded, current }))
    }

    /// What a connection that begins now is to be served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Until when all certificates that are served are valid.
    pub fn expires(&self) -> SystemTime {
        let current = self.current.load();
        let expire = current.certificates.iter().map(|certificate| certificate.expires);
        expire.min().expect("there is a certificate")
    }

    /// Follows the files for ever: a good change is taken, a bad one is logged once and leaves the certificate as it is.
    /// Says each day of a certificate that it is near its end.
    pub async fn follow(self: Arc<Self>, asked: Asked) {
        let paths = self.settings.paths();
        let mut follower = Follower::new(&paths, self.loaded.clone(), asked);
        let mut reminders: Vec<_> = self.settings.certificates.iter().map(|_| Reminder::default()).collect();
        // When a certificate that came before its time is to be read again.
        let mut begins = None;
        for (files, certificate) in self.settings.certificates.iter().zip(&self.current.load().certificates) {
            log(files, certificate, "certificate in use");
        }
        loop {
            self.remind(&mut reminders, SystemTime::now());
            let is_due = follower.look().await;
            let now = SystemTime::now();
            if is_due || begins.is_some_and(|begins| begins <= now) {
                begins = self.reread(now);
            }
        }
    }

    /// Reads the files anew; each certificate is taken or left by itself. Gives when to do so again, though nothing
    /// changes: when what is in them begins to be valid.
    fn reread(&self, now: SystemTime) -> Option<SystemTime> {
        let before = self.current.load_full();
        let (mut begins, mut is_changed) = (None::<SystemTime>, false);
        let mut certificates = Vec::with_capacity(before.certificates.len());
        for (files, old) in self.settings.certificates.iter().zip(&before.certificates) {
            let certificate = match Certificate::load(files, &self.provider, now) {
                Ok(new) if new.certified.cert == old.certified.cert => {
                    log(files, old, "certificate reread; it is the one in use");
                    old.clone()
                }
                Ok(new) => {
                    is_changed = true;
                    log(files, &new, "certificate exchanged");
                    new
                }
                Err(error) => {
                    tracing::error!(%error, "certificate not taken; the one read before stays in use");
                    begins = begins.into_iter().chain(error.begins()).min();
                    old.clone()
                }
            };
            certificates.push(certificate);
        }
        // A new configuration would only forget the sessions that clients may resume.
        if is_changed {
            let config = server_config(&certificates, &self.provider, &self.protocols, self.gives_keys);
            self.current.store(Arc::new(Current { certificates, config }));
        }
        begins
    }

    fn remind(&self, reminders: &mut [Reminder], now: SystemTime) {
        let current = self.current.load();
        let served = self.settings.certificates.iter().zip(&current.certificates);
        for ((files, certificate), reminder) in served.zip(reminders) {
            let message = match reminder.due(certificate.expires, now) {
                None | Some(Standing::Good) => continue,
                Some(Standing::ExpiresSoon) => "the certificate expires within a week; renew it",
                Some(Standing::Expired) => "the certificate has expired and clients refuse it; renew it",
            };
            let expires = format_rfc3339_seconds(certificate.expires);
            tracing::warn!(path = %files.cert_file.display(), %expires, "{message}");
        }
    }
}

fn log(files: &CertificateFiles, certificate: &Certificate, message: &'static str) {
    tracing::info!(
        path = %files.cert_file.display(),
        names = certificate.names.join(" "),
        expires = %format_rfc3339_seconds(certificate.expires),
        "{message}"
    );
}

/// TLS 1.2 and 1.3 with rustls' choice of suites. Sessions are resumed by tickets under keys of this configuration alone:
/// the server keeps nothing for them, and none outlives the certificate that it began with.
fn server_config(
    certificates: &[Certificate],
    provider: &Arc<CryptoProvider>,
    protocols: &[Vec<u8>],
    gives_keys: bool,
) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName::new(certificates)));
    config.alpn_protocols = protocols.to_vec();
    config.enable_secret_extraction = gives_keys;
    config.ticketer = Ticketer::new().expect("the system gives random bytes");
    Arc::new(config)
}

#[cfg(test)]
mod tests;
