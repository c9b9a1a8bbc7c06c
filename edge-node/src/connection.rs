//! One connection from accept to close: a PROXY header where one has to be, then read head → authorize → resolve → plan → send, again and again. The branches
//! are here; what they lead to is elsewhere.
//!
//! What can be answered without waiting is, in one go; only what has to wait gets a future of its own, so that an idle
//! connection is small, and holds no buffer: one is lent for as long as a head is in it.

mod acknowledged;
mod beneath;
mod delivery;
mod encrypted;
mod introduction;
mod transport;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sluice_shared::client_source::ClientSource;
use tokio::io::{AsyncRead, ReadBuf};

use crate::answer::{Answer, Responder};
use crate::config::Limits;
use crate::limits::{AddressPlace, Deadline, DeadlineSlot, Late, Pace, Waiting};
use crate::reject::Reject;
use crate::request::{self, HEAD_BYTES_MAX, Method, RequestHead, forwarded_for};
use crate::worker::{Buffer, Reusable, Worker};
pub(crate) use acknowledged::until_acknowledged;
pub(crate) use beneath::Beneath;
use delivery::Unended;
pub(crate) use encrypted::Encrypted;
use transport::Transport;

/// After an answer that ends the connection, so much of what the client still sends is read, so that the answer is
/// not destroyed by a reset (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A client that has no place has so long to say what it wants: its request follows its connection at once, or is slow.
const TURNED_AWAY_REQUEST_TIME: Duration = Duration::from_millis(300);

/// After so many answers to requests that came together, other connections have their turn: a socket that has room keeps
/// nobody waiting.
const ANSWERS_PER_TURN: u32 = 64;

/// How a connection goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// Closed by us, the client being told: what it still sends is read first.
    Linger,
    /// Gone, or to be gone at once.
    Close,
}

/// How far a request has come.
#[allow(
    clippy::large_enum_variant,
    reason = "it only passes through; a box would be an allocation a request"
)]
enum Turn {
    /// Its head is not whole.
    Head(Buffer),
    /// It is, so many bytes; what it asks for has to be asked of the store.
    Store(Buffer, usize),
    /// The answer is ready; of it, and what came after the request.
    Send(Answer, Option<Buffer>),
    Done(Next, Option<Buffer>),
}

/// What is left to wait for: gives how the connection goes on, and what came after the request.
type Rest<'c> = Pin<Box<dyn Future<Output = (Next, Option<Buffer>)> + 'c>>;

enum Step<'c> {
    Done(Next, Option<Buffer>),
    Later(Rest<'c>),
}

/// One client's connection. Boxed where it is made: a task holds what it was given twice.
pub(crate) struct Connection<T> {
    stream: T,
    place: AddressPlace,
    deadline: DeadlineSlot,
    pace: Cell<Pace>,
    /// What the socket may hold unsent has been bounded.
    is_bounded: Cell<bool>,
    worker: Rc<Worker>,
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(stream: T, place: AddressPlace, worker: Rc<Worker>) -> Box<Self> {
        let deadline = worker.deadlines.slot();
        let pace = Cell::new(Pace::new(Instant::now()));
        Box::new(Self { stream, place, deadline, pace, is_bounded: Cell::new(false), worker })
    }

    /// Serves the connection until it ends, or is cut because the edge does.
    pub(crate) async fn serve(mut self: Box<Self>) {
        self.run().await;
        self.worker.metrics.connections.subtract(1);
    }

    /// Sees a client off that has been told why.
    pub(crate) async fn see_off(mut self: Box<Self>) {
        self.linger().await;
    }

    /// Turns a client away that has no place here: its request, if it comes at once, is sent on to another edge.
    pub(crate) async fn turn_away(mut self: Box<Self>, reject: Reject) {
        let until = Instant::now() + TURNED_AWAY_REQUEST_TIME;
        let buffer = self.worker.buffers.take();
        let answer = match self.rest_of_head(buffer, until).await {
            Ok(Some((buffer, head_bytes))) => {
                self.answer_without_place(&buffer.bytes()[..head_bytes], reject)
            }
            Ok(None) => return,
            Err(_) => self.refuse_unread(reject, Method::Get),
        };
        let (next, _) = self.go_on(Turn::Send(answer, None)).await;
        if next != Next::Close {
            self.linger().await;
        }
    }

