//! One request of a connection, from its head to the end of its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderName;
use http::{HeaderValue, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::response::response;
use super::session::Session;
use crate::answer::{Answer, InFlight, Responder, account, conclude, send_copies};
use crate::cache::Body;
use crate::connection::unless_over;
use crate::limits::DeadlineSlot;
use crate::request::{Method, RequestHead};
use crate::send::{Copier, Outlet, SendError, unless_refused};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A copy on its way, and its room, which is free again when the socket has it.
pub(super) struct Piece {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// Sets a request going.
pub(super) fn spawn(session: &Rc<Session>, request: Request<RecvStream>, respond: SendResponse<Piece>) {
    let session = Rc::clone(session);
    session.open_stream();
    tokio_uring::spawn(async move {
        serve(&session, request, respond).await;
        session.close_stream();
    });
}

async fn serve(session: &Session, request: Request<RecvStream>, mut respond: SendResponse<Piece>) {
    let worker = &session.worker;
    let deadline = worker.deadlines.slot();
    let answering = Box::pin(unless_reset(&mut respond, answer(session, &request, &deadline)));
    let Some(answer) = unless_over(worker, &deadline, answering).await else { return };
    let Some(answer) = answer else { return session.note_reset() };
    let sending = Box::pin(send(session, &answer, respond, &deadline));
    let sent = unless_over(worker, &deadline, sending).await;
    let sent = sent.unwrap_or_else(|| Err(SendError::cut(&deadline)));
    if matches!(sent, Err(SendError::Client(_))) {
        session.note_reset();
    }
    conclude(worker, &answer, &sent);
}

/// Goes on with an answer for as long as the client waits for it: the store may take its time.
async fn unless_reset<T>(respond: &mut SendResponse<Piece>, answering: impl Future<Output = T>) -> Option<T> {
    let mut answering = pin!(answering);
    poll_fn(|context| match answering.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => respond.poll_reset(context).map(|_| None),
    })
    .await
}

async fn answer(session: &Session, request: &Request<RecvStream>, deadline: &DeadlineSlot) -> Answer {
    let worker = &session.worker;
    let forwarded_for = || request.headers().get_all(X_FORWARDED_FOR).into_iter();
    let forwarded_for = || forwarded_for().map(HeaderValue::as_bytes);
    let client = worker.clients.client_of(session.place.client(), forwarded_for);
    let responder = Responder { worker, deadline, is_last: false };
    let has_body = !request.body().is_end_stream();
    let head = match RequestHead::of_request(request, has_body) {
        Ok(head) => head,
        Err(error) => {
            let method = Method::parse(request.method().as_str());
            return responder.refuse_unread(error.into(), method, client);
        }
    };
    match responder.answer_now(&head, client) {
        Some(answer) => answer,
        None => responder.answer_later(&head, client).await,
    }
}

async fn send(
    session: &Session,
    answer: &Answer,
    mut respond: SendResponse<Piece>,
    deadline: &DeadlineSlot,
) -> Result<(), SendError> {
    let worker = &session.worker;
    let (head, head_bytes) = response(&answer.text);
    let text = &answer.text[head_bytes..];
    let has_content = answer.body.is_some() || !text.is_empty();
    let stream = respond.send_response(head, !has_content).map_err(gone)?;
    if !has_content {
        return Ok(());
    }
    let _in_flight = answer.body.as_ref().map(|body| InFlight::begin(&worker.metrics, answer, body));
    let account = account(worker, answer, &session.pace, answer.body.is_some());
    let mut copier = Copier {
        outlet: Window { stream, room: Arc::clone(&session.room), taken: None },
        deadline,
        account: &account,
        taking: account.least_rate(),
        bytes: answer.body.as_ref().map_or(0, |body| body.bytes),
    };
    let sent = match &answer.body {
        None => copier.send_head(text, true).await,
        Some(body) if matches!(body.file.entry.object.body(), Some(Body::Memory(_))) => {
            copier.send_text(text).await
        }
        Some(body) => {
            answer.sent.head_at.set(Some(Instant::now()));
            send_copies(&mut copier, worker, body).await
        }
    };
    if let Err(error) = &sent {
        copier.outlet.stream.send_reset(match error {
            SendError::Slow => Reason::ENHANCE_YOUR_CALM,
            _ => Reason::INTERNAL_ERROR,
        });
    }
    sent
}

/// What a client lets come on one stream.
struct Window {
    stream: SendStream<Piece>,
    room: Arc<Semaphore>,
    /// For the copy that comes next.
    taken: Option<OwnedSemaphorePermit>,
}

impl Outlet for Window {
    /// First as much as the client has given window for, on the stream and on the connection; then room for a copy.
    async fn room(&mut self, wanted: usize) -> Result<usize, SendError> {
        let stream = &mut self.stream;
        stream.reserve_capacity(wanted);
        let granted = poll_fn(|context| {
            loop {
                let capacity = stream.capacity();
                if capacity > 0 {
                    return Poll::Ready(Ok(capacity.min(wanted)));
                }
                match ready!(stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                    None => {
                        return Poll::Ready(Err(SendError::Client(std::io::ErrorKind::BrokenPipe.into())));
                    }
                }
            }
        });
        let granted = granted.await?;
        let taking = take(Arc::clone(&self.room), granted);
        self.taken = Some(unless_refused(self, taking).await?);
        Ok(granted)
    }

    async fn give(&mut self, copy: Vec<u8>, is_last: bool) -> Result<(), SendError> {
        let room = match self.taken.take() {
            Some(room) => room,
            None => take(Arc::clone(&self.room), copy.len()).await,
        };
        self.stream.send_data(Piece { bytes: copy.into(), _room: room }, is_last).map_err(gone)
    }

    fn poll_refused(&mut self, context: &mut Context<'_>) -> Poll<SendError> {
        self.stream.poll_reset(context).map(|reset| match reset {
            Ok(reason) => gone(reason.into()),
            Err(error) => gone(error),
        })
    }
}

async fn take(room: Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let bytes = u32::try_from(bytes).expect("copies are small");
    room.acquire_many_owned(bytes).await.expect("the room is never closed")
}

fn gone(error: h2::Error) -> SendError {
    SendError::Client(std::io::Error::other(error))
}
