//! Requests signed with an access key's secret in `Auth-` headers: what is signed, and whether it was.
//!
//! ```text
//! METHOD
//! Content-MD5
//! Auth-Access-Key: V
//! Auth-Nonce: V
//! Auth-Timestamp: V
//! path?parameters
//! ```
//!
//! The signature is base64 of HMAC-SHA-256 over these lines, which have `\n` between them. Clients differ in
//! three things, and each way is accepted: a space after the colons or none, for all three headers alike; where there
//! is no body, an empty line for its MD5 or no line; the MD5 of the body's own bytes or of its canonical form.
//!
//! Keys, times and nonces are judged elsewhere; a nonce counts as used only once this has said yes.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::canonical_json::canonical;
use crate::mac::{hmac_sha256, is_equal};
use crate::query::{Query, QueryError};

/// Longest part of a string to sign that a client is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 2 * 1024;

/// The parts of a request that are signed, as they were on the wire, and the hash that it may say its body has.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub method: &'a str,
    /// Still percent-encoded.
    pub path_and_query: &'a str,
    /// The header, if sent. It is not what is signed: that is the MD5 of the body that came.
    pub content_md5: Option<&'a str>,
    pub access_key: &'a str,
    pub nonce: &'a str,
    pub timestamp: &'a str,
}

/// How a client writes what it signs, where clients differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// `key: value`, not `key:value`.
    pub spaced: bool,
    /// A line for the MD5 though there is no body.
    pub empty_md5_line: bool,
}

impl Form {
    /// The one of the clients' documentation, and of our answers.
    pub const DOCUMENTED: Self = Self { spaced: true, empty_md5_line: true };

    const ALL: [Self; 4] = [
        Self::DOCUMENTED,
        Self { spaced: false, empty_md5_line: true },
        Self { spaced: true, empty_md5_line: false },
        Self { spaced: false, empty_md5_line: false },
    ];
}

/// Which form of the body the signature covers. It is the one to read: nothing else was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    AsSent,
    Canonical(String),
}

/// Why a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No client can have meant it.
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("signature does not match")]
    Mismatch(ShownString),
}

/// The string that should have been signed, made fit for an answer: escaped, and its first 2 KiB. For the client
/// alone; `Debug` hides it, so that no log has it.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownString(String);

impl ShownString {
    fn of(string_to_sign: &str) -> Self {
        let mut shown = String::new();
        for character in string_to_sign.chars() {
            let escaped: Cow<'_, str> = match character {
                '\n' => "\\n".into(),
                '\\' => "\\\\".into(),
                ' '..='~' => String::from(character).into(),
                // Controls, and letters that turn the direction of what follows or look like others.
                other => other.escape_unicode().to_string().into(),
            };
            if shown.len() + escaped.len() > SHOWN_BYTES_MAX {
                break;
            }
            shown.push_str(&escaped);
        }
        Self(shown)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShownString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownString(for the client)")
    }
}

/// Base64 of the MD5 of a body's bytes; nothing where there is no body.
pub fn content_md5(body: &[u8]) -> Option<String> {
    (!body.is_empty()).then(|| STANDARD.encode(Md5::digest(body)))
}

/// What a client signs that writes it in this form, for a body of this [`content_md5`].
///
/// Parameters are sorted by their names as on the wire, each as it came: a value that is empty keeps its `=`, and a
/// name without `=` gets none, for a client that sent it so signed it so. Empty parts (`a=1&&b=2`) name nothing and are
/// left out.
///
/// # Errors
/// A query that no handler would read: a name that occurs twice, however encoded, or a broken escape.
pub fn string_to_sign(parts: &Parts<'_>, body_md5: Option<&str>, form: Form) -> Result<String, QueryError> {
    let (path, query) = parts.path_and_query.split_once('?').unwrap_or((parts.path_and_query, ""));
    Query::parse(query)?;
    let mut parameters: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).collect();
    parameters.sort_by_key(|part| part.split_once('=').map_or(*part, |(name, _)| name));

    let mut text = format!("{}\n", parts.method);
    if body_md5.is_some() || form.empty_md5_line {
        text.push_str(body_md5.unwrap_or(""));
        text.push('\n');
    }
    let colon = if form.spaced { ": " } else { ":" };
    let headers = [
        ("Auth-Access-Key", parts.access_key),
        ("Auth-Nonce", parts.nonce),
        ("Auth-Timestamp", parts.timestamp),
    ];
    for (name, value) in headers {
        text.extend([name, colon, value, "\n"]);
    }
    text.push_str(path);
    if !parameters.is_empty() {
        text.push('?');
        text.push_str(&parameters.join("&"));
    }
    Ok(text)
}

/// Verifies a signature over the body's own bytes or, if that fails and the body is JSON, over its canonical form. The
/// caller bounds the body. A `Content-MD5` that was sent has to be that of the bytes that came, or of the canonical
/// form where that is what was signed.
///
/// # Errors
/// [`SignatureError::Mismatch`] with the string to sign of the documented form, over the canonical body where it has
/// one; also for an empty secret, and for header values that begin or end in space or hold control characters, which
/// would make one signature fit two nonces.
pub fn verify(
    parts: &Parts<'_>,
    body: &[u8],
    secret: &[u8],
    signature: &str,
) -> Result<Body, SignatureError> {
    let can_verify =
        !secret.is_empty() && [parts.access_key, parts.nonce, parts.timestamp].into_iter().all(is_plain);
    let sent_md5 = content_md5(body);
    let is_signed = |body_md5: Option<&str>| -> Result<bool, QueryError> {
        for form in Form::ALL {
            // With a body its MD5 is always there.
            if body_md5.is_some() && !form.empty_md5_line {
                continue;
            }
            let text = string_to_sign(parts, body_md5, form)?;
            let expected = STANDARD.encode(hmac_sha256(secret, &[text.as_bytes()]));
            if is_equal(expected.as_bytes(), signature.as_bytes()) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if can_verify && is_claimed(parts.content_md5, &[sent_md5.as_deref()]) && is_signed(sent_md5.as_deref())?
    {
        return Ok(Body::AsSent);
    }
    let canonical_body = canonical(body).ok();
    let canonical_md5 = canonical_body.as_deref().and_then(|text| content_md5(text.as_bytes()));
    if let (true, Some(text), Some(md5)) = (can_verify, canonical_body, canonical_md5.as_deref())
        && is_claimed(parts.content_md5, &[sent_md5.as_deref(), Some(md5)])
        && is_signed(Some(md5))?
    {
        return Ok(Body::Canonical(text));
    }
    let expected = string_to_sign(parts, canonical_md5.as_deref().or(sent_md5.as_deref()), Form::DOCUMENTED)?;
    Err(SignatureError::Mismatch(ShownString::of(&expected)))
}

/// Whether a `Content-MD5` header, if sent, is one of these. Of no body, it may be empty or the MD5 of nothing.
fn is_claimed(header: Option<&str>, allowed: &[Option<&str>]) -> bool {
    const MD5_OF_NOTHING: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
    let Some(header) = header else { return true };
    allowed.iter().any(|allowed| match allowed {
        Some(md5) => header == *md5,
        None => header.is_empty() || header == MD5_OF_NOTHING,
    })
}

/// HTTP/1.1 takes the space around a value away; HTTP/2 leaves it (RFC 9113 §8.2.1 forbids it).
fn is_plain(value: &str) -> bool {
    value == value.trim() && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