    async fn run(&mut self) {
        let (mut next, mut carried) = match self.worker.clients {
            ClientSource::ProxyProtocol(_) if !T::IS_INTRODUCED => Box::pin(self.introduction()).await,
            _ => (Next::Request, None),
        };
        let (mut waiting, mut answers) = (Waiting::First, 0_u32);
        loop {
            match next {
                Next::Request => {}
                Next::Linger => return Box::pin(self.linger()).await,
                Next::Close => return,
            }
            match &carried {
                None => carried = self.first_bytes(waiting).await,
                Some(_) if answers.is_multiple_of(ANSWERS_PER_TURN) => tokio::task::yield_now().await,
                Some(_) => {}
            }
            let Some(buffer) = carried.take() else {
                // Closed with something unread, the socket would drop what it has yet to send.
                let has_more = self.stream.is_near_end() || self.stream.is_unsettled();
                if has_more && !self.worker.is_over() {
                    return Box::pin(self.linger()).await;
                }
                return self.stream.end_now();
            };
            waiting = Waiting::Idle;
            answers = answers.wrapping_add(1);
            (next, carried) = match self.step(buffer) {
                Step::Done(next, rest) => (next, rest),
                Step::Later(rest) => rest.await,
            };
        }
    }

    fn responder(&self) -> Responder<'_> {
        let is_last = self.stream.is_near_end();
        Responder { worker: &self.worker, deadline: &self.deadline, is_last }
    }

    /// The client of a request, by its head, which has been parsed.
    fn client_of(&self, head_text: &[u8]) -> IpAddr {
        self.worker.clients.client_of(self.place.client(), || forwarded_for(head_text))
    }

    /// Prepares the answer to the request whose head is the buffer's first `head_bytes`, if that takes no waiting.
    fn prepare_now(&self, buffer: Buffer, head_bytes: usize) -> Turn {
        let head_text = &buffer.bytes()[..head_bytes];
        let answer = match RequestHead::parse(head_text) {
            Ok(head) => self.responder().answer_now(&head, self.client_of(head_text)),
            Err(error) => Some(self.refuse_unread(error.into(), request::method_of(head_text))),
        };
        match answer {
            Some(answer) => ready(answer, buffer, head_bytes),
            None => Turn::Store(buffer, head_bytes),
        }
    }

    /// As [`Self::prepare_now`], waiting for the store.
    async fn prepare(&self, buffer: Buffer, head_bytes: usize) -> Turn {
        let answer = {
            let head_text = &buffer.bytes()[..head_bytes];
            let head = RequestHead::parse(head_text).expect("parsed before");
            self.responder().answer_later(&head, self.client_of(head_text)).await
        };
        ready(answer, buffer, head_bytes)
    }

    /// The answer to a client that has no place here, and whose request has come nevertheless.
    fn answer_without_place(&self, head_text: &[u8], reject: Reject) -> Answer {
        match RequestHead::parse(head_text) {
            Ok(head) => self.responder().answer_without_place(&head, self.client_of(head_text), reject),
            Err(_) => self.refuse_unread(reject, request::method_of(head_text)),
        }
    }

    /// The answer to a request that could not be read.
    fn refuse_unread(&self, reject: Reject, method: Method) -> Answer {
        self.responder().refuse_unread(reject, method, self.place.client())
    }

    /// Takes a request as far as it goes without waiting.
    fn step(&mut self, mut buffer: Buffer) -> Step<'_> {
        let turn = match whole_head(&mut buffer, 0) {
            Ok(Some(head_bytes)) => self.prepare_now(buffer, head_bytes),
            Ok(None) => Turn::Head(buffer),
            Err(reject) => Turn::Send(self.refuse_unread(reject, Method::Get), None),
        };
        let turn = match turn {
            Turn::Send(answer, rest) => match T::send_now(self, &answer) {
                Some(sent) => Turn::Done(self.conclude(&answer, &sent), rest),
                None => Turn::Send(answer, rest),
            },
            other => other,
        };
        match turn {
            Turn::Done(next, rest) => Step::Done(next, rest),
            waiting => Step::Later(Box::pin(self.go_on(waiting))),
        }
    }

    /// Takes a request through all that has to be waited for, unless the edge ends first.
    async fn go_on(&mut self, turn: Turn) -> (Next, Option<Buffer>) {
        let (worker, deadline) = (Rc::clone(&self.worker), self.deadline.shared());
        unless_over(&worker, &deadline, self.take_turns(turn)).await.unwrap_or((Next::Close, None))
    }

    async fn take_turns(&mut self, mut turn: Turn) -> (Next, Option<Buffer>) {
        loop {
            turn = match turn {
                Turn::Head(buffer) => {
                    match self.rest_of_head(buffer, Instant::now() + self.worker.limits.head_timeout).await {
                        Ok(Some((buffer, head_bytes))) => self.prepare_now(buffer, head_bytes),
                        Ok(None) => return (Next::Close, None),
                        Err(reject) => Turn::Send(self.refuse_unread(reject, Method::Get), None),
                    }
                }
                Turn::Store(buffer, head_bytes) => self.prepare(buffer, head_bytes).await,
                Turn::Send(answer, rest) => {
                    let unended = Unended::new(self, &answer);
                    let sent = T::send(self, &answer).await;
                    unended.end();
                    Turn::Done(self.conclude(&answer, &sent), rest)
                }
                Turn::Done(next, rest) => return (next, rest),
            }
        }
    }

    /// Reads until a head is whole. `None` where the client closed.
    async fn rest_of_head(
        &mut self,
        mut buffer: Buffer,
        until: Instant,
    ) -> Result<Option<(Buffer, usize)>, Reject> {
        loop {
            let searched = buffer.bytes().len();
            let reading = read_more(&mut self.stream, &mut buffer);
            let left = until.saturating_duration_since(Instant::now());
            match self.deadline.bound(Waiting::Head, left, reading).await {
                Err(Late) => return Err(Reject::HeadTimeout),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Ok(Ok(_)) => {}
            }
            if let Some(head_bytes) = whole_head(&mut buffer, searched)? {
                return Ok(Some((buffer, head_bytes)));
            }
        }
    }

    /// Waits for a request's first bytes; a buffer is taken when they are there. `None` where the client closed, or
    /// idled too long. Written out as a function that is polled: most connections are here, and it is all they hold.
    fn first_bytes(&mut self, waiting: Waiting) -> impl Future<Output = Option<Buffer>> {
        let mut armed = false;
        poll_fn(move |context| {
            if self.worker.is_over() {
                return Poll::Ready(None);
            }
            let Limits { head_timeout, idle_timeout, .. } = self.worker.limits;
            let patience = if waiting == Waiting::First { head_timeout } else { idle_timeout };
            let mut buffer = self.worker.buffers.take();
            let read = poll_read(&mut self.stream, &mut buffer, context);
            let judged = self.deadline.judge(read, &mut armed, (waiting, patience), context);
            judged.map(|read| matches!(read, Ok(Ok(1..))).then_some(buffer))
        })
    }

    /// Lets the client see the last answer: no more is sent, and what it sends is thrown away for a while.
    async fn linger(&mut self) {
        T::settle(self).await;
        let mut buffer = self.worker.buffers.take();
        let mut read = 0;
        let stream = &mut self.stream;
        let draining = async {
            if stream.end().await.is_err() {
                return;
            }
            while read < LINGER_BYTES_MAX {
                buffer.reset();
                match read_more(stream, &mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => read += count,
                }
            }
        };
        let _ = self.deadline.bound(Waiting::Linger, LINGER_TIME, draining).await;
    }
}

