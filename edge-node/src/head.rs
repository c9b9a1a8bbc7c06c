//! Plan → the bytes of a response head. What depends only on the file is made once, with the entry.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use crate::config::EtagScheme;
use crate::media_type;
use crate::plan::{Plan, Representation, disposition};
use crate::uring::Version;

/// The header fields of one version of a file, ready made.
pub(crate) struct FileFields {
    size: u64,
    etag: String,
    modified_secs: u64,
    /// Of every answer about the file: validators, caching, and what keeps browsers from guessing.
    validators: String,
    /// Of answers with content.
    content: String,
    disposition: String,
}

/// What a response says of its connection (RFC 9112 §9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1: kept unless something is said.
    Kept,
    /// HTTP/1.0, asked to be kept.
    KeptAloud,
    Close,
}

impl Persistence {
    fn field(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::KeptAloud => "Connection: keep-alive\r\n",
            Self::Close => "Connection: close\r\n",
        }
    }
}

impl FileFields {
    /// `name` is what the file is called in the store.
    pub(crate) fn new(name: &str, version: &Version, etag: EtagScheme) -> Self {
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
        // §8.8.2.1: never later than now.
        let modified_secs = seconds(version.modified_time()).min(seconds(SystemTime::now()));
        let (secs, nanos) = version.modified;
        let etag = match etag {
            EtagScheme::InodeMtime => {
                format!("\"{:x}-{secs:x}.{nanos:x}-{:x}\"", version.inode, version.size)
            }
            EtagScheme::SizeMtime => format!("\"{secs:x}.{nanos:x}-{:x}\"", version.size),
        };
        let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(modified_secs));
        Self {
            size: version.size,
            modified_secs,
            validators: format!(
                "ETag: {etag}\r\nLast-Modified: {modified}\r\nCache-Control: private\r\n\
                 Referrer-Policy: no-referrer\r\n"
            ),
            content: format!(
                "Content-Type: {}\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n",
                media_type::of_name(name)
            ),
            disposition: disposition::attachment(name),
            etag,
        }
    }

    pub(crate) fn representation(&self) -> Representation<'_> {
        Representation { size: self.size, etag: &self.etag, modified_secs: self.modified_secs }
    }

    /// Writes the head of a planned answer; gives the bytes of the file that its body is, for GET.
    pub(crate) fn write_head(
        &self,
        plan: &Plan,
        save_as: Option<&str>,
        date: &str,
        persistence: Persistence,
        head: &mut Vec<u8>,
    ) -> Range<u64> {
        let status = match plan {
            Plan::Full => "200 OK",
            Plan::Partial(_) => "206 Partial Content",
            Plan::NotModified => "304 Not Modified",
            Plan::PreconditionFailed => "412 Precondition Failed",
            Plan::RangeNotSatisfiable => "416 Range Not Satisfiable",
        };
        for part in ["HTTP/1.1 ", status, "\r\nDate: ", date, "\r\n", persistence.field(), &self.validators] {
            head.extend_from_slice(part.as_bytes());
        }
        let body = match plan {
            Plan::Full => 0..self.size,
            Plan::Partial(range) => {
                write_to(
                    head,
                    format_args!("Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, self.size),
                );
                range.clone()
            }
            // §15.4.5: no content, and no fields that describe it.
            Plan::NotModified => {
                head.extend_from_slice(b"\r\n");
                return 0..0;
            }
            Plan::PreconditionFailed => 0..0,
            Plan::RangeNotSatisfiable => {
                write_to(head, format_args!("Content-Range: bytes */{}\r\n", self.size));
                0..0
            }
        };
        if !body.is_empty() || *plan == Plan::Full {
            head.extend_from_slice(self.content.as_bytes());
            head.extend_from_slice(b"Content-Disposition: ");
            match save_as {
                None => head.extend_from_slice(self.disposition.as_bytes()),
                Some(name) => head.extend_from_slice(disposition::attachment(name).as_bytes()),
            }
            head.extend_from_slice(b"\r\n");
        }
        write_to(head, format_args!("Content-Length: {}\r\n\r\n", body.end - body.start));
        body
    }
}

/// Writes the head of an answer that is a text, errors mostly.
pub(crate) fn write_text_head(
    status: StatusCode,
    fields: &str,
    content_length: usize,
    date: &str,
    persistence: Persistence,
    head: &mut Vec<u8>,
) {
    let reason = status.canonical_reason().unwrap_or_default();
    write_to(
        head,
        format_args!(
            "HTTP/1.1 {} {reason}\r\nDate: {date}\r\n{}{fields}Content-Length: {content_length}\r\n\r\n",
            status.as_u16(),
            persistence.field()
        ),
    );
}

fn write_to(head: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    head.write_fmt(text).expect("a vector takes any text");
}

/// `Date` (§6.6.1), formatted once a second.
pub(crate) struct DateCache {
    secs: u64,
    text: String,
}

impl DateCache {
    pub(crate) fn new() -> Self {
        Self { secs: u64::MAX, text: String::with_capacity(29) }
    }

    /// The date of `secs` seconds since 1970.
    pub(crate) fn at(&mut self, secs: u64) -> &str {
        if self.secs != secs {
            self.secs = secs;
            self.text.clear();
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(secs));
            write!(self.text, "{date}").expect("a string takes any text");
        }
        &self.text
    }
}
