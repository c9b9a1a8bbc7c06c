//! HEAD to an edge, where its clients would ask. It bounds bytes; whoever asks bounds the time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sluice_shared::units::BaseUrl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Fact;
use crate::edge_trust::EdgeTrust;

/// An edge's heads are below 2 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Asks edges.
pub(crate) struct Asker {
    trust: EdgeTrust,
}

impl Asker {
    /// Where the system has no authorities, edges that speak TLS are not asked, and Metalinks have neither size nor hash.
    pub(crate) fn new(trust: EdgeTrust) -> Self {
        Self { trust }
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
        match self.trust.tls().connect(name, stream).await {
            Ok(stream) => head(stream, authority, token).await,
            Err(error) => {
                tracing::debug!(%edge, %error, "an edge was not asked about a file: no TLS with it");
                None
            }
        }
    }
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
