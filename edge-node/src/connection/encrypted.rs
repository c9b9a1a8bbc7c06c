//! HTTP/1 over TLS: the same connection, whose answers are copied and encrypted on their way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use sluice_shared::serve::ByRecord;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Connection;
use super::transport::Transport;
use crate::answer::{Answer, InFlight, account, send_copies};
use crate::cache::Body;
use crate::send::{Copier, Outlet, SendError};

/// TLS after its handshake.
pub(crate) struct Encrypted(RefCell<Box<TlsStream<ByRecord>>>);

impl Encrypted {
    pub(crate) fn new(stream: TlsStream<ByRecord>) -> Self {
        Self(RefCell::new(Box::new(stream)))
    }

    /// Borrowed for as long as one poll takes: one future reads or writes at a time.
    async fn poll<T>(
        &self,
        mut poll: impl FnMut(Pin<&mut TlsStream<ByRecord>>, &mut Context<'_>) -> Poll<T>,
    ) -> T {
        poll_fn(|context| poll(Pin::new(&mut **self.0.borrow_mut()), context)).await
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut().0.get_mut()).poll_read(context, buffer)
    }
}

impl Transport for Encrypted {
    const IS_INTRODUCED: bool = true;

    fn with_socket<R>(&self, then: impl FnOnce(&TcpStream) -> R) -> R {
        then(self.0.borrow().get_ref().0.socket())
    }

    /// What is encrypted is worth a future.
    fn send_now(_: &Connection<Self>, _: &Answer) -> Option<Result<(), SendError>> {
        None
    }

    async fn send(connection: &Connection<Self>, answer: &Answer) -> Result<(), SendError> {
        connection.send(answer).await
    }

    async fn end(&mut self) -> io::Result<()> {
        self.0.get_mut().shutdown().await
    }

    fn end_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // What does not fit is not waited for: it only tells the client what the socket's end tells as well.
        let _ = Pin::new(&mut **self.0.get_mut()).poll_shutdown(&mut context);
    }
}

impl Outlet for &Encrypted {
    /// Waiting is in [`Outlet::give`].
    async fn room(&mut self, wanted: usize) -> Result<usize, SendError> {
        Ok(wanted)
    }

    async fn give(&mut self, copy: Vec<u8>, is_last: bool) -> Result<(), SendError> {
        let mut rest = &copy[..];
        while !rest.is_empty() {
            let written = self.poll(|stream, context| stream.poll_write(context, rest)).await?;
            rest = &rest[written..];
        }
        if is_last {
            self.poll(|stream, context| stream.poll_flush(context)).await?;
        }
        Ok(())
    }
}

impl Connection<Encrypted> {
    async fn send(&self, answer: &Answer) -> Result<(), SendError> {
        let _in_flight = answer.body.as_ref().map(|body| InFlight::begin(&self.worker.metrics, answer, body));
        let account = account(&self.worker, answer, &self.pace, answer.body.is_some());
        let mut copier = Copier {
            outlet: &self.stream,
            deadline: &self.deadline,
            account: &account,
            taking: account.least_rate(),
            bytes: answer.body.as_ref().map_or(0, |body| body.bytes),
        };
        let Some(body) = &answer.body else { return copier.send_head(&answer.text, true).await };
        if let Some(Body::Memory(_)) = body.file.entry.object.body() {
            account.allowance().await;
            copier.send_head(&answer.text, true).await?;
            account.count(body.bytes);
            return Ok(());
        }
        copier.send_head(&answer.text, false).await?;
        answer.sent.head_at.set(Some(Instant::now()));
        send_copies(&mut copier, &self.worker, body).await
    }
}
