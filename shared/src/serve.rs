//! The accept loop for everything that speaks HTTP through hyper: where clients are, TLS, head deadline, connection
//! cap, graceful end.
//!
//! `axum::serve` installs no timer, and without one hyper's head deadline does nothing.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::client_net::normalise;
use crate::client_source::ClientSource;
use crate::proxy_protocol::{self, Header, ProxiedClient, ProxyHeaderError};

mod by_record;
mod first_secrets;
mod handshakes;
mod taken;

pub use by_record::ByRecord;
pub use first_secrets::FirstSecrets;
pub use handshakes::Handshakes;
use taken::Taken;

/// A connection on which nothing was said for so long is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at a time; further ones wait in the listen queue.
    pub connections_max: usize,
    /// For a request head to arrive whole, and for a kept connection to send its next; and before the first, for a PROXY
    /// header, and for a TLS handshake.
    pub head_timeout: Duration,
    pub head_bytes_max: usize,
    /// For a client to take what waits to be sent to it.
    pub write_timeout: Duration,
    /// Between the last connection that is accepted and the end of those that idle: the first request of one that has just
    /// been accepted is on its way, or its TLS handshake under way, and it would be closed unread.
    pub linger: Duration,
    /// For requests under way to finish after that.
    pub shutdown_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(30),
            head_bytes_max: 64 * 1024,
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(200),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

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
    /// `client` is the peer, or the client that a trusted proxy names. An IPv4 address is never in its IPv6 form.
    ///
    /// The future holds what it works with and is moved with each request: one that is large is better boxed.
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> impl Future<Output = Response> + Send + use<Self>;

    /// Whether each answer from now on closes its connection.
    fn are_parting(&self) -> bool {
        false
    }
}

impl Answers for Router {
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        _: IpAddr,
    ) -> impl Future<Output = Response> + Send + use<> {
        Self::clone(self).oneshot(request).map(|response| {
            let Ok(response) = response;
            response
        })
    }
}

/// Serves with `answers` until `shutdown`, then lets requests under way finish. With `tls` all connections are TLS, behind their PROXY header where they have one.
pub async fn serve(
    listener: TcpListener,
    answers: impl Answers,
    limits: ServeLimits,
    clients: ClientSource,
    tls: Option<Handshakes>,
    shutdown: impl Future<Output = ()>,
) {
    let service = Arc::new(Service::new(answers, limits, clients, tls));
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
        // Whoever is gone without a word is noticed by the kernel.
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE_AFTER);
        let (service, watcher, ended) = (Arc::clone(&service), graceful.watcher(), ended.clone());
        tokio::spawn(async move {
            service.run(stream, peer, watcher, ended).await;
            drop(place);
        });
    }
    drop(listener);
    // All places are free once all connections have ended.
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.linger, places.acquire_many(all)).await;
    drop(ending);
    let _ = tokio::time::timeout(limits.shutdown_timeout, graceful.shutdown()).await;
}

/// What a listener's connections are served with.
struct Service<A> {
    builder: http1::Builder,
    answers: Arc<A>,
    clients: ClientSource,
    tls: Option<Handshakes>,
    head_timeout: Duration,
    write_timeout: Duration,
}

impl<A: Answers> Service<A> {
    fn new(answers: A, limits: ServeLimits, clients: ClientSource, tls: Option<Handshakes>) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            // A client may be done writing. And hyper does not look for its end with each request under way: that took a
            // new buffer of 8 KiB each time, for the last one holds the request.
            .half_close(true)
            .max_buf_size(limits.head_bytes_max);
        Self {
            builder,
            answers: Arc::new(answers),
            clients,
            tls,
            head_timeout: limits.head_timeout,
            write_timeout: limits.write_timeout,
        }
    }

    /// A connection from its first byte to its last. What comes before the first request is broken off once the listener
    /// has `ended`.
    async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        mut ended: watch::Receiver<()>,
    ) {
        let introduced = tokio::select! {
            biased;
            introduced = introduced(&stream, peer, &self.clients, self.head_timeout) => introduced,
            _ = ended.changed() => return,
        };
        let client = match introduced {
            Ok(client) => client,
            Err(reason) => return reason.log(peer),
        };
        let Some(tls) = &self.tls else { return self.serve(stream, client, watcher).await };
        // In memory of its own: where there is no TLS, a connection's future has no room for it.
        let accepted = tokio::select! {
            biased;
            accepted = Box::pin(tls.accept(stream, peer, self.head_timeout, None)) => accepted,
            _ = ended.changed() => return,
        };
        if let Some(stream) = accepted {
            Box::pin(self.serve(stream, client, watcher)).await;
        }
    }

    async fn serve<S>(self: &Arc<Self>, stream: S, client: IpAddr, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let this = Arc::clone(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let fields = || request.headers().get_all(X_FORWARDED_FOR).into_iter();
            let client = this.clients.client_of(client, || fields().map(HeaderValue::as_bytes));
            let answers = Arc::clone(&this.answers);
            // Not in an `async` block: it would have room for the future twice.
            answers.answer(request, client).map(move |mut response| {
                if answers.are_parting() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            })
        });
        let connection =
            self.builder.serve_connection(TokioIo::new(Taken::new(stream, self.write_timeout)), service);
        // A connection's failure is its peer's affair: a reset, a timeout, a head that is none.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Who a connection is from: its peer, or whom the peer's PROXY header names. Of what comes behind that not a byte is read.
///
/// # Errors
/// The header is missing, late or no header, or the peer is none that may send one.
pub async fn introduced(
    stream: &TcpStream,
    peer: SocketAddr,
    clients: &ClientSource,
    within: Duration,
) -> Result<IpAddr, NotIntroduced> {
    let peer = normalise(peer.ip());
    let ClientSource::ProxyProtocol(proxies) = clients else { return Ok(peer) };
    if !proxies.contains(peer) {
        return Err(NotIntroduced::Untrusted);
    }
    let reading = tokio::time::timeout(within, read_proxy_header(stream));
    match reading.await.unwrap_or(Err(NotIntroduced::Late))? {
        ProxiedClient::Address(client) => Ok(client),
        ProxiedClient::Peer => Ok(peer),
    }
}

/// Why a connection is closed before its first request, where PROXY headers are required.
#[derive(Debug, thiserror::Error)]
pub enum NotIntroduced {
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
    /// Says so, where it is not just a connection that came to nothing.
    pub fn log(&self, peer: SocketAddr) {
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
