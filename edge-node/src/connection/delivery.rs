//! An answer's way to the client, and what is noted of it.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::answer::{Answer, FileBody};
use super::{Connection, Next};
use crate::cache::{Body, FillError};
use crate::logs::{Ended, Outcome};
use crate::send::{SendError, Sender, Source, bound_unsent};

impl Connection {
    /// Sends an answer if the socket takes it at once; `None` where there is something to wait for. What went is noted
    /// in the answer.
    pub(super) fn send_now(&self, answer: &Answer) -> Option<Result<(), SendError>> {
        let sender = self.sender(answer);
        let Some(body) = &answer.body else { return sender.try_text(&answer.text) };
        if sender.rate.is_some() {
            return None;
        }
        match body.file.entry.object.body()? {
            Body::Memory(_) => {
                let sent = sender.try_text(&answer.text)?;
                Some(sent.inspect(|()| sender.count(body.range.end - body.range.start)))
            }
            Body::Shared(extent) => match sender.try_head(&answer.text)? {
                Ok(()) => sender.try_extent(extent, &body.range),
                failed => Some(failed),
            },
        }
    }

    /// Sends what is left of an answer.
    pub(super) async fn send(&self, answer: &Answer) -> Result<(), SendError> {
        let sender = self.sender(answer);
        let Some(body) = &answer.body else { return sender.send_text(&answer.text).await };
        let transfers = &self.worker.metrics.transfers;
        transfers.add(1);
        let sent = self.send_body(&sender, answer, body).await;
        transfers.subtract(1);
        sent
    }

    async fn send_body(
        &self,
        sender: &Sender<'_>,
        answer: &Answer,
        body: &FileBody,
    ) -> Result<(), SendError> {
        let FileBody { file, range, .. } = body;
        let object = &file.entry.object;
        match object.body() {
            Some(Body::Memory(_)) => {
                sender.allowance().await;
                sender.send_text(&answer.text).await?;
                sender.count(range.end - range.start);
                return Ok(());
            }
            Some(Body::Shared(extent)) => {
                sender.send_head(&answer.text).await?;
                return sender.send_extent(extent, range).await;
            }
            None => {}
        }
        if !self.is_bounded.replace(true) {
            bound_unsent(&self.stream);
        }
        sender.send_head(&answer.text).await?;
        answer.sent.head_at.set(Some(Instant::now()));
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

    /// Counts and logs an answer that has ended; says how the connection goes on.
    pub(super) fn conclude(&self, answer: &Answer, sent: &Result<(), SendError>) -> Next {
        let worker = &*self.worker;
        let begun = answer.exchange.begun;
        let duration = begun.elapsed();
        let head_at = answer.sent.head_at.get();
        let first_byte = head_at.map_or(duration, |at| at.saturating_duration_since(begun));
        worker.metrics.request(answer.status);
        worker.metrics.first_byte.record_alone(first_byte);
        worker.metrics.duration.record_alone(duration);
        let body = answer.body.as_ref();
        if let Some(meter) = body.and_then(|body| body.meter.as_ref()) {
            meter.begin();
        }
        if let (Some(log), Some(record)) = (&worker.access_log, &answer.exchange.record) {
            let outcome = Outcome {
                status: answer.status,
                method: answer.exchange.method,
                range: body.filter(|body| body.is_partial).map(|body| body.range.clone()),
                bytes: answer.sent.body_bytes.get(),
                first_byte,
                duration,
                ended: ended(sent),
            };
            log.write(record, answer.exchange.client, &outcome);
        }
        let Err(error) = sent else { return answer.next };
        tracing::debug!(%error, "an answer ended short");
        if matches!(error, SendError::Slow) {
            worker.metrics.slow_clients.add_alone(1);
            // What the socket still holds goes at once, and not when the client's patience ends.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        Next::Close
    }

    fn sender<'c>(&'c self, answer: &'c Answer) -> Sender<'c> {
        let limits = &self.worker.limits;
        let body = answer.body.as_ref();
        Sender {
            stream: &self.stream,
            deadline: &self.deadline,
            metrics: &self.worker.metrics,
            meter: body.and_then(|body| body.meter.as_deref()),
            send_timeout: limits.send_timeout,
            send_rate_min: limits.send_rate_min,
            rate: body.and_then(|body| least(limits.rate, body.file.terms.rate)),
            pace: &self.pace,
            sent: &answer.sent,
        }
    }
}

/// An answer that is being sent. Dropped before its end, it was cut, and is noted so.
pub(super) struct Unended<'c> {
    connection: &'c Connection,
    answer: &'c Answer,
}

impl<'c> Unended<'c> {
    pub(super) fn new(connection: &'c Connection, answer: &'c Answer) -> Self {
        Self { connection, answer }
    }

    /// It has come to its end.
    pub(super) fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        self.connection.conclude(self.answer, &Err(SendError::Cut));
    }
}

/// The lower of two rates, where there is one.
fn least(one: Option<NonZeroU64>, other: Option<NonZeroU64>) -> Option<NonZeroU64> {
    one.into_iter().chain(other).min()
}

fn ended(sent: &Result<(), SendError>) -> Ended {
    match sent {
        Ok(()) => Ended::Complete,
        Err(SendError::Client(_)) => Ended::Client,
        Err(SendError::Slow) => Ended::Slow,
        Err(SendError::Cut) => Ended::Draining,
        Err(SendError::Content(FillError::Superseded)) => Ended::Changed,
        Err(SendError::Content(FillError::Storage(_) | FillError::Timeout)) => Ended::Storage,
    }
}
