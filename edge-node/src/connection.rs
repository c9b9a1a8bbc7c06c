//! One connection from accept to close: read head → authorize → resolve → plan → send, again and again. The branches
//! are here; what they lead to is elsewhere.
//!
//! An idle connection holds no buffer: one is lent for as long as a head is in it.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_shared::token::NumericDate;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::authorize::{AuthorizeError, authorize};
use crate::cache::{Body, FillError};
use crate::head::Persistence;
use crate::limits::{DeadlineSlot, Late, Waiting};
use crate::plan::{Plan, plan};
use crate::reject::Reject;
use crate::request::{self, HEAD_BYTES_MAX, Method, RequestHead};
use crate::resolve::{OpenFile, ResolveError};
use crate::send::{SendError, Sender, Source};
use crate::worker::{Buffer, Reusable, Worker};

/// After an answer that ends the connection, so much of what the client still sends is read, so that the answer is
/// not destroyed by a reset (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How often a request follows a file that is replaced under it, before it is asked to come again.
const CHANGES_MAX: u32 = 3;

/// Serves one connection until it ends.
pub(crate) async fn serve(stream: TcpStream, client: IpAddr, worker: Rc<Worker>) {
    let deadline = worker.deadlines.slot();
    let mut connection = Connection { stream, client, deadline, worker: Rc::clone(&worker) };
    connection.run().await;
    worker.metrics.connections.subtract(1);
}

/// How a connection goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// Closed by us, the client being told: what it still sends is read first.
    Linger,
    /// Gone, or to be gone at once.
    Close,
}

/// An answer that is ready to be sent.
enum Reply {
    /// Head and body are one text.
    Text,
    File {
        file: OpenFile,
        range: Range<u64>,
        /// The first window was there before the request.
        was_there: bool,
    },
}

struct Connection {
    stream: TcpStream,
    client: IpAddr,
    deadline: DeadlineSlot,
    worker: Rc<Worker>,
}

impl Connection {
    async fn run(&mut self) {
        let mut carried: Option<Buffer> = None;
        let mut waiting = Waiting::First;
        loop {
            let read = self.read_head(carried.take(), waiting).await;
            waiting = Waiting::Idle;
            let (buffer, head_bytes) = match read {
                Ok(Some(read)) => read,
                Ok(None) => return,
                Err(reject) => {
                    if self.send_reject(reject, Method::Get, false).await == Next::Linger {
                        self.linger().await;
                    }
                    return;
                }
            };
            let next;
            (next, carried) = self.answer(buffer, head_bytes).await;
            match next {
                Next::Request => {}
                Next::Linger => return self.linger().await,
                Next::Close => return,
            }
        }
    }

