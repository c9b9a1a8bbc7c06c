//! TLS that h2 reads and writes, and that its driver looks at: what h2 has written need not be with the socket yet, nor
//! with the client.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use sluice_shared::serve::ByRecord;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::uring::unacknowledged;

#[derive(Clone)]
pub(super) struct SharedStream(Rc<RefCell<TlsStream<ByRecord>>>);

impl SharedStream {
    pub(super) fn new(stream: TlsStream<ByRecord>) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }

    /// TLS has what the socket had no room for.
    pub(super) fn wants_write(&self) -> bool {
        self.0.borrow().get_ref().1.wants_write()
    }

    /// Bytes that the socket has and the client does not.
    pub(super) fn unacknowledged_bytes(&self) -> u64 {
        unacknowledged(self.0.borrow().get_ref().0.socket()).unwrap_or(0)
    }

    /// The socket, once nobody else has the stream.
    pub(super) fn into_socket(self) -> Option<TcpStream> {
        Some(Rc::into_inner(self.0)?.into_inner().into_inner().0.into_socket())
    }

    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut TlsStream<ByRecord>>) -> T) -> T {
        poll(Pin::new(&mut *self.0.borrow_mut()))
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(context))
    }
}
