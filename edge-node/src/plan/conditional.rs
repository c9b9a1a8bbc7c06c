//! Conditional requests (RFC 9110 §13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Representation;
use crate::request::Conditions;

/// What the preconditions come to, for GET and HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    Holds,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Evaluates steps 1 to 4 of §13.2.2. A date that is none is as if its field were not there.
pub fn evaluate(conditions: &Conditions<'_>, file: &Representation<'_>) -> Precondition {
    let date = |field: Option<&[u8]>| field.and_then(parse_date);
    let failed = match &conditions.if_match {
        Some(list) => !lists(list, file.etag, Comparison::Strong),
        None => date(conditions.if_unmodified_since).is_some_and(|since| file.modified_secs > since),
    };
    if failed {
        return Precondition::Failed;
    }
    let unchanged = match &conditions.if_none_match {
        Some(list) => lists(list, file.etag, Comparison::Weak),
        None => date(conditions.if_modified_since).is_some_and(|since| file.modified_secs <= since),
    };
    if unchanged { Precondition::NotModified } else { Precondition::Holds }
}

/// Step 5, §13.1.5: an entity tag compared strongly, or the exact date of a file that has not changed within the
/// second that `Last-Modified` cannot tell apart.
pub fn if_range_holds(validator: &[u8], file: &Representation<'_>, now: u64) -> bool {
    let validator = validator.trim_ascii();
    if validator.starts_with(b"\"") || validator.starts_with(b"W/") {
        return validator == file.etag.as_bytes();
    }
    parse_date(validator) == Some(file.modified_secs) && file.modified_secs < now
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags, or `*`, names `etag` (which is strong). Tags may hold commas (§8.8.3), so the list
/// is walked quote by quote; what breaks the syntax ends it.
fn lists(list: &[u8], etag: &str, comparison: Comparison) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = list;
    loop {
        while let [b' ' | b'\t' | b',', tail @ ..] = rest {
            rest = tail;
        }
        let (weak, tagged) = match rest.strip_prefix(b"W/") {
            Some(tagged) => (true, tagged),
            None => (false, rest),
        };
        let Some(opaque) = tagged.strip_prefix(b"\"") else {
            return false;
        };
        let Some(length) = memchr::memchr(b'"', opaque) else {
            return false;
        };
        let tag = &tagged[..length + 2];
        if tag == etag.as_bytes() && (comparison == Comparison::Weak || !weak) {
            return true;
        }
        rest = &tagged[length + 2..];
    }
}

/// Any of the three forms of an HTTP date (§5.6.7), in seconds since 1970.
fn parse_date(field: &[u8]) -> Option<u64> {
    let date: SystemTime = httpdate::parse_http_date(std::str::from_utf8(field).ok()?.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::plan::{Plan, plan};
    use crate::request::Method;

    const MODIFIED: u64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const FILE: Representation<'static> =
        Representation { size: 100, etag: "\"a,b\"", modified_secs: MODIFIED, part_head_bytes: 80 };

    fn list(text: &str) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn preconditions_are_evaluated_in_their_order() {
        use Precondition::*;
        // If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, expected
        let table = [
            ("", "", "", "", Holds),
            ("\"a,b\"", "", "", "", Holds),
            ("*", "", "", "", Holds),
            ("\"x\", \"a,b\"", "", "", "", Holds),
            ("\"x\"", "", "", "", Failed),
            ("W/\"a,b\"", "", "", "", Failed),
            ("\"a", "", "", "", Failed),
            ("", DATE, "", "", Holds),
            ("", LATER, "", "", Holds),
            ("", EARLIER, "", "", Failed),
            ("", "yesterday", "", "", Holds),
            ("\"a,b\"", EARLIER, "", "", Holds),
            ("", "", "\"a,b\"", "", NotModified),
            ("", "", "W/\"a,b\"", "", NotModified),
            ("", "", "*", "", NotModified),
            ("", "", "\"a\", \"b\"", "", Holds),
            ("", "", "W/\"x\",\"a,b\"", "", NotModified),
            ("", "", "", DATE, NotModified),
            ("", "", "", LATER, NotModified),
            ("", "", "", EARLIER, Holds),
            ("", "", "", "soon", Holds),
            ("", "", "\"x\"", DATE, Holds),
            ("\"x\"", "", "\"a,b\"", "", Failed),
            ("\"a,b\"", "", "\"a,b\"", "", NotModified),
            // The other two forms of a date.
            ("", "", "", "Sunday, 06-Nov-94 08:49:37 GMT", NotModified),
            ("", "", "", "Sun Nov  6 08:49:37 1994", NotModified),
        ];
        let given = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
        for (if_match, unmodified, none_match, modified, expected) in table {
            let conditions = Conditions {
                if_match: list(if_match).filter(|list| !list.is_empty()),
                if_unmodified_since: given(unmodified),
                if_none_match: list(none_match).filter(|list| !list.is_empty()),
                if_modified_since: given(modified),
                ..Conditions::default()
            };
            assert_eq!(evaluate(&conditions, &FILE), expected, "{conditions:?}");
        }
    }

    #[test]
    fn ranges_hold_only_for_the_version_they_name() {
        let now = MODIFIED + 10;
        let table = [
            ("\"a,b\"", now, true),
            ("W/\"a,b\"", now, false),
            ("\"x\"", now, false),
            (DATE, now, true),
            (DATE, MODIFIED + 1, true),
            (DATE, MODIFIED, false),
            (EARLIER, now, false),
            (LATER, now, false),
            ("nonsense", now, false),
            ("", now, false),
        ];
        for (validator, now, expected) in table {
            let conditions = Conditions {
                if_range: Some(validator.as_bytes()),
                range: Some(b"bytes=0-9"),
                ..Conditions::default()
            };
            let planned = plan(Method::Get, &conditions, &FILE, now, 1);
            assert_eq!(
                planned,
                if expected { Plan::Partial(0..10) } else { Plan::Full },
                "{validator} at {now}"
            );
            assert_eq!(plan(Method::Head, &conditions, &FILE, now, 1), Plan::Full);
        }
    }
}
