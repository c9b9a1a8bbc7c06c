//! Plan → the bytes of a response head. What depends only on the file is made once, with the entry.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

mod text;

use crate::config::EtagScheme;
use crate::cors::CorsFields;
use crate::media_type::{self, InlineTypes};
use crate::multipart::{Boundary, Multipart, part_head_bytes};
use crate::plan::disposition::{self, Disposition};
use crate::plan::{Plan, Representation};
use crate::resolve::Digest;
use crate::uring::Version;
pub(crate) use text::{allowed_methods, write_options, write_redirect, write_text_head};

/// What decides the fields of all files.
#[derive(Debug, Clone)]
pub(crate) struct FieldRules {
    pub(crate) etag: EtagScheme,
    pub(crate) inline: InlineTypes,
    /// Of every answer, whoever's page asks.
    pub(crate) cors: &'static str,
}

/// The header fields of one version of a file, ready made.
pub(crate) struct FileFields {
    size: u64,
    etag: String,
    modified_secs: u64,
    media_type: &'static str,
    part_head_bytes: u64,
    /// Of every answer about the file: validators, caching, whose pages may read it.
    validators: String,
    /// Where `Last-Modified` is in them.
    modified_field: Range<usize>,
    inline: InlineTypes,
    /// `Content-Disposition` with the file's own name.
    own_name: String,
    /// `Repr-Digest` (RFC 9530 §3), where the file's hash is known: of the whole file, whatever part is sent.
    digest: String,
    /// The head of the most usual answer, 200 with everything, from its first line up to what changes.
    full: String,
}

/// The bytes of a file that are an answer's body.
#[derive(Debug)]
pub(crate) enum Content {
    Range(Range<u64>),
    Parts(Box<Multipart>),
}

impl Content {
    /// Of the whole body, what stands between parts included.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Range(range) => range.end - range.start,
            Self::Parts(multipart) => multipart.bytes,
        }
    }
}

/// What every answer says, whatever it is to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    pub(crate) date: &'a str,
    pub(crate) persistence: Persistence,
    pub(crate) cors: CorsFields<'a>,
}

