use proptest::prelude::*;
use serde_json::Value as Model;

use super::*;

/// Each right side is what Python 3.11 prints of the left one; of floats, where Python keeps their text.
#[test]
fn texts_take_their_canonical_form() {
    let table = [
        (r#"{"b": "x", "a": 1}"#, r#"{"a":1,"b":"x"}"#),
        (" [ 1 , 2\t,\r\n[ ] , { } ] ", "[1,2,[],{}]"),
        (
            r#"{"b":{"d":[{"z":0,"y":1}],"c":null},"a":true}"#,
            r#"{"a":true,"b":{"c":null,"d":[{"y":1,"z":0}]}}"#,
        ),
        // By code point: U+FF5E before U+1F600, where UTF-16 has them the other way round.
        (r#"{"😀":1,"～":2,"é":3,"z":4,"":5}"#, r#"{"":5,"z":4,"é":3,"～":2,"😀":1}"#),
        (r#"{"a-b":1,"a":2,"aa":3,"B":4}"#, r#"{"B":4,"a":2,"a-b":1,"aa":3}"#),
        (r#""\u5e74\u00e9\ud83d\ude00\/\u002f""#, r#""年é😀//""#),
        (
            r#""\b\f\n\r\t\"\\\u0000\u001F\u007f\u2028""#,
            "\"\\b\\f\\n\\r\\t\\\"\\\\\\u0000\\u001f\u{7f}\u{2028}\"",
        ),
        (r#""a\nb""#, r#""a\nb""#),
        (r#""\u0061\u0062c""#, r#""abc""#),
        ("0", "0"),
        ("null", "null"),
        ("-0.0", "-0.0"),
        // As they came: Python would print 100000.0, and lose digits of the others.
        (
            "[1E5,1e+5,1.50,-0,1e999,123456789012345678901234567890]",
            "[1E5,1e+5,1.50,-0,1e999,123456789012345678901234567890]",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(canonical(text.as_bytes()).as_deref(), Ok(expected), "{text}");
        assert_eq!(canonical(expected.as_bytes()).as_deref(), Ok(expected), "canonical already: {expected}");
    }
}

#[test]
fn what_is_not_json_is_refused_where_it_ceases_to_be() {
    let table: [(&[u8], usize); 47] = [
        (b"", 0),
        (b" ", 1),
        (b"\xef\xbb\xbf{}", 0),
        (b"{", 1),
        (b"[", 1),
        (b"[1", 2),
        (b"[1,]", 3),
        (b"[,1]", 1),
        (b"[1 2]", 3),
        (b"[1}", 2),
        (b"{\"a\":1,}", 7),
        (b"{\"a\"}", 4),
        (b"{\"a\" 1}", 5),
        (b"{\"a\":}", 5),
        (b"{a:1}", 1),
        (b"{'a':1}", 1),
        (b"{1:1}", 1),
        (b"{} {}", 3),
        (b"1 1", 2),
        (b"nul", 0),
        (b"nullx", 4),
        (b"True", 0),
        (b"NaN", 0),
        (b"Infinity", 0),
        (b"-Infinity", 1),
        (b"01", 1),
        (b"-01", 2),
        (b"+1", 0),
        (b".5", 0),
        (b"1.", 2),
        (b"1.e5", 2),
        (b"1e", 2),
        (b"1e+", 3),
        (b"-", 1),
        (b"0x10", 1),
        (b"\"a", 2),
        (b"\"a\nb\"", 2),
        (b"\"a\x00b\"", 2),
        (b"\"\\x41\"", 2),
        (b"\"\\u12\"", 5),
        (b"\"\\u+123\"", 3),
        (b"\"\\ud800\"", 7),
        (b"\"\\ud800\\n\"", 8),
        (b"\"\\ud800\\ud800\"", 3),
        (b"\"\\udc00\"", 3),
        (b"\"\xff\"", 1),
        (b"// no\n1", 0),
    ];
    for (text, at) in table {
        assert_eq!(canonical(text), Err(NotCanonical::NotJson { at }), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn repeated_names_are_refused_at_any_depth() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"a":3}"#,
        r#"{"a":1,"\u0061":1}"#,
        r#"[0,{"x":[{"y":{"a":1,"a":2}}]}]"#,
        r#"{"":1,"":2}"#,
        r#"{"😀":1,"\ud83d\ude00":2}"#,
    ] {
        assert_eq!(canonical(text.as_bytes()), Err(NotCanonical::RepeatedName), "{text}");
    }
    assert!(canonical(r#"[{"a":1},{"a":{"a":1}}]"#.as_bytes()).is_ok());
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(canonical(nested(DEPTH_MAX).as_bytes()), Ok(nested(DEPTH_MAX)));
    assert_eq!(canonical(nested(DEPTH_MAX + 1).as_bytes()), Err(NotCanonical::TooDeep));
    assert_eq!(canonical("[".repeat(1 << 20).as_bytes()), Err(NotCanonical::TooDeep));
    assert_eq!(canonical(r#"{"a":"#.repeat(1 << 20).as_bytes()), Err(NotCanonical::TooDeep));
}

/// JSON without floats, whose text serde_json keeps.
fn any_model() -> impl Strategy<Value = Model> {
    let text = "[a-zA-Z0-9 /\"\\\\\\x00-\\x1f\\x7fé漢\u{2028}\u{ff5e}\u{1F600}-]{0,8}";
    let leaf = prop_oneof![
        Just(Model::Null),
        any::<bool>().prop_map(Model::from),
        any::<i64>().prop_map(Model::from),
        any::<u64>().prop_map(Model::from),
        text.prop_map(Model::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Model::from),
            proptest::collection::btree_map(text, inner, 0..6)
                .prop_map(|members| Model::Object(members.into_iter().collect())),
        ]
    })
}

/// The text of a value with its members turned round, spaces everywhere, and every character of strings escaped.
fn write_loosely(value: &Model, escape: bool, written: &mut String) {
    let string = |text: &str, written: &mut String| match escape {
        true => {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            written.push_str(&format!("\"{units}\""));
        }
        false => written.push_str(&Model::from(text).to_string()),
    };
    match value {
        Model::String(text) => string(text, written),
        Model::Array(items) => {
            written.push_str("[ ");
            for (at, item) in items.iter().enumerate() {
                written.push_str(if at > 0 { " ,\n" } else { "" });
                write_loosely(item, escape, written);
            }
            written.push_str("\t]");
        }
        Model::Object(members) => {
            written.push_str("{\r\n");
            for (at, (name, value)) in members.iter().rev().enumerate() {
                written.push_str(if at > 0 { " , " } else { "" });
                string(name, written);
                written.push_str(" : ");
                write_loosely(value, escape, written);
            }
            written.push_str(" }");
        }
        bare => written.push_str(&bare.to_string()),
    }
}

proptest! {
    /// serde_json sorts names (its map is a tree) and escapes as Python does.
    #[test]
    fn the_canonical_form_is_the_model_s(value in any_model(), escape in any::<bool>()) {
        let mut loose = String::new();
        write_loosely(&value, escape, &mut loose);
        let written = canonical(loose.as_bytes());
        prop_assert_eq!(written, Ok(value.to_string()), "{}", loose);
    }

    /// What it takes for JSON is what serde_json takes for JSON, and it means the same.
    #[test]
    fn both_parsers_take_the_same_texts(
        value in any_model(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3u8, r#"[\[\]{}":,.0-9eEtu\\\\ +-]"#), 0..4),
    ) {
        let mut text = value.to_string();
        for (at, kind, with) in edits {
            let at = at.index(text.len() + 1);
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
            text.replace_range(at..if kind == 0 { at } else { end }, if kind == 2 { "" } else { &with });
        }
        let theirs: Result<Model, _> = serde_json::from_str(&text);
        match canonical(text.as_bytes()) {
            Ok(ours) => {
                prop_assert!(ours.len() <= text.len());
                prop_assert_eq!(canonical(ours.as_bytes()), Ok(ours.clone()));
                match theirs {
                    Ok(theirs) => prop_assert_eq!(serde_json::from_str::<Model>(&ours).unwrap(), theirs),
                    // Of numbers, it refuses those that no f64 holds.
                    Err(error) => prop_assert!(error.to_string().contains("number out of range"), "{}: {}", text, error),
                }
            }
            Err(NotCanonical::NotJson { .. }) => prop_assert!(theirs.is_err(), "{}", text),
            Err(NotCanonical::RepeatedName | NotCanonical::TooDeep) => {}
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let ours = canonical(&bytes);
        let theirs = serde_json::from_slice::<Model>(&bytes);
        prop_assert!(ours.is_err() == theirs.is_err() || ours == Err(NotCanonical::RepeatedName));
    }
}
