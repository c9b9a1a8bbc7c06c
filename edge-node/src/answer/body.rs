//! The part of a file that an answer's body is.

use std::rc::Rc;

use crate::head::Content;
use crate::limits::TokenPlace;
use crate::logs::Meter;
use crate::resolve::OpenFile;
use crate::send::Source;
use crate::transfers::TransferPlace;
use crate::worker::Worker;

/// A part of a file, on its way to a client.
pub(crate) struct FileBody {
    pub(crate) file: OpenFile,
    pub(crate) content: Content,
    /// Of the whole body.
    pub(crate) bytes: u64,
    /// A part was asked for, and not just everything.
    pub(crate) is_partial: bool,
    /// The first window was there before the request.
    pub(crate) was_there: bool,
    pub(crate) meter: Option<Rc<Meter>>,
    /// A large file's transfers are counted by token, and end where they are barred.
    pub(super) _place: Option<(TokenPlace, TransferPlace)>,
}

impl<'c> Source<'c> {
    /// Of a body that is about to be sent. Its first window, or its part's, was there before or not.
    pub(crate) fn of(worker: &'c Worker, body: &FileBody, first_was_there: bool) -> Self {
        Self {
            cache: &worker.cache,
            storage_timeout: worker.limits.storage_timeout,
            requester: body.file.terms.requester,
            first_was_there,
        }
    }
}

/// Puts content of a file that is in memory behind a head.
pub(super) fn append(content: &Content, file: &[u8], text: &mut Vec<u8>) {
    let place = |offset: u64| usize::try_from(offset).expect("a small file fits memory");
    match content {
        Content::Range(range) => text.extend_from_slice(&file[place(range.start)..place(range.end)]),
        Content::Parts(multipart) => {
            for part in &multipart.parts {
                text.extend_from_slice(part.head.as_bytes());
                text.extend_from_slice(&file[place(part.range.start)..place(part.range.end)]);
            }
            text.extend_from_slice(multipart.closing.as_bytes());
        }
    }
}
