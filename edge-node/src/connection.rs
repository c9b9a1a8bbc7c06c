//! One connection from accept to close: read head → authorize → resolve → plan → send, again and again. The branches
//! are here; what they lead to is elsewhere.
//!
//! An idle connection holds no buffer: one is lent for as long as a head is in it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_shared::token::NumericDate;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::authorize::{AuthorizeError, Grant, authorize};
use crate::cache::{Body, FillError};
use crate::head::Persistence;
use crate::limits::{AddressPlace, DeadlineSlot, Late, Pace, TokenPlace, Waiting};
use crate::logs::{Ended, Meter, Outcome, Record};
use crate::plan::{Plan, plan};
use crate::reject::Reject;
use crate::request::{self, HEAD_BYTES_MAX, Method, RequestHead};
use crate::resolve::{OpenFile, ResolveError};
use crate::send::{SendError, Sender, Sent, Source, bound_unsent};
use crate::worker::{Buffer, Reusable, Worker};

/// After an answer that ends the connection, so much of what the client still sends is read, so that the answer is
/// not destroyed by a reset (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How often a request follows a file that is replaced under it, before it is asked to come again.
const CHANGES_MAX: u32 = 3;

/// Serves one connection until it ends.
pub(crate) async fn serve(stream: TcpStream, client: IpAddr, place: AddressPlace, worker: Rc<Worker>) {
    Connection::new(stream, client, &worker).run().await;
    worker.metrics.connections.subtract(1);
    drop(place);
}

