//! Bytes and windows → socket, without blocking and without copies. It knows no HTTP.

mod read_ahead;
mod windows;

pub(crate) use windows::bound_unsent;

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::cache::{Cache, Extent, FillError};
use crate::limits::{Deadline, Late, Pace, Waiting};
use crate::logs::Meter;
use crate::metrics::WorkerMetrics;
use crate::uring::WindowFile;

/// Why a body ended short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The client has gone.
    #[error("the client's end: {0}")]
    Client(#[from] io::Error),
    #[error("the client took too little for too long")]
    Slow,
    #[error("the edge ends")]
    Cut,
    #[error("the content: {0}")]
    Content(#[from] FillError),
}

impl From<Late> for SendError {
    fn from(_: Late) -> Self {
        Self::Slow
    }
}

/// One answer's way out.
pub(crate) struct Sender<'c> {
    pub(crate) stream: &'c TcpStream,
    pub(crate) deadline: &'c Deadline,
    pub(crate) metrics: &'c WorkerMetrics,
    pub(crate) meter: Option<&'c Meter>,
    /// How long a client may take nothing; and the span that the least rate is judged over.
    pub(crate) send_timeout: Duration,
    /// Bytes per second that the client has to take.
    pub(crate) send_rate_min: u64,
    /// Bytes per second that it gets, at most.
    pub(crate) rate: Option<NonZeroU64>,
    /// What the connection has had of that.
    pub(crate) pace: &'c Cell<Pace>,
    pub(crate) sent: &'c Sent,
}

/// What has gone of an answer.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bytes of its text.
    text_bytes: Cell<usize>,
    /// When a head that is followed by a large body had gone.
    pub(crate) head_at: Cell<Option<Instant>>,
    pub(crate) body_bytes: Cell<u64>,
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
    /// Sends a text without waiting: `None` where the socket is full.
    pub(crate) fn try_text(&self, text: &[u8]) -> Option<Result<(), SendError>> {
        unless_full(self.push(text, SendFlags::empty()))
    }

    /// Sends a head that is not to be sent alone, without waiting: a body follows at once (`MSG_MORE`).
    pub(crate) fn try_head(&self, head: &[u8]) -> Option<Result<(), SendError>> {
        unless_full(self.push(head, SendFlags::MORE))
    }

    /// Sends a range of a small file that is kept in shared memory, without waiting.
    pub(crate) fn try_extent(&self, extent: &Extent, range: &Range<u64>) -> Option<Result<(), SendError>> {
        unless_full(self.push_extent(extent, range, u64::MAX))
    }

    /// As [`Self::try_text`], waiting for the client.
    pub(crate) async fn send_text(&self, text: &[u8]) -> Result<(), SendError> {
        while let Err(full) = self.push(text, SendFlags::empty()) {
            self.await_room(full).await?;
        }
        Ok(())
    }

    /// As [`Self::try_head`], waiting for the client.
    pub(crate) async fn send_head(&self, head: &[u8]) -> Result<(), SendError> {
        while let Err(full) = self.push(head, SendFlags::MORE) {
            self.await_room(full).await?;
        }
        Ok(())
    }

    /// As [`Self::try_extent`], waiting for the client and at its rate.
    pub(crate) async fn send_extent(&self, extent: &Extent, range: &Range<u64>) -> Result<(), SendError> {
        while self.sent.body_bytes.get() < range.end - range.start {
            let allowed = self.allowance().await;
            if let Err(full) = self.push_extent(extent, range, allowed) {
                self.await_room(full).await?;
            }
        }
        Ok(())
    }

    /// Sends what is left of a text, as far as the socket takes it.
    ///
    /// By `send`: `writev` takes a longer way through the kernel, 4 % of a small request's time.
    fn push(&self, text: &[u8], flags: SendFlags) -> io::Result<()> {
        let sent = &self.sent.text_bytes;
        while sent.get() < text.len() {
            let left = &text[sent.get()..];
            let sending = || Ok(rustix::net::send(self.stream, left, flags | SendFlags::NOSIGNAL)?);
            sent.set(sent.get() + self.stream.try_io(Interest::WRITABLE, sending)?);
        }
        Ok(())
    }

    /// Sends what is left of a range, `most` bytes at most, as far as the socket takes it.
    fn push_extent(&self, extent: &Extent, range: &Range<u64>, most: u64) -> io::Result<()> {
        let mut offset = extent.offset() + range.start + self.sent.body_bytes.get();
        let end = (extent.offset() + range.end).min(offset.saturating_add(most));
        while offset < end {
            self.send_file(extent.memory(), &mut offset, end)?;
        }
        Ok(())
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
        self.count(count as u64);
        Ok(())
    }

    /// Waits until the rate lets bytes go; gives how many.
    pub(crate) async fn allowance(&self) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        loop {
            let mut pace = self.pace.get();
            let allowed = pace.allow(rate, Instant::now());
            self.pace.set(pace);
            match allowed {
                Ok(bytes) => return bytes,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Counts bytes of a body that have gone.
    pub(crate) fn count(&self, bytes: u64) {
        self.metrics.body_bytes.add_alone(bytes);
        self.sent.body_bytes.set(self.sent.body_bytes.get() + bytes);
        if let Some(meter) = self.meter {
            meter.sent(bytes);
        }
        if let Some(rate) = self.rate {
            let mut pace = self.pace.get();
            pace.sent(bytes, rate);
            self.pace.set(pace);
        }
    }

    /// Waits until a socket that was full takes more; any other error is the client's end.
    async fn await_room(&self, full: io::Error) -> Result<(), SendError> {
        if full.kind() != io::ErrorKind::WouldBlock {
            return Err(full.into());
        }
        Ok(self.deadline.bound(Waiting::Send, self.send_timeout, self.stream.writable()).await??)
    }
}

/// What was sent without waiting; `None` where that was not all because the socket is full.
fn unless_full(sent: io::Result<()>) -> Option<Result<(), SendError>> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        sent => Some(sent.map_err(SendError::from)),
    }
}
