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
    /// The head of the most usual answer, 200 with everything, from its first line up to what changes.
    full: String,
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
        let validators = format!(
            "ETag: {etag}\r\nLast-Modified: {modified}\r\nCache-Control: private\r\n\
             Referrer-Policy: no-referrer\r\n"
        );
        let content = format!(
            "Content-Type: {}\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n",
            media_type::of_name(name)
        );
        let mut fields = Self {
            size: version.size,
            etag,
            modified_secs,
            validators,
            content,
            disposition: disposition::attachment(name),
            full: String::new(),
        };
        let mut full = Vec::with_capacity(512);
        fields.write_fields(&Plan::Full, None, &mut full);
        fields.full = String::from_utf8(full).expect("made of texts");
        fields
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
        if *plan == Plan::Full && save_as.is_none() {
            head.extend_from_slice(self.full.as_bytes());
        } else {
            self.write_fields(plan, save_as, head);
        }
        for part in [persistence.field(), "Date: ", date, "\r\n\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        self.body_of(plan)
    }

    /// The bytes of the file that the body of a planned answer is.
    fn body_of(&self, plan: &Plan) -> Range<u64> {
        match plan {
            Plan::Full => 0..self.size,
            Plan::Partial(range) => range.clone(),
            Plan::NotModified | Plan::PreconditionFailed | Plan::RangeNotSatisfiable => 0..0,
        }
    }

    /// Status line and fields, as far as they follow from file, plan and token.
    fn write_fields(&self, plan: &Plan, save_as: Option<&str>, head: &mut Vec<u8>) {
        let status = match plan {
            Plan::Full => "200 OK",
            Plan::Partial(_) => "206 Partial Content",
            Plan::NotModified => "304 Not Modified",
            Plan::PreconditionFailed => "412 Precondition Failed",
            Plan::RangeNotSatisfiable => "416 Range Not Satisfiable",
        };
        for part in ["HTTP/1.1 ", status, "\r\n", &self.validators] {
            head.extend_from_slice(part.as_bytes());
        }
        let size = self.size;
        match plan {
            // §15.4.5: no content, and no fields that describe it.
            Plan::NotModified => return,
            Plan::Partial(range) => {
                let (first, last) = (range.start, range.end - 1);
                write_to(head, format_args!("Content-Range: bytes {first}-{last}/{size}\r\n"));
            }
            Plan::RangeNotSatisfiable => write_to(head, format_args!("Content-Range: bytes */{size}\r\n")),
            Plan::Full | Plan::PreconditionFailed => {}
        }
        if matches!(plan, Plan::Full | Plan::Partial(_)) {
            head.extend_from_slice(self.content.as_bytes());
            head.extend_from_slice(b"Content-Disposition: ");
            match save_as {
                None => head.extend_from_slice(self.disposition.as_bytes()),
                Some(name) => head.extend_from_slice(disposition::attachment(name).as_bytes()),
            }
            head.extend_from_slice(b"\r\n");
        }
        let body = self.body_of(plan);
        write_to(head, format_args!("Content-Length: {}\r\n", body.end - body.start));
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

/// Writes an answer that sends the client elsewhere, with a token in the URL.
pub(crate) fn write_redirect(location: &str, date: &str, persistence: Persistence, out: &mut Vec<u8>) {
    let fields =
        format!("Location: {location}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n");
    write_text_head(StatusCode::FOUND, &fields, 0, date, persistence, out);
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