/// Sees a client off that has been told why.
pub(crate) async fn see_off(stream: TcpStream, client: IpAddr, worker: Rc<Worker>) {
    Connection::new(stream, client, &worker).linger().await;
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
struct Reply {
    status: u16,
    /// Without one, the head is all there is.
    body: Option<FileBody>,
}

/// A part of a file, on its way to a client.
struct FileBody {
    file: OpenFile,
    range: Range<u64>,
    /// The range was asked for, and is not just everything.
    is_partial: bool,
    /// The first window was there before the request.
    was_there: bool,
    /// A large file's transfers are counted by token.
    _place: Option<TokenPlace>,
    meter: Option<Rc<Meter>>,
}

/// One request, for the logs.
struct Exchange {
    begun: Instant,
    method: Method,
    record: Option<Record>,
}

struct Connection {
    stream: TcpStream,
    client: IpAddr,
    deadline: DeadlineSlot,
    pace: RefCell<Pace>,
    /// What the socket may hold unsent has been bounded.
    is_bounded: Cell<bool>,
    worker: Rc<Worker>,
}

impl Connection {
    fn new(stream: TcpStream, client: IpAddr, worker: &Rc<Worker>) -> Self {
        Self {
            stream,
            client,
            deadline: worker.deadlines.slot(),
            pace: RefCell::new(Pace::new(Instant::now())),
            is_bounded: Cell::new(false),
            worker: Rc::clone(worker),
        }
    }

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
                    let exchange = self.begin(SystemTime::now(), Method::Get);
                    if self.send_reject(reject, &exchange, false).await == Next::Linger {
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
        let mut until = None;
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
            let now = Instant::now();
            let left = until.get_or_insert(now + limits.head_timeout).saturating_duration_since(now);
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
        let now = SystemTime::now();
        let mut exchange = self.begin(now, method);
        let prepared = match parsed {
            Ok(head) => self.prepare(&head, now, &mut exchange, &mut out).await,
            Err(error) => Err(error.into()),
        };
        buffer.consume(head_bytes);
        // Bytes of a next request keep the buffer; otherwise it goes back before anything is sent.
        let rest = if buffer.bytes().is_empty() { None } else { Some(buffer) };
        let next = match prepared {
            Ok(reply) => {
                let kept = keep_alive && !self.worker.is_draining();
                let sent = self.send_reply(reply, &exchange, &mut out).await;
                if sent.is_err() {
                    Next::Close
                } else if kept {
                    Next::Request
                } else {
                    Next::Linger
                }
            }
            Err(reject) => self.send_reject(reject, &exchange, keep_alive && !is_http_10).await,
        };
        (next, rest)
    }

    fn begin(&self, now: SystemTime, method: Method) -> Exchange {
        let worker = &self.worker;
        let record = worker.access_log.as_ref().map(|_| Record::new(now, worker.outs.take()));
        Exchange { begun: Instant::now(), method, record }
    }

    /// Head → grant → file → plan, and the plan's head into `out`.
    async fn prepare(
        &self,
        head: &RequestHead<'_>,
        now: SystemTime,
        exchange: &mut Exchange,
        out: &mut Vec<u8>,
    ) -> Result<Reply, Reject> {
        let worker = &*self.worker;
        if worker.is_refusing() {
            return Err(Reject::Draining);
        }
        head.check_path()?;
        let mut scratch = worker.scratches.take();
        let grant =
            authorize(head, self.client, &worker.keys(), NumericDate::from_system_time(now), &mut scratch)?;
        if let Some(record) = &mut exchange.record {
            record.note(&grant);
        }
        let now_secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (file, planned, was_there) = self.locate(head, &grant, now_secs, exchange.begun).await?;
        let fields = &file.entry.fields;
        let persistence = persistence(head.keep_alive && !worker.is_draining(), head.is_http_10);
        let range = {
            let mut date = worker.date.borrow_mut();
            fields.write_head(&planned, file.save_as.as_deref(), date.at(now_secs), persistence, out)
        };
        let status = status_of(&planned);
        if head.method == Method::Head || range.is_empty() {
            return Ok(Reply { status, body: None });
        }
        let place = match file.entry.object.body() {
            Some(_) => None,
            None => Some(worker.tokens.admit(file.terms.token).ok_or(Reject::FullForToken)?),
        };
        let meter = worker.meters.as_ref().map(|meters| meters.of(grant.who.cid.as_deref()));
        let is_partial = matches!(planned, Plan::Partial(_));
        Ok(Reply {
            status,
            body: Some(FileBody { file, range, is_partial, was_there, _place: place, meter }),
        })
    }

    /// Grant → file → plan, with what the answer begins with in the cache; says whether it was there before.
    async fn locate(
        &self,
        head: &RequestHead<'_>,
        grant: &Grant<'_>,
        now_secs: u64,
        begun: Instant,
    ) -> Result<(OpenFile, Plan, bool), Reject> {
        let worker = &*self.worker;
        let until = begun + worker.limits.storage_timeout;
        let mut tries = 0;
        loop {
            let file = worker.resolver.resolve(grant, begun, until).await?;
            let planned = plan(head.method, &head.conditions, &file.entry.fields.representation(), now_secs);
            if head.method == Method::Head {
                return Ok((file, planned, true));
            }
            match self.await_first_window(&file, &planned, until).await {
                Ok(was_there) => return Ok((file, planned, was_there)),
                // Replaced since it was confirmed: planned anew for what is there now.
                Err(FillError::Superseded) if tries < CHANGES_MAX => tries += 1,
                Err(error) => return Err(ResolveError::from(error).into()),
            }
        }
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
        let begun = self.worker.cache.window(object, window, file.terms.requester, left).await;
        begun.map(|(_, was_there)| was_there).inspect_err(|error| file.entry.blame(*error))
    }

    async fn send_reply(
        &self,
        reply: Reply,
        exchange: &Exchange,
        head: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let metrics = &self.worker.metrics;
        metrics.request(reply.status);
        let body = reply.body.as_ref();
        let rate = least(self.worker.limits.rate, body.and_then(|body| body.file.terms.rate));
        let sender = self.sender(rate, body.and_then(|body| body.meter.as_deref()));
        let answered = match body {
            None => sender.send_text(head).await,
            Some(body) => {
                metrics.transfers.add(1);
                let answered = self.send_file(&sender, body, head).await;
                metrics.transfers.subtract(1);
                answered
            }
        };
        let range = body.filter(|body| body.is_partial).map(|body| body.range.clone());
        self.conclude(exchange, reply.status, range, &sender.sent, &answered);
        answered
    }

    async fn send_file(
        &self,
        sender: &Sender<'_>,
        body: &FileBody,
        head: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let FileBody { file, range, .. } = body;
        body.meter.as_ref().inspect(|meter| meter.begin());
        let object = &file.entry.object;
        match object.body() {
            Some(Body::Memory(content)) => {
                let part = &content[to_usize(range.start)..to_usize(range.end)];
                return sender.send_small(head, part).await;
            }
            Some(Body::Shared(extent)) => {
                sender.send_head(head).await?;
                return sender.send_extent(extent, range.clone()).await;
            }
            None => {}
        }
        if !self.is_bounded.replace(true) {
            bound_unsent(&self.stream);
        }
        sender.send_head(head).await?;
        sender.sent.head_at.set(Some(Instant::now()));
        let source = Source {
            cache: &self.worker.cache,
            storage_timeout: self.worker.limits.storage_timeout,
            requester: file.terms.requester,
            first_was_there: body.was_there,
        };
        let sent = sender.send_windows(object, range.clone(), &source).await;
        if let Err(error) = &sent {
            self.worker.metrics.short_bodies.add_alone(1);
            if let SendError::Content(fault) = error {
                file.entry.blame(*fault);
                tracing::warn!(edge = %self.worker.id, %fault, "a download ended short of its length");
            }
        }
        sent
    }

    /// Counts and logs an answer that has ended.
    fn conclude(
        &self,
        exchange: &Exchange,
        status: u16,
        range: Option<Range<u64>>,
        sent: &Sent,
        answered: &Result<(), SendError>,
    ) {
        let worker = &*self.worker;
        let duration = exchange.begun.elapsed();
        let head_at = sent.head_at.get();
        let first_byte = head_at.map_or(duration, |at| at.saturating_duration_since(exchange.begun));
        worker.metrics.first_byte.record_alone(first_byte);
        worker.metrics.duration.record_alone(duration);
        if let Err(error) = answered {
            tracing::debug!(%error, "an answer ended short");
            if matches!(error, SendError::Slow) {
                worker.metrics.slow_clients.add_alone(1);
                // What the socket still holds goes at once, and not when the client's patience ends.
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            }
        }
        if let (Some(log), Some(record)) = (&worker.access_log, &exchange.record) {
            let ended = ended(answered);
            let (bytes, method) = (sent.body_bytes.get(), exchange.method);
            log.write(
                record,
                self.client,
                &Outcome { status, method, range, bytes, first_byte, duration, ended },
            );
        }
    }

    async fn send_reject(&self, reject: Reject, exchange: &Exchange, keep: bool) -> Next {
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
        let with_body = exchange.method == Method::Get;
        reject.write(worker.date.borrow_mut().at(secs), persistence, with_body, &mut out);
        let sender = self.sender(None, None);
        let answered = sender.send_text(&out).await;
        self.conclude(exchange, reject.status().as_u16(), None, &sender.sent, &answered);
        match answered {
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

    fn sender<'c>(&'c self, rate: Option<NonZeroU64>, meter: Option<&'c Meter>) -> Sender<'c> {
        let limits = &self.worker.limits;
        Sender {
            stream: &self.stream,
            deadline: &self.deadline,
            metrics: &self.worker.metrics,
            meter,
            send_timeout: limits.send_timeout,
            send_rate_min: limits.send_rate_min,
            rate,
            pace: &self.pace,
            sent: Sent::default(),
        }
    }
}

/// The lower of two rates, where there is one.
fn least(one: Option<NonZeroU64>, other: Option<NonZeroU64>) -> Option<NonZeroU64> {
    one.into_iter().chain(other).min()
}

fn ended(answered: &Result<(), SendError>) -> Ended {
    match answered {
        Ok(()) => Ended::Complete,
        Err(SendError::Client(_)) => Ended::Client,
        Err(SendError::Slow) => Ended::Slow,
        Err(SendError::Content(FillError::Superseded)) => Ended::Changed,
        Err(SendError::Content(FillError::Storage(_) | FillError::Timeout)) => Ended::Storage,
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
