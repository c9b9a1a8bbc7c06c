//! What an edge answers, judged as it comes: status, length, range, ETag, and every byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::known::KnownFiles;
use crate::fault::Fault;
use crate::http::{Flow, Head, Sink, Url};
use crate::plan::Task;
use crate::scenario::{Checked, Kind};

/// Of what a server says with an error.
const SAID_BYTES_MAX: usize = 300;

/// A download: what was asked for, and how far it has come, through all of its answers.
pub(super) struct Progress<'w> {
    pub(super) task: &'w Task,
    pub(super) checked: Checked,
    known: &'w KnownFiles,
    received: &'w AtomicU64,
    /// Of this file, once an answer has said it, or it follows from the scenario.
    size: Option<u64>,
    etag: Option<Arc<str>>,
    /// The next byte, and the one after the last; the file's end where none is known.
    at: u64,
    end: Option<u64>,
    /// Where the client breaks off: once.
    stop: Option<u64>,
    /// Where nothing is compared byte by byte: of a file that is to come whole, in one part or several.
    hash: Option<Sha256>,
    pub(super) first_byte: Option<Instant>,
}

impl<'w> Progress<'w> {
    pub(super) fn new(
        task: &'w Task,
        checked: Checked,
        known: &'w KnownFiles,
        received: &'w AtomicU64,
    ) -> Self {
        let before = known.of(task.file);
        let size = match &checked {
            Checked::Generated(content) => Some(content.size()),
            _ => before.as_ref().map(|known| known.size),
        };
        // A part of a file of unknown size is the whole of it: its size is known afterwards.
        let range = size.map(|size| task.range(size));
        let (at, end) = (range.as_ref().map_or(0, |range| range.start), range.map(|range| range.end));
        let stop = size.and_then(|size| task.breaks_off(size));
        let last = if task.wanted.kind == Kind::Abort { stop } else { end };
        let hashes = !matches!(checked, Checked::Generated(_)) && at == 0 && last == size;
        Self {
            task,
            checked,
            known,
            received,
            size,
            etag: before.map(|known| known.etag),
            at,
            end,
            stop,
            hash: hashes.then(Sha256::new),
            first_byte: None,
        }
    }

    /// Whether a part of the file is asked for, and which: first and last byte.
    fn part(&self) -> Option<(u64, u64)> {
        let (size, end) = (self.size?, self.end?);
        (self.at < end && (self.at > 0 || end < size || self.is_range())).then(|| (self.at, end - 1))
    }

    fn is_range(&self) -> bool {
        self.task.wanted.kind == Kind::Range
    }

    /// Request fields for what is missing.
    pub(super) fn fields(&self) -> String {
        let Some((first, last)) = self.part() else { return String::new() };
        match self.etag.as_deref().filter(|etag| is_strong(etag)) {
            Some(etag) => format!("Range: bytes={first}-{last}\r\nIf-Range: {etag}\r\n"),
            None => format!("Range: bytes={first}-{last}\r\n"),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.at >= end)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.first_byte.is_some()
    }

    /// The client breaks off where it was to; it does so once.
    pub(super) fn takes_stop(&mut self) -> bool {
        let is_there = self.stop.is_some_and(|stop| self.at >= stop);
        if is_there {
            self.stop = None;
        }
        is_there
    }

