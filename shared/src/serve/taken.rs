//! A connection whose client has to take what it is sent. A clock runs only while something waits to be taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Who takes as much in the time has not stopped, however much is left.
const ENOUGH_BYTES: usize = 64 * 1024;

pub(super) struct Taken<S> {
    stream: S,
    within: Duration,
    /// Since when something waits: what is taken bit by bit waits on.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes that were taken meanwhile.
    meanwhile: usize,
}

impl<S> Taken<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, waiting: None, meanwhile: 0 }
    }

    #[cold]
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let waiting = self.waiting.get_or_insert_with(|| {
            self.meanwhile = 0;
            Box::pin(tokio::time::sleep(self.within))
        });
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }

    /// Of `bytes`, as many were written.
    fn written(
        &mut self,
        bytes: usize,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(context),
            Poll::Ready(Ok(count)) if count < bytes && self.meanwhile + count < ENOUGH_BYTES => {
                self.meanwhile += count;
                written
            }
            Poll::Ready(_) => {
                self.stop();
                written
            }
        }
    }

    fn flushed(&mut self, flushed: Poll<io::Result<()>>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if flushed.is_pending() {
            return self.wait(context);
        }
        self.stop();
        flushed
    }

    fn stop(&mut self) {
        (self.waiting, self.meanwhile) = (None, 0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(bytes.len(), written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.written(pieces.iter().map(|piece| piece.len()).sum(), written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.flushed(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.flushed(shut, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn who_takes_nothing_or_bit_by_bit_is_given_up_and_who_takes_all_in_time_is_not() {
        // Room in between, bytes to send, milliseconds from read to read; whether all are sent.
        let table = [
            (10, 100, None, false),
            (10, 100, Some(40), false),
            (10, 100, Some(0), true),
            // For twice as long, and never little.
            (ENOUGH_BYTES, 10 * ENOUGH_BYTES, Some(200), true),
        ];
        for (room, bytes, every, expected) in table {
            let (client, server) = tokio::io::duplex(room);
            let mut taken = Taken::new(server, WITHIN);
            let (mut reading, _writing) = tokio::io::split(client);
            let reader = tokio::spawn(async move {
                let Some(every) = every else { return std::future::pending().await };
                let mut part = vec![0; room.saturating_sub(9)];
                while reading.read(&mut part).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(Duration::from_millis(every)).await;
                }
            });
            let begun = tokio::time::Instant::now();
            let sent = taken.write_all(&vec![0; bytes]).await;
            assert_eq!(sent.is_ok(), expected, "{every:?}: {sent:?}");
            assert!(expected || begun.elapsed() >= WITHIN, "{every:?}");
            if expected {
                assert!(taken.waiting.is_none(), "the clock stands");
            }
            reader.abort();
        }
    }
}
