//! The one form of a JSON text that clients sign: what Python makes of it with
//! `json.dumps(…, separators=(",", ":"), sort_keys=True, ensure_ascii=False)`. Names in the order of their code points,
//! no spaces, escapes only where JSON demands them. Numbers keep the text they came in: nobody agrees on another.
//!
//! A parser of its own, because one that turns numbers into `f64` or lets a name occur twice has lost what was signed.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 64;

/// Why a text has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// RFC 8259, strictly; UTF-8 without a byte order mark, and no half of a surrogate pair, which no UTF-8 text holds.
    #[error("not JSON at byte {at}")]
    NotJson { at: usize },
    #[error("an object has a name twice")]
    RepeatedName,
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// Gives the canonical form, which is never longer than the text. Work and memory grow with the text's length, which
/// is for the caller to bound.
///
/// # Errors
/// The first fault.
pub fn canonical(text: &[u8]) -> Result<String, NotCanonical> {
    let text =
        std::str::from_utf8(text).map_err(|error| NotCanonical::NotJson { at: error.valid_up_to() })?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.fault());
    }
    let mut written = String::with_capacity(text.len());
    write_value(&value, &mut written);
    Ok(written)
}

enum Value<'a> {
    /// A number, or `true`, `false`, `null`, as it came.
    Bare(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    /// In the order of the names.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn fault(&self) -> NotCanonical {
        NotCanonical::NotJson { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes past a byte if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotCanonical> {
        if self.take(byte) { Ok(()) } else { Err(self.fault()) }
    }

    /// A value with the space before it, within `depth` arrays and objects.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, NotCanonical> {
        self.skip_space();
        match self.peek().ok_or_else(|| self.fault())? {
            b'[' | b'{' if depth == DEPTH_MAX => Err(NotCanonical::TooDeep),
            b'[' => self.array(depth + 1),
            b'{' => self.object(depth + 1),
            b'"' => self.string().map(Value::Text),
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
                let word = word.ok_or_else(|| self.fault())?;
                self.at += word.len();
                Ok(Value::Bare(word))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, NotCanonical> {
        self.expect(b'[')?;
        self.skip_space();
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, NotCanonical> {
        self.expect(b'{')?;
        self.skip_space();
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            members.push((name, self.value(depth)?));
            self.skip_space();
            if self.take(b'}') {
                break;
            }
            self.expect(b',')?;
        }
        // UTF-8 in the order of its bytes is in the order of its code points.
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(NotCanonical::RepeatedName);
        }
        Ok(Value::Object(members))
    }

    fn number(&mut self) -> Result<Value<'a>, NotCanonical> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Value::Bare(&self.text[start..self.at]))
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), NotCanonical> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.fault()) } else { Ok(()) }
    }

    /// A string's content; borrowed where it has no escapes.
    fn string(&mut self) -> Result<Cow<'a, str>, NotCanonical> {
        self.expect(b'"')?;
        let mut content = Cow::Borrowed("");
        loop {
            let plain = self.plain();
            if content.is_empty() {
                content = Cow::Borrowed(plain);
            } else {
                content.to_mut().push_str(plain);
            }
            if self.take(b'"') {
                return Ok(content);
            }
            self.expect(b'\\')?;
            let unescaped = self.escape()?;
            content.to_mut().push(unescaped);
        }
    }

    /// What comes before the next quote, backslash or control character.
    fn plain(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_special = |byte: u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let length = rest.bytes().position(is_special).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// An escape after its backslash.
    fn escape(&mut self) -> Result<char, NotCanonical> {
        let escaped = match self.peek().ok_or_else(|| self.fault())? {
            same @ (b'"' | b'\\' | b'/') => char::from(same),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.code_point();
            }
            _ => return Err(self.fault()),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// Four hex digits, or twice four with `\u` between them where they are a surrogate pair (RFC 8259 §7).
    fn code_point(&mut self) -> Result<char, NotCanonical> {
        let fault = self.fault();
        let first = self.code_unit()?;
        let mut units = [first, 0];
        let mut length = 1;
        if (0xd800..0xdc00).contains(&first) {
            self.expect(b'\\')?;
            self.expect(b'u')?;
            units[1] = self.code_unit()?;
            length = 2;
        }
        match char::decode_utf16(units[..length].iter().copied()).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(fault),
        }
    }

    fn code_unit(&mut self) -> Result<u16, NotCanonical> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = match self.peek() {
                Some(digit @ b'0'..=b'9') => digit - b'0',
                Some(digit @ b'a'..=b'f') => digit - b'a' + 10,
                Some(digit @ b'A'..=b'F') => digit - b'A' + 10,
                _ => return Err(self.fault()),
            };
            unit = unit << 4 | u16::from(digit);
            self.at += 1;
        }
        Ok(unit)
    }
}

fn write_value(value: &Value<'_>, written: &mut String) {
    match value {
        Value::Bare(text) => written.push_str(text),
        Value::Text(text) => write_string(text, written),
        Value::Array(items) => {
            written.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    written.push(',');
                }
                write_value(item, written);
            }
            written.push(']');
        }
        Value::Object(members) => {
            written.push('{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    written.push(',');
                }
                write_string(name, written);
                written.push(':');
                write_value(value, written);
            }
            written.push('}');
        }
    }
}

/// DEL, `/`, U+2028 and all that is not ASCII stay as they are, as with `ensure_ascii=False`.
fn write_string(text: &str, written: &mut String) {
    written.push('"');
    for character in text.chars() {
        match character {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\u{8}' => written.push_str("\\b"),
            '\u{c}' => written.push_str("\\f"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\0'..='\u{1f}' => written.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => written.push(character),
        }
    }
    written.push('"');
}

#[cfg(test)]
mod tests;