    /// Reads until a head is whole, all of it within `head_timeout`. `None` where the client closed, or idled too
    /// long, between requests.
    async fn read_head(
        &mut self,
        carried: Option<Buffer>,
        waiting: Waiting,
    ) -> Result<Option<(Buffer, usize)>, Reject> {
        let limits = self.worker.limits;
        let patience = if waiting == Waiting::First { limits.head_timeout } else { limits.idle_timeout };
        let mut buffer = match carried {
            Some(buffer) => buffer,
            None => match self.first_bytes(waiting, patience).await {
                Some(buffer) => buffer,
                None => return Ok(None),
            },
        };
        let until = Instant::now() + limits.head_timeout;
        let mut searched = 0;
        loop {
            buffer.skip_empty_lines();
            if let Some(end) = request::find_end(buffer.bytes(), searched)? {
                if end > HEAD_BYTES_MAX {
                    return Err(request::too_large(&buffer.bytes()[..HEAD_BYTES_MAX]).into());
                }
                return Ok(Some((buffer, end)));
            }
            searched = buffer.bytes().len();
            if searched >= HEAD_BYTES_MAX {
                return Err(request::too_large(buffer.bytes()).into());
            }
            let reading = read_more(&mut self.stream, &mut buffer);
            let left = until.saturating_duration_since(Instant::now());
            match self.deadline.bound(Waiting::Head, left, reading).await {
                Err(Late) => return Err(Reject::HeadTimeout),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Waits for a request's first bytes; a buffer is taken when they are there.
    async fn first_bytes(&mut self, waiting: Waiting, patience: Duration) -> Option<Buffer> {
        let worker = &self.worker;
        let stream = &mut self.stream;
        let reading = std::future::poll_fn(|context| {
            let mut buffer = worker.buffers.take();
            let read = poll_read(stream, &mut buffer, context);
            read.map(|read| read.map(|count| (count, buffer)))
        });
        match self.deadline.bound(waiting, patience, reading).await {
            Ok(Ok((1.., buffer))) => Some(buffer),
            Ok(Ok((0, _)) | Err(_)) | Err(Late) => None,
        }
    }

    /// Answers the request whose head is the buffer's first `head_bytes`; gives back what was read beyond it.
    async fn answer(&mut self, mut buffer: Buffer, head_bytes: usize) -> (Next, Option<Buffer>) {
        let mut out = self.worker.outs.take();
        let parsed = RequestHead::parse(&buffer.bytes()[..head_bytes]);
        // A head that does not parse says nothing of its connection; the error decides.
        let (method, keep_alive, is_http_10) = parsed
            .as_ref()
            .map_or((Method::Get, true, false), |head| (head.method, head.keep_alive, head.is_http_10));
        let prepared = match parsed {
            Ok(head) => self.prepare(&head, &mut out).await,
            Err(error) => Err(error.into()),
        };
        buffer.consume(head_bytes);
        // Bytes of a next request keep the buffer; otherwise it goes back before anything is sent.
        let rest = if buffer.bytes().is_empty() { None } else { Some(buffer) };
        let next = match prepared {
            Ok(reply) => {
                let kept = keep_alive && !self.worker.is_draining();
                self.send_reply(reply, &out, if kept { Next::Request } else { Next::Linger }).await
            }
            Err(reject) => self.send_reject(reject, method, keep_alive && !is_http_10).await,
        };
        (next, rest)
    }

    /// Head → grant → file → plan, and the plan's head into `out`.
    async fn prepare(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) -> Result<Reply, Reject> {
        let worker = &*self.worker;
        if worker.is_refusing() {
            return Err(Reject::Draining);
        }
        head.check_path()?;
        let now = SystemTime::now();
        let mut scratch = worker.scratches.take();
        let grant =
            authorize(head, self.client, &worker.keys(), NumericDate::from_system_time(now), &mut scratch)?;
        let now_secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let begun = Instant::now();
        let until = begun + worker.limits.storage_timeout;
        let mut tries = 0;
        let (file, planned, was_there) = loop {
            let file = worker.resolver.resolve(&grant, begun, until).await?;
            let planned = plan(head.method, &head.conditions, &file.entry.fields.representation(), now_secs);
            if head.method == Method::Head {
                break (file, planned, true);
            }
            match self.await_first_window(&file, &planned, until).await {
                Ok(was_there) => break (file, planned, was_there),
                // Replaced since it was confirmed: planned anew for what is there now.
                Err(FillError::Superseded) if tries < CHANGES_MAX => tries += 1,
                Err(error) => return Err(ResolveError::from(error).into()),
            }
        };
        let fields = &file.entry.fields;
        let persistence = persistence(head.keep_alive && !worker.is_draining(), head.is_http_10);
        let range = {
            let mut date = worker.date.borrow_mut();
            fields.write_head(&planned, file.save_as.as_deref(), date.at(now_secs), persistence, out)
        };
        worker.metrics.request(status_of(&planned));
        let range = if head.method == Method::Head { 0..0 } else { range };
        Ok(if range.is_empty() { Reply::Text } else { Reply::File { file, range, was_there } })
    }

    /// What does not begin gets an answer that says so: the first window is there before the head is sent. Says
    /// whether it was there before.
    async fn await_first_window(
        &self,
        file: &OpenFile,
        planned: &Plan,
        until: Instant,
    ) -> Result<bool, FillError> {
        let object = &file.entry.object;
        let start = match planned {
            Plan::Full => 0,
            Plan::Partial(range) => range.start,
            Plan::NotModified | Plan::PreconditionFailed | Plan::RangeNotSatisfiable => return Ok(true),
        };
        if object.body().is_some() {
            object.touch(None);
            return Ok(true);
        }
        object.mark_used();
        let window = object.window_at(start);
        let left = until.saturating_duration_since(Instant::now());
        let begun = self.worker.cache.window(object, window, file.requester, left).await;
        begun.map(|(_, was_there)| was_there).inspect_err(|error| file.entry.blame(*error))
    }

    async fn send_reply(&self, reply: Reply, head: &[u8], next: Next) -> Next {
        let sender = self.sender();
        let sent = match reply {
            Reply::Text => sender.send_bytes(head, &[]).await,
            Reply::File { file, range, was_there } => {
                self.worker.metrics.transfers.add(1);
                let sent = self.send_file(&sender, &file, range, was_there, head).await;
                self.worker.metrics.transfers.subtract(1);
                sent
            }
        };
        match sent {
            Ok(()) => next,
            Err(error) => {
                tracing::debug!(%error, "an answer ended short");
                Next::Close
            }
        }
    }

    async fn send_file(
        &self,
        sender: &Sender<'_>,
        file: &OpenFile,
        range: Range<u64>,
        first_was_there: bool,
        head: &[u8],
    ) -> Result<(), SendError> {
        let object = &file.entry.object;
        match object.body() {
            Some(Body::Memory(body)) => {
                let part = to_usize(range.start)..to_usize(range.end);
                sender.send_bytes(head, &body[part.clone()]).await?;
                self.worker.metrics.body_bytes.add_alone(part.len() as u64);
                return Ok(());
            }
            Some(Body::Shared(extent)) => {
                sender.send_head(head).await?;
                return sender.send_extent(extent, range).await;
            }
            None => {}
        }
        sender.send_head(head).await?;
        let source = Source {
            cache: &self.worker.cache,
            storage_timeout: self.worker.limits.storage_timeout,
            requester: file.requester,
            first_was_there,
        };
        let sent = sender.send_windows(object, range, &source).await;
        if let Err(error) = &sent {
            self.worker.metrics.short_bodies.add_alone(1);
            if let SendError::Content(fault) = error {
                file.entry.blame(*fault);
                tracing::warn!(edge = %self.worker.id, %fault, "a download ended short of its length");
            }
        }
        sent
    }

    async fn send_reject(&self, reject: Reject, method: Method, keep: bool) -> Next {
        let worker = &self.worker;
        worker.metrics.request(reject.status().as_u16());
        match reject {
            Reject::Authorize(AuthorizeError::Token(error)) => {
                worker.metrics.token_failure(error);
                tracing::info!(edge = %worker.id, client = %self.client, reason = %error, "token refused");
            }
            Reject::Authorize(error) => {
                tracing::info!(edge = %worker.id, client = %self.client, reason = %error, "request refused");
            }
            Reject::Resolve(error) if !matches!(error, ResolveError::NotFound) => {
                tracing::warn!(edge = %worker.id, %error, "a file could not be served");
            }
            _ => {}
        }
        let close = !keep || reject.closes() || worker.is_draining();
        let persistence = if close { Persistence::Close } else { Persistence::Kept };
        let mut out = worker.outs.take();
        let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        reject.write(worker.date.borrow_mut().at(secs), persistence, method == Method::Get, &mut out);
        match self.sender().send_bytes(&out, &[]).await {
            Ok(()) if close => Next::Linger,
            Ok(()) => Next::Request,
            Err(_) => Next::Close,
        }
    }

    /// Lets the client see the last answer: no more is sent, and what it sends is thrown away for a while.
    async fn linger(&mut self) {
        if rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        let mut buffer = self.worker.buffers.take();
        let mut read = 0;
        let stream = &mut self.stream;
        let draining = async {
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

    fn sender(&self) -> Sender<'_> {
        Sender {
            stream: &self.stream,
            deadline: &self.deadline,
            send_timeout: self.worker.limits.send_timeout,
            metrics: &self.worker.metrics,
        }
    }
}

fn persistence(keep: bool, is_http_10: bool) -> Persistence {
    match (keep, is_http_10) {
        (false, _) => Persistence::Close,
        (true, true) => Persistence::KeptAloud,
        (true, false) => Persistence::Kept,
    }
}

fn status_of(plan: &Plan) -> u16 {
    match plan {
        Plan::Full => 200,
        Plan::Partial(_) => 206,
        Plan::NotModified => 304,
        Plan::PreconditionFailed => 412,
        Plan::RangeNotSatisfiable => 416,
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a small file fits memory")
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Buffer) -> io::Result<usize> {
    std::future::poll_fn(|context| poll_read(stream, buffer, context)).await
}

fn poll_read(
    stream: &mut TcpStream,
    buffer: &mut Buffer,
    context: &mut std::task::Context<'_>,
) -> std::task::Poll<io::Result<usize>> {
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
