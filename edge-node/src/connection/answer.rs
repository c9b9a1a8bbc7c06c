//! A request's way to an answer that is ready to be sent.

use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use sluice_shared::token::{NumericDate, Scratch};

use super::{Connection, Next, Turn};
use crate::authorize::{Admission, AuthorizeError, Circumstances, Grant, SentBack, authorize};
use crate::cache::{Body, FillError};
use crate::head::{Persistence, write_redirect};
use crate::limits::TokenPlace;
use crate::logs::{Meter, Record};
use crate::plan::{Plan, plan};
use crate::reject::Reject;
use crate::request::{Method, RequestHead, forwarded_for};
use crate::resolve::{OpenFile, ResolveError};
use crate::send::Sent;
use crate::worker::{Buffer, Lent};

/// How often a request follows a file that is replaced under it, before it is asked to come again.
const CHANGES_MAX: u32 = 3;

/// One request, for the logs.
pub(super) struct Exchange {
    pub(super) begun: Instant,
    pub(super) method: Method,
    pub(super) client: IpAddr,
    pub(super) record: Option<Record>,
}

/// An answer that is ready, and what of it has gone.
pub(super) struct Answer {
    pub(super) exchange: Exchange,
    pub(super) status: u16,
    /// The head, and all that is not sent from a file's memory.
    pub(super) text: Lent<Vec<u8>>,
    pub(super) body: Option<FileBody>,
    pub(super) sent: Sent,
    /// When all of it has gone.
    pub(super) next: Next,
}

/// A part of a file, on its way to a client.
pub(super) struct FileBody {
    pub(super) file: OpenFile,
    pub(super) range: Range<u64>,
    /// The range was asked for, and is not just everything.
    pub(super) is_partial: bool,
    /// The first window was there before the request.
    pub(super) was_there: bool,
    pub(super) meter: Option<Rc<Meter>>,
    /// A large file's transfers are counted by token.
    _place: Option<TokenPlace>,
}

/// An answer's status, its text, and the part of the file that follows.
type Composed = Result<(u16, Lent<Vec<u8>>, Option<FileBody>), Reject>;

/// What a request asks for: the file, the answer to give, and whether its first window was there before.
type Located = (OpenFile, Plan, bool);

impl Connection {
    fn begin(&self, now: SystemTime, method: Method, client: IpAddr) -> Exchange {
        let worker = &self.worker;
        let record = worker.access_log.as_ref().map(|_| Record::new(now, worker.outs.take()));
        Exchange { begun: Instant::now(), method, client, record }
    }

    /// The client of a request, by its head, which has been parsed.
    fn client_of(&self, head: &[u8]) -> IpAddr {
        self.worker.clients.client_of(self.place.client(), forwarded_for(head))
    }

    /// Prepares the answer to the request whose head is the buffer's first `head_bytes`, if that takes no waiting.
    pub(super) fn prepare_now(&self, buffer: Buffer, head_bytes: usize) -> Turn {
        let now = SystemTime::now();
        let head_text = &buffer.bytes()[..head_bytes];
        let head = match RequestHead::parse(head_text) {
            Ok(head) => head,
            // A head that does not parse says nothing of its connection; the error decides.
            Err(error) => {
                let exchange = self.begin(now, Method::Get, self.place.client());
                return self.turn(self.refuse(error.into(), exchange, true), buffer, head_bytes);
            }
        };
        let mut exchange = self.begin(now, head.method, self.client_of(head_text));
        let mut scratch = self.worker.scratches.take();
        let composed = match self.admit(&head, now, &mut exchange, &mut scratch) {
            Err(reject) => Err(reject),
            Ok(Admission::SentBack(to)) => self.send_back(&head, &to, now),
            Ok(Admission::Granted(grant)) => match self.locate_now(&head, &grant, now, exchange.begun) {
                Some(located) => self.compose(&head, &grant, located, now),
                None => {
                    drop(scratch);
                    return Turn::Store(buffer, head_bytes);
                }
            },
        };
        self.turn(self.answer(&head, composed, exchange), buffer, head_bytes)
    }

