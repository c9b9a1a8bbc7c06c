//! A request's way to an answer that is ready to be sent: authorize → resolve → plan → head. Whatever the request came
//! by, and whatever the answer goes by.

mod body;
mod conclude;
mod copies;
mod refuse;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sluice_shared::keys::KeyRing;
use sluice_shared::revocations;
use sluice_shared::token::{NumericDate, Scratch};

use crate::authorize::{Admission, Circumstances, Grant, SentBack, authorize};
use crate::cache::{Body, FillError};
use crate::head::{DateCache, Envelope, Persistence, Presented, write_options};
use crate::limits::DeadlineSlot;
use crate::logs::Record;
use crate::multipart::Boundary;
use crate::plan::{Plan, plan};
use crate::reject::Reject;
use crate::request::{Method, RequestError, RequestHead, Resource};
use crate::resolve::{OpenFile, ResolveError};
use crate::send::Sent;
use crate::worker::{Lent, Worker};
pub(crate) use body::FileBody;
pub(crate) use conclude::{InFlight, account, conclude, note_short};
pub(crate) use copies::send_copies;

/// How often a request follows a file that is replaced under it, before it is asked to come again.
const CHANGES_MAX: u32 = 3;

/// One request, for the logs.
pub(crate) struct Exchange {
    pub(crate) begun: Instant,
    pub(crate) method: Method,
    pub(crate) client: IpAddr,
    pub(crate) record: Option<Record>,
}

/// An answer that is ready, and what of it has gone.
pub(crate) struct Answer {
    pub(crate) exchange: Exchange,
    pub(crate) status: u16,
    /// The head, and all that is not sent from a file's memory.
    pub(crate) text: Lent<Vec<u8>>,
    pub(crate) body: Option<FileBody>,
    pub(crate) sent: Sent,
    /// Another request may follow.
    pub(crate) is_kept: bool,
}

/// An answer's status, its text, and the part of the file that follows.
type Parts = (u16, Lent<Vec<u8>>, Option<FileBody>);

type Composed = Result<Parts, Reject>;

/// How a request waits for the store.
#[derive(Debug, Clone, Copy)]
struct Wait {
    until: Instant,
    /// The store does not answer, and another edge may.
    is_in_vain: bool,
}

/// What a request asks for: the file, the answer to give, and whether its first window was there before.
type Located = (OpenFile, Plan, bool);

/// Who answers a connection's requests.
pub(crate) struct Responder<'c> {
    pub(crate) worker: &'c Rc<Worker>,
    /// What is sent ends where this is cut.
    pub(crate) deadline: &'c DeadlineSlot,
    /// The connection ends with the next answer, whatever is asked.
    pub(crate) is_last: bool,
}

impl Answer {
    fn of((status, text, body): Parts, exchange: Exchange, is_kept: bool) -> Self {
        Self { exchange, status, text, body, sent: Sent::default(), is_kept }
    }
}

