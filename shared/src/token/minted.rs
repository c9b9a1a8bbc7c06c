//! Claims in the form that we mint them in, written and read without a JSON library: one object on one line, no spaces,
//! no escapes, whole numbers, known names. Whatever is not exactly that is left to serde, which decides; property tests
//! hold the two against each other. Reading takes 0.1 of the microsecond that serde takes, on every request of an edge.

use std::borrow::Cow;

use super::NumericDate;
use super::claims::{Claims, Draft, Place};

/// Digits of a number that is surely exact as a `f64` and within a `u64`.
const DIGITS_MAX: usize = 15;

/// Fills a draft; `None`, with part of it filled, where the text is of another form, good or bad.
pub(super) fn read<'a>(plaintext: &'a [u8], draft: &mut Draft<'a>) -> Option<()> {
    // Looked at once for all: without escapes and control characters, a string ends at the next quote.
    let special = plaintext.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'\\'));
    if special {
        return None;
    }
    let mut rest = std::str::from_utf8(plaintext).ok()?.strip_prefix('{')?;
    loop {
        let (name, value) = string(rest)?;
        rest = member(draft.place(name)?, value.strip_prefix(':')?)?;
        match rest.as_bytes() {
            [b',', ..] => rest = &rest[1..],
            b"}" => return Some(()),
            _ => return None,
        }
    }
}

/// Writes claims as serde does; `false`, with part of them written, where they have another form.
pub(super) fn write(claims: &Claims<'_>, text: &mut Vec<u8>) -> bool {
    let begun = text.len();
    let mut writer = Writer { text, is_whole: true };
    writer.string(r#"{"file_id":"#, Some(claims.file_id.as_str()));
    writer.date(r#","exp":"#, Some(claims.exp));
    writer.string(r#","user_id":"#, claims.user_id.as_deref());
    writer.string(r#","cid":"#, claims.cid.as_deref());
    writer.date(r#","iat":"#, claims.iat);
    writer.date(r#","nbf":"#, claims.nbf);
    writer.string(r#","jti":"#, claims.jti.as_deref());
    writer.string(r#","rid":"#, claims.rid.as_deref());
    writer.string(r#","iss":"#, claims.iss.as_deref());
    writer.string(r#","lnk":"#, claims.lnk.as_deref());
    writer.date(r#","lxp":"#, claims.lxp);
    writer.string(r#","ip":"#, claims.ip.as_deref());
    writer.string(r#","fn":"#, claims.r#fn.as_deref());
    writer.number(r#","rate":"#, claims.rate);
    writer.string(r#","edg":"#, claims.edg.as_deref());
    writer.number(r#","hop":"#, (claims.hop > 0).then_some(claims.hop.into()));
    if claims.head {
        writer.text.extend_from_slice(br#","head":true"#);
    }
    writer.text.push(b'}');
    let is_whole = writer.is_whole;
    // What JSON escapes would have to be.
    is_whole && text[begun..].iter().fold(true, |plain, byte| plain & (*byte >= b' ') & (*byte != b'\\'))
}

struct Writer<'t> {
    text: &'t mut Vec<u8>,
    is_whole: bool,
}

impl Writer<'_> {
    /// Writes a member that there is, whose name comes with what stands around it.
    fn string(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b'"');
        self.text.extend_from_slice(value.as_bytes());
        self.text.push(b'"');
        self.is_whole &= memchr::memchr(b'"', value.as_bytes()).is_none();
    }

    fn date(&mut self, name: &str, value: Option<NumericDate>) {
        let Some(value) = value else { return };
        let whole = value.to_whole_secs();
        self.is_whole &= whole.is_some();
        self.number(name, whole);
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        let Some(mut value) = value else { return };
        self.text.extend_from_slice(name.as_bytes());
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + u8::try_from(value % 10).expect("a digit");
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.text.extend_from_slice(&digits[first..]);
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
    let end = quote(content.as_bytes())?;
    Some((&content[..end], &content[end + 1..]))
}

/// Where the first quote is, eight bytes at a time: names and values are short, and there are twenty of them. A library's
/// search is faster in long texts, and takes 3 ns to begin.
fn quote(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // The lowest bit that is left is the high bit of the first byte that was a quote (Warren, Hacker's Delight, 6-1).
        let differs = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'"'));
        let quotes = differs.wrapping_sub(ONES) & !differs & (ONES << 7);
        if quotes != 0 {
            return Some(at * 8 + (quotes.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter().position(|byte| *byte == b'"').map(|at| words.len() * 8 + at)
}

/// A whole number without a sign, and what follows it. A fraction or exponent that follows is no member's end.
fn number(text: &str) -> Option<(u64, &str)> {
    let (mut value, mut digits) = (0, 0);
    for byte in text.bytes().take(DIGITS_MAX + 1) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u64::from(digit);
        digits += 1;
    }
    let has_leading_zero = digits > 1 && text.starts_with('0');
    let is_exact = (1..=DIGITS_MAX).contains(&digits) && !has_leading_zero;
    is_exact.then(|| (value, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quotes_are_where_the_library_finds_them(text in proptest::collection::vec(prop_oneof![Just(b'"'), any::<u8>()], 0..40), skip in 0..20_usize) {
            let text = &text[skip.min(text.len())..];
            prop_assert_eq!(quote(text), memchr::memchr(b'"', text));
        }
    }
}
