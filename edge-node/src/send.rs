//! Bytes and windows → socket, without blocking and without copies. It knows no HTTP.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::cache::{Cache, Extent, FillError, Object, Pin};
use crate::limits::{Deadline, Late, Waiting};
use crate::metrics::WorkerMetrics;
use crate::uring::WindowFile;

/// Why a body ended short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The client has gone.
    #[error("the client's end: {0}")]
    Client(#[from] io::Error),
    #[error("the client took nothing for too long")]
    Stalled,
    #[error("the content: {0}")]
    Content(#[from] FillError),
}

impl From<Late> for SendError {
    fn from(_: Late) -> Self {
        Self::Stalled
    }
}

/// One connection's way out.
pub(crate) struct Sender<'c> {
    pub(crate) stream: &'c TcpStream,
    pub(crate) deadline: &'c Deadline,
    pub(crate) send_timeout: Duration,
    pub(crate) metrics: &'c WorkerMetrics,
}

/// Where windows come from, and how long each is waited for.
pub(crate) struct Source<'c> {
    pub(crate) cache: &'c Arc<Cache>,
    pub(crate) storage_timeout: Duration,
    /// Whom reads of the store are charged to.
    pub(crate) requester: u64,
    /// The first window was there before this request.
    pub(crate) first_was_there: bool,
}

impl Sender<'_> {
    /// Sends a head and the body that follows it in one segment train. Both in one call where the socket takes them.
    pub(crate) async fn send_bytes(&self, head: &[u8], body: &[u8]) -> Result<(), SendError> {
        let total = head.len() + body.len();
        let mut sent = 0;
        while sent < total {
            let parts = [
                io::IoSlice::new(head.get(sent..).unwrap_or_default()),
                io::IoSlice::new(&body[sent.saturating_sub(head.len())..]),
            ];
            let parts = if sent < head.len() { &parts[..] } else { &parts[1..] };
            match self.stream.try_write_vectored(parts) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends a head that is not to be sent alone: a body follows at once (`MSG_MORE`).
    pub(crate) async fn send_head(&self, head: &[u8]) -> Result<(), SendError> {
        let mut sent = 0;
        while sent < head.len() {
            let sending =
                || Ok(rustix::net::send(self.stream, &head[sent..], SendFlags::MORE | SendFlags::NOSIGNAL)?);
            match self.stream.try_io(Interest::WRITABLE, sending) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends a range of a small file that is kept in shared memory.
    pub(crate) async fn send_extent(&self, extent: &Extent, range: Range<u64>) -> Result<(), SendError> {
        let (mut offset, end) = (extent.offset() + range.start, extent.offset() + range.end);
        while offset < end {
            match self.send_file(extent.memory(), &mut offset, end) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                sent => sent?,
            }
        }
        Ok(())
    }

    /// Sends a range of a large file, window by window, yielding after each so that connections take turns.
    ///
    /// A window is pinned while it is being sent and not while the client is waited for: a client that stalls holds
    /// nothing but its socket's buffer.
    pub(crate) async fn send_windows(
        &self,
        object: &Arc<Object>,
        range: Range<u64>,
        source: &Source<'_>,
    ) -> Result<(), SendError> {
        let window_bytes = object.window_bytes();
        let (first, last) = (object.window_at(range.start), object.window_at(range.end - 1));
        // Windows that this transfer has had filled: for it they are misses, and no sign that they are wanted again.
        // One bit a window, in turn: fewer than 32 are ever ahead.
        let mut fetched = u32::from(!source.first_was_there) << (first % u32::BITS);
        let mut ahead = ReadAhead::default();
        let mut counted = None;
        let mut offset = range.start;
        while offset < range.end {
            let window = object.window_at(offset);
            let is_late = !object.is_present(window);
            let has_lead = object.is_present(last.min(window + ahead.depth));
            let depth = ahead.next(is_late, has_lead, source.cache.read_ahead());
            // The one that is waited for is asked for first.
            for wanted in (window + u32::from(!is_late))..=last.min(window + depth) {
                if source.cache.prefetch(object, wanted, source.requester) {
                    fetched |= 1 << (wanted % u32::BITS);
                    counted.get_or_insert_with(|| source.cache.transfer());
                }
            }
            let (mut pin, was_there) = self.window(object, window, source).await?;
            let mine = 1 << (window % u32::BITS);
            if was_there && fetched & mine == 0 {
                object.touch(Some(window));
                self.metrics.window_hits.add_alone(1);
            } else {
                self.metrics.window_misses.add_alone(1);
            }
            fetched &= !mine;
            let end = range.end.min((u64::from(window) + 1) * window_bytes);
            while offset < end {
                match self.send_file(object.memory(), &mut offset, end) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        drop(pin);
                        self.writable().await?;
                        pin = self.window(object, window, source).await?.0;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            drop(pin);
            if offset < range.end {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn window<'o>(
        &self,
        object: &'o Arc<Object>,
        window: u32,
        source: &Source<'_>,
    ) -> Result<(Pin<'o>, bool), FillError> {
        source.cache.window(object, window, source.requester, source.storage_timeout).await
    }

    /// One `sendfile`, from `offset` up to `end` at most.
    fn send_file(&self, memory: &WindowFile, offset: &mut u64, end: u64) -> io::Result<()> {
        let length = usize::try_from(end - *offset).expect("a window fits memory");
        let count = self.stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(self.stream, memory, Some(offset), length)?)
        })?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.metrics.body_bytes.add_alone(count as u64);
        Ok(())
    }

    async fn writable(&self) -> Result<(), SendError> {
        Ok(self.deadline.bound(Waiting::Send, self.send_timeout, self.stream.writable()).await??)
    }
}

/// How many windows a transfer has read ahead of it: more while it waits for the store, fewer while the store is ahead
/// of the client.
#[derive(Default)]
struct ReadAhead {
    depth: u32,
}

impl ReadAhead {
    /// The depth at the next window. It is late if it is not there yet; there is a lead if all that was read ahead is.
    fn next(&mut self, is_late: bool, has_lead: bool, most: u32) -> u32 {
        self.depth = match (is_late, has_lead) {
            (true, _) => self.depth * 2 + 1,
            (false, true) => self.depth.saturating_sub(1),
            (false, false) => self.depth,
        };
        self.depth = self.depth.clamp(1, most.max(1));
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ahead_follows_who_waits_for_whom() {
        let mut ahead = ReadAhead::default();
        let depths = [(false, true), (true, false), (true, false), (true, false), (false, false)]
            .map(|(is_late, has_lead)| ahead.next(is_late, has_lead, 4));
        assert_eq!(depths, [1, 3, 4, 4, 4], "it grows for a slow store");
        let depths = [(); 5].map(|()| ahead.next(false, true, 4));
        assert_eq!(depths, [3, 2, 1, 1, 1], "and shrinks for a slow client");
        assert_eq!(ahead.next(true, false, 1), 1, "and is bounded by all transfers' share");
    }
}
