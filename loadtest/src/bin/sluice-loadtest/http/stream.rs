//! What a connection's bytes pass through: the socket, or TLS over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fault::Fault;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Speaks TLS to a host, whose certificate has to be of one that the configuration trusts.
    ///
    /// # Errors
    /// It is not.
    pub(super) async fn secured(
        stream: TcpStream,
        host: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<Self, Fault> {
        let invalid =
            |_| Fault::Tls(io::Error::new(io::ErrorKind::InvalidInput, "the host has no name for TLS"));
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let secured = TlsConnector::from(config).connect(name, stream).await.map_err(Fault::Tls)?;
        Ok(Self::Tls(Box::new(secured)))
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// What TLS has taken and not sent yet.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
