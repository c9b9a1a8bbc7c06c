//! HTTP/2 (RFC 9113): many requests on one connection, each answered by a task of its own.
//!
//! A peer decides how much of what it asked for it takes, and when. So nothing is copied for it that it has given no
//! window for; of copies that its socket does not take, a connection holds [`UNSENT_BYTES_MAX`]; and who opens streams
//! only to reset them is sent away.

mod response;
mod session;
mod stream;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::Reason;
use h2::server::{Builder, Connection};
use sluice_shared::serve::ByRecord;
use tokio_rustls::server::TlsStream;

use crate::limits::{AddressPlace, DeadlineSlot, Late, Waiting};
use crate::request::HEAD_BYTES_MAX;
use crate::worker::Worker;
use session::Session;
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
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(head_list_bytes_max)
        .initial_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .max_send_buffer_size(UNSENT_BYTES_MAX_OF_STREAM);
    let greeting = builder.handshake::<_, Piece>(stream);
    let greeted = Box::pin(deadline.bound(Waiting::First, worker.limits.head_timeout, greeting)).await;
    let Ok(Ok(connection)) = greeted else { return };
    let session = Session::new(worker, place);
    let mut driver = Box::new(Driver { connection, session, deadline, is_armed: false, is_told: false });
    poll_fn(|context| driver.poll(context)).await;
}

/// What drives a connection: takes requests in, and lets go of a client that asks for nothing.
struct Driver {
    connection: Connection<TlsStream<ByRecord>, Piece>,
    session: Rc<Session>,
    deadline: DeadlineSlot,
    /// The deadline is that of an idle connection.
    is_armed: bool,
    /// The client knows that it is to ask for nothing more.
    is_told: bool,
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.session.worker.is_over() {
            return Poll::Ready(());
        }
        self.deadline.belongs_to(context);
        self.session.belongs_to(context);
        if self.session.is_abused() {
            return self.end(Reason::ENHANCE_YOUR_CALM, context);
        }
        if self.session.is_closing() && !self.is_told {
            self.is_told = true;
            self.connection.graceful_shutdown();
        }
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => stream::spawn(&self.session, request, respond),
                // A connection's failure is its peer's affair.
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match self.judge_idling(context) {
            Poll::Ready(Err(Late)) => self.end(Reason::NO_ERROR, context),
            _ => Poll::Pending,
        }
    }

    /// Only requests count: whatever else is said keeps no connection.
    fn judge_idling(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Late>> {
        let limits = &self.session.worker.limits;
        let (waiting, patience) = if self.session.had_request() {
            (Waiting::Idle, limits.idle_timeout)
        } else {
            (Waiting::First, limits.head_timeout)
        };
        let is_busy = self.session.has_open_streams();
        let busy = if is_busy { Poll::Ready(()) } else { Poll::Pending };
        let judged = self.deadline.judge(busy, &mut self.is_armed, (waiting, patience), context);
        self.is_armed &= !is_busy;
        judged
    }

    /// Says why, as far as that goes without waiting.
    fn end(&mut self, reason: Reason, context: &mut Context<'_>) -> Poll<()> {
        self.connection.abrupt_shutdown(reason);
        let _ = self.connection.poll_closed(context);
        Poll::Ready(())
    }
}
