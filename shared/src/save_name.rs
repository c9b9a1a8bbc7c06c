//! The name that a file is saved under: one rule for all places that clients take it from.

use crate::file_id::is_allowed;

/// Longest name, in bytes: what filesystems take.
const NAME_BYTES_MAX: usize = 255;

/// `name` with `_` for whatever could leave the folder that the file is saved to, hide the name's ending or break a
/// line; never empty, `.` or `..`, and of at most 255 bytes.
pub fn safe_name(name: &str) -> String {
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
    fn no_name_leads_elsewhere() {
        let table = [
            ("a b.bin", "a b.bin"),
            ("../../etc/passwd", ".._.._etc_passwd"),
            ("a\\b", "a_b"),
            ("a\r\nb\u{0}", "a__b_"),
            ("a\u{202e}fdp.exe", "a_fdp.exe"),
            ("..", "download"),
            (" . ", "download"),
            ("", "download"),
        ];
        for (name, expected) in table {
            assert_eq!(safe_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_keep_their_extension_and_whole_characters() {
        let name = safe_name(&format!("{}.tar", "é".repeat(200)));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with(".tar") && name.starts_with("éé"));
        assert_eq!(safe_name(&"x".repeat(300)).len(), NAME_BYTES_MAX);
    }
}
