//! What a connection's bytes go by: a socket as it is, TLS over one, or a socket with TLS beneath. Connections differ in nothing else.

use std::io;

use rustix::net::{Shutdown, shutdown};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::Connection;
use crate::answer::Answer;
use crate::send::{Records, SendError};

pub(crate) trait Transport: AsyncRead + Unpin + 'static {
    /// Who the client is was said before there was a connection.
    const IS_INTRODUCED: bool;

    /// Does something to the socket itself.
    fn with_socket<R>(&self, then: impl FnOnce(&TcpStream) -> R) -> R;

    /// The connection has to end soon, and ends best with the next answer.
    fn is_near_end(&self) -> bool {
        false
    }

    /// Sends an answer if the socket takes it at once; `None` where there is something to wait for. What went is noted
    /// in the answer.
    fn send_now(connection: &Connection<Self>, answer: &Answer) -> Option<Result<(), SendError>>
    where
        Self: Sized;

    /// Sends what is left of an answer.
    fn send(connection: &Connection<Self>, answer: &Answer) -> impl Future<Output = Result<(), SendError>>
    where
        Self: Sized;

    /// What was sent last may be lost when the connection is closed.
    fn is_unsettled(&self) -> bool {
        false
    }

    /// Waits until what was sent last is out of reach of the connection's end.
    fn settle(_: &Connection<Self>) -> impl Future<Output = ()>
    where
        Self: Sized,
    {
        std::future::ready(())
    }

    /// Says that no more is sent; what is received can still be read.
    async fn end(&mut self) -> io::Result<()>;

    /// As [`Self::end`], as far as it goes without waiting.
    fn end_now(&mut self);
}

/// What takes bytes as they are, and so by `sendfile`.
pub(crate) trait Bare: Transport {
    fn socket(&self) -> &TcpStream;

    /// What the kernel makes of them, where it encrypts.
    fn records(&self) -> Option<&Records>;
}

impl Bare for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn records(&self) -> Option<&Records> {
        None
    }
}

impl Transport for TcpStream {
    const IS_INTRODUCED: bool = false;

    fn with_socket<R>(&self, then: impl FnOnce(&TcpStream) -> R) -> R {
        then(self)
    }

    fn send_now(connection: &Connection<Self>, answer: &Answer) -> Option<Result<(), SendError>> {
        connection.send_now(answer)
    }

    async fn send(connection: &Connection<Self>, answer: &Answer) -> Result<(), SendError> {
        connection.send(answer).await
    }

    async fn end(&mut self) -> io::Result<()> {
        Ok(shutdown(self, Shutdown::Write)?)
    }

    /// Closing it says so.
    fn end_now(&mut self) {}
}
