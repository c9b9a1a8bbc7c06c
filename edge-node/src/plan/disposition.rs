//! The name to save as: `Content-Disposition` (RFC 6266) with `filename*` (RFC 8187).

use sluice_shared::file_id::is_allowed;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

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

/// Longest name, in bytes: what filesystems take.
const NAME_BYTES_MAX: usize = 255;

/// The field's value for a file saved under `name`: always an attachment.
///
/// Whatever could leave the folder the file is saved to, or break the field, becomes `_`.
pub fn attachment(name: &str) -> String {
    let name = safe_name(name);
    let ascii: String =
        name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' }).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTR_CHAR))
}

fn safe_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c != '/' && is_allowed(c) { c } else { '_' }).collect();
    if name.trim_matches(['.', ' ']).is_empty() {
        return "download".to_owned();
    }
    shorten(&name)
}

/// Cuts a name that is too long before its extension.
fn shorten(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let extension =
        name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= 32).map_or("", |dot| &name[dot..]);
    let mut end = NAME_BYTES_MAX - extension.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &name[..end])
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
            ("..", "download", "download"),
            ("", "download", "download"),
        ];
        for (name, ascii, extended) in table {
            let expected = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{extended}");
            assert_eq!(attachment(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_keep_their_extension_and_whole_characters() {
        let name = shorten(&format!("{}.tar", "é".repeat(200)));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with(".tar") && name.starts_with("éé"));
        assert_eq!(shorten(&"x".repeat(300)).len(), NAME_BYTES_MAX);
    }
}
