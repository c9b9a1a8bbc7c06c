use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SECRET: &[u8] = b"another secret";
const CANONICAL: &str = r#"{"a":1,"b":{"x":"é","y":[1.50,2]}}"#;
const LOOSE: &str = "{ \"b\": {\"y\": [1.50, 2], \"x\": \"\\u00e9\"},\n \"a\": 1 }";

fn parts() -> Parts<'static> {
    Parts {
        method: "POST",
        path_and_query: "/api/links?b=2&a=1",
        content_md5: None,
        access_key: "AK1",
        nonce: "n-1",
        timestamp: "1677222787",
    }
}

fn sign(text: &str) -> String {
    STANDARD.encode(hmac_sha256(SECRET, &[text.as_bytes()]))
}

/// The signature of a client that hashes `body`, in the documented form.
fn signature(parts: &Parts<'_>, body: &str) -> String {
    sign(&string_to_sign(parts, content_md5(body.as_bytes()).as_deref(), Form::DOCUMENTED).unwrap())
}

fn is_mismatch(result: &Result<Body, SignatureError>) -> bool {
    matches!(result, Err(SignatureError::Mismatch(_)))
}

#[test]
fn the_vectors_of_the_reference_system_hold() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/data/vectors.json")).unwrap();
    let vectors = vectors["signed_requests"].as_array().unwrap();
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let query: Vec<String> = vector["query"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{}={}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let path_and_query = format!("{}{mark}{}", text("path"), query.join("&"));
        let timestamp = vector["timestamp"].to_string();
        let parts = Parts {
            method: text("method"),
            path_and_query: &path_and_query,
            content_md5: None,
            access_key: text("access_key"),
            nonce: text("nonce"),
            timestamp: &timestamp,
        };
        let (body, secret) = (text("body").as_bytes(), text("secret").as_bytes());
        let made = string_to_sign(&parts, content_md5(body).as_deref(), Form::DOCUMENTED).unwrap();
        assert_eq!(made, text("string_to_sign"));
        assert_eq!(verify(&parts, body, secret, text("signature")), Ok(Body::AsSent));
        assert!(is_mismatch(&verify(&parts, body, b"wrong", text("signature"))));
        let again = Parts { nonce: "another", ..parts };
        assert!(is_mismatch(&verify(&again, body, secret, text("signature"))));
    }
}

#[test]
fn parameters_are_sorted_by_name_as_they_were_sent() {
    let table = [
        ("/p", "/p"),
        ("/p?", "/p"),
        ("/p?&", "/p"),
        ("/p?b=2&a=1", "/p?a=1&b=2"),
        ("/p?b=&a=", "/p?a=&b="),
        ("/p?b&a=1", "/p?a=1&b"),
        ("/p?a=x%2Fy+z&A=%7e", "/p?A=%7e&a=x%2Fy+z"),
        // By name and not by the whole: '-' sorts before '='.
        ("/p?a-b=1&a=2&ab=3", "/p?a=2&a-b=1&ab=3"),
        ("/p?a=1=2&%61b=3", "/p?%61b=3&a=1=2"),
        ("/p?a=1&&b=2&", "/p?a=1&b=2"),
        ("/p%20q?a=?", "/p%20q?a=?"),
    ];
    for (sent, signed) in table {
        let parts = Parts { path_and_query: sent, ..parts() };
        let text = string_to_sign(&parts, None, Form::DOCUMENTED).unwrap();
        assert_eq!(text.rsplit('\n').next(), Some(signed), "{sent}");
    }
    for sent in ["/p?a=1&a=1", "/p?a=1&b=2&a=3", "/p?a&a", "/p?a=1&%61=2", "/p?a=%2"] {
        let parts = Parts { path_and_query: sent, ..parts() };
        let result = verify(&parts, b"", SECRET, "");
        assert!(matches!(result, Err(SignatureError::Query(_))), "{sent}: {result:?}");
    }
}

