//! One connection: an exchange at a time, no wait without an end.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::ReadBuf;
use tokio::net::TcpSocket;
use tokio::time::{Instant, Sleep};

use super::framing::{Flow, Framing, Sink};
use super::stream::Stream;
use crate::fault::Fault;
use crate::scenario::Client;

/// A slow client takes what its rate gives in this time, in one go.
const BITE: Duration = Duration::from_millis(500);
/// Bounds of a slow client's bites, and so of what the kernel keeps for it.
const BITE_BYTES_MIN: u64 = 2 << 10;
const BITE_BYTES_MAX: u64 = 256 << 10;

/// What bytes are received into, one after the other: one of each thread.
pub(crate) type Buffer = RefCell<Box<[u8]>>;

pub(crate) struct Connection {
    stream: Stream,
    /// Wakes who waits for a silent server. It stays set from one wait to the next, and is set anew when it goes off:
    /// most waits are over long before.
    alarm: Pin<Box<Sleep>>,
    silence_max: Duration,
}

/// How fast a slow client takes bytes.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: NonZeroU64,
    begun: Option<Instant>,
    taken: u64,
}

impl Pace {
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self { rate, begun: None, taken: 0 }
    }

    /// Bytes that are taken at a time.
    fn bite(&self) -> usize {
        let bytes = u128::from(self.rate.get()) * BITE.as_millis() / 1000;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).clamp(BITE_BYTES_MIN, BITE_BYTES_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Waits until so many more bytes may have come.
    async fn took(&mut self, count: usize) {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.taken += count as u64;
        let due = begun + Duration::from_secs_f64(self.taken as f64 / self.rate.get() as f64);
        tokio::time::sleep_until(due).await;
    }
}

impl Connection {
    /// Connects, and speaks TLS with this host where there is a configuration for it. For a slow client the kernel keeps little, so that the server feels the pace.
    ///
    /// # Errors
    /// Nobody answers there in time, or there are no descriptors left.
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Option<(&str, &Arc<rustls::ClientConfig>)>,
        client: &Client,
        pace: Option<&Pace>,
    ) -> Result<Self, Fault> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(cannot_connect)?;
        if let Some(pace) = pace {
            let bytes = u32::try_from(pace.bite()).unwrap_or(u32::MAX);
            socket.set_recv_buffer_size(bytes).map_err(cannot_connect)?;
        }
        let connecting = async {
            let stream = socket.connect(address).await.map_err(cannot_connect)?;
            stream.set_nodelay(true).map_err(cannot_connect)?;
            match tls {
                None => Ok(Stream::Plain(stream)),
                Some((host, config)) => Stream::secured(stream, host, Arc::clone(config)).await,
            }
        };
        let connected = tokio::time::timeout(client.connect_timeout, connecting).await;
        let stream = connected.map_err(|_| Fault::ConnectTimeout(client.connect_timeout))??;
        let silence_max = client.silence_max;
        Ok(Self { stream, alarm: Box::pin(tokio::time::sleep(silence_max)), silence_max })
    }

    /// Sends a request and hands the answer to the sink, up to its end or as far as the sink wants it.
    ///
    /// # Errors
    /// The connection breaks or falls silent, or what comes is not what the sink takes.
    pub(crate) async fn exchange<S: Sink>(
        &mut self,
        request: &[u8],
        framing: &mut Framing,
        sink: &mut S,
        buffer: &Buffer,
        mut pace: Option<&mut Pace>,
    ) -> Result<Flow, Fault> {
        self.send(request).await?;
        loop {
            let most = pace.as_ref().map_or(usize::MAX, |pace| pace.bite());
            let received = self.receive(buffer, most, |bytes| {
                let flow = match bytes {
                    [] => framing.end().map(|()| Flow::GoOn),
                    bytes => framing.take(bytes, sink),
                };
                flow.map(|flow| (flow, bytes.len()))
            });
            let (flow, count) = received.await??;
            if flow == Flow::BreakOff || framing.is_done() {
                return Ok(flow);
            }
            if let Some(pace) = &mut pace {
                pace.took(count).await;
            }
        }
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let count = self.patiently(|stream, context| stream.poll_write(context, bytes)).await?;
            bytes = &bytes[count..];
        }
        self.patiently(|stream, context| stream.poll_flush(context)).await
    }

    /// Waits for bytes and shows them, in the thread's buffer; none where the connection has ended.
    async fn receive<T>(
        &mut self,
        buffer: &Buffer,
        most: usize,
        show: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Fault> {
        let mut show = Some(show);
        self.patiently(|stream, context| {
            // Nobody else polls while this does: the buffer is free, and what is in it is shown before another comes.
            let mut buffer = buffer.borrow_mut();
            let most = most.min(buffer.len());
            let mut into = ReadBuf::new(&mut buffer[..most]);
            let read = stream.poll_read(context, &mut into);
            read.map_ok(|()| show.take().map(|show| show(into.filled())))
        })
        .await?
        .ok_or(Fault::NoAnswer)
    }

    /// Does what may have to wait, for as long as a server may be silent.
    async fn patiently<T>(
        &mut self,
        mut step: impl FnMut(&mut Stream, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Result<T, Fault> {
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = step(&mut self.stream, context) {
                return Poll::Ready(done.map_err(Fault::Broken));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.silence_max);
            while self.alarm.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Fault::Silence(self.silence_max)));
                }
                self.alarm.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

fn cannot_connect(error: io::Error) -> Fault {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::MFILE | Errno::NFILE) => Fault::Descriptors(error),
        _ => Fault::Connect(error),
    }
}