    /// As [`Self::prepare_now`], waiting for the store.
    pub(super) async fn prepare(&self, buffer: Buffer, head_bytes: usize) -> Turn {
        let now = SystemTime::now();
        let answer = {
            let head_text = &buffer.bytes()[..head_bytes];
            let head = RequestHead::parse(head_text).expect("parsed before");
            let mut exchange = self.begin(now, head.method, self.client_of(head_text));
            let mut scratch = self.worker.scratches.take();
            let composed = match self.admit(&head, now, &mut exchange, &mut scratch) {
                Err(reject) => Err(reject),
                Ok(Admission::SentBack(to)) => self.send_back(&head, &to, now),
                Ok(Admission::Granted(grant)) => {
                    let located = self.locate(&head, &grant, now, exchange.begun).await;
                    located.and_then(|located| self.compose(&head, &grant, located, now))
                }
            };
            self.answer(&head, composed, exchange)
        };
        self.turn(answer, buffer, head_bytes)
    }

    /// An answer, and what came after its request: that keeps the buffer; otherwise it goes back before anything is
    /// sent.
    fn turn(&self, answer: Answer, mut buffer: Buffer, head_bytes: usize) -> Turn {
        buffer.consume(head_bytes);
        let rest = if buffer.bytes().is_empty() { None } else { Some(buffer) };
        Turn::Send(answer, rest)
    }

