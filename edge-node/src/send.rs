//! Bytes and windows → socket, without blocking and without copies. It knows no HTTP.

mod read_ahead;
mod windows;

pub(crate) use windows::bound_unsent;

use std::cell::{Cell, RefCell};
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
    pub(crate) pace: &'c RefCell<Pace>,
    pub(crate) sent: Sent,
}

/// What has gone of an answer.
#[derive(Debug, Default)]
pub(crate) struct Sent {
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
    /// Sends a text: a head, or a whole answer without a file in it.
    pub(crate) async fn send_text(&self, text: &[u8]) -> Result<(), SendError> {
        self.send(text, SendFlags::empty()).await
    }

    /// Sends a head and a small body behind it in one.
    pub(crate) async fn send_small(&self, head: &mut Vec<u8>, body: &[u8]) -> Result<(), SendError> {
        self.allowance().await;
        // Copied behind the head: that costs less than telling the kernel of two places.
        head.extend_from_slice(body);
        self.send(head, SendFlags::empty()).await?;
        self.count(body.len() as u64);
        Ok(())
    }

    /// Sends a head that is not to be sent alone: a body follows at once (`MSG_MORE`).
    pub(crate) async fn send_head(&self, head: &[u8]) -> Result<(), SendError> {
        self.send(head, SendFlags::MORE).await
    }

    /// By `send`: `writev` takes a longer way through the kernel, 4 % of a small request's time.
    async fn send(&self, bytes: &[u8], flags: SendFlags) -> Result<(), SendError> {
        let mut sent = 0;
        while sent < bytes.len() {
            let sending = || Ok(rustix::net::send(self.stream, &bytes[sent..], flags | SendFlags::NOSIGNAL)?);
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
            let portion_end = end.min(offset.saturating_add(self.allowance().await));
            match self.send_file(extent.memory(), &mut offset, portion_end) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                sent => sent?,
            }
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
    async fn allowance(&self) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        loop {
            let allowed = self.pace.borrow_mut().allow(rate, Instant::now());
            match allowed {
                Ok(bytes) => return bytes,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn count(&self, bytes: u64) {
        self.metrics.body_bytes.add_alone(bytes);
        self.sent.body_bytes.set(self.sent.body_bytes.get() + bytes);
        if let Some(meter) = self.meter {
            meter.sent(bytes);
        }
        if let Some(rate) = self.rate {
            self.pace.borrow_mut().sent(bytes, rate);
        }
    }

    async fn writable(&self) -> Result<(), SendError> {
        Ok(self.deadline.bound(Waiting::Send, self.send_timeout, self.stream.writable()).await??)
    }
}
