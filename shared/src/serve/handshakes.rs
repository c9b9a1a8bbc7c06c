//! TLS at the begin of a connection: the handshake, bounded in time, counted where it fails.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::by_record::ByRecord;
use super::first_secrets::FirstSecrets;
use crate::tls::ServerTls;

/// Makes TLS connections of TCP's.
#[derive(Clone)]
pub struct Handshakes {
    tls: Arc<ServerTls>,
    failures: Counter,
    is_by_record: bool,
    keeps_secrets: bool,
}

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
enum NoHandshake {
    #[error("the TLS handshake was not done in time")]
    Late,
    /// No TLS, none that both sides speak, or an end in the middle.
    #[error("the TLS handshake failed: {0}")]
    Failed(io::Error),
}

impl Handshakes {
    /// `failures` counts clients that spoke and got no further, or were silent for too long.
    pub fn new(tls: Arc<ServerTls>, failures: Counter) -> Self {
        Self { tls, failures, is_by_record: false, keeps_secrets: false }
    }

    /// Nothing is read of a connection but its handshake, so that another may read on: see [`ByRecord`]. With
    /// `keeps_secrets` that other gets what next keys come of.
    pub fn by_record(self, keeps_secrets: bool) -> Self {
        Self { is_by_record: true, keeps_secrets, ..self }
    }

    /// A stream that is ready for requests; `only` is the one protocol to offer for them, where that is not to be all.
    /// `None`: the connection is over.
    pub async fn accept(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        within: Duration,
        only: Option<&[u8]>,
    ) -> Option<TlsStream<ByRecord>> {
        let handshake = async {
            // Load balancers connect and close to see that somebody listens: nothing has failed then.
            if !matches!(stream.peek(&mut [0]).await, Ok(1..)) {
                return Ok(None);
            }
            let mut config = self.tls.config();
            if let Some(only) = only {
                Arc::make_mut(&mut config).alpn_protocols = vec![only.to_vec()];
            }
            let secrets = self.keeps_secrets.then(Arc::<FirstSecrets>::default);
            if let Some(secrets) = &secrets {
                Arc::make_mut(&mut config).key_log = Arc::<FirstSecrets>::clone(secrets);
            }
            let stream = ByRecord::new(stream, self.is_by_record, secrets);
            let accepted = TlsAcceptor::from(config).accept(stream).await;
            accepted.map(Some).map_err(NoHandshake::Failed)
        };
        let shaken = tokio::time::timeout(within, handshake).await.unwrap_or(Err(NoHandshake::Late));
        shaken.unwrap_or_else(|reason| {
            // Whoever scans the internet for ports fails here: the log has it for those who look for it.
            tracing::debug!(%peer, %reason, "connection ended");
            self.failures.increment(1);
            None
        })
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes").finish_non_exhaustive()
    }
}
