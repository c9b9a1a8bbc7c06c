//! Bytes and windows → socket, without blocking; and without copies, unless every byte has to change ([`mod@copy`]). It
//! knows no HTTP.

mod account;
mod bundles;
mod copy;
mod read_ahead;
mod records;
mod windows;

pub(crate) use account::Account;
pub(crate) use bundles::Bundles;
pub(crate) use copy::{Copier, Outlet, unless_refused};
pub(crate) use records::Records;
pub(crate) use windows::bound_unsent;

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::cache::{Cache, Extent, FillError};
use crate::limits::{Deadline, Late, Waiting};
use crate::uring::{WindowFile, unacknowledged};

/// Why a body ended short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The client has gone.
    #[error("the client's end: {0}")]
    Client(#[source] io::Error),
    #[error("the client took too little for too long")]
    Slow,
    #[error("the edge ends")]
    Cut,
    #[error("what is sent was revoked")]
    Revoked,
    /// The client comes again, and brings a new one.
    #[error("the connection's key is used up")]
    KeyUsedUp,
    #[error("the content: {0}")]
    Content(#[from] FillError),
}

/// As [`SendError::KeyUsedUp`], among the errors of a socket.
#[derive(Debug, thiserror::Error)]
#[error("the connection's key is used up")]
struct KeyUsedUp;

impl SendError {
    /// As an error of the socket.
    pub(crate) fn key_used_up() -> io::Error {
        io::Error::other(KeyUsedUp)
    }

    /// Of an answer that its connection's deadline ended.
    pub(crate) fn cut(deadline: &Deadline) -> Self {
        if deadline.is_cut() { Self::Revoked } else { Self::Cut }
    }
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        let is_ours = error.get_ref().is_some_and(|cause| cause.is::<KeyUsedUp>());
        if is_ours { Self::KeyUsedUp } else { Self::Client(error) }
    }
}

impl From<Late> for SendError {
    fn from(_: Late) -> Self {
        Self::Slow
    }
}

/// One answer's way out.
pub(crate) struct Sender<'c> {
    pub(crate) stream: &'c TcpStream,
    /// What the kernel makes of it, where it encrypts.
    pub(crate) records: Option<&'c Records>,
    pub(crate) deadline: &'c Deadline,
    pub(crate) account: Account<'c>,
}

/// What has gone of an answer.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bytes of its text.
    text_bytes: Cell<usize>,
    /// When a head that is followed by a large body had gone.
    pub(crate) head_at: Cell<Option<Instant>>,
    pub(crate) body_bytes: Cell<u64>,
    /// So many of those came before the piece of the body that is being sent.
    piece_at: Cell<u64>,
}

impl Sent {
    /// Another piece of the body begins: a text, or a range of the file.
    fn begin_piece(&self) {
        self.text_bytes.set(0);
        self.piece_at.set(self.body_bytes.get());
    }

    fn piece_bytes(&self) -> u64 {
        self.body_bytes.get() - self.piece_at.get()
    }
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

