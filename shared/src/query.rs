//! Query strings as Sluice reads them: every parameter once, decoded once, strictly.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Why a query string is refused. Names are the caller's own and go back to the caller only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("query parameter '{0}' is given more than once")]
    Repeated(String),
    #[error("the query string is not percent-encoded UTF-8")]
    Encoding,
    #[error("the query string has more than {PARAMETERS_MAX} parameters")]
    TooMany,
}

/// More parameters than any call of Sluice takes; it bounds the search for repetitions.
const PARAMETERS_MAX: usize = 64;

/// The parameters of one query string, in their order.
#[derive(Debug, Default)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Splits at `&` and the first `=`; `+` is a space (WHATWG URL, application/x-www-form-urlencoded). A part
    /// without `=` is a name with an empty value; empty parts are skipped.
    ///
    /// # Errors
    /// A name that occurs twice, a broken escape, bytes that are not UTF-8, too many parameters.
    pub fn parse(text: &'a str) -> Result<Self, QueryError> {
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode_form(name)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(QueryError::Repeated(name.chars().take(64).collect()));
            }
            if parameters.len() == PARAMETERS_MAX {
                return Err(QueryError::TooMany);
            }
            parameters.push((name, decode_form(value)?));
        }
        Ok(Self(parameters))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

fn decode_form(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if !text.contains('+') {
        return decode_percent(text).ok_or(QueryError::Encoding);
    }
    let spaced = text.replace('+', " ");
    let decoded = decode_percent(&spaced).ok_or(QueryError::Encoding)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

/// Decodes percent escapes (RFC 3986 §2.1): `None` where an escape is broken or the result is not UTF-8.
pub(crate) fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    // As nearly all are.
    if !bytes.contains(&b'%') {
        return Some(Cow::Borrowed(text));
    }
    let escapes_whole =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
            bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
    if !escapes_whole {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_found() {
        let query = Query::parse("file_id=a%2Fb+c&user_id=%C3%A9%2B&flag&&empty=").unwrap();
        assert_eq!(query.value("file_id"), Some("a/b c"));
        assert_eq!(query.value("user_id"), Some("é+"));
        assert_eq!(query.value("flag"), Some(""));
        assert_eq!(query.value("empty"), Some(""));
        assert_eq!(query.value("other"), None);
    }

    #[test]
    fn repetition_and_bad_encoding_are_refused() {
        assert_eq!(Query::parse("a=1&a=2").unwrap_err(), QueryError::Repeated("a".into()));
        assert_eq!(Query::parse("a=1&%61=2").unwrap_err(), QueryError::Repeated("a".into()));
        assert_eq!(Query::parse("a=%f").unwrap_err(), QueryError::Encoding);
        assert_eq!(Query::parse("a=%ff").unwrap_err(), QueryError::Encoding);
        let many: Vec<String> = (0..=PARAMETERS_MAX).map(|n| format!("p{n}=")).collect();
        assert_eq!(Query::parse(&many.join("&")).unwrap_err(), QueryError::TooMany);
    }
}
