//! A body by way of copies: for what has to change every byte before the socket has it. TLS encrypts them.
//!
//! A copy is made only once there is room for it, and holds no window: a client that stalls keeps a few copies, and
//! nothing of the cache.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::read_ahead::ReadAhead;
use super::{Account, SendError, Sent, Source};
use crate::cache::{Extent, FillError, Object};
use crate::limits::{Deadline, LeastRate, Waiting};
use crate::uring::WindowFile;

/// One copy, at most.
const COPY_BYTES_MAX: u64 = 32 * 1024;

/// Where copies go.
pub(crate) trait Outlet {
    /// Waits until some bytes of a body may come; gives how many, of `wanted`.
    async fn room(&mut self, wanted: usize) -> Result<usize, SendError>;

    /// Takes a copy that there is room for.
    async fn give(&mut self, copy: Vec<u8>, is_last: bool) -> Result<(), SendError>;

    /// Whether the client wants no more, where it can say so; the task is woken once it does.
    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<SendError> {
        Poll::Pending
    }
}

/// Waits for what is not the client's to give, for as long as it wants what comes of it.
pub(crate) async fn unless_refused<T>(
    outlet: &mut impl Outlet,
    coming: impl Future<Output = T>,
) -> Result<T, SendError> {
    let mut coming = pin!(coming);
    poll_fn(|context| match coming.as_mut().poll(context) {
        Poll::Ready(come) => Poll::Ready(Ok(come)),
        Poll::Pending => outlet.poll_refused(context).map(Err),
    })
    .await
}

/// One body's way out.
pub(crate) struct Copier<'c, O> {
    pub(crate) outlet: O,
    pub(crate) deadline: &'c Deadline,
    pub(crate) account: &'c Account<'c>,
    pub(crate) taking: LeastRate,
    /// Of the whole body.
    pub(crate) bytes: u64,
}

impl<O: Outlet> Copier<'_, O> {
    /// Sends what does not count as a body; `is_all` where nothing follows.
    pub(crate) async fn send_head(&mut self, head: &[u8], is_all: bool) -> Result<(), SendError> {
        let going = self.outlet.give(head.to_vec(), is_all);
        until_taken(going, self.deadline, &mut self.taking, self.account.sent).await
    }

    /// Sends what is not a file's, or is in ordinary memory.
    pub(crate) async fn send_text(&mut self, text: &[u8]) -> Result<(), SendError> {
        let mut rest = text;
        while !rest.is_empty() {
            let room = self.room(rest.len() as u64).await?;
            self.give(rest[..room].to_vec()).await?;
            rest = &rest[room..];
        }
        Ok(())
    }

    /// Sends a range of a small file that is kept in shared memory.
    pub(crate) async fn send_extent(&mut self, extent: &Extent, range: &Range<u64>) -> Result<(), SendError> {
        let mut offset = range.start;
        while offset < range.end {
            let room = self.room(range.end - offset).await?;
            let copy = copied(extent.memory(), extent.range().start + offset, room)?;
            offset += room as u64;
            self.give(copy).await?;
        }
        Ok(())
    }

    /// Sends a range of a large file, yielding after each window so that connections take turns.
    pub(crate) async fn send_windows(
        &mut self,
        object: &Arc<Object>,
        range: Range<u64>,
        source: &Source<'_>,
    ) -> Result<(), SendError> {
        let mut ahead = ReadAhead::new(object, &range, source);
        let mut offset = range.start;
        while offset < range.end {
            let window = object.window_at(offset);
            object.mark_used();
            ahead.ask(window);
            let end = range.end.min((u64::from(window) + 1) * object.window_bytes());
            let mut is_counted = false;
            while offset < end {
                let room = self.room(end - offset).await?;
                let (copy, was_there) = self.copy_of_window(object, offset, room, source).await?;
                if !std::mem::replace(&mut is_counted, true) {
                    self.count_window(object, window, was_there && !ahead.take_fetched(window));
                }
                offset += room as u64;
                self.give(copy).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Copies out of a window, which is pinned for just so long; says whether it was there already. The time it takes to
    /// come is not the client's.
    async fn copy_of_window(
        &mut self,
        object: &Arc<Object>,
        offset: u64,
        bytes: usize,
        source: &Source<'_>,
    ) -> Result<(Vec<u8>, bool), SendError> {
        let window = object.window_at(offset);
        if let Some(_pin) = object.pin(window) {
            return Ok((copied(object.memory(), offset, bytes)?, true));
        }
        let asked_at = Instant::now();
        let coming = source.cache.window(object, window, source.requester, source.storage_timeout);
        let (_pin, was_there) = unless_refused(&mut self.outlet, Box::pin(coming)).await??;
        self.taking.forgive(asked_at.elapsed());
        Ok((copied(object.memory(), offset, bytes)?, was_there))
    }

    fn count_window(&self, object: &Object, window: u32, is_hit: bool) {
        if is_hit {
            object.touch(Some(window));
            self.account.metrics.window_hits.add_alone(1);
        } else {
            self.account.metrics.window_misses.add_alone(1);
        }
    }

    /// Waits until bytes may go, by the rate and by the client; gives how many, of `wanted`.
    async fn room(&mut self, wanted: u64) -> Result<usize, SendError> {
        let mut wanted = wanted.min(COPY_BYTES_MAX);
        if self.account.rate.is_some() {
            let paused_at = Instant::now();
            wanted = wanted.min(unless_refused(&mut self.outlet, self.account.allowance()).await?);
            self.taking.forgive(paused_at.elapsed());
        }
        let wanted = usize::try_from(wanted).expect("a copy fits memory");
        let coming = self.outlet.room(wanted);
        until_taken(coming, self.deadline, &mut self.taking, self.account.sent).await
    }

    async fn give(&mut self, copy: Vec<u8>) -> Result<(), SendError> {
        let bytes = copy.len() as u64;
        let is_last = self.account.sent.body_bytes.get() + bytes == self.bytes;
        let going = self.outlet.give(copy, is_last);
        until_taken(going, self.deadline, &mut self.taking, self.account.sent).await?;
        self.account.count(bytes);
        Ok(())
    }
}

/// Waits for the client, as long as it takes enough.
async fn until_taken<T>(
    taking_some: impl Future<Output = Result<T, SendError>>,
    deadline: &Deadline,
    taking: &mut LeastRate,
    sent: &Sent,
) -> Result<T, SendError> {
    let mut taking_some = pin!(taking_some);
    loop {
        let left = taking.left(Instant::now());
        if let Ok(done) = deadline.bound(Waiting::Room, left, taking_some.as_mut()).await {
            return done;
        }
        if taking.is_missed(Instant::now(), sent.body_bytes.get()) {
            return Err(SendError::Slow);
        }
    }
}

fn copied(memory: &WindowFile, offset: u64, bytes: usize) -> Result<Vec<u8>, SendError> {
    let mut copy = vec![0; bytes];
    let read = memory.read(offset, &mut copy);
    read.map_err(|error| FillError::Storage(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(copy)
}