    /// For the answer of who is asked at `url`.
    pub(super) fn answer<'p>(&'p mut self, url: &'p Url) -> EdgeAnswer<'p, 'w> {
        EdgeAnswer { progress: self, url, saying: Saying::File }
    }

    fn begin(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        let etag = head.etag.ok_or(Fault::NoEtag)?;
        if let Some(before) = self.etag.as_deref().filter(|before| *before != etag) {
            return Err(Fault::Etag { before: before.to_owned(), after: etag.to_owned() });
        }
        let length = head.length.ok_or(Fault::NotHttp("no Content-Length"))?;
        let part = self.part();
        let expected = if part.is_some() { 206 } else { 200 };
        if head.status != expected {
            return Err(Fault::OtherStatus { expected, found: head.status });
        }
        let wanted = match (part, self.size) {
            (Some((first, last)), Some(size)) => {
                let expected = format!("bytes {first}-{last}/{size}");
                let found = head.range.unwrap_or_default();
                if found != expected {
                    return Err(Fault::Range { expected, found: found.to_owned() });
                }
                last - first + 1
            }
            (_, size) => size.unwrap_or(length),
        };
        if length != wanted {
            return Err(Fault::Length { expected: wanted, found: length });
        }
        if self.etag.is_none() {
            self.etag = Some(etag.into());
            let size = *self.size.get_or_insert(length);
            self.end.get_or_insert(size);
            self.stop = if self.has_begun() { None } else { self.task.breaks_off(size) };
            self.known.learn(self.task.file, size, etag)?;
        }
        self.first_byte.get_or_insert_with(Instant::now);
        // Of an empty file, no byte will come.
        if self.is_complete() { self.check_hash() } else { Ok(()) }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Flow, Fault> {
        // What came with the last byte before a break is lost: small files, too, are broken off.
        let wanted = self.stop.and_then(|stop| usize::try_from(stop - self.at).ok()).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(wanted)];
        self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match (&self.checked, &mut self.hash) {
            (Checked::Generated(content), _) => content.check(self.at, bytes)?,
            (_, Some(hash)) => hash.update(bytes),
            (_, None) => {}
        }
        self.at += bytes.len() as u64;
        if self.is_complete() {
            self.check_hash()?;
        }
        let breaks_off = self.stop.is_some_and(|stop| self.at >= stop);
        Ok(if breaks_off { Flow::BreakOff } else { Flow::GoOn })
    }

    /// Of a whole file: what came in parts was hashed in order.
    fn check_hash(&mut self) -> Result<(), Fault> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        let found: [u8; 32] = hash.finalize().into();
        let expected = match &self.checked {
            Checked::Generated(_) => return Ok(()),
            Checked::Sha256(expected) => *expected,
            Checked::Constant => self.known.hash(self.task.file, found),
        };
        if found == expected {
            return Ok(());
        }
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Err(Fault::Sha256 { expected: hex(expected), found: hex(found) })
    }
}

/// One answer on the way to a file.
pub(super) struct EdgeAnswer<'p, 'w> {
    progress: &'p mut Progress<'w>,
    url: &'p Url,
    saying: Saying,
}

enum Saying {
    File,
    Elsewhere(Url),
    Error { status: u16, said: Vec<u8> },
}

impl EdgeAnswer<'_, '_> {
    /// Where the client is sent, if it is.
    ///
    /// # Errors
    /// The answer was an error.
    pub(super) fn outcome(self) -> Result<Option<Url>, Fault> {
        match self.saying {
            Saying::File => Ok(None),
            Saying::Elsewhere(url) => Ok(Some(url)),
            Saying::Error { status, said } => Err(Fault::Status { status, said: shown(&said) }),
        }
    }
}

impl Sink for EdgeAnswer<'_, '_> {
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        match head.status {
            200 | 206 => return self.progress.begin(head),
            301 | 302 | 303 | 307 | 308 => {
                let location = head.location.unwrap_or_default();
                let url = self.url.join(location).ok_or_else(|| Fault::Location(without_query(location)))?;
                self.saying = Saying::Elsewhere(url);
            }
            status => self.saying = Saying::Error { status, said: Vec::new() },
        }
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<Flow, Fault> {
        match &mut self.saying {
            Saying::File => return self.progress.take(bytes),
            Saying::Elsewhere(_) => {}
            Saying::Error { said, .. } => {
                let free = SAID_BYTES_MAX.saturating_sub(said.len());
                said.extend_from_slice(&bytes[..bytes.len().min(free)]);
            }
        }
        Ok(Flow::GoOn)
    }
}

/// What a server said, for people: on one line, and never a token.
pub(super) fn shown(said: &[u8]) -> String {
    let said = &said[..said.len().min(SAID_BYTES_MAX)];
    let text: serde_json::Result<serde_json::Value> = serde_json::from_slice(said);
    if let Some(detail) = text.as_ref().ok().and_then(|problem| problem["detail"].as_str()) {
        return detail.to_owned();
    }
    let text = String::from_utf8_lossy(said);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `If-Range` takes no other (RFC 9110 §13.1.5).
fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

/// A URL that may hold a token.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().chars().take(SAID_BYTES_MAX).collect()
}