    /// Sends a text of `text_bytes` and the body behind it, all of one place in shared memory, without waiting.
    pub(crate) fn try_bundle(&self, bundle: &Extent, text_bytes: usize) -> Option<Result<(), SendError>> {
        unless_full(self.push_bundle(bundle, text_bytes))
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

    /// Sends what stands before a part of a body; a range of the file follows.
    pub(crate) async fn send_part_head(&self, head: &[u8]) -> Result<(), SendError> {
        self.account.sent.begin_piece();
        self.send_head(head).await?;
        self.account.count(head.len() as u64);
        self.account.sent.begin_piece();
        Ok(())
    }

    /// Sends what ends a body of several parts.
    pub(crate) async fn send_closing(&self, closing: &[u8]) -> Result<(), SendError> {
        self.account.sent.begin_piece();
        self.send_text(closing).await?;
        self.account.count(closing.len() as u64);
        Ok(())
    }

    /// As [`Self::try_extent`], waiting for the client and at its rate.
    pub(crate) async fn send_extent(&self, extent: &Extent, range: &Range<u64>) -> Result<(), SendError> {
        while self.account.sent.piece_bytes() < range.end - range.start {
            let allowed = self.account.allowance().await;
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
        let sent = &self.account.sent.text_bytes;
        while sent.get() < text.len() {
            let left = &text[sent.get()..];
            self.allow_records(left.len())?;
            let sending = || Ok(rustix::net::send(self.stream, left, flags | SendFlags::NOSIGNAL)?);
            let count = self.stream.try_io(Interest::WRITABLE, sending)?;
            self.count_records(count, left.len());
            sent.set(sent.get() + count);
        }
        Ok(())
    }

    /// Sends what is left of a range, `most` bytes at most, as far as the socket takes it.
    fn push_extent(&self, extent: &Extent, range: &Range<u64>, most: u64) -> io::Result<()> {
        let start = extent.range().start;
        let mut offset = start + range.start + self.account.sent.piece_bytes();
        let end = (start + range.end).min(offset.saturating_add(most));
        while offset < end {
            self.send_part(extent.memory(), &mut offset, end)?;
        }
        Ok(())
    }

    fn push_bundle(&self, bundle: &Extent, text_bytes: usize) -> io::Result<()> {
        let Range { start: mut offset, end } = bundle.range();
        while offset < end {
            let mut count = self.send_file(bundle.memory(), &mut offset, end)?;
            let sent = &self.account.sent.text_bytes;
            let text_count = count.min(text_bytes - sent.get());
            sent.set(sent.get() + text_count);
            count -= text_count;
            self.account.count(count as u64);
        }
        Ok(())
    }

    /// One `sendfile` of a part of the body, from `offset` up to `end` at most.
    fn send_part(&self, memory: &WindowFile, offset: &mut u64, end: u64) -> io::Result<()> {
        let count = self.send_file(memory, offset, end)?;
        self.account.count(count as u64);
        Ok(())
    }

    /// One `sendfile`, from `offset` up to `end` at most; gives how many bytes went.
    fn send_file(&self, memory: &WindowFile, offset: &mut u64, end: u64) -> io::Result<usize> {
        let length = usize::try_from(end - *offset).expect("a window fits memory");
        self.allow_records(length)?;
        let count = self.stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(self.stream, memory, Some(offset), length)?)
        })?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.count_records(count, length);
        Ok(count)
    }

    /// Where the kernel encrypts: has it go on with the next key if that is due. The one that it has is to be good for so
    /// many bytes more.
    fn allow_records(&self, bytes: usize) -> io::Result<()> {
        let Some(records) = self.records else { return Ok(()) };
        if records.is_update_due() {
            self.stream.try_io(Interest::WRITABLE, || records.update(self.stream))?;
        }
        if records.allow(bytes as u64) { Ok(()) } else { Err(SendError::key_used_up()) }
    }

    fn count_records(&self, sent: usize, wanted: usize) {
        if let Some(records) = self.records {
            records.count(sent as u64, wanted as u64);
        }
    }

    /// Bytes that were sent and that the client has not acknowledged, and so may still refer to memory.
    fn unacknowledged(&self) -> io::Result<u64> {
        Ok(unacknowledged(self.stream)? + self.records.map_or(0, Records::open_bytes))
    }

    /// Waits until a socket that was full takes more; any other error is the client's end.
    async fn await_room(&self, full: io::Error) -> Result<(), SendError> {
        if full.kind() != io::ErrorKind::WouldBlock {
            return Err(full.into());
        }
        Ok(self.deadline.bound(Waiting::Send, self.account.send_timeout, self.stream.writable()).await??)
    }
}

/// What was sent without waiting; `None` where that was not all because the socket is full.
fn unless_full(sent: io::Result<()>) -> Option<Result<(), SendError>> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        sent => Some(sent.map_err(SendError::from)),
    }
}
