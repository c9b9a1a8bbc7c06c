//! Whether clients would reach an edge: its public URL, asked for a download without a token as any client could ask.
//! Nothing is taken out of routing for it, for this coordinator's network is not the clients'; operators are told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{fmt, io};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error as TlsError};
use serde::Serialize;
use sluice_shared::cluster::{ANSWERED_BY, EdgeId};
use sluice_shared::problem;
use sluice_shared::units::BaseUrl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::edge_trust::EdgeTrust;

/// From one question to the next, a fifth more or less.
const EVERY: Duration = Duration::from_secs(60);
/// The same while the last answer was not as it should be: an operator is mending it.
const EVERY_WHILE_FAULTY: Duration = Duration::from_secs(10);
pub(super) const JITTER: std::ops::Range<f64> = 0.8..1.2;
/// What was seen once could be a moment's: it is looked at again before it is told.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// For a name to be found, and for each address to be connected to and to answer.
const STEP_MAX: Duration = Duration::from_secs(2);
/// For one question in all.
const QUESTION_MAX: Duration = Duration::from_secs(4);
/// Names may have many addresses.
const ADDRESSES_MAX: usize = 4;
/// Questions at a time.
const QUESTIONS_MAX: usize = 16;
/// An edge's heads are below 2 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const CAUSE_CHARS_MAX: usize = 200;

/// Why clients would not reach an edge by its URL, in the order of how far they would come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UrlFault {
    /// The name has no address here.
    Name(String),
    /// No connection: refused, or no way there.
    Refused(String),
    Silent,
    /// The URL says `https`, and what answers speaks no TLS.
    NotTls,
    /// The URL says `http`, and what answers speaks something else.
    NotHttp,
    /// Nobody that is trusted vouches for its certificate, or not now.
    Untrusted(String),
    /// The certificate is of other names.
    OtherName,
    /// What answers is no edge; with its status.
    NoEdge(StatusCode),
    /// It is another edge.
    OtherEdge(EdgeId),
}

impl UrlFault {
    /// The kinds, in metrics and in JSON.
    pub(crate) const KINDS: [&str; 9] = [
        "name",
        "refused",
        "timeout",
        "not-tls",
        "not-http",
        "untrusted-certificate",
        "other-name-certificate",
        "not-an-edge",
        "another-edge",
    ];

    fn depth(&self) -> usize {
        match self {
            Self::Name(_) => 0,
            Self::Refused(_) => 1,
            Self::Silent => 2,
            Self::NotTls => 3,
            Self::NotHttp => 4,
            Self::Untrusted(_) => 5,
            Self::OtherName => 6,
            Self::NoEdge(_) => 7,
            Self::OtherEdge(_) => 8,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        Self::KINDS[self.depth()]
    }

    /// What an operator does about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Name(_) => {
                "correct the name in the edge's advertise_url (with a static list: in registry.edges), or enter it in DNS"
            }
            Self::Refused(_) | Self::Silent => {
                "compare host and port of the edge's advertise_url with its listen, which must not be on loopback; \
                 then look for a firewall between"
            }
            Self::NotTls => "write http:// in the edge's advertise_url, or give it [tls]",
            Self::NotHttp => {
                "write https:// in the edge's advertise_url if it speaks TLS there, or correct the port"
            }
            Self::Untrusted(_) => {
                "give the edge a certificate that clients trust, with its issuers' in cert_file; if clients trust an \
                 authority of your own, name it in registry.edges_ca_file"
            }
            Self::OtherName => {
                "give the edge a certificate with the host of its advertise_url among its names"
            }
            Self::NoEdge(_) => {
                "correct host and port of the edge's advertise_url: something else answers there"
            }
            Self::OtherEdge(_) => {
                "give each edge an advertise_url of its own, that leads to it and to no other"
            }
        }
    }
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(cause) => write!(f, "its name has no address here ({cause})"),
            Self::Refused(cause) => write!(f, "no connection to it ({cause})"),
            Self::Silent => f.write_str("nobody answers in time"),
            Self::NotTls => f.write_str("what answers there speaks no TLS"),
            Self::NotHttp => f.write_str("what answers there speaks no HTTP"),
            Self::Untrusted(cause) => write!(f, "its certificate is not trusted ({cause})"),
            Self::OtherName => f.write_str("its certificate is of another name"),
            Self::NoEdge(status) => write!(f, "what answers there is no edge (status {})", status.as_u16()),
            Self::OtherEdge(id) => write!(f, "edge '{id}' answers there"),
        }
    }
}

/// As JSON, for operators' programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UrlFaultView {
    pub(crate) fault: &'static str,
    pub(crate) found: String,
    pub(crate) remedy: &'static str,
}

impl From<&UrlFault> for UrlFaultView {
    fn from(fault: &UrlFault) -> Self {
        Self { fault: fault.kind(), found: fault.to_string(), remedy: fault.remedy() }
    }
}

/// What is known of an edge's entrance. Pure; the clock is an argument.
#[derive(Debug)]
pub(super) struct Entrance {
    /// When to ask next; `None` while a question is under way.
    due: Option<Instant>,
    /// The last question was answered wrongly, for the first time.
    is_suspect: bool,
    /// `None` before it was asked.
    known: Option<Result<(), UrlFault>>,
}

/// What an outcome changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Faulty,
    Mended,
}

