//! Request targets (RFC 9112 §3.2).

use super::host::is_host;
use super::{Method, RequestError};

/// Path and query: of origin form, of absolute form with the origin cut off, or `*` for OPTIONS.
pub(super) fn split(target: &str, method: Method) -> Result<(&str, &str), RequestError> {
    let origin = match target.as_bytes() {
        [b'/', ..] => target,
        b"*" if method == Method::Options => target,
        _ => without_origin(target).ok_or(RequestError::Target)?,
    };
    // A fragment is never sent (RFC 9110 §4.2.5), and what comes behind is nobody's.
    if memchr::memchr(b'#', origin.as_bytes()).is_some() {
        return Err(RequestError::Target);
    }
    let mark = memchr::memchr(b'?', origin.as_bytes());
    Ok(mark.map_or((origin, ""), |mark| (&origin[..mark], &origin[mark + 1..])))
}

/// What of a target in absolute form is path and query. Whoever names a user in it misleads somebody (§4.2.4).
fn without_origin(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    // §4.2.1: an http URI without a host is none.
    let is_named = authority > 0 && !rest.starts_with(':') && is_host(&rest.as_bytes()[..authority]);
    is_named.then_some(&rest[authority..])
}
