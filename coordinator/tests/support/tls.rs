//! Certificates, and a client that keeps its TLS connection and looks at it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use super::{LIMIT, Setting};

const HOUR: Duration = Duration::from_secs(3600);

/// Who issues the certificates of a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM, for clients to trust.
    pub(crate) certificate: String,
}

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// For a server at 127.0.0.1, valid from an hour ago for so long from now.
    pub(crate) fn issue(&self, life: Duration) -> Issued {
        let now = SystemTime::now();
        self.issue_with(|params| date(params, now - HOUR, now + life))
    }

    pub(crate) fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // Another than its issuer's, or OpenSSL takes it for its own issuer.
        params.distinguished_name.push(DnType::CommonName, "coordinator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        date(&mut params, now - HOUR, now + 24 * HOUR * 90);
        change(&mut params);
        Issued { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// What clients of one TLS version keep between connections.
    pub(crate) fn trusted(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Makes a certificate valid from one second to another.
pub(crate) fn date(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let seconds = |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs());
    params.not_before = date_time_ymd(1970, 1, 1) + seconds(from);
    params.not_after = date_time_ymd(1970, 1, 1) + seconds(to);
}

impl Issued {
    /// Puts it where `[tls]` of the tests looks, as an operator's tool would: a file after the other, each by renaming.
    pub(crate) fn install(&self, setting: &Setting) {
        for (name, text) in [("server.pem", &self.cert), ("server.key", &self.key)] {
            setting.write_private("new", text);
            std::fs::rename(setting.path("new"), setting.path(name)).unwrap();
        }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// One connection.
pub(crate) struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::connect_behind(b"", address, config)
    }

    /// Sends `header` before its hello.
    pub(crate) fn connect_behind(header: &[u8], address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(header).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        Self(stream)
    }

    /// Sends a request and reads the head of its answer, which has no body.
    pub(crate) fn get(&mut self, target: &str) -> String {
        write!(self.0, "GET {target} HTTP/1.1\r\nHost: c\r\nX-Request-Id: tls\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("content-length: 0\r\n"), "{head}");
        head
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.0.conn.protocol_version().unwrap()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}