impl Entrance {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: Some(now), is_suspect: false, known: None }
    }

    /// Whether a question is to be asked; it is under way from now on.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// Nothing can be said of it; that may change.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.due = Some(now + EVERY);
    }

    /// Why clients do not reach it, where that is known.
    pub(super) fn fault(&self) -> Option<&UrlFault> {
        self.known.as_ref()?.as_ref().err()
    }

    /// Takes in what a question came to; `jitter` is a factor.
    pub(super) fn learn(
        &mut self,
        outcome: Result<(), UrlFault>,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        let was = self.fault().map(UrlFault::kind);
        if outcome.is_err() && was.is_none() && !std::mem::replace(&mut self.is_suspect, true) {
            self.due = Some(now + CONFIRM_AFTER);
            return None;
        }
        self.is_suspect = false;
        let pause = if outcome.is_ok() { EVERY } else { EVERY_WHILE_FAULTY };
        self.due = Some(now + pause.mul_f64(jitter));
        self.known = Some(outcome);
        match (was, self.fault().map(UrlFault::kind)) {
            (before, Some(kind)) => (before != Some(kind)).then_some(Change::Faulty),
            (Some(_), None) => Some(Change::Mended),
            (None, None) => None,
        }
    }
}

/// Asks at entrances.
pub(super) struct Visitor {
    trust: EdgeTrust,
    places: Semaphore,
}

impl Visitor {
    pub(super) fn new(trust: EdgeTrust) -> Self {
        Self { trust, places: Semaphore::new(QUESTIONS_MAX) }
    }

    /// Asks once. `None` where nothing can be said: it speaks TLS, and nobody is trusted here.
    pub(super) async fn visit(&self, id: &EdgeId, url: &BaseUrl) -> Option<Result<(), UrlFault>> {
        let uri: Uri = url.as_str().parse().ok()?;
        let is_tls = uri.scheme_str() == Some("https");
        if is_tls && self.trust.is_empty() {
            return None;
        }
        let _place = self.places.acquire().await.ok()?;
        let question = Question { id, uri: &uri, tls: is_tls.then_some(&self.trust) };
        Some(timeout(QUESTION_MAX, question.ask()).await.unwrap_or(Err(UrlFault::Silent)))
    }
}

struct Question<'q> {
    id: &'q EdgeId,
    uri: &'q Uri,
    tls: Option<&'q EdgeTrust>,
}

impl Question<'_> {
    fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// One address that leads to the edge is enough: clients try the others. Of faults, the one that came furthest counts.
    async fn ask(&self) -> Result<(), UrlFault> {
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let addresses = match timeout(STEP_MAX, lookup_host((self.host(), port))).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(UrlFault::Name(shortened(&error))),
            Err(_) => return Err(UrlFault::Name("no answer in time".to_owned())),
        };
        let mut worst = UrlFault::Name("there is none".to_owned());
        for address in addresses.take(ADDRESSES_MAX) {
            match timeout(STEP_MAX, self.ask_at(address)).await.unwrap_or(Err(UrlFault::Silent)) {
                Ok(()) => return Ok(()),
                Err(fault) if fault.depth() >= worst.depth() => worst = fault,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn ask_at(&self, address: SocketAddr) -> Result<(), UrlFault> {
        let stream =
            TcpStream::connect(address).await.map_err(|error| UrlFault::Refused(shortened(&error)))?;
        let Some(trust) = self.tls else { return self.head(stream).await };
        let name = ServerName::try_from(self.host().to_owned()).map_err(|_| UrlFault::OtherName)?;
        let stream = trust.tls().connect(name, stream).await.map_err(|error| of_handshake(&error))?;
        self.head(stream).await
    }

    async fn head<S>(&self, stream: S) -> Result<(), UrlFault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|_| UrlFault::NotHttp)?;
        let connection = AbortOnDrop(tokio::spawn(connection));
        let authority = self.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let request = Request::head("/download")
            .header(header::HOST, authority)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new());
        let request = request.map_err(|_| UrlFault::NotHttp)?;
        let response = sender.send_request(request).await.map_err(|_| UrlFault::NotHttp)?;
        drop(connection);
        judge(self.id, response.status(), response.headers())
    }
}

/// Ends a connection whose question is given up, too.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether an answer is of this edge. One of an earlier version does not name itself, and answers as edges do.
fn judge(id: &EdgeId, status: StatusCode, fields: &HeaderMap) -> Result<(), UrlFault> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match text(ANSWERED_BY).and_then(EdgeId::parse) {
        Some(named) if named == *id => return Ok(()),
        Some(other) => return Err(UrlFault::OtherEdge(other)),
        None => {}
    }
    // Those of later versions name themselves in the first of them alone: a full or draining one has no time to.
    let is_usual = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    );
    let is_problem = text(header::CONTENT_TYPE.as_str()) == Some(problem::CONTENT_TYPE);
    if is_usual && is_problem { Ok(()) } else { Err(UrlFault::NoEdge(status)) }
}

fn of_handshake(error: &io::Error) -> UrlFault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => UrlFault::OtherName,
        Some(TlsError::InvalidCertificate(fault)) => UrlFault::Untrusted(shortened(&fault)),
        _ => UrlFault::NotTls,
    }
}

fn shortened(cause: &dyn fmt::Display) -> String {
    cause.to_string().chars().take(CAUSE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
