//! What is noted of an answer: while it is sent, and once it has ended.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::Instant;

use super::{Answer, FileBody};
use crate::cache::FillError;
use crate::limits::Pace;
use crate::logs::{Ended, Outcome};
use crate::metrics::WorkerMetrics;
use crate::send::{Account, SendError, Sent};
use crate::worker::Worker;

/// What an answer's body is counted by while it is sent, on a connection that has had its `pace`.
pub(crate) fn account<'c>(
    worker: &'c Worker,
    answer: &'c Answer,
    pace: &'c Cell<Pace>,
    is_in_flight: bool,
) -> Account<'c> {
    let limits = &worker.limits;
    let body = answer.body.as_ref();
    Account {
        metrics: &worker.metrics,
        meter: body.and_then(|body| body.meter.as_deref()),
        send_timeout: limits.send_timeout,
        send_rate_min: limits.send_rate_min,
        rate: body.and_then(|body| least(limits.rate, body.file.terms.rate)),
        pace,
        sent: &answer.sent,
        is_in_flight,
    }
}

/// The lower of two rates, where there is one.
fn least(one: Option<NonZeroU64>, other: Option<NonZeroU64>) -> Option<NonZeroU64> {
    one.into_iter().chain(other).min()
}

/// Notes why a body ends short of its length: a large one's, for a small one is the kernel's at once.
pub(crate) fn note_short(worker: &Worker, body: &FileBody, error: &SendError) {
    if body.file.entry.object.body().is_some() {
        return;
    }
    worker.metrics.short_bodies.add_alone(1);
    if let SendError::Content(fault) = error {
        body.file.entry.blame(*fault);
        tracing::warn!(edge = %worker.id, %fault, "a download ended short of its length");
    }
}

/// Counts and logs an answer that has ended.
pub(crate) fn conclude(worker: &Worker, answer: &Answer, sent: &Result<(), SendError>) {
    let begun = answer.exchange.begun;
    let duration = begun.elapsed();
    let head_at = answer.sent.head_at.get();
    let first_byte = head_at.map_or(duration, |at: Instant| at.saturating_duration_since(begun));
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
            ranges: body.filter(|body| body.is_partial).map(|body| &body.content),
            bytes: answer.sent.body_bytes.get(),
            first_byte,
            duration,
            ended: ended(sent),
        };
        log.write(record, answer.exchange.client, &outcome);
    }
    let Err(error) = sent else { return };
    tracing::debug!(%error, "an answer ended short");
    if matches!(error, SendError::Slow) {
        worker.metrics.slow_clients.add_alone(1);
    }
}

fn ended(sent: &Result<(), SendError>) -> Ended {
    match sent {
        Ok(()) => Ended::Complete,
        Err(SendError::Client(_)) => Ended::Client,
        Err(SendError::Slow) => Ended::Slow,
        Err(SendError::Cut) => Ended::Draining,
        Err(SendError::Revoked) => Ended::Revoked,
        Err(SendError::KeyUsedUp) => Ended::Key,
        Err(SendError::Content(FillError::Superseded)) => Ended::Changed,
        Err(SendError::Content(FillError::Storage(_) | FillError::Timeout)) => Ended::Storage,
    }
}

/// A body that is being sent, counted until it has gone or was cut.
pub(crate) struct InFlight<'c> {
    metrics: &'c WorkerMetrics,
    sent: &'c Sent,
    bytes: u64,
}

impl<'c> InFlight<'c> {
    pub(crate) fn begin(metrics: &'c WorkerMetrics, answer: &'c Answer, body: &FileBody) -> Self {
        let bytes = body.bytes;
        metrics.transfers.add(1);
        metrics.in_flight_bytes.add(bytes - answer.sent.body_bytes.get());
        Self { metrics, sent: &answer.sent, bytes }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.transfers.subtract(1);
        // What has gone was taken off as it went.
        self.metrics.in_flight_bytes.subtract(self.bytes - self.sent.body_bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_short_body_is_told_by_whose_it_was() {
        let table = [
            (SendError::from(io::Error::from(io::ErrorKind::ConnectionReset)), Ended::Client),
            (SendError::from(SendError::key_used_up()), Ended::Key),
            (SendError::Slow, Ended::Slow),
            (SendError::Cut, Ended::Draining),
            (SendError::Revoked, Ended::Revoked),
            (SendError::Content(FillError::Superseded), Ended::Changed),
            (SendError::Content(FillError::Timeout), Ended::Storage),
        ];
        for (error, expected) in table {
            let text = error.to_string();
            assert_eq!(ended(&Err(error)), expected, "{text}");
        }
    }
}
