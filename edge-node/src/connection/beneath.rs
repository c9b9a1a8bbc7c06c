//! HTTP/1 over TLS that the kernel speaks: answers go as they do without TLS, and are encrypted beneath.
//!
//! Where the client updates its key (RFC 8446 §4.6.3) the kernel is given the next, and ours is updated, if that is asked
//! for, before more is sent. Kernels before 6.14 take none: there the connection ends after the answer under way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::Connection;
use super::transport::{Bare, Transport};
use super::until_acknowledged;
use crate::answer::Answer;
use crate::send::{Records, SendError};
use crate::tls::{KEY_UPDATE, KEY_UPDATE_REQUESTED, KeyUse, TrafficSecret};
use crate::uring::kernel_tls::{
    ALERT, APPLICATION_DATA, Direction, HANDSHAKE, give_keys, receive, send_record,
};
use crate::uring::unacknowledged;

/// RFC 8446 §6.1: a warning; in TLS 1.3 the level says nothing.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Records one after the other without a byte of data, of which each costs work: rustls bears as many key updates.
const RECORDS_WITHOUT_DATA_MAX: u32 = 32;

/// How often is looked whether the kernel has encrypted all.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a client sent that is no data.
#[derive(Debug, thiserror::Error)]
enum NoData {
    #[error("the client's alert {0:?}")]
    Alert(Vec<u8>),
    #[error("a record of kind {0}, as of a handshake, in the middle of the connection")]
    Kind(u8),
    #[error("too many records without data")]
    Flood,
}

/// What is kept of the direction that is received.
struct Incoming {
    /// What the key comes of, where the kernel takes the next.
    secret: Option<Box<TrafficSecret>>,
    /// Records without data since the last with some.
    records_without_data: u32,
    /// The client goes on under a key that the kernel does not take.
    is_lost: bool,
}

/// A socket with TLS beneath it.
pub(crate) struct Beneath {
    stream: TcpStream,
    records: Records,
    incoming: Incoming,
    /// The client sends nothing more.
    is_ended: bool,
}

impl Beneath {
    pub(crate) fn new(stream: TcpStream, key_use: KeyUse) -> Self {
        let (sending, receiving) = key_use.secrets.unzip();
        let records = Records::new(key_use.records, key_use.records_max, sending);
        let incoming = Incoming { secret: receiving, records_without_data: 0, is_lost: false };
        Self { stream, records, incoming, is_ended: false }
    }
}

impl Incoming {
    /// Receives data, as much as is there and there is room for; none at the client's end.
    fn receive(&mut self, stream: &TcpStream, records: &Records, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match receive(stream, room)? {
                // A record may be empty; the end of the connection is of no kind.
                (0, Some(APPLICATION_DATA)) => {}
                (count, None | Some(APPLICATION_DATA)) => {
                    self.records_without_data = 0;
                    return Ok(count);
                }
                (2, Some(ALERT)) if room[1] == CLOSE_NOTIFY[1] => return Ok(0),
                (count, Some(ALERT)) => return Err(io::Error::other(NoData::Alert(room[..count].to_vec()))),
                (count, Some(HANDSHAKE)) => self.follow(stream, records, &room[..count])?,
                (_, Some(kind)) => return Err(io::Error::other(NoData::Kind(kind))),
            }
            self.records_without_data += 1;
            if self.records_without_data > RECORDS_WITHOUT_DATA_MAX {
                return Err(io::Error::other(NoData::Flood));
            }
        }
    }

    /// Has the kernel go on with the client's next key. A record has that message whole and no other (RFC 8446 §5.1), and
    /// there is none but that for a client to send.
    fn follow(&mut self, stream: &TcpStream, records: &Records, content: &[u8]) -> io::Result<()> {
        let is_update = content == KEY_UPDATE || content == KEY_UPDATE_REQUESTED;
        let Some(secret) = self.secret.as_mut().filter(|_| is_update) else {
            self.is_lost = is_update;
            return Err(io::Error::other(NoData::Kind(HANDSHAKE)));
        };
        give_keys(stream, Direction::Receive, &secret.update())?;
        if content == KEY_UPDATE_REQUESTED {
            records.owe_update();
        }
        Ok(())
    }
}

impl AsyncRead for Beneath {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, records, incoming, is_ended } = &mut *self;
        while !*is_ended {
            ready!(stream.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || incoming.receive(stream, records, room)) {
                Ok(0) => *is_ended = true,
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Bare for Beneath {
    fn socket(&self) -> &TcpStream {
        &self.stream
    }

    fn records(&self) -> Option<&Records> {
        Some(&self.records)
    }
}

impl Transport for Beneath {
    const IS_INTRODUCED: bool = true;

    fn with_socket<R>(&self, then: impl FnOnce(&TcpStream) -> R) -> R {
        then(&self.stream)
    }

    fn is_near_end(&self) -> bool {
        self.incoming.is_lost || self.records.are_running_out()
    }

    fn send_now(connection: &Connection<Self>, answer: &Answer) -> Option<Result<(), SendError>> {
        connection.send_now(answer)
    }

    async fn send(connection: &Connection<Self>, answer: &Answer) -> Result<(), SendError> {
        connection.send(answer).await
    }

    /// Of a record that the socket had no room for when it was made, the kernel sends what is left once there is some;
    /// when the socket is closed before, it drops that, and the client's file is short.
    fn is_unsettled(&self) -> bool {
        self.records.open_bytes() > 0 || unacknowledged(&self.stream).is_ok_and(|left| left > 0)
    }

    async fn settle(connection: &Connection<Self>) {
        until_acknowledged(&connection.stream.stream, &connection.worker, &connection.deadline).await;
    }

    async fn end(&mut self) -> io::Result<()> {
        loop {
            self.stream.writable().await?;
            let sending = || send_record(&self.stream, ALERT, &CLOSE_NOTIFY);
            match self.stream.try_io(Interest::WRITABLE, sending) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => break sent?,
            }
        }
        // The end must not overtake what the kernel has yet to encrypt.
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if unacknowledged(&self.stream)? == 0 {
                return Ok(shutdown(&self.stream, Shutdown::Write)?);
            }
        }
    }

    fn end_now(&mut self) {
        // What does not fit is not waited for: it only tells the client what the socket's end tells as well.
        let _ = send_record(&self.stream, ALERT, &CLOSE_NOTIFY);
    }
}