/// An answer, and what came after its request: that keeps the buffer; otherwise it goes back before anything is sent.
fn ready(answer: Answer, mut buffer: Buffer, head_bytes: usize) -> Turn {
    buffer.consume(head_bytes);
    let rest = if buffer.bytes().is_empty() { None } else { Some(buffer) };
    Turn::Send(answer, rest)
}

/// Goes on with what a client has to wait for; `None` where the edge ends first, or what it does is barred.
pub(crate) async fn unless_over<T>(
    worker: &Worker,
    deadline: &Deadline,
    rest: impl Future<Output = T>,
) -> Option<T> {
    let mut rest = pin!(rest);
    poll_fn(|context| {
        if worker.is_over() || deadline.is_cut() {
            return Poll::Ready(None);
        }
        deadline.belongs_to(context);
        rest.as_mut().poll(context).map(Some)
    })
    .await
}

/// The bytes of the head that a buffer begins with, once it is whole. Its first `searched` bytes hold no end.
fn whole_head(buffer: &mut Buffer, searched: usize) -> Result<Option<usize>, Reject> {
    let before = buffer.bytes().len();
    buffer.skip_empty_lines();
    let bytes = buffer.bytes();
    let searched = searched.saturating_sub(before - bytes.len());
    match request::find_end(bytes, searched)? {
        Some(end) if end > HEAD_BYTES_MAX => Err(request::too_large(&bytes[..HEAD_BYTES_MAX]).into()),
        None if bytes.len() >= HEAD_BYTES_MAX => Err(request::too_large(bytes).into()),
        end => Ok(end),
    }
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Buffer) -> io::Result<usize> {
    poll_fn(|context| poll_read(stream, buffer, context)).await
}

fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Buffer,
    context: &mut std::task::Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut free = ReadBuf::new(buffer.free());
    let read = Pin::new(stream).poll_read(context, &mut free);
    let count = free.filled().len();
    read.map(|read| {
        read.map(|()| {
            buffer.filled(count);
            count
        })
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// What 10,000 idle connections hold, each its task with this future, and its own.
    #[test]
    fn an_idle_connection_is_small() {
        let (task, own) =
            (size_of_future(Connection::<TcpStream>::serve), size_of::<Connection<TcpStream>>());
        assert!(task + own <= 700, "{task} bytes of a task, and {own}");
    }
}