#[test]
fn every_way_that_clients_write_it_is_accepted() {
    let head = "AK1|Auth-Nonce@n-1|Auth-Timestamp@1677222787|/api/links?a=1&b=2";
    let lines = |first: &str, colon: &str| {
        sign(&format!("{first}Auth-Access-Key@{head}").replace('|', "\n").replace('@', colon))
    };
    let accepted = [
        ("", lines("POST||", ": ")),
        ("", lines("POST||", ":")),
        ("", lines("POST|", ": ")),
        ("", lines("POST|", ":")),
        ("x", lines("POST|ndTkYSaMgDT1yFZOFVxnpg==|", ": ")),
        ("x", lines("POST|ndTkYSaMgDT1yFZOFVxnpg==|", ":")),
    ];
    for (body, signature) in &accepted {
        assert_eq!(verify(&parts(), body.as_bytes(), SECRET, signature), Ok(Body::AsSent), "{body}");
    }
    let mixed =
        sign("POST\n\nAuth-Access-Key: AK1\nAuth-Nonce:n-1\nAuth-Timestamp: 1677222787\n/api/links?a=1&b=2");
    let unsorted =
        sign("POST\n\nAuth-Access-Key: AK1\nAuth-Nonce: n-1\nAuth-Timestamp: 1677222787\n/api/links?b=2&a=1");
    let refused = [
        ("", mixed),
        ("", unsorted),
        ("", lines("GET||", ": ")),
        ("", lines("POST|1B2M2Y8AsgTpgAmY7PhCfg==|", ": ")),
        // With a body its MD5 is signed, or the body is not.
        ("x", lines("POST||", ": ")),
        ("x", lines("POST|", ": ")),
        ("{}", lines("POST|", ":")),
        ("", accepted[0].1.trim_end_matches('=').to_owned()),
        ("", format!("{}\n", accepted[0].1)),
        ("", String::new()),
    ];
    for (body, signature) in refused {
        assert!(is_mismatch(&verify(&parts(), body.as_bytes(), SECRET, &signature)), "{body} {signature}");
    }
}

#[test]
fn a_body_may_be_spaced_otherwise_than_it_was_signed() {
    let of_canonical = signature(&parts(), CANONICAL);
    let of_loose = signature(&parts(), LOOSE);
    let check = |body: &str, signature: &str| verify(&parts(), body.as_bytes(), SECRET, signature);
    assert_eq!(check(LOOSE, &of_canonical), Ok(Body::Canonical(CANONICAL.into())));
    assert_eq!(check(CANONICAL, &of_canonical), Ok(Body::AsSent));
    assert_eq!(check(LOOSE, &of_loose), Ok(Body::AsSent));
    assert!(is_mismatch(&check(CANONICAL, &of_loose)));
    let doubled = LOOSE.replace("\"a\": 1", "\"a\": 2, \"a\": 1");
    assert!(is_mismatch(&check(&doubled, &of_canonical)));
    assert!(is_mismatch(&check(&LOOSE.replace("1.50", "1.5"), &of_canonical)), "numbers keep their text");
}

#[test]
fn a_content_md5_that_is_sent_has_to_match() {
    let md5 = |body: &str| content_md5(body.as_bytes());
    let other = md5("another");
    let canonical = Body::Canonical(CANONICAL.into());
    let table = [
        (LOOSE, LOOSE, md5(LOOSE), Some(Body::AsSent)),
        (LOOSE, LOOSE, md5(CANONICAL), None),
        (LOOSE, CANONICAL, md5(CANONICAL), Some(canonical.clone())),
        (LOOSE, CANONICAL, md5(LOOSE), Some(canonical)),
        (LOOSE, CANONICAL, other.clone(), None),
        (LOOSE, LOOSE, other.clone(), None),
        (LOOSE, LOOSE, Some(String::new()), None),
        ("", "", Some(String::new()), Some(Body::AsSent)),
        ("", "", Some(STANDARD.encode(Md5::digest(""))), Some(Body::AsSent)),
        ("", "", other, None),
    ];
    for (body, signed, content_md5, expected) in table {
        let parts = Parts { content_md5: content_md5.as_deref(), ..parts() };
        let result = verify(&parts, body.as_bytes(), SECRET, &signature(&parts, signed));
        assert_eq!(result.ok(), expected, "{body} {signed} {content_md5:?}");
    }
}

