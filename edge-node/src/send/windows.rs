//! A large file's body, window by window.
//!
//! A window stays pinned until the client has acknowledged its bytes: the socket refers to its pages until then, and
//! memory that is in use is memory that the cache counts. What a socket holds unsent is bounded, so that a client that
//! stalls holds a window or two; one that takes too little is cut.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::read_ahead::ReadAhead;
use super::{SendError, Sender, Source};
use crate::cache::{FillError, Object, Pin};
use crate::limits::{Late, LeastRate, Waiting};

/// Bytes that a socket may hold unsent (`TCP_NOTSENT_LOWAT`), beside those that are on their way.
const UNSENT_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Bounds what a connection's socket holds unsent.
pub(crate) fn bound_unsent(stream: &TcpStream) {
    // Refused, it would only cost memory.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
}

/// Windows that the socket may still refer to, each with the offset of its end.
#[derive(Default)]
struct Flight<'o>(VecDeque<(u64, Pin<'o>)>);

impl<'o> Flight<'o> {
    /// Lets go of what the client has acknowledged; `unacknowledged` of the bytes before `offset` are on their way.
    fn land(&mut self, offset: u64, unacknowledged: u64) {
        let acknowledged = offset.saturating_sub(unacknowledged);
        while self.0.front().is_some_and(|(end, _)| *end <= acknowledged) {
            self.0.pop_front();
        }
    }

    fn push(&mut self, end: u64, pin: Pin<'o>) {
        self.0.push_back((end, pin));
    }
}

/// One large file's way to one client.
struct Transfer<'t> {
    sender: &'t Sender<'t>,
    object: &'t Arc<Object>,
    source: &'t Source<'t>,
    offset: u64,
    flight: Flight<'t>,
    taking: &'t mut LeastRate,
}

impl Sender<'_> {
    /// Sends a range of a large file, yielding after each window so that connections take turns.
    pub(crate) async fn send_windows(
        &self,
        object: &Arc<Object>,
        range: Range<u64>,
        source: &Source<'_>,
        taking: &mut LeastRate,
    ) -> Result<(), SendError> {
        let (offset, flight) = (range.start, Flight::default());
        let mut transfer = Transfer { sender: self, object, source, offset, flight, taking };
        let mut ahead = ReadAhead::new(object, &range, source);
        while transfer.offset < range.end {
            let window = object.window_at(transfer.offset);
            // Again and again: a file that a slow client takes is in use all the time.
            object.mark_used();
            ahead.ask(window);
            let (pin, was_there) = transfer.window().await?;
            if was_there && !ahead.take_fetched(window) {
                object.touch(Some(window));
                self.account.metrics.window_hits.add_alone(1);
            } else {
                self.account.metrics.window_misses.add_alone(1);
            }
            let end = range.end.min((u64::from(window) + 1) * object.window_bytes());
            transfer.send_window(pin, end).await?;
            if transfer.offset < range.end {
                transfer.land()?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

impl<'t> Transfer<'t> {
    /// Sends from one window, up to `end`.
    async fn send_window(&mut self, pin: Pin<'t>, end: u64) -> Result<(), SendError> {
        let mut pin = Some(pin);
        loop {
            let allowed = match self.sender.account.rate {
                Some(_) => self.pause(&mut pin).await?,
                None => u64::MAX,
            };
            let held = match pin.take() {
                Some(pin) => pin,
                None => self.window().await?.0,
            };
            let portion_end = end.min(self.offset.saturating_add(allowed));
            match self.sender.send_part(self.object.memory(), &mut self.offset, portion_end) {
                Ok(()) if self.offset == end => {
                    self.flight.push(end, held);
                    return Ok(());
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_client().await?,
                Err(error) => return Err(error.into()),
            }
            pin = Some(held);
        }
    }

    /// Waits until the rate lets bytes go; gives how many. A pause that is ours holds no memory, once the client has
    /// what was sent.
    async fn pause(&mut self, pin: &mut Option<Pin<'t>>) -> Result<u64, SendError> {
        if self.land()? == 0 {
            *pin = None;
        }
        let paused_at = Instant::now();
        let allowed = self.sender.account.allowance().await;
        self.taking.forgive(paused_at.elapsed());
        Ok(allowed)
    }

    /// Lets go of what the client has acknowledged; gives how much it has not.
    fn land(&mut self) -> io::Result<u64> {
        let unacknowledged = self.sender.unacknowledged()?;
        self.flight.land(self.offset, unacknowledged);
        Ok(unacknowledged)
    }

    /// Pins the window that comes next; says whether it was there already. The time it takes to come is not the
    /// client's: but where memory is short for it, and the client does not take what it has, the client has to go.
    async fn window(&mut self) -> Result<(Pin<'t>, bool), SendError> {
        let (object, source) = (self.object, self.source);
        let window = object.window_at(self.offset);
        if let Some(pin) = object.pin(window) {
            return Ok((pin, true));
        }
        let asked_at = Instant::now();
        let until = asked_at + source.storage_timeout;
        loop {
            let before = self.land()?;
            let left = until.saturating_duration_since(Instant::now());
            let coming = source.cache.window(object, window, source.requester, left);
            // In a box, for it is large and rarely waited for.
            let coming = Box::pin(self.sender.deadline.bound(Waiting::Send, left, coming));
            match coming.await {
                Ok(got) => {
                    self.taking.forgive(asked_at.elapsed());
                    return Ok(got?);
                }
                Err(Late) if before > 0 && self.sender.unacknowledged()? == before => {
                    return Err(SendError::Slow);
                }
                Err(Late) if Instant::now() >= until => return Err(FillError::Timeout.into()),
                Err(Late) => {}
            }
        }
    }

    /// Waits until the client has taken some, as long as it takes enough.
    async fn await_client(&mut self) -> Result<(), SendError> {
        let sender = self.sender;
        loop {
            let left = self.taking.left(Instant::now());
            let waited = sender.deadline.bound(Waiting::Send, left, sender.stream.writable()).await;
            let now = Instant::now();
            // Ended before its time: memory is short, and this is who holds it.
            let is_unwanted = waited.is_err() && !self.taking.left(now).is_zero();
            let acknowledged = sender.account.sent.body_bytes.get().saturating_sub(sender.unacknowledged()?);
            if is_unwanted || self.taking.is_missed(now, acknowledged) {
                return Err(SendError::Slow);
            }
            if let Ok(writable) = waited {
                return Ok(writable?);
            }
        }
    }
}
