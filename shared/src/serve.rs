//! The accept loop for everything that speaks HTTP through hyper: where clients are, head deadline, connection cap,
//! graceful end.
//!
//! `axum::serve` installs no timer, and without one hyper's head deadline does nothing.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::client_net::normalise;
use crate::client_source::ClientSource;
use crate::proxy_protocol::{self, Header, ProxiedClient, ProxyHeaderError};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at a time; further ones wait in the listen queue.
    pub connections_max: usize,
    /// For a request head to arrive whole, and for a kept connection to send its next; and before the first, for a PROXY
    /// header.
    pub head_timeout: Duration,
    pub head_bytes_max: usize,
    /// For requests under way to finish once the end has begun.
    pub shutdown_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(30),
            head_bytes_max: 64 * 1024,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// Where a request comes from, as a request extension: the peer, or the client that a trusted proxy names. An IPv4
/// address is never in its IPv6 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Binds a listener, saying what to do where that fails.
///
/// # Errors
/// The address is in use, not ours, or not allowed.
pub fn bind(address: SocketAddr, key: &str) -> Result<std::net::TcpListener, BindError> {
    std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BindError { address, key: key.to_owned(), source })
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (`{key}`): {source}; {}", self.remedy())]
pub struct BindError {
    pub address: SocketAddr,
    pub key: String,
    pub source: io::Error,
}

impl BindError {
    fn remedy(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
            io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
            io::ErrorKind::PermissionDenied => "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
            _ => "choose another address",
        }
    }
}

/// What answers requests.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

impl Answers for Router {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}

/// Serves with `answers` until `shutdown`, then lets requests under way finish. Requests have the extension
/// [`ClientAddress`].
pub async fn serve(
    listener: TcpListener,
    answers: impl Answers,
    limits: ServeLimits,
    clients: ClientSource,
    shutdown: impl Future<Output = ()>,
) {
    let service = Arc::new(Service::new(answers, limits, clients));
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let (ending, ended) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: connections end and free some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (service, watcher, mut ended) = (Arc::clone(&service), graceful.watcher(), ended.clone());
        tokio::spawn(async move {
            let introduced = tokio::select! {
                biased;
                introduced = service.introduction(&stream, peer) => introduced,
                _ = ended.changed() => return,
            };
            match introduced {
                Ok(client) => service.serve(stream, client, watcher).await,
                Err(reason) => reason.log(peer),
            }
            drop(place);
        });
    }
    drop((listener, ending));
    let _ = tokio::time::timeout(limits.shutdown_timeout, graceful.shutdown()).await;
}

/// What a listener's connections are served with.
struct Service<A> {
    builder: http1::Builder,
    answers: A,
    clients: ClientSource,
    head_timeout: Duration,
}

impl<A: Answers> Service<A> {
    fn new(answers: A, limits: ServeLimits, clients: ClientSource) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.head_bytes_max);
        Self { builder, answers, clients, head_timeout: limits.head_timeout }
    }

    /// Who a connection is from: its peer, or whom the peer's PROXY header names.
    async fn introduction(&self, stream: &TcpStream, peer: SocketAddr) -> Result<IpAddr, NotIntroduced> {
        let peer = normalise(peer.ip());
        let ClientSource::ProxyProtocol(proxies) = &self.clients else { return Ok(peer) };
        if !proxies.contains(peer) {
            return Err(NotIntroduced::Untrusted);
        }
        let reading = tokio::time::timeout(self.head_timeout, read_proxy_header(stream));
        match reading.await.unwrap_or(Err(NotIntroduced::Late))? {
            ProxiedClient::Address(client) => Ok(client),
            ProxiedClient::Peer => Ok(peer),
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, client: IpAddr, watcher: Watcher) {
        let this = Arc::clone(&self);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let forwarded_for = request.headers().get_all(X_FORWARDED_FOR).into_iter();
            let client = this.clients.client_of(client, forwarded_for.map(HeaderValue::as_bytes));
            request.extensions_mut().insert(ClientAddress(client));
            let this = Arc::clone(&this);
            async move { Ok::<_, Infallible>(this.answers.answer(request).await) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        // A connection's failure is its peer's affair: a reset, a timeout, a head that is none.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Why a connection is closed before its first request, where PROXY headers are required.
#[derive(Debug, thiserror::Error)]
enum NotIntroduced {
    #[error("not from one of `trusted_proxies`")]
    Untrusted,
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    #[error("the PROXY header did not arrive in time")]
    Late,
    #[error("closed before its PROXY header was whole")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl NotIntroduced {
    fn log(&self, peer: SocketAddr) {
        match self {
            Self::Untrusted | Self::Header(_) | Self::Late => {
                tracing::info!(%peer, reason = %self, "connection refused");
            }
            Self::Closed | Self::Io(_) => tracing::debug!(%peer, reason = %self, "connection ended"),
        }
    }
}

/// Takes a PROXY header off a stream, and not a byte more.
async fn read_proxy_header(stream: &TcpStream) -> Result<ProxiedClient, NotIntroduced> {
    let mut bytes = Vec::new();
    loop {
        let missing = match proxy_protocol::parse(&bytes)? {
            Header::Whole { client, .. } => return Ok(client),
            Header::Missing(missing) => missing,
        };
        stream.readable().await?;
        let filled = bytes.len();
        bytes.resize(filled + missing, 0);
        let read = match stream.try_read(&mut bytes[filled..]) {
            Ok(0) => return Err(NotIntroduced::Closed),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        bytes.truncate(filled + read);
    }
}
