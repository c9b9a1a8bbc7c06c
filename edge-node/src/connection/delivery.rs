//! An answer's way to the client, and what is noted of it.

use std::ops::Range;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::transport::{Bare, Transport};
use super::{Connection, Next};
use crate::answer::{Answer, FileBody, InFlight, account, conclude, note_short};
use crate::cache::Body;
use crate::head::Content;
use crate::limits::LeastRate;
use crate::multipart::Multipart;
use crate::send::{SendError, Sender, Source, bound_unsent};

impl<T: Bare> Connection<T> {
    /// Sends an answer if the socket takes it at once; `None` where there is something to wait for. What went is noted
    /// in the answer.
    pub(super) fn send_now(&self, answer: &Answer) -> Option<Result<(), SendError>> {
        let sender = self.sender(answer, false);
        let Some(body) = &answer.body else { return sender.try_text(&answer.text) };
        if sender.account.rate.is_some() {
            return None;
        }
        let object = &body.file.entry.object;
        match (object.body()?, &body.content) {
            (Body::Memory(_), _) => {
                let sent = sender.try_text(&answer.text)?;
                Some(sent.inspect(|()| sender.account.count(body.bytes)))
            }
            (Body::Shared(extent), Content::Range(range)) => {
                let is_whole = !body.is_partial;
                let bundle = is_whole.then(|| self.worker.bundles.of(object, extent, &answer.text)).flatten();
                match bundle {
                    Some(bundle) => sender.try_bundle(&bundle, answer.text.len()),
                    None => match sender.try_head(&answer.text)? {
                        Ok(()) => sender.try_extent(extent, range),
                        failed => Some(failed),
                    },
                }
            }
            (Body::Shared(_), Content::Parts(_)) => None,
        }
    }

    /// Sends what is left of an answer.
    pub(super) async fn send(&self, answer: &Answer) -> Result<(), SendError> {
        let sender = self.sender(answer, answer.body.is_some());
        let Some(body) = &answer.body else { return sender.send_text(&answer.text).await };
        let _in_flight = InFlight::begin(&self.worker.metrics, answer, body);
        self.send_body(&sender, answer, body).await
    }

    async fn send_body(
        &self,
        sender: &Sender<'_>,
        answer: &Answer,
        body: &FileBody,
    ) -> Result<(), SendError> {
        let object = &body.file.entry.object;
        if let Some(Body::Memory(_)) = object.body() {
            sender.account.allowance().await;
            sender.send_text(&answer.text).await?;
            sender.account.count(body.bytes);
            return Ok(());
        }
        if object.body().is_none() && !self.is_bounded.replace(true) {
            bound_unsent(self.stream.socket());
        }
        sender.send_head(&answer.text).await?;
        if object.body().is_none() {
            answer.sent.head_at.set(Some(Instant::now()));
        }
        let mut taking = sender.account.least_rate();
        let sent = match &body.content {
            Content::Range(range) => self.send_range(sender, body, range, &mut taking, body.was_there).await,
            Content::Parts(multipart) => {
                Box::pin(self.send_parts(sender, body, multipart, &mut taking)).await
            }
        };
        if let Err(error) = &sent {
            note_short(&self.worker, body, error);
        }
        sent
    }

    /// Sends a body of several parts, piece by piece.
    async fn send_parts(
        &self,
        sender: &Sender<'_>,
        body: &FileBody,
        multipart: &Multipart,
        taking: &mut LeastRate,
    ) -> Result<(), SendError> {
        let mut was_there = body.was_there;
        for part in &multipart.parts {
            sender.send_part_head(part.head.as_bytes()).await?;
            self.send_range(sender, body, &part.range, taking, was_there).await?;
            was_there = true;
        }
        sender.send_closing(multipart.closing.as_bytes()).await
    }

    /// Sends a range of a file that is not in ordinary memory.
    async fn send_range(
        &self,
        sender: &Sender<'_>,
        body: &FileBody,
        range: &Range<u64>,
        taking: &mut LeastRate,
        was_there: bool,
    ) -> Result<(), SendError> {
        let object = &body.file.entry.object;
        if let Some(Body::Shared(extent)) = object.body() {
            return sender.send_extent(extent, range).await;
        }
        let source = Source::of(&self.worker, body, was_there);
        sender.send_windows(object, range.clone(), &source, taking).await
    }

    fn sender<'c>(&'c self, answer: &'c Answer, is_in_flight: bool) -> Sender<'c> {
        let account = account(&self.worker, answer, &self.pace, is_in_flight);
        let (stream, records) = (self.stream.socket(), self.stream.records());
        Sender { stream, records, deadline: &self.deadline, account }
    }
}

impl<T: Transport> Connection<T> {
    /// Counts and logs an answer that has ended; says how the connection goes on.
    pub(super) fn conclude(&self, answer: &Answer, sent: &Result<(), SendError>) -> Next {
        conclude(&self.worker, answer, sent);
        match sent {
            Ok(()) if answer.is_kept => Next::Request,
            Ok(()) => Next::Linger,
            Err(error) => {
                if matches!(error, SendError::Slow) {
                    // What the socket still holds goes at once, and not when the client's patience ends.
                    let now = Some(Duration::ZERO);
                    let _ = self.stream.with_socket(|socket| SockRef::from(socket).set_linger(now));
                }
                Next::Close
            }
        }
    }
}

/// An answer that is being sent. Dropped before its end, it was cut, and is noted so.
pub(super) struct Unended<'c, T: Transport> {
    connection: &'c Connection<T>,
    answer: &'c Answer,
}

impl<'c, T: Transport> Unended<'c, T> {
    pub(super) fn new(connection: &'c Connection<T>, answer: &'c Answer) -> Self {
        Self { connection, answer }
    }

    /// It has come to its end.
    pub(super) fn end(self) {
        std::mem::forget(self);
    }
}

impl<T: Transport> Drop for Unended<'_, T> {
    fn drop(&mut self) {
        self.connection.conclude(self.answer, &Err(SendError::cut(&self.connection.deadline)));
    }
}
