//! TLS in front of a connection: whom it is from, the handshake, and which HTTP is spoken behind it.

mod kernel;
mod key_update;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sluice_shared::client_source::ClientSource;
use sluice_shared::handover::Role;
use sluice_shared::serve::{ByRecord, Handshakes, introduced};
use sluice_shared::tls::{HTTP_1_1, HTTP_2};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::connection::{Beneath, Connection, Encrypted};
use crate::http2;
use crate::limits::AddressPlace;
use crate::reject::Reject;
use crate::worker::Worker;
use kernel::Lowered;
pub(crate) use kernel::{KernelTls, KeyUse};
#[cfg(test)]
pub(crate) use key_update::tests::secret;
pub(crate) use key_update::{KEY_UPDATE, KEY_UPDATE_REQUESTED, TrafficSecret};

/// What ALPN offers, best first.
pub(crate) const PROTOCOLS: [&[u8]; 2] = [HTTP_2, HTTP_1_1];

/// A client that has no place has so long for its handshake: it takes the edge some work, too.
const TURNED_AWAY_HANDSHAKE_TIME: Duration = Duration::from_secs(2);

/// What an edge speaks TLS with, and where.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) handshakes: Handshakes,
    /// The listeners that speak it.
    pub(crate) role: Role,
    /// Where the kernel goes on with what it takes.
    pub(crate) kernel: Option<KernelTls>,
}

/// A connection that has yet to begin TLS.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: AddressPlace,
    pub(crate) worker: Rc<Worker>,
    pub(crate) handshakes: Handshakes,
}

impl Arrival {
    /// Serves the connection until it ends.
    pub(crate) async fn serve(mut self: Box<Self>) {
        let worker = Rc::clone(&self.worker);
        let shaken = match self.introduce().await {
            Ok(true) => self.shake_hands(None, worker.limits.head_timeout).await,
            Ok(false) => None,
            Err(reject) => {
                // Counted meanwhile: a handshake is work, whoever asks for it.
                self.turn_away(reject).await;
                return worker.metrics.connections.subtract(1);
            }
        };
        let Some((stream, place)) = shaken else { return worker.metrics.connections.subtract(1) };
        if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) {
            http2::serve(freely(stream), place, Rc::clone(&worker)).await;
            return worker.metrics.connections.subtract(1);
        }
        let kernel = worker.tls.as_ref().and_then(|tls| tls.kernel);
        let lowered = match kernel {
            Some(kernel) => kernel.lower(stream),
            None => Lowered::Within(Box::new(stream)),
        };
        match lowered {
            Lowered::Within(stream) => {
                Connection::new(Encrypted::new(freely(*stream)), place, worker).serve().await;
            }
            Lowered::Beneath(stream, key_use) => {
                worker.metrics.kernel_tls.add_alone(1);
                Connection::new(Beneath::new(stream, key_use), place, worker).serve().await;
            }
            Lowered::Failed(reason) => {
                tracing::warn!(edge = %worker.id, %reason, "connection ended: the kernel does not go on with its TLS");
                worker.metrics.connections.subtract(1);
            }
        }
    }

    /// Turns a client away that has no place here, in the version of HTTP that takes least.
    pub(crate) async fn turn_away(self: Box<Self>, reject: Reject) {
        let worker = Rc::clone(&self.worker);
        let Some((stream, place)) = self.shake_hands(Some(HTTP_1_1), TURNED_AWAY_HANDSHAKE_TIME).await else {
            return;
        };
        Connection::new(Encrypted::new(freely(stream)), place, worker).turn_away(reject).await;
    }

    /// Takes the client's own place, where a proxy says who it is; says whether there is somebody to serve.
    ///
    /// # Errors
    /// The client has as many connections as it may.
    async fn introduce(&mut self) -> Result<bool, Reject> {
        let worker = &*self.worker;
        let ClientSource::ProxyProtocol(_) = &worker.clients else { return Ok(true) };
        let within = worker.limits.head_timeout;
        match introduced(&self.stream, self.peer, &worker.clients, within).await {
            Err(reason) => {
                worker.metrics.refused_proxy.add_alone(1);
                reason.log(self.peer);
                Ok(false)
            }
            Ok(client) => {
                let place = worker.addresses.admit(client);
                if place.is_none() {
                    worker.metrics.refused_address.add_alone(1);
                }
                self.place = place.ok_or(Reject::FullForAddress)?;
                Ok(true)
            }
        }
    }

    /// `only`: the one protocol to offer.
    async fn shake_hands(
        self: Box<Self>,
        only: Option<&[u8]>,
        within: Duration,
    ) -> Option<(TlsStream<ByRecord>, AddressPlace)> {
        let Self { stream, peer, place, handshakes, .. } = *self;
        let accepted = handshakes.accept(stream, peer, within, only).await;
        accepted.map(|stream| (stream, place))
    }
}

/// A stream that stays in the process.
fn freely(mut stream: TlsStream<ByRecord>) -> TlsStream<ByRecord> {
    stream.get_mut().0.read_freely();
    stream
}
