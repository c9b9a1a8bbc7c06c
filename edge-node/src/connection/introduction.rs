//! What a trusted proxy says before a connection's first request: for whom it is (PROXY v2).

use std::rc::Rc;
use std::time::Instant;

use sluice_shared::proxy_protocol::{self, Header, ProxiedClient, ProxyHeaderError};

use super::transport::Transport;
use super::{Connection, Next, read_more, unless_over};
use crate::limits::{Late, Waiting};
use crate::reject::Reject;
use crate::worker::Buffer;

/// Why a connection is closed before its first request.
#[derive(Debug, thiserror::Error)]
enum NotIntroduced {
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    #[error("the PROXY header did not arrive in time")]
    Late,
    /// Nobody to tell: health checks connect and close, and some connections come to nothing.
    #[error("closed, or silent")]
    Gone,
}

impl<T: Transport> Connection<T> {
    /// Reads the header and takes the client's place; gives how the connection goes on, and what came behind the header.
    pub(super) async fn introduction(&mut self) -> (Next, Option<Buffer>) {
        let (worker, deadline) = (Rc::clone(&self.worker), self.deadline.shared());
        let introduced = async {
            match self.read_introduction().await {
                Ok((client, rest)) => (self.take_place(client), rest),
                Err(reason) => {
                    self.note(&reason);
                    (Next::Close, None)
                }
            }
        };
        unless_over(&worker, &deadline, introduced).await.unwrap_or((Next::Close, None))
    }

    /// All of it within `head_timeout`. No buffer is held until the first bytes are there.
    async fn read_introduction(&mut self) -> Result<(ProxiedClient, Option<Buffer>), NotIntroduced> {
        let until = Instant::now() + self.worker.limits.head_timeout;
        let mut buffer = self.first_bytes(Waiting::First).await.ok_or(NotIntroduced::Gone)?;
        loop {
            if let Header::Whole { header_bytes, client } = proxy_protocol::parse(buffer.bytes())? {
                buffer.consume(header_bytes);
                let rest = if buffer.bytes().is_empty() { None } else { Some(buffer) };
                return Ok((client, rest));
            }
            let left = until.saturating_duration_since(Instant::now());
            let reading = read_more(&mut self.stream, &mut buffer);
            match self.deadline.bound(Waiting::Head, left, reading).await {
                Err(Late) => return Err(NotIntroduced::Late),
                Ok(Ok(0) | Err(_)) => return Err(NotIntroduced::Gone),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// From here on the connection is the client's.
    fn take_place(&mut self, client: ProxiedClient) -> Next {
        let client = match client {
            ProxiedClient::Address(address) => address,
            ProxiedClient::Peer => self.place.client(),
        };
        match self.worker.addresses.admit(client) {
            Some(place) => {
                self.place = place;
                Next::Request
            }
            None => {
                self.worker.metrics.refused_address.add_alone(1);
                let refuse = |socket: &_| self.worker.refuse_place(socket, Reject::FullForAddress);
                let is_said = self.stream.with_socket(refuse);
                if is_said { Next::Linger } else { Next::Close }
            }
        }
    }

    fn note(&self, reason: &NotIntroduced) {
        if let NotIntroduced::Header(_) | NotIntroduced::Late = reason {
            let worker = &*self.worker;
            worker.metrics.refused_proxy.add_alone(1);
            tracing::info!(edge = %worker.id, peer = %self.place.client(), %reason, "connection refused");
        }
    }
}