impl Responder<'_> {
    fn begin(&self, now: SystemTime, method: Method, client: IpAddr) -> Exchange {
        let worker = self.worker;
        let record = worker.access_log.as_ref().map(|_| Record::new(now, worker.outs.take()));
        Exchange { begun: Instant::now(), method, client, record }
    }

    /// The answer to a request of `client`, if that takes no waiting.
    pub(crate) fn answer_now(&self, head: &RequestHead<'_>, client: IpAddr) -> Option<Answer> {
        let now = SystemTime::now();
        let mut exchange = self.begin(now, head.method, client);
        if head.method == Method::Options {
            return Some(self.answer(head, self.options(head, now), exchange));
        }
        let (keys, mut scratch) = (self.worker.keys(), self.worker.scratches.take());
        let composed = match self.admit(head, now, &keys, &mut exchange, &mut scratch) {
            Err(reject) => Err(reject),
            Ok(Admission::SentBack(to)) => self.send_back(head, &to, now),
            Ok(Admission::Granted(_)) if self.worker.is_refusing() => Err(Reject::Draining),
            Ok(Admission::Granted(grant)) => {
                let located = self.locate_now(head, &grant, now, exchange.begun)?;
                self.compose(head, &grant, located, now)
            }
        };
        Some(self.answer(head, composed, exchange))
    }

    /// As [`Self::answer_now`], waiting for the store.
    pub(crate) async fn answer_later(&self, head: &RequestHead<'_>, client: IpAddr) -> Answer {
        let now = SystemTime::now();
        let mut exchange = self.begin(now, head.method, client);
        // For as long as the store takes: a guard is for less.
        let (keys, mut scratch) = (self.worker.keys.load_full(), self.worker.scratches.take());
        let composed = match self.admit(head, now, &keys, &mut exchange, &mut scratch) {
            Err(reject) => Err(reject),
            Ok(Admission::SentBack(to)) => self.send_back(head, &to, now),
            Ok(Admission::Granted(grant)) => {
                let wait = self.wait(head, &exchange);
                let located = self.locate(head, &grant, now, wait).await;
                located.and_then(|located| {
                    // It was not among the transfers while it waited: what was barred meanwhile has to be looked for.
                    grant.judge(&self.worker.revocations.load(), revocations::Instant::now())?;
                    self.compose(head, &grant, located, now)
                })
            }
        };
        self.answer(head, composed, exchange)
    }

    /// The answer to OPTIONS, which only browsers on other origins' pages ask for.
    #[cold]
    fn options(&self, head: &RequestHead<'_>, now: SystemTime) -> Composed {
        head.resource()?;
        if !self.worker.cors.is_on() {
            return Err(RequestError::Method.into());
        }
        let mut text = self.worker.outs.take();
        let mut date = self.worker.date.borrow_mut();
        write_options(&self.envelope(head, self.persistence(head), now, &mut date), &mut text);
        Ok((http::StatusCode::NO_CONTENT.as_u16(), text, None))
    }

    /// Head → grant, or the way back to a coordinator.
    fn admit<'s>(
        &self,
        head: &RequestHead<'_>,
        now: SystemTime,
        keys: &'s KeyRing,
        exchange: &mut Exchange,
        scratch: &'s mut Scratch,
    ) -> Result<Admission<'s>, Reject> {
        let worker = &**self.worker;
        match head.resource()? {
            Resource::Download => {}
            Resource::Server => return Err(RequestError::Path.into()),
        }
        let circumstances = Circumstances {
            client: exchange.client,
            now: NumericDate::from_system_time(now),
            revocations: &worker.revocations.load(),
            coordinators: &worker.coordinators,
        };
        let admission = authorize(head, keys, &circumstances, scratch)?;
        if let Some(record) = &mut exchange.record {
            match &admission {
                Admission::Granted(grant) => record.note(&grant.file_id, &grant.who),
                Admission::SentBack(back) => record.note(&back.file_id, &back.who),
            }
        }
        Ok(admission)
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
        let planned = self.plan(head, &file, now);
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
        wait: Wait,
    ) -> Result<Located, Reject> {
        let worker = &**self.worker;
        let mut tries = 0;
        if wait.is_in_vain && !worker.resolver.has_servable(grant.file_id.as_str()) {
            return Err(ResolveError::Timeout.into());
        }
        loop {
            let file = worker.resolver.resolve(grant, Instant::now(), wait.until).await?;
            let planned = self.plan(head, &file, now);
            let Some(window) = first_window(&file, &planned, head.method) else {
                return Ok((file, planned, true));
            };
            // What does not begin gets an answer that says so: the first window is there before the head is sent.
            let object = &file.entry.object;
            if wait.is_in_vain && !object.is_present(window) {
                return Err(ResolveError::Timeout.into());
            }
            let left = wait.until.saturating_duration_since(Instant::now());
            let got = worker.cache.window(object, window, file.terms.requester, left).await;
            match got.map(|(_, was_there)| was_there).inspect_err(|error| file.entry.blame(*error)) {
                Ok(was_there) => return Ok((file, planned, was_there)),
                // Replaced since it was confirmed: planned anew for what is there now.
                Err(FillError::Superseded) if tries < CHANGES_MAX => tries += 1,
                Err(error) => return Err(ResolveError::from(error).into()),
            }
        }
    }

    fn plan(&self, head: &RequestHead<'_>, file: &OpenFile, now: SystemTime) -> Plan {
        let (representation, now) =
            (file.entry.fields.representation(file.save_as.as_deref()), unix_seconds(now));
        plan(head.method, &head.conditions, &representation, now, self.worker.limits.ranges_max)
    }

    /// Plan → the answer's head, and what follows it.
    fn compose(
        &self,
        head: &RequestHead<'_>,
        grant: &Grant<'_>,
        (file, planned, was_there): Located,
        now: SystemTime,
    ) -> Composed {
        let worker = &**self.worker;
        let mut text = worker.outs.take();
        let presented =
            Presented { save_as: file.save_as.as_deref(), is_continued: head.conditions.if_range.is_some() };
        let content = file.entry.fields.content(&planned, presented.save_as, || Boundary(rand::random()));
        {
            let mut date = worker.date.borrow_mut();
            let envelope = self.envelope(head, self.persistence(head), now, &mut date);
            file.entry.fields.write_head(&planned, &content, presented, &envelope, &mut text);
        }
        let status = status_of(&planned);
        let bytes = content.bytes();
        if head.method == Method::Head || bytes == 0 {
            return Ok((status, text, None));
        }
        let object = &file.entry.object;
        let place = match object.body() {
            Some(body) => {
                object.touch(None);
                if let Body::Memory(bytes) = body {
                    // Behind the head: one SEND of one place costs less than one of two.
                    body::append(&content, bytes, &mut text);
                }
                None
            }
            None => {
                object.mark_used();
                let place = worker.tokens.admit(file.terms.token).ok_or(Reject::FullForToken)?;
                Some((place, worker.transfers.watch(grant, self.deadline.shared())))
            }
        };
        let meter = worker.meters.as_ref().map(|meters| meters.of(grant.who.cid.as_deref()));
        let is_partial = planned != Plan::Full;
        Ok((
            status,
            text,
            Some(FileBody { file, content, bytes, is_partial, was_there, meter, _place: place }),
        ))
    }

    fn envelope<'d>(
        &'d self,
        head: &RequestHead<'_>,
        persistence: Persistence,
        now: SystemTime,
        date: &'d mut DateCache,
    ) -> Envelope<'d> {
        Envelope { date: date.at(unix_seconds(now)), persistence, cors: self.worker.cors.fields(head.origin) }
    }

    /// Of an answer that says nothing against the connection.
    fn persistence(&self, head: &RequestHead<'_>) -> Persistence {
        Persistence::of(self.is_kept(head), head.is_http_10)
    }

    fn is_kept(&self, head: &RequestHead<'_>) -> bool {
        head.keep_alive && !self.is_last && !self.worker.is_draining()
    }

    fn answer(&self, head: &RequestHead<'_>, composed: Composed, exchange: Exchange) -> Answer {
        match composed {
            Ok(composed) => Answer::of(composed, exchange, self.is_kept(head)),
            Err(reject) => self.turn_down(head, reject, exchange),
        }
    }

    /// The answer to a token that has expired while its link lives.
    fn send_back(&self, head: &RequestHead<'_>, back: &SentBack<'_>, now: SystemTime) -> Composed {
        self.worker.metrics.renewals.add_alone(1);
        let text = self.redirect(head, back, self.persistence(head), now);
        Ok((http::StatusCode::FOUND.as_u16(), text, None))
    }
}

/// The window that the body of an answer begins in, if it has one that lies in windows.
fn first_window(file: &OpenFile, planned: &Plan, method: Method) -> Option<u32> {
    let object = &file.entry.object;
    let start = match planned {
        Plan::Full => 0,
        Plan::Partial(range) => range.start,
        Plan::Parts(ranges) => ranges.first()?.start,
        Plan::NotModified | Plan::PreconditionFailed | Plan::RangeNotSatisfiable => return None,
    };
    (method == Method::Get && object.body().is_none()).then(|| object.window_at(start))
}

fn status_of(plan: &Plan) -> u16 {
    match plan {
        Plan::Full => 200,
        Plan::Partial(_) | Plan::Parts(_) => 206,
        Plan::NotModified => 304,
        Plan::PreconditionFailed => 412,
        Plan::RangeNotSatisfiable => 416,
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
