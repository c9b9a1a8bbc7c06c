//! A body of a file that goes by way of copies.

use std::ops::Range;

use super::{FileBody, note_short};
use crate::cache::Body;
use crate::head::Content;
use crate::multipart::Multipart;
use crate::send::{Copier, Outlet, SendError, Source};
use crate::worker::Worker;

/// Sends a body that is not in ordinary memory: that one comes with its head.
pub(crate) async fn send_copies<O: Outlet>(
    copier: &mut Copier<'_, O>,
    worker: &Worker,
    body: &FileBody,
) -> Result<(), SendError> {
    let sent = match &body.content {
        Content::Range(range) => send_range(copier, worker, body, range, body.was_there).await,
        Content::Parts(multipart) => Box::pin(send_parts(copier, worker, body, multipart)).await,
    };
    if let Err(error) = &sent {
        note_short(worker, body, error);
    }
    sent
}

async fn send_parts<O: Outlet>(
    copier: &mut Copier<'_, O>,
    worker: &Worker,
    body: &FileBody,
    multipart: &Multipart,
) -> Result<(), SendError> {
    let mut was_there = body.was_there;
    for part in &multipart.parts {
        copier.send_text(part.head.as_bytes()).await?;
        send_range(copier, worker, body, &part.range, was_there).await?;
        was_there = true;
    }
    copier.send_text(multipart.closing.as_bytes()).await
}

async fn send_range<O: Outlet>(
    copier: &mut Copier<'_, O>,
    worker: &Worker,
    body: &FileBody,
    range: &Range<u64>,
    was_there: bool,
) -> Result<(), SendError> {
    let object = &body.file.entry.object;
    if let Some(Body::Shared(extent)) = object.body() {
        return copier.send_extent(extent, range).await;
    }
    copier.send_windows(object, range.clone(), &Source::of(worker, body, was_there)).await
}
