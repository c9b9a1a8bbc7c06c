//! Answers that are no file: errors, and the ways to another edge.

use std::net::IpAddr;
use std::time::SystemTime;

use http::StatusCode;
use sluice_shared::token::NumericDate;

use super::{Answer, Exchange, Responder, Wait, unix_seconds};
use crate::authorize::{AuthorizeError, Circumstances, SentBack, way_on};
use crate::head::{Envelope, Persistence, write_redirect};
use crate::reject::Reject;
use crate::request::{Method, RequestHead};
use crate::resolve::ResolveError;
use crate::send::Sent;
use crate::worker::Lent;

impl Responder<'_> {
    /// How long a request may wait for the store: not at all where that is known not to answer, and another edge may.
    pub(super) fn wait(&self, head: &RequestHead<'_>, exchange: &Exchange) -> Wait {
        let worker = self.worker;
        let until = exchange.begun + worker.limits.storage_timeout;
        let is_in_vain = worker.resolver.is_store_degraded()
            && self.with_way_on(head, exchange.client, SystemTime::now(), |_| ()).is_some();
        Wait { until, is_in_vain }
    }

    pub(super) fn redirect(
        &self,
        head: &RequestHead<'_>,
        to: &SentBack<'_>,
        persistence: Persistence,
        now: SystemTime,
    ) -> Lent<Vec<u8>> {
        let mut text = self.worker.outs.take();
        let mut date = self.worker.date.borrow_mut();
        write_redirect(&to.location, &self.envelope(head, persistence, now, &mut date), &mut text);
        text
    }

    /// The answer that sends a client to another edge, if its token's coordinator can.
    #[cold]
    fn send_on(
        &self,
        head: &RequestHead<'_>,
        client: IpAddr,
        persistence: Persistence,
    ) -> Option<Lent<Vec<u8>>> {
        let now = SystemTime::now();
        let text = self.with_way_on(head, client, now, |to| self.redirect(head, to, persistence, now))?;
        self.worker.metrics.sent_on.add_alone(1);
        Some(text)
    }

    #[cold]
    fn with_way_on<T>(
        &self,
        head: &RequestHead<'_>,
        client: IpAddr,
        now: SystemTime,
        then: impl FnOnce(&SentBack<'_>) -> T,
    ) -> Option<T> {
        let worker = &**self.worker;
        let circumstances = Circumstances {
            client,
            now: NumericDate::from_system_time(now),
            revocations: &worker.revocations.load(),
            coordinators: &worker.coordinators,
        };
        let mut scratch = worker.scratches.take();
        way_on(head, &worker.keys(), &circumstances, &worker.id, &mut scratch).map(|to| then(&to))
    }

    /// The answer to a request that is granted nothing: another edge, where that may serve it, or an error.
    pub(super) fn turn_down(&self, head: &RequestHead<'_>, reject: Reject, exchange: Exchange) -> Answer {
        let is_kept = self.is_kept(head) && !reject.closes();
        let persistence = Persistence::of(is_kept, head.is_http_10);
        if reject.is_this_edges()
            && let Some(text) = self.send_on(head, exchange.client, persistence)
        {
            tracing::debug!(edge = %self.worker.id, reason = %reject, "sent on");
            return Answer::of((StatusCode::FOUND.as_u16(), text, None), exchange, is_kept);
        }
        self.refuse(reject, exchange, persistence, head.origin)
    }

    /// The answer to a client that has no place here, and whose request has come nevertheless.
    pub(crate) fn answer_without_place(
        &self,
        head: &RequestHead<'_>,
        client: IpAddr,
        reject: Reject,
    ) -> Answer {
        let exchange = self.begin(SystemTime::now(), head.method, client);
        self.turn_down(head, reject, exchange)
    }

    /// The answer to a request that could not be read. It says nothing of its connection, and nobody knows where the
    /// next one begins.
    pub(crate) fn refuse_unread(&self, reject: Reject, method: Method, client: IpAddr) -> Answer {
        let exchange = self.begin(SystemTime::now(), method, client);
        self.refuse(reject, exchange, Persistence::Close, None)
    }

    fn refuse(
        &self,
        reject: Reject,
        exchange: Exchange,
        persistence: Persistence,
        origin: Option<&[u8]>,
    ) -> Answer {
        let worker = self.worker;
        match reject {
            Reject::Authorize(AuthorizeError::Token(error)) => {
                worker.metrics.token_failure(error);
                tracing::info!(edge = %worker.id, client = %exchange.client, reason = %error, "token refused");
            }
            // Coordinators ask so each minute.
            Reject::Authorize(error @ AuthorizeError::NoToken) => {
                tracing::debug!(edge = %worker.id, client = %exchange.client, reason = %error, "request refused");
            }
            Reject::Authorize(error) => {
                tracing::info!(edge = %worker.id, client = %exchange.client, reason = %error, "request refused");
            }
            Reject::Resolve(error) if !matches!(error, ResolveError::NotFound) => {
                tracing::warn!(edge = %worker.id, %error, "a file could not be served");
            }
            _ => {}
        }
        let mut text = worker.outs.take();
        let with_body = exchange.method != Method::Head;
        let mut date = worker.date.borrow_mut();
        let date = date.at(unix_seconds(SystemTime::now()));
        let envelope = Envelope { date, persistence, cors: worker.cors.fields(origin) };
        reject.write(&worker.id, &envelope, with_body, &mut text);
        let (status, is_kept) = (reject.status().as_u16(), persistence != Persistence::Close);
        Answer { exchange, status, text, body: None, sent: Sent::default(), is_kept }
    }
}
