//! Certificates for a test, and clients that speak TLS: HTTP/1.1 in raw bytes, and HTTP/2.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::client::SendRequest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Edge, LIMIT, free_address};

/// For all that a client does: an emulated machine, which shares its processors, takes a while for it.
const CLIENT_LIMIT: Duration = LIMIT.saturating_mul(4);

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots, pem: certificate.pem() }
    }

    /// Writes `NAME.pem` and `NAME.key` for a server of these names, changed as wanted.
    pub fn issue(
        &self,
        folder: &Path,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_before = date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(3600));
        params.not_after = date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(30 * 24 * 3600));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |name: String, text: String| {
            let (path, staged) = (folder.join(&name), folder.join(format!("{name}.staged")));
            fs::write(&staged, text).unwrap();
            fs::set_permissions(&staged, Permissions::from_mode(0o600)).unwrap();
            fs::rename(staged, path).unwrap();
        };
        write(format!("{name}.pem"), certificate.pem());
        write(format!("{name}.key"), key.serialize_pem());
    }

    /// What a client that trusts this authority alone offers.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut config = self.client_of(rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// As [`Self::client`], of these versions of TLS.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(default_provider(), versions)
    }

    /// As [`Self::client_of`], with these ciphers.
    pub fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let has = |version: &&&'static SupportedProtocolVersion| {
            provider.cipher_suites.iter().any(|suite| suite.version() == **version)
        };
        let versions: Vec<_> = versions.iter().filter(has).copied().collect();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth()
    }
}

/// An edge that speaks plain and TLS, side by side.
pub struct Fronts {
    pub edge: Edge,
    pub authority: Authority,
    pub address: SocketAddr,
}

impl Fronts {
    pub fn start(top: &str, limits: &str) -> Self {
        let (authority, address) = (Authority::new(), free_address());
        let top = format!("tls_listen = \"{address}\"\n{top}");
        let limits = format!("{limits}\n[tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\n");
        let edge = Edge::start_prepared(&top, "size = \"64MiB\"", &limits, |folder| {
            authority.issue(folder, "server", &["edge.example"], |_| ());
        });
        Self { edge, authority, address }
    }

    pub async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        connect(self.address, Arc::new(self.authority.client(protocols)), "edge.example").await.unwrap()
    }

    pub async fn connect_http2(&self) -> SendRequest<Bytes> {
        let stream = self.connect(&["h2"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        send
    }
}

pub async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    shake_hands(stream, config, name).await
}

pub async fn shake_hands(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// An answer as it came, whatever it came by; names of fields in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Got {
    pub status: u16,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Runs a client, for so long and no longer.
pub fn run<F: Future>(client: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(CLIENT_LIMIT, client).await.expect("within its limit") })
}

/// Reads one answer of HTTP/1, whole.
pub async fn read_http1(stream: &mut (impl AsyncReadExt + Unpin), to_head: bool) -> Got {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(stream.read_buf(&mut received).await.unwrap() > 0, "ended in the head");
    };
    let head = String::from_utf8(received[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let fields: BTreeMap<_, _> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = fields.get("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
    let length = if to_head || status == 304 { 0 } else { length };
    let mut body = received.split_off(end);
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0, "ended after {} bytes", body.len());
    }
    assert_eq!(body.len(), length, "no more than was said");
    Got { status, fields, body }
}

/// Asks over HTTP/2, and reads the answer whole.
pub async fn ask_http2(
    send: &mut SendRequest<Bytes>,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Got {
    let mut request = http::Request::builder().method(method).uri(format!("https://edge.example{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    *send = send.clone().ready().await.unwrap();
    let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
    let (head, mut content) = response.await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = content.data().await {
        let chunk = chunk.unwrap();
        content.flow_control().release_capacity(chunk.len()).unwrap();
        body.extend_from_slice(&chunk);
    }
    let fields = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8(value.as_bytes().to_vec()).unwrap())
    });
    Got { status: head.status.as_u16(), fields: fields.collect(), body }
}
