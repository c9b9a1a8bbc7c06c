//! HTTP/2 (RFC 9113): many requests on one connection, each answered by a task of its own.
//!
//! A peer decides how much of what it asked for it takes, and when. So nothing is copied for it that it has given no
//! window for; of copies that its socket does not take, a connection holds [`UNSENT_BYTES_MAX`]; and who opens streams
//! only to reset them is sent away.

mod response;
mod session;
mod shared_stream;
mod stream;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::Reason;
use h2::server::{Builder, Connection};
use sluice_shared::serve::ByRecord;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::connection::{self, until_acknowledged};
use crate::limits::{AddressPlace, DeadlineSlot, Late, Waiting};
use crate::request::HEAD_BYTES_MAX;
use crate::worker::Worker;
use session::Session;
use shared_stream::SharedStream;
use stream::Piece;

/// Requests of a connection at a time.
const STREAMS_MAX: u32 = 100;
/// Bytes of bodies that a connection's socket has yet to take, of all its streams: eight copies.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// What a stream may have of that.
const UNSENT_BYTES_MAX_OF_STREAM: usize = 64 * 1024;
/// Requests have no content, so there is no reason to be sent much of any.
const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024;

/// Serves a connection until it ends, or the edge does.
pub(crate) async fn serve(stream: TlsStream<ByRecord>, place: AddressPlace, worker: Rc<Worker>) {
    let deadline = worker.deadlines.slot();
    let head_list_bytes_max = u32::try_from(HEAD_BYTES_MAX).expect("heads are small");
    let stream = SharedStream::new(stream);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(head_list_bytes_max)
        .initial_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .max_send_buffer_size(UNSENT_BYTES_MAX_OF_STREAM);
    let greeting = builder.handshake::<_, Piece>(stream.clone());
    let greeted = Box::pin(deadline.bound(Waiting::First, worker.limits.head_timeout, greeting)).await;
    let Ok(Ok(connection)) = greeted else { return };
    let session = Session::new(Rc::clone(&worker), place);
    let mut driver = Box::new(Driver::new(connection, stream.clone(), Rc::clone(&session), deadline));
    let end = poll_fn(|context| driver.poll(context)).await;
    drop(driver);
    if let (End::Said, Some(socket)) = (end, stream.into_socket()) {
        Box::pin(see_off(socket, &session, worker)).await;
    }
}

/// Lets the client see all that was sent. It speaks while it reads, and a socket that is closed and hears something drops
/// what it has yet to send.
async fn see_off(socket: TcpStream, session: &Session, worker: Rc<Worker>) {
    let deadline = worker.deadlines.slot();
    until_acknowledged(&socket, &worker, &deadline).await;
    drop(deadline);
    let place = AddressPlace::uncounted(session.place.client());
    connection::Connection::new(socket, place, worker).see_off().await;
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client is told, behind all else that is sent.
    Said,
    /// Gone, or not worth waiting for.
    Broken,
}

impl End {
    /// A peer that breaks the protocol is told how (RFC 9113 §5.4.1).
    fn of(error: &h2::Error) -> Self {
        if error.is_go_away() && error.is_library() { Self::Said } else { Self::Broken }
    }
}

/// What drives a connection: takes requests in, and lets go of a client that asks for nothing.
struct Driver {
    connection: Connection<SharedStream, Piece>,
    stream: SharedStream,
    session: Rc<Session>,
    deadline: DeadlineSlot,
    /// What is waited for while no request is being answered.
    waiting: Waiting,
    /// The deadline is that of this wait.
    is_armed: bool,
    /// What the client had yet to take when it was armed.
    left_bytes: u64,
    /// The client knows that it is to ask for nothing more.
    is_told: bool,
    /// No more is taken in; what is said yet is the last.
    is_ending: bool,
}

impl Driver {
    fn new(
        connection: Connection<SharedStream, Piece>,
        stream: SharedStream,
        session: Rc<Session>,
        deadline: DeadlineSlot,
    ) -> Self {
        Self {
            connection,
            stream,
            session,
            deadline,
            waiting: Waiting::First,
            is_armed: false,
            left_bytes: 0,
            is_told: false,
            is_ending: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.session.worker.is_over() {
            return Poll::Ready(End::Broken);
        }
        self.deadline.belongs_to(context);
        self.session.belongs_to(context);
        if self.session.is_abused() {
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            // As far as that goes without waiting.
            let _ = self.connection.poll_closed(context);
            return Poll::Ready(End::Said);
        }
        if self.session.is_closing() && !self.is_told {
            self.is_told = true;
            self.connection.graceful_shutdown();
        }
        loop {
            if let Poll::Ready(end) = self.advance(context) {
                return Poll::Ready(end);
            }
            match self.judge_waiting(context) {
                Poll::Ready(Err(Late)) if self.waiting == Waiting::Room => return Poll::Ready(End::Broken),
                Poll::Ready(Err(Late)) => {
                    self.connection.abrupt_shutdown(Reason::NO_ERROR);
                    self.is_ending = true;
                    self.is_armed = false;
                }
                _ => return Poll::Pending,
            }
        }
    }

    /// Sends and receives, and sets requests going that have come.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<End> {
        // Others are left where they are until one of those has ended.
        while !self.is_ending && !self.session.is_full() {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => stream::spawn(&self.session, request, respond),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::of(&error)),
                Poll::Ready(None) => return Poll::Ready(End::Said),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.connection
            .poll_closed(context)
            .map(|closed| closed.map_or_else(|error| End::of(&error), |()| End::Said))
    }

    /// Only requests count: whatever else is said keeps no connection. Nor is one ended that has yet to send some.
    fn judge_waiting(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Late>> {
        let is_busy = self.session.has_open_streams() && !self.is_ending;
        if !is_busy {
            let waiting = self.waits_for();
            self.is_armed &= waiting == self.waiting;
            self.waiting = waiting;
        }
        let judged = self.judge(is_busy, context);
        // As long as it takes some.
        if judged.is_ready() && !is_busy && self.waiting == Waiting::Room && self.left() != self.left_bytes {
            self.is_armed = false;
            return self.judge(is_busy, context);
        }
        judged
    }

    fn judge(&mut self, is_busy: bool, context: &mut Context<'_>) -> Poll<Result<(), Late>> {
        let limits = &self.session.worker.limits;
        let patience = match self.waiting {
            Waiting::Room => limits.send_timeout,
            Waiting::Idle => limits.idle_timeout,
            _ => limits.head_timeout,
        };
        if self.waiting == Waiting::Room && !is_busy && !self.is_armed {
            self.left_bytes = self.left();
        }
        let busy = if is_busy { Poll::Ready(()) } else { Poll::Pending };
        let judged = self.deadline.judge(busy, &mut self.is_armed, (self.waiting, patience), context);
        self.is_armed &= !is_busy;
        judged
    }

    /// What a connection without requests waits for.
    fn waits_for(&self) -> Waiting {
        if self.is_ending || self.session.unsent_bytes() > 0 || self.stream.wants_write() {
            Waiting::Room
        } else if self.session.had_request() {
            Waiting::Idle
        } else {
            Waiting::First
        }
    }

    /// Bytes that the client has yet to take.
    fn left(&self) -> u64 {
        self.session.unsent_bytes() + self.stream.unacknowledged_bytes()
    }
}