/// What follows from the token and the request about how a file is described.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presented<'a> {
    /// The token's name to save as.
    pub(crate) save_as: Option<&'a str>,
    /// The client has a part of this version and its description already: it said so by `If-Range`.
    pub(crate) is_continued: bool,
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
    /// Of an answer after which the connection is kept or not.
    pub(crate) fn of(is_kept: bool, is_http_10: bool) -> Self {
        match (is_kept, is_http_10) {
            (false, _) => Self::Close,
            (true, true) => Self::KeptAloud,
            (true, false) => Self::Kept,
        }
    }

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
    pub(crate) fn new(name: &str, version: &Version, digest: Option<&Digest>, rules: &FieldRules) -> Self {
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
        // §8.8.2.1: never later than now.
        let modified_secs = seconds(version.modified_time()).min(seconds(SystemTime::now()));
        let etag = etag_of(version, rules.etag);
        let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(modified_secs));
        let mut validators = format!("ETag: {etag}\r\n");
        let etag_end = validators.len();
        let _ = write!(validators, "Last-Modified: {modified}\r\n");
        let modified_field = etag_end..validators.len();
        validators.push_str("Cache-Control: private\r\nReferrer-Policy: no-referrer\r\n");
        validators.push_str(rules.cors);
        let media_type = media_type::of_name(name);
        let mut fields = Self {
            size: version.size,
            etag,
            modified_secs,
            media_type,
            part_head_bytes: part_head_bytes(media_type, version.size),
            validators,
            modified_field,
            own_name: disposition::field(disposition_of(media_type, &rules.inline), name),
            inline: rules.inline.clone(),
            digest: digest
                .map(|digest| format!("Repr-Digest: sha-256=:{}:\r\n", STANDARD.encode(digest)))
                .unwrap_or_default(),
            full: String::new(),
        };
        let mut full = Vec::with_capacity(512);
        let content = Content::Range(0..version.size);
        fields.write_fields(&Plan::Full, &content, Presented::default(), &mut full);
        fields.full = String::from_utf8(full).expect("made of texts");
        fields
    }

    pub(crate) fn representation(&self, save_as: Option<&str>) -> Representation<'_> {
        let (own, given) = (self.media_type.len() as u64, self.media_type_as(save_as).len() as u64);
        Representation {
            size: self.size,
            etag: &self.etag,
            modified_secs: self.modified_secs,
            part_head_bytes: self.part_head_bytes - own + given,
        }
    }

    /// The media type of the file under a name, whose extension decides if it has one that is known.
    fn media_type_as(&self, save_as: Option<&str>) -> &'static str {
        save_as.and_then(media_type::known).unwrap_or(self.media_type)
    }

    /// What the body of a planned answer is, for GET. `boundary` is drawn only where there are parts.
    pub(crate) fn content(
        &self,
        plan: &Plan,
        save_as: Option<&str>,
        boundary: impl FnOnce() -> Boundary,
    ) -> Content {
        match plan {
            Plan::Full => Content::Range(0..self.size),
            Plan::Partial(range) => Content::Range(range.clone()),
            Plan::Parts(ranges) => {
                let media_type = self.media_type_as(save_as);
                let multipart = Multipart::new(boundary(), ranges.clone(), media_type, self.size);
                Content::Parts(Box::new(multipart))
            }
            Plan::NotModified | Plan::PreconditionFailed | Plan::RangeNotSatisfiable => Content::Range(0..0),
        }
    }

    /// Writes the head of a planned answer with its content.
    pub(crate) fn write_head(
        &self,
        plan: &Plan,
        content: &Content,
        presented: Presented<'_>,
        envelope: &Envelope<'_>,
        head: &mut Vec<u8>,
    ) {
        if *plan == Plan::Full && presented.save_as.is_none() {
            head.extend_from_slice(self.full.as_bytes());
        } else {
            self.write_fields(plan, content, presented, head);
        }
        if let Some(origin) = envelope.cors.allow_origin {
            write_to(head, format_args!("Access-Control-Allow-Origin: {origin}\r\n"));
        }
        for part in [envelope.persistence.field(), "Date: ", envelope.date, "\r\n\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }

    /// Status line and fields, as far as they follow from file, plan and token.
    fn write_fields(&self, plan: &Plan, content: &Content, presented: Presented<'_>, head: &mut Vec<u8>) {
        let status = match plan {
            Plan::Full => "200 OK",
            Plan::Partial(_) | Plan::Parts(_) => "206 Partial Content",
            Plan::NotModified => "304 Not Modified",
            Plan::PreconditionFailed => "412 Precondition Failed",
            Plan::RangeNotSatisfiable => "416 Range Not Satisfiable",
        };
        // §15.3.7: what the client has from before is not sent again.
        let is_continuation = presented.is_continued && matches!(plan, Plan::Partial(_) | Plan::Parts(_));
        let Range { start, end } = self.modified_field.clone();
        let (etag, modified, others) =
            (&self.validators[..start], &self.validators[start..end], &self.validators[end..]);
        let modified = if is_continuation { "" } else { modified };
        for part in ["HTTP/1.1 ", status, "\r\n", etag, modified, others] {
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
            // §15.3.7.2: of parts each has its own.
            Plan::Full | Plan::Parts(_) | Plan::PreconditionFailed => {}
        }
        match plan {
            Plan::Full | Plan::Partial(_) | Plan::Parts(_) if !is_continuation => {
                self.write_content_fields(content, presented.save_as, head);
            }
            // What tells the parts apart is not the file's, but this answer's.
            Plan::Parts(_) => write_content_type(content, self.media_type, head),
            _ => {}
        }
        write_to(head, format_args!("Content-Length: {}\r\n", content.bytes()));
    }

    /// What describes content.
    fn write_content_fields(&self, content: &Content, save_as: Option<&str>, head: &mut Vec<u8>) {
        let media_type = self.media_type_as(save_as);
        write_content_type(content, media_type, head);
        head.extend_from_slice(self.digest.as_bytes());
        head.extend_from_slice(
            b"Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\nContent-Disposition: ",
        );
        match save_as {
            None => head.extend_from_slice(self.own_name.as_bytes()),
            Some(name) => {
                let disposition = disposition_of(media_type, &self.inline);
                head.extend_from_slice(disposition::field(disposition, name).as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n");
    }
}

fn write_content_type(content: &Content, media_type: &str, head: &mut Vec<u8>) {
    match content {
        Content::Range(_) => write_to(head, format_args!("Content-Type: {media_type}\r\n")),
        Content::Parts(multipart) => {
            write_to(head, format_args!("Content-Type: {}\r\n", multipart.content_type()));
        }
    }
}

fn disposition_of(media_type: &str, inline: &InlineTypes) -> Disposition {
    if inline.contains(media_type) { Disposition::Inline } else { Disposition::Attachment }
}

/// A strong entity tag (§8.8.3), quotes included.
fn etag_of(version: &Version, scheme: EtagScheme) -> String {
    let (secs, nanos) = version.modified;
    match scheme {
        EtagScheme::InodeMtime => format!("\"{:x}-{secs:x}.{nanos:x}-{:x}\"", version.inode, version.size),
        EtagScheme::SizeMtime => format!("\"{secs:x}.{nanos:x}-{:x}\"", version.size),
    }
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
