//! Heads of answers that are about no file: errors, redirections, OPTIONS.

use http::StatusCode;

use super::{Envelope, write_to};
use crate::cors;

/// Writes the head of an answer that is a text, errors mostly.
pub(crate) fn write_text_head(
    status: StatusCode,
    fields: &str,
    content_length: usize,
    envelope: &Envelope<'_>,
    head: &mut Vec<u8>,
) {
    write_status(status, fields, envelope, head);
    write_to(head, format_args!("Content-Length: {content_length}\r\n\r\n"));
}

/// Writes an answer that sends the client elsewhere, with a token in the URL.
pub(crate) fn write_redirect(location: &str, envelope: &Envelope<'_>, out: &mut Vec<u8>) {
    let fields =
        format!("Location: {location}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n");
    write_text_head(StatusCode::FOUND, &fields, 0, envelope, out);
}

/// Writes the answer to OPTIONS (§9.3.7), which is that to a browser's preflight as well.
pub(crate) fn write_options(envelope: &Envelope<'_>, out: &mut Vec<u8>) {
    let fields = format!("Allow: {}\r\n{}", allowed_methods(true), cors::PREFLIGHT);
    write_status(StatusCode::NO_CONTENT, &fields, envelope, out);
    out.extend_from_slice(b"\r\n");
}

/// What `Allow` says.
pub(crate) fn allowed_methods(with_options: bool) -> &'static str {
    if with_options { "GET, HEAD, OPTIONS" } else { "GET, HEAD" }
}

fn write_status(status: StatusCode, fields: &str, envelope: &Envelope<'_>, head: &mut Vec<u8>) {
    let reason = status.canonical_reason().unwrap_or_default();
    let Envelope { date, persistence, cors } = envelope;
    write_to(
        head,
        format_args!(
            "HTTP/1.1 {} {reason}\r\nDate: {date}\r\n{}{fields}{}",
            status.as_u16(),
            persistence.field(),
            cors.standing
        ),
    );
    if let Some(origin) = cors.allow_origin {
        write_to(head, format_args!("Access-Control-Allow-Origin: {origin}\r\n"));
    }
}
