//! `FileId`: the one name of a file that callers, tokens, routing and edges use.
//!
//! It is decoded once, here, by one set of rules; it never touches a filesystem.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

/// A file's name beneath the root: UTF-8, 1 to 1024 bytes, `/`-separated segments none of which is empty, `.` or
/// `..`, without control characters, bidirectional controls or backslashes. No leading or trailing `/` follows from
/// "no empty segment".
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileId<'a>(Cow<'a, str>);

/// The longest file id, in bytes.
pub const FILE_ID_BYTES_MAX: usize = 1024;

/// Why a text is no file id. The text itself is not repeated: it may be hostile, and the caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileIdError {
    #[error("file_id is empty")]
    Empty,
    #[error("file_id is longer than {FILE_ID_BYTES_MAX} bytes")]
    TooLong,
    #[error("file_id starts with '/'")]
    Absolute,
    #[error("file_id has an empty, '.' or '..' segment")]
    Segment,
    #[error("file_id has a control character, a bidirectional control or a backslash")]
    Character,
    #[error("file_id is not percent-encoded UTF-8")]
    Encoding,
}

impl<'a> FileId<'a> {
    /// Takes a text that is already decoded.
    ///
    /// # Errors
    /// The first rule the text breaks.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, FileIdError> {
        let text = text.into();
        if text.is_empty() {
            return Err(FileIdError::Empty);
        }
        if text.len() > FILE_ID_BYTES_MAX {
            return Err(FileIdError::TooLong);
        }
        if text.starts_with('/') {
            return Err(FileIdError::Absolute);
        }
        // Ids are judged on every request of an edge. Most are ASCII, and have no segment that begins with a dot; that is
        // seen without a branch a byte.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'\\');
        if !text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) && !text.chars().all(is_allowed) {
            return Err(FileIdError::Character);
        }
        let bytes = text.as_bytes();
        let follows = |pair: &[u8]| (pair[0] == b'/') & ((pair[1] == b'/') | (pair[1] == b'.'));
        let is_suspect = bytes
            .windows(2)
            .fold(text.starts_with('.') | text.ends_with('/'), |found, pair| found | follows(pair));
        if is_suspect && text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(FileIdError::Segment);
        }
        Ok(Self(text))
    }

    /// Decodes the path part of a URL, once: `%2F` is a separator like any other, and `%252e` stays `%2e`.
    ///
    /// # Errors
    /// `Encoding` for a broken escape or bytes that are not UTF-8, else as [`FileId::parse`].
    pub fn parse_percent_encoded(text: &'a str) -> Result<Self, FileIdError> {
        let decoded = crate::query::decode_percent(text).ok_or(FileIdError::Encoding)?;
        Self::parse(decoded)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: the name people know the file by.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().expect("a split yields at least one part")
    }

    /// Whether this id lies under `prefix`, on `/` boundaries: `a` holds `a` and `a/b`, not `ab`. The empty prefix
    /// holds everything; a trailing `/` on the prefix changes nothing but that `a/` does not hold `a` itself.
    pub fn is_under(&self, prefix: &str) -> bool {
        let Some(rest) = self.0.strip_prefix(prefix) else {
            return false;
        };
        prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
    }

    pub fn into_owned(self) -> FileId<'static> {
        FileId(Cow::Owned(self.0.into_owned()))
    }
}

/// A prefix of file ids, which holds what is under it by [`FileId::is_under`]: a file id, with or without a trailing
/// `/`, or empty for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// # Errors
    /// It could hold no file.
    pub fn parse(text: &str) -> Result<Self, FileIdError> {
        if !text.is_empty() {
            FileId::parse(text.strip_suffix('/').unwrap_or(text))?;
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn holds(&self, file: &FileId<'_>) -> bool {
        file.is_under(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|fault| {
            serde::de::Error::custom(format_args!("prefix '{text}' can hold no file: {fault}"))
        })
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Whether a character may stand in a file id, and in any name that is shown to people or written to a log.
pub fn is_allowed(c: char) -> bool {
    !(c.is_control() || c == '\\' || is_bidi_control(c))
}

/// The `Bidi_Control` characters (Unicode 16, UAX #9 §2), and the two separators that break lines.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for FileId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for FileId<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_hold_one_by_one() {
        use FileIdError::*;
        let longest = "x".repeat(FILE_ID_BYTES_MAX);
        let too_long = "x".repeat(FILE_ID_BYTES_MAX + 1);
        let table: &[(&str, Option<FileIdError>)] = &[
            ("a", None),
            ("a/b/c.bin", None),
            ("réports/2026 final (1).pdf", None),
            ("...", None),
            ("a/..b", None),
            ("%2e%2e", None),
            (&longest, None),
            ("", Some(Empty)),
            (&too_long, Some(TooLong)),
            ("/etc/passwd", Some(Absolute)),
            ("//x", Some(Absolute)),
            ("a//b", Some(Segment)),
            ("a/", Some(Segment)),
            (".", Some(Segment)),
            ("..", Some(Segment)),
            ("a/../b", Some(Segment)),
            ("a/./b", Some(Segment)),
            ("a\0b", Some(Character)),
            ("a\nb", Some(Character)),
            ("a\u{7f}b", Some(Character)),
            ("a\u{85}b", Some(Character)),
            ("a\\b", Some(Character)),
            ("invoice\u{202e}fdp.exe", Some(Character)),
            ("a\u{2066}b", Some(Character)),
            ("a\u{200f}b", Some(Character)),
        ];
        for (text, expected) in table {
            assert_eq!(FileId::parse(*text).err(), *expected, "{text:?}");
        }
    }

    #[test]
    fn decoding_happens_once() {
        let decoded = |text| FileId::parse_percent_encoded(text).map(|id| id.as_str().to_owned());
        assert_eq!(decoded("a%2Fb%20c"), Ok("a/b c".to_owned()));
        assert_eq!(decoded("%252e%252e/x"), Ok("%2e%2e/x".to_owned()));
        assert_eq!(decoded("a+b"), Ok("a+b".to_owned()));
        assert_eq!(decoded("%2e%2e/x"), Err(FileIdError::Segment));
        assert_eq!(decoded("a%00"), Err(FileIdError::Character));
        assert_eq!(decoded("a%5Cb"), Err(FileIdError::Character));
        for broken in ["a%", "a%2", "a%zz", "%ff", "%c3"] {
            assert_eq!(decoded(broken), Err(FileIdError::Encoding), "{broken}");
        }
    }

    #[test]
    fn prefixes_match_on_segment_boundaries() {
        let id = FileId::parse("reports/2026/q1.pdf").unwrap();
        for prefix in ["", "reports", "reports/", "reports/2026", "reports/2026/", "reports/2026/q1.pdf"] {
            assert!(id.is_under(prefix), "{prefix:?}");
        }
        for prefix in
            ["rep", "reports/20", "2026", "/reports", "reports/2026/q1.pdf/", "reports/2026/q1.pdf2"]
        {
            assert!(!id.is_under(prefix), "{prefix:?}");
        }
        assert_eq!(id.name(), "q1.pdf");
    }

    proptest! {
        #[test]
        fn what_is_seen_at_a_glance_is_what_the_rules_say(text in "[/.a\\\\é\u{202e}\u{7f}]{1,6}") {
            let by_the_rules = text.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
                && text.chars().all(is_allowed);
            prop_assert_eq!(FileId::parse(&*text).is_ok(), by_the_rules, "{:?}", text);
        }
    }
}
