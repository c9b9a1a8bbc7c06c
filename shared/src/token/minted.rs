//! Claims in the form that we mint them in, read without a JSON parser: one object on one line, no spaces, no escapes,
//! whole numbers, known names. Whatever is not exactly that is left to serde, which decides; a property test holds the
//! two against each other. It takes 0.1 of the microsecond that serde takes, on every request of an edge.

use std::borrow::Cow;

use super::NumericDate;
use super::claims::{Draft, Place, RawClaims};

/// Digits of a number that is surely exact as a `f64` and within a `u64`.
const DIGITS_MAX: usize = 15;

/// The claims, or `None` where the text is of another form, good or bad.
pub(super) fn read(plaintext: &[u8]) -> Option<RawClaims<'_>> {
    // Looked at once for all: without escapes and control characters, a string ends at the next quote.
    let special = plaintext.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'\\'));
    if special {
        return None;
    }
    let mut rest = std::str::from_utf8(plaintext).ok()?.strip_prefix('{')?;
    let mut draft = Draft::new();
    loop {
        let (name, value) = string(rest)?;
        rest = member(draft.place(name)?, value.strip_prefix(':')?)?;
        match rest.as_bytes() {
            [b',', ..] => rest = &rest[1..],
            b"}" => return draft.finish().ok(),
            _ => return None,
        }
    }
}

/// Reads a value into its place, which must be free; gives what follows.
fn member<'a>(place: Place<'_, 'a>, text: &'a str) -> Option<&'a str> {
    match place {
        Place::Text(place) => {
            let (value, rest) = string(text)?;
            fill(place, Cow::Borrowed(value))?;
            Some(rest)
        }
        Place::Date(place) => {
            let (value, rest) = number(text)?;
            fill(place, NumericDate::from_secs(value))?;
            Some(rest)
        }
        Place::Number(place) => {
            let (value, rest) = number(text)?;
            fill(place, value)?;
            Some(rest)
        }
        Place::Small(place) => {
            let (value, rest) = number(text)?;
            fill(place, u8::try_from(value).ok()?)?;
            Some(rest)
        }
        Place::Flag(place) => {
            let (value, word) = if text.starts_with('t') { (true, "true") } else { (false, "false") };
            let rest = text.strip_prefix(word)?;
            fill(place, value)?;
            Some(rest)
        }
    }
}

fn fill<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A string's content, and what follows its closing quote.
fn string(text: &str) -> Option<(&str, &str)> {
    let content = text.strip_prefix('"')?;
    let end = memchr::memchr(b'"', content.as_bytes())?;
    Some((&content[..end], &content[end + 1..]))
}

/// A whole number without a sign, and what follows it. A fraction or exponent that follows is no member's end.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take(DIGITS_MAX + 1).take_while(u8::is_ascii_digit).count();
    let has_leading_zero = digits > 1 && text.starts_with('0');
    if digits == 0 || digits > DIGITS_MAX || has_leading_zero {
        return None;
    }
    let value = text.bytes().take(digits).fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some((value, &text[digits..]))
}
