//! The name to save as: `Content-Disposition` (RFC 6266) with `filename*` (RFC 8187).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sluice_shared::save_name::safe_name;

/// RFC 8187 §3.2.1 `attr-char`: what needs no escape.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What a browser is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    Attachment,
    /// Show it, and offer its name to who saves it.
    Inline,
}

impl Disposition {
    fn name(self) -> &'static str {
        match self {
            Self::Attachment => "attachment",
            Self::Inline => "inline",
        }
    }
}

/// The field's value for a file saved under `name`.
///
/// Whatever could leave the folder the file is saved to, or break the field, becomes `_`.
pub fn field(disposition: Disposition, name: &str) -> String {
    let name = safe_name(name);
    let ascii: String =
        name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' }).collect();
    let (disposition, extended) = (disposition.name(), utf8_percent_encode(&name, ATTR_CHAR));
    format!("{disposition}; filename=\"{ascii}\"; filename*=UTF-8''{extended}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_both_forms() {
        let table = [
            ("report.pdf", "report.pdf", "report.pdf"),
            ("my report (1).pdf", "my report (1).pdf", "my%20report%20%281%29.pdf"),
            ("naïve.txt", "na_ve.txt", "na%C3%AFve.txt"),
            ("漢字.bin", "__.bin", "%E6%BC%A2%E5%AD%97.bin"),
            ("a\"b.txt", "a_b.txt", "a%22b.txt"),
            ("100%.txt", "100_.txt", "100%25.txt"),
            ("../../etc/passwd", ".._.._etc_passwd", ".._.._etc_passwd"),
            ("a\\b", "a_b", "a_b"),
            ("a\r\nSet-Cookie: x", "a__Set-Cookie: x", "a__Set-Cookie%3A%20x"),
            ("a\u{202e}fdp.exe", "a_fdp.exe", "a_fdp.exe"),
            ("a\u{0}\u{7f}\u{85}b", "a___b", "a___b"),
            ("'single'.txt", "'single'.txt", "%27single%27.txt"),
            ("a;b=c,d.txt", "a;b=c,d.txt", "a%3Bb%3Dc%2Cd.txt"),
            ("*star*", "*star*", "%2Astar%2A"),
            ("%2e%2e%2fx", "_2e_2e_2fx", "%252e%252e%252fx"),
            ("👩‍💻.zip", "___.zip", "%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB.zip"),
            ("..", "download", "download"),
            (" . ", "download", "download"),
            ("", "download", "download"),
        ];
        for (name, ascii, extended) in table {
            let expected = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{extended}");
            assert_eq!(field(Disposition::Attachment, name), expected, "{name:?}");
            assert_eq!(field(Disposition::Inline, name), expected.replacen("attachment", "inline", 1));
        }
    }
}
