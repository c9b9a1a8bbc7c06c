//! HEAD to an edge, where its clients would ask. It bounds bytes; whoever asks bounds the time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_shared::units::BaseUrl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Fact;

/// An edge's heads are below 2 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Where systems keep the authorities that all programs trust: Debian and Alpine, Red Hat, SUSE.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Why edges cannot be asked as the operator wants it.
#[derive(Debug, thiserror::Error)]
pub enum AskerError {
    #[error("cannot read registry.edges_ca_file {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error(
        "registry.edges_ca_file {path} has no certificate in PEM; put in what signs your edges' certificates"
    )]
    Nothing { path: PathBuf },
}

/// Asks edges.
pub(crate) struct Asker {
    tls: TlsConnector,
}

impl Asker {
    /// Trusts the authorities of a file, or the system's.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub(crate) fn new(authorities: Option<&Path>) -> Result<Self, AskerError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let text =
                    fs::read(path).map_err(|cause| AskerError::Read { path: path.to_owned(), cause })?;
                if add(&mut roots, &text) == 0 {
                    return Err(AskerError::Nothing { path: path.to_owned() });
                }
            }
            // Without any, edges that speak TLS are not asked, and Metalinks have neither size nor hash.
            None => {
                if let Some(text) = SYSTEM_AUTHORITIES.iter().find_map(|path| fs::read(path).ok()) {
                    add(&mut roots, &text);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.expect("the library has the versions it thinks safe");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// What an edge says of the token's file; `None` where it says nothing that helps.
    pub(crate) async fn ask(&self, edge: &BaseUrl, token: &str) -> Option<Fact> {
        let uri: Uri = edge.as_str().parse().ok()?;
        let is_tls = uri.scheme_str() == Some("https");
        let authority = uri.authority()?.as_str();
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.ok()?;
        if !is_tls {
            return head(stream, authority, token).await;
        }
        let name = ServerName::try_from(host.to_owned()).ok()?;
        match self.tls.connect(name, stream).await {
            Ok(stream) => head(stream, authority, token).await,
            Err(error) => {
                tracing::debug!(%edge, %error, "an edge was not asked about a file: no TLS with it");
                None
            }
        }
    }
}

/// Adds the certificates of a PEM text; says how many.
fn add(roots: &mut RootCertStore, text: &[u8]) -> usize {
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    added
}

async fn head<S>(stream: S, authority: &str, token: &str) -> Option<Fact>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the sender, which ends with this.
    let connection = tokio::spawn(connection);
    let request = Request::head(format!("/download?token={token}"))
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let response = sender.send_request(request.ok()?).await;
    connection.abort();
    let response = response.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    let size = response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    Some(Fact { size, sha256: sha256(response.headers()) })
}

/// The hash in `Repr-Digest`, a dictionary of byte sequences (RFC 9530 §3, RFC 9651 §3.2).
fn sha256(headers: &HeaderMap) -> Option<[u8; 32]> {
    let fields = headers.get_all("repr-digest").iter().filter_map(|value| value.to_str().ok());
    let mut members = fields.flat_map(|value| value.split(','));
    let encoded = members.find_map(|member| member.trim().strip_prefix("sha-256=:")?.strip_suffix(':'))?;
    STANDARD.decode(encoded).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_hash_is_read_where_there_is_one() {
        let encoded = STANDARD.encode([7; 32]);
        let table = [
            (format!("sha-256=:{encoded}:"), true),
            (format!("sha-512=:AAAA:, sha-256=:{encoded}:"), true),
            (format!("sha-256={encoded}"), false),
            ("sha-256=:AAAA:".to_owned(), false),
            ("sha-256=:*:".to_owned(), false),
            (String::new(), false),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("repr-digest", HeaderValue::try_from(&value).unwrap());
            assert_eq!(sha256(&headers), expected.then_some([7; 32]), "{value}");
        }
    }
}