    /// Head → grant, or the way back to a coordinator.
    fn admit<'s>(
        &self,
        head: &RequestHead<'_>,
        now: SystemTime,
        exchange: &mut Exchange,
        scratch: &'s mut Scratch,
    ) -> Result<Admission<'s>, Reject> {
        let worker = &*self.worker;
        if worker.is_refusing() {
            return Err(Reject::Draining);
        }
        head.check_path()?;
        let circumstances = Circumstances {
            client: exchange.client,
            now: NumericDate::from_system_time(now),
            keys: &worker.keys(),
            coordinators: &worker.coordinators,
        };
        let admission = authorize(head, &circumstances, scratch)?;
        if let Some(record) = &mut exchange.record {
            match &admission {
                Admission::Granted(grant) => record.note(&grant.file_id, &grant.who),
                Admission::SentBack(back) => record.note(&back.file_id, &back.who),
            }
        }
        Ok(admission)
    }

    /// The answer to a token that has expired while its link lives.
    fn send_back(&self, head: &RequestHead<'_>, back: &SentBack<'_>, now: SystemTime) -> Composed {
        let worker = &*self.worker;
        worker.metrics.renewals.add_alone(1);
        let mut text = worker.outs.take();
        let persistence = self.persistence(head);
        let mut date = worker.date.borrow_mut();
        write_redirect(&back.location, date.at(unix_seconds(now)), persistence, &mut text);
        Ok((StatusCode::FOUND.as_u16(), text, None))
    }

    /// Grant → file → plan, where all that the answer begins with is in the cache and was confirmed lately.
    fn locate_now(
        &self,
        head: &RequestHead<'_>,
        grant: &Grant<'_>,
        now: SystemTime,
        begun: Instant,
    ) -> Option<Located> {
        let file = self.worker.resolver.resolve_now(grant, begun)?;
        let planned =
            plan(head.method, &head.conditions, &file.entry.fields.representation(), unix_seconds(now));
        let is_there = match first_window(&file, &planned, head.method) {
            None => true,
            Some(window) => file.entry.object.is_present(window),
        };
        is_there.then_some((file, planned, true))
    }

    /// As [`Self::locate_now`], waiting for the store.
    async fn locate(
        &self,
        head: &RequestHead<'_>,
        grant: &Grant<'_>,
        now: SystemTime,
        begun: Instant,
    ) -> Result<Located, Reject> {
        let worker = &*self.worker;
        let until = begun + worker.limits.storage_timeout;
        let mut tries = 0;
        loop {
            let file = worker.resolver.resolve(grant, begun, until).await?;
            let planned =
                plan(head.method, &head.conditions, &file.entry.fields.representation(), unix_seconds(now));
            let Some(window) = first_window(&file, &planned, head.method) else {
                return Ok((file, planned, true));
            };
            // What does not begin gets an answer that says so: the first window is there before the head is sent.
            let object = &file.entry.object;
            let left = until.saturating_duration_since(Instant::now());
            let got = worker.cache.window(object, window, file.terms.requester, left).await;
            match got.map(|(_, was_there)| was_there).inspect_err(|error| file.entry.blame(*error)) {
                Ok(was_there) => return Ok((file, planned, was_there)),
                // Replaced since it was confirmed: planned anew for what is there now.
                Err(FillError::Superseded) if tries < CHANGES_MAX => tries += 1,
                Err(error) => return Err(ResolveError::from(error).into()),
            }
        }
    }

    /// Plan → the answer's head, and what follows it.
    fn compose(
        &self,
        head: &RequestHead<'_>,
        grant: &Grant<'_>,
        (file, planned, was_there): Located,
        now: SystemTime,
    ) -> Composed {
        let worker = &*self.worker;
        let mut text = worker.outs.take();
        let persistence = self.persistence(head);
        let range = {
            let mut date = worker.date.borrow_mut();
            let (save_as, date) = (file.save_as.as_deref(), date.at(unix_seconds(now)));
            file.entry.fields.write_head(&planned, save_as, date, persistence, &mut text)
        };
        let status = status_of(&planned);
        if head.method == Method::Head || range.is_empty() {
            return Ok((status, text, None));
        }
        let object = &file.entry.object;
        let place = match object.body() {
            Some(body) => {
                object.touch(None);
                if let Body::Memory(content) = body {
                    // Behind the head: one SEND of one place costs less than one of two.
                    text.extend_from_slice(&content[to_usize(range.start)..to_usize(range.end)]);
                }
                None
            }
            None => {
                object.mark_used();
                Some(worker.tokens.admit(file.terms.token).ok_or(Reject::FullForToken)?)
            }
        };
        let meter = worker.meters.as_ref().map(|meters| meters.of(grant.who.cid.as_deref()));
        let is_partial = matches!(planned, Plan::Partial(_));
        Ok((status, text, Some(FileBody { file, range, is_partial, was_there, meter, _place: place })))
    }

    /// Of an answer that says nothing against the connection.
    fn persistence(&self, head: &RequestHead<'_>) -> Persistence {
        match (head.keep_alive && !self.worker.is_draining(), head.is_http_10) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeptAloud,
            (true, false) => Persistence::Kept,
        }
    }

    fn answer(&self, head: &RequestHead<'_>, composed: Composed, exchange: Exchange) -> Answer {
        match composed {
            Ok((status, text, body)) => {
                let is_kept = head.keep_alive && !self.worker.is_draining();
                let next = if is_kept { Next::Request } else { Next::Linger };
                Answer { exchange, status, text, body, sent: Sent::default(), next }
            }
            Err(reject) => self.refuse(reject, exchange, head.keep_alive && !head.is_http_10),
        }
    }

    /// The answer to a request that could not be read.
    pub(super) fn refuse_unread(&self, reject: Reject) -> Answer {
        self.refuse(reject, self.begin(SystemTime::now(), Method::Get, self.place.client()), false)
    }

    fn refuse(&self, reject: Reject, exchange: Exchange, keep: bool) -> Answer {
        let worker = &self.worker;
        match reject {
            Reject::Authorize(AuthorizeError::Token(error)) => {
                worker.metrics.token_failure(error);
                tracing::info!(edge = %worker.id, client = %exchange.client, reason = %error, "token refused");
            }
            Reject::Authorize(error) => {
                tracing::info!(edge = %worker.id, client = %exchange.client, reason = %error, "request refused");
            }
            Reject::Resolve(error) if !matches!(error, ResolveError::NotFound) => {
                tracing::warn!(edge = %worker.id, %error, "a file could not be served");
            }
            _ => {}
        }
        let is_closed = !keep || reject.closes() || worker.is_draining();
        let (persistence, next) =
            if is_closed { (Persistence::Close, Next::Linger) } else { (Persistence::Kept, Next::Request) };
        let mut text = worker.outs.take();
        let with_body = exchange.method == Method::Get;
        let now = unix_seconds(SystemTime::now());
        reject.write(worker.date.borrow_mut().at(now), persistence, with_body, &mut text);
        let status = reject.status().as_u16();
        Answer { exchange, status, text, body: None, sent: Sent::default(), next }
    }
}

/// The window that the body of an answer begins in, if it has one that lies in windows.
fn first_window(file: &OpenFile, planned: &Plan, method: Method) -> Option<u32> {
    let object = &file.entry.object;
    let start = match planned {
        Plan::Full => 0,
        Plan::Partial(range) => range.start,
        Plan::NotModified | Plan::PreconditionFailed | Plan::RangeNotSatisfiable => return None,
    };
    (method == Method::Get && object.body().is_none()).then(|| object.window_at(start))
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

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a small file fits memory")
}
