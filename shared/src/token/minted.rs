//! Claims in the form that we mint them in, written and read without a JSON library: one object on one line, no spaces,
//! no escapes, whole numbers, known names. Whatever is not exactly that is left to serde, which decides; property tests
//! hold the two against each other. Reading takes 0.1 of the microsecond that serde takes, on every request of an edge.

use std::borrow::Cow;

use super::NumericDate;
use super::claims::{Claims, Draft, Place, RawClaims};

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
