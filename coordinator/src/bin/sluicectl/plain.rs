//! Texts of others on a terminal: what would move the cursor, colour, hide or reorder is written as an escape.

use std::fmt::Write;

/// A text in which every character shows, takes its place and does nothing else. Backslashes are doubled, so that what
/// is written as an escape cannot be mistaken.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\'' | '"' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// The same JSON; what would act on a terminal is written as `\u….` It is only ever inside strings, as JSON has
/// nothing but ASCII outside of them.
pub(crate) fn plain_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for char in json.chars() {
        if matches!(char, '\'' | '"' | '\\' | '\n' | '\r' | '\t') || char.escape_debug().eq([char]) {
            shown.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\r\n\0\u{7f}\u{202e}\u{2028}\u{200b}\u{feff}\u{e0041}e\u{301}";

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let shown = plain(HOSTILE);
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
        assert!(shown.starts_with("\\u{1b}[2J\\u{9b}31m\\r\\n\\0"), "{shown}");
        for same in ["it's \"so\" — größer, 日本語", ""] {
            assert_eq!(plain(same), same);
        }
        assert_eq!(plain("\\r"), "\\\\r");
    }

    #[test]
    fn json_stays_what_it_was() {
        let json = serde_json::json!({ "note": format!("{HOSTILE}\\ \" 日本語") }).to_string();
        let shown = plain_json(&json);
        assert!(shown.chars().all(|char| !char.is_control() && char != '\u{202e}'), "{shown}");
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&json).unwrap(), serde_json::from_str(&shown).unwrap());
        assert_eq!(before, after);
    }
}