/// With `key:value` and `key: value` both good, a nonce with a space before it would be signed already.
#[test]
fn one_signature_does_not_fit_two_nonces() {
    for nonce in [" n-1", "n-1 ", "\tn-1", "n\n-1", "n\u{7f}"] {
        let parts = Parts { nonce, ..parts() };
        for form in Form::ALL {
            let signature = sign(&string_to_sign(&parts, None, form).unwrap());
            assert!(is_mismatch(&verify(&parts, b"", SECRET, &signature)), "{nonce:?}");
        }
    }
    let unkeyed = STANDARD
        .encode(hmac_sha256(b"", &[string_to_sign(&parts(), None, Form::DOCUMENTED).unwrap().as_bytes()]));
    assert!(is_mismatch(&verify(&parts(), b"", b"", &unkeyed)));
}

#[test]
fn a_client_is_shown_what_it_should_have_signed() {
    let shown = |parts: &Parts<'_>, body: &str| match verify(parts, body.as_bytes(), SECRET, "x") {
        Err(SignatureError::Mismatch(shown)) => shown,
        other => panic!("{other:?}"),
    };
    let headers = r"\nAuth-Access-Key: AK1\nAuth-Nonce: n-1\nAuth-Timestamp: 1677222787\n";
    assert_eq!(shown(&parts(), "").as_str(), format!(r"POST\n{headers}/api/links?a=1&b=2"));
    let md5 = content_md5(CANONICAL.as_bytes()).unwrap();
    assert_eq!(shown(&parts(), LOOSE).as_str(), format!(r"POST\n{md5}{headers}/api/links?a=1&b=2"));
    let odd = Parts { path_and_query: "/a\\b\u{202e}\r", ..parts() };
    assert!(shown(&odd, "").as_str().ends_with(r"\n/a\\b\u{202e}\u{d}"));
    let long = format!("/{}", "\u{202e}".repeat(1000));
    let long = shown(&Parts { path_and_query: &long, ..parts() }, "");
    assert!((SHOWN_BYTES_MAX - 8..=SHOWN_BYTES_MAX).contains(&long.as_str().len()));
    assert!(long.as_str().ends_with(r"\u{202e}"), "cut between escapes");
    assert!(!format!("{:?}", SignatureError::Mismatch(long)).contains("AK1"), "no log has it");
}

/// Two JSON texts are one to a signature exactly when their canonical forms are.
fn same_json(a: &[u8], b: &[u8]) -> bool {
    canonical(a).is_ok_and(|a| canonical(b) == Ok(a))
}

proptest! {
    #[test]
    fn any_changed_byte_of_the_body_is_refused(index in any::<prop::sample::Index>(), to in any::<u8>()) {
        for (sent, signed) in [(CANONICAL, CANONICAL), (LOOSE, CANONICAL), (LOOSE, LOOSE), ("no JSON", "no JSON")] {
            let mut body = sent.as_bytes().to_vec();
            let index = index.index(body.len());
            body[index] = to;
            let result = verify(&parts(), &body, SECRET, &signature(&parts(), signed));
            let expected = if body == signed.as_bytes() {
                Some(Body::AsSent)
            } else if same_json(&body, signed.as_bytes()) && signed == CANONICAL {
                Some(Body::Canonical(CANONICAL.into()))
            } else {
                None
            };
            prop_assert_eq!(result.ok(), expected);
        }
    }

    #[test]
    fn any_changed_byte_of_the_other_parts_is_refused(
        part in 0..6usize,
        index in any::<prop::sample::Index>(),
        to in proptest::char::range('!', '~'),
    ) {
        let good = parts();
        let mut texts = [good.method, good.path_and_query, good.access_key, good.nonce, good.timestamp].map(String::from).to_vec();
        texts.push(signature(&good, CANONICAL));
        let index = index.index(texts[part].len());
        prop_assume!(texts[part].as_bytes()[index] != to as u8);
        texts[part].replace_range(index..=index, to.encode_utf8(&mut [0; 4]));
        let [method, path_and_query, access_key, nonce, timestamp, signature] = &texts[..] else { unreachable!() };
        let parts = Parts { method, path_and_query, content_md5: None, access_key, nonce, timestamp };
        prop_assert!(verify(&parts, CANONICAL.as_bytes(), SECRET, signature).is_err());
    }
}
