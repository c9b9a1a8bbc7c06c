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
use crate::cache::{Object, Pin};
use crate::limits::{LeastRate, Waiting};
use crate::uring::unacknowledged;

/// Bytes that a socket may hold unsent (`TCP_NOTSENT_LOWAT`), beside those that are on their way.
const UNSENT_BYTES_MAX: u32 = 1024 * 1024;

/// Bounds what a connection's socket holds unsent.
pub(crate) fn bound_unsent(stream: &TcpStream) {
    // Refused, it would only cost memory.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
}

/// Windows that the socket may still refer to, each with the offset of its end.
#[derive(Default)]
struct Flight<'o>(VecDeque<(u64, Pin<'o>)>);

impl<'o> Flight<'o> {
    /// `unacknowledged` of the bytes before `offset` are still on their way.
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

impl Sender<'_> {
    /// Sends a range of a large file, yielding after each window so that connections take turns.
    pub(crate) async fn send_windows(
        &self,
        object: &Arc<Object>,
        range: Range<u64>,
        source: &Source<'_>,
    ) -> Result<(), SendError> {
        let mut ahead = ReadAhead::new(object, &range, source);
        let mut flight = Flight::default();
        let mut taking = LeastRate::new(self.least_rate(), self.send_timeout, Instant::now());
        let mut offset = range.start;
        while offset < range.end {
            let window = object.window_at(offset);
            ahead.ask(window);
            let (pin, was_there) = self.window(object, window, source, &mut taking).await?;
            if was_there && !ahead.take_fetched(window) {
                object.touch(Some(window));
                self.metrics.window_hits.add_alone(1);
            } else {
                self.metrics.window_misses.add_alone(1);
            }
            let end = range.end.min((u64::from(window) + 1) * object.window_bytes());
            let pin = self.send_window(object, pin, &mut offset, end, source, &mut taking).await?;
            flight.push(end, pin);
            if offset < range.end {
                flight.land(offset, unacknowledged(self.stream)?);
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Sends from one window, up to `end`.
    async fn send_window<'o>(
        &self,
        object: &'o Arc<Object>,
        pin: Pin<'o>,
        offset: &mut u64,
        end: u64,
        source: &Source<'_>,
        taking: &mut LeastRate,
    ) -> Result<Pin<'o>, SendError> {
        let mut pin = Some(pin);
        loop {
            let allowed = match self.rate {
                Some(_) => self.pause(&mut pin, taking).await?,
                None => u64::MAX,
            };
            let held = match pin.take() {
                Some(pin) => pin,
                None => self.window(object, object.window_at(*offset), source, taking).await?.0,
            };
            match self.send_file(object.memory(), offset, end.min(offset.saturating_add(allowed))) {
                Ok(()) if *offset == end => return Ok(held),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_client(taking).await?,
                Err(error) => return Err(error.into()),
            }
            pin = Some(held);
        }
    }

    /// Waits until the rate lets bytes go; gives how many. A pause that is ours holds no memory, once the client has
    /// what was sent.
    async fn pause(&self, pin: &mut Option<Pin<'_>>, taking: &mut LeastRate) -> Result<u64, SendError> {
        if unacknowledged(self.stream)? == 0 {
            *pin = None;
        }
        let paused_at = Instant::now();
        let allowed = self.allowance().await;
        taking.forgive(paused_at.elapsed());
        Ok(allowed)
    }

    /// Pins a window; the time it takes to come is not the client's.
    async fn window<'o>(
        &self,
        object: &'o Arc<Object>,
        window: u32,
        source: &Source<'_>,
        taking: &mut LeastRate,
    ) -> Result<(Pin<'o>, bool), SendError> {
        if let Some(pin) = object.pin(window) {
            return Ok((pin, true));
        }
        let asked_at = Instant::now();
        let got = source.cache.window(object, window, source.requester, source.storage_timeout).await?;
        taking.forgive(asked_at.elapsed());
        Ok(got)
    }

    /// Waits until the client has taken some, as long as it takes enough.
    async fn await_client(&self, taking: &mut LeastRate) -> Result<(), SendError> {
        loop {
            let left = taking.left(Instant::now());
            let waited = self.deadline.bound(Waiting::Send, left, self.stream.writable()).await;
            let now = Instant::now();
            // Ended before its time: memory is short, and this is who holds it.
            let is_unwanted = waited.is_err() && !taking.left(now).is_zero();
            let acknowledged = self.sent.body_bytes.get().saturating_sub(unacknowledged(self.stream)?);
            if is_unwanted || taking.is_missed(now, acknowledged) {
                return Err(SendError::Slow);
            }
            if let Ok(writable) = waited {
                return Ok(writable?);
            }
        }
    }

    /// Bytes per second that the client has to take: never more than it gets.
    fn least_rate(&self) -> u64 {
        self.rate.map_or(self.send_rate_min, |rate| self.send_rate_min.min(rate.get() / 2))
    }
}
