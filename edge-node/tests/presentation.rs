//! What an answer says beside its bytes: names for people, what browsers may do with it, whose pages may read it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::borrow::Cow;

use sluice_shared::token::Claims;
use support::{Answer, Edge, get_request};

fn ask(edge: &Edge, text: &str) -> Answer {
    let mut connection = edge.connect();
    connection.send(text);
    connection.try_answer(text.starts_with("HEAD") || text.starts_with("OPTIONS")).unwrap()
}

#[test]
fn head_is_answered_with_the_head_that_get_has() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "[cors]\norigins = [\"https://a.example\"]");
    edge.file("a.bin", b"0123456789");
    let etag = edge.get("a.bin", "").field("ETag").unwrap().to_owned();
    let (good, other) = (edge.token("a.bin"), edge.token("b.bin"));
    let without_date = |answer: &Answer| {
        answer.head.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
    };
    for (token, fields) in [
        (&good, String::new()),
        (&good, format!("If-None-Match: {etag}\r\n")),
        (&good, "If-Match: \"x\"\r\n".to_owned()),
        (&good, "Origin: https://a.example\r\n".to_owned()),
        (&good, "Connection: close\r\n".to_owned()),
        (&other, String::new()),
    ] {
        let get = get_request(token, &fields);
        let head = get.replacen("GET", "HEAD", 1);
        assert_eq!(without_date(&ask(&edge, &head)), without_date(&ask(&edge, &get)), "{fields}");
    }
    // §14.2: there is no range of an answer without content.
    let ranged = ask(&edge, &get_request(&good, "Range: bytes=0-3\r\n").replacen("GET", "HEAD", 1));
    assert_eq!((ranged.status, ranged.field("Content-Length")), (200, Some("10")));
}

#[test]
fn files_are_named_for_people() {
    let edge = Edge::start();
    edge.file("reports/Übersicht 2026.pdf", b"content");
    let named = |name: Option<&'static str>| {
        let claims = Claims { r#fn: name.map(Cow::Borrowed), ..edge.claims("reports/Übersicht 2026.pdf") };
        let answer = ask(&edge, &get_request(&edge.seal(&claims), ""));
        answer.field("Content-Disposition").unwrap().to_owned()
    };
    let long = "é".repeat(200);
    let long: &'static str = format!("{long}.pdf").leak();
    let kept = "é".repeat(125);
    let table = [
        (None, "_bersicht 2026.pdf", "%C3%9Cbersicht%202026.pdf".to_owned()),
        (Some("plain.pdf"), "plain.pdf", "plain.pdf".to_owned()),
        (Some("a \"b\" 100%.pdf"), "a _b_ 100_.pdf", "a%20%22b%22%20100%25.pdf".to_owned()),
        (Some("../../x"), ".._.._x", ".._.._x".to_owned()),
        (Some("a\r\nX: y"), "a__X: y", "a__X%3A%20y".to_owned()),
        (Some("日本語.zip"), "___.zip", "%E6%97%A5%E6%9C%AC%E8%AA%9E.zip".to_owned()),
        (Some(""), "download", "download".to_owned()),
        (Some(long), &format!("{}.pdf", "_".repeat(125)), format!("{}.pdf", kept.replace('é', "%C3%A9"))),
    ];
    for (name, ascii, extended) in table {
        assert_eq!(
            named(name),
            format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{extended}"),
            "{name:?}"
        );
    }
}

#[test]
fn what_may_be_shown_is_and_what_runs_scripts_is_not() {
    let edge = Edge::start_with("inline = [\"application/pdf\", \"image/*\"]", "size = \"64MiB\"");
    let shown = |name: &str| {
        edge.file(name, b"content");
        let answer = edge.get(name, "");
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
        let disposition = answer.field("Content-Disposition").unwrap();
        assert!(
            disposition.ends_with(&format!("; filename=\"{name}\"; filename*=UTF-8''{name}")),
            "{disposition}"
        );
        disposition.starts_with("inline;")
    };
    assert!(shown("a.pdf") && shown("a.png") && !shown("a.svg") && !shown("a.html") && !shown("a.txt"));
    let named = Claims { r#fn: Some("b.pdf".into()), ..edge.claims("a.pdf") };
    let answer = ask(&edge, &get_request(&edge.seal(&named), ""));
    assert_eq!(
        answer.field("Content-Disposition"),
        Some("inline; filename=\"b.pdf\"; filename*=UTF-8''b.pdf")
    );
}

#[test]
fn the_name_that_a_token_gives_decides_the_type() {
    let edge = Edge::start_with("inline = [\"application/pdf\", \"image/*\"]", "size = \"64MiB\"");
    for name in ["a.bin", "page.html", "plain"] {
        edge.file(name, &[b'x'; 4000]);
    }
    let table = [
        ("a.bin", "b.pdf", "application/pdf", "inline"),
        ("a.bin", "b.html", "text/html", "attachment"),
        ("a.bin", "b.svg", "image/svg+xml", "attachment"),
        ("a.bin", "b", "application/octet-stream", "attachment"),
        ("page.html", "b", "text/html", "attachment"),
        ("page.html", "b.unheard-of", "text/html", "attachment"),
        ("page.html", "b.png", "image/png", "inline"),
        ("plain", "b.tar.gz", "application/gzip", "attachment"),
    ];
    for (file, name, media_type, disposition) in table {
        let token = edge.seal(&Claims { r#fn: Some(name.into()), ..edge.claims(file) });
        let answer = ask(&edge, &get_request(&token, ""));
        assert_eq!(answer.field("Content-Type"), Some(media_type), "{file} as {name}");
        assert!(answer.field("Content-Disposition").unwrap().starts_with(disposition), "{file} as {name}");
        let parts = ask(&edge, &get_request(&token, "Range: bytes=0-0,3999-3999\r\n"));
        let body = String::from_utf8(parts.body).unwrap();
        assert_eq!(body.matches(&format!("\r\nContent-Type: {media_type}\r\n")).count(), 2, "{body}");
    }
}

#[test]
fn a_continuation_is_described_no_further_than_it_has_to_be() {
    let edge = Edge::start();
    edge.file("a.pdf", &[b'x'; 4000]);
    let first = edge.get("a.pdf", "");
    let (etag, modified) = (first.field("ETag").unwrap(), first.field("Last-Modified").unwrap());
    let required = ["ETag", "Cache-Control", "Content-Length", "Date"];
    let others = ["Last-Modified", "Content-Disposition"];
    for range in ["bytes=3-", "bytes=0-0,3999-3999"] {
        let (range, is_one) = (format!("Range: {range}\r\n"), range == "bytes=3-");
        let continued = edge.get("a.pdf", &format!("If-Range: {etag}\r\n{range}"));
        let anew = edge.get("a.pdf", &format!("If-Range: \"x\"\r\n{range}"));
        let asked = edge.get("a.pdf", &range);
        assert_eq!([continued.status, anew.status, asked.status], [206, 200, 206]);
        for name in required {
            assert!([&continued, &anew, &asked].iter().all(|answer| answer.field(name).is_some()), "{name}");
        }
        for name in others {
            assert_eq!(continued.field(name), None, "RFC 9110 §15.3.7 {name}");
            assert_eq!(asked.field(name), first.field(name));
            assert_eq!(anew.field(name), first.field(name));
        }
        assert_eq!(continued.field("ETag"), Some(etag));
        assert_eq!(continued.field("Content-Range").is_some(), is_one);
        let kind = continued.field("Content-Type");
        assert!(if is_one { kind.is_none() } else { kind.unwrap().starts_with("multipart/byteranges") });
    }
    assert!(!modified.is_empty());
}

#[test]
fn pages_of_listed_origins_may_read_answers() {
    let cors = "[cors]\norigins = [\"https://a.example\", \"https://b.example:8443\"]";
    let edge = Edge::start_configured("", "size = \"64MiB\"", cors);
    edge.file("a.bin", b"0123456789");
    let (good, bad) = (edge.token("a.bin"), "x");
    for (token, fields, status) in [
        (good.as_str(), "", 200),
        (&good, "Range: bytes=0-1\r\n", 206),
        (&good, "Range: bytes=0-1,4000-\r\n", 206),
        (&good, "If-None-Match: *\r\n", 304),
        (&good, "Range: bytes=99-\r\n", 416),
        (bad, "", 400),
        (&good, "Expect: tea\r\n", 417),
    ] {
        for (origin, allowed) in [
            ("Origin: https://b.example:8443\r\n", Some("https://b.example:8443")),
            ("Origin: https://c.example\r\n", None),
            ("Origin: null\r\n", None),
            ("", None),
        ] {
            let answer = ask(&edge, &get_request(token, &format!("{fields}{origin}")));
            assert_eq!(answer.status, status, "{fields}");
            assert_eq!(answer.field("Access-Control-Allow-Origin"), allowed, "{fields} {origin}");
            assert_eq!(answer.field("Vary"), Some("Origin"), "{fields} {origin}");
            assert!(answer.field("Access-Control-Expose-Headers").unwrap().contains("Content-Range"));
            assert_eq!(answer.field("Access-Control-Allow-Credentials"), None);
        }
    }
}

#[test]
fn preflights_are_answered_where_pages_may_ask() {
    let preflight = "OPTIONS /download HTTP/1.1\r\nHost: e\r\nOrigin: https://a.example\r\n\
                     Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range\r\n\r\n";
    for (origins, allowed, vary) in
        [("[\"https://a.example\"]", "https://a.example", Some("Origin")), ("[\"*\"]", "*", None)]
    {
        let cors = format!("[cors]\norigins = {origins}");
        let edge = Edge::start_configured("", "size = \"64MiB\"", &cors);
        let mut connection = edge.connect();
        for text in [preflight, preflight, "OPTIONS * HTTP/1.1\r\nHost: e\r\n\r\n"] {
            connection.send(text);
            let answer = connection.answer();
            assert_eq!((answer.status, answer.field("Content-Length")), (204, None));
            assert_eq!(answer.field("Allow"), Some("GET, HEAD, OPTIONS"));
            assert_eq!(answer.field("Access-Control-Allow-Methods"), Some("GET, HEAD"));
            assert!(answer.field("Access-Control-Allow-Headers").unwrap().contains("If-Range"));
            assert_eq!(answer.field("Vary"), vary);
            if text == preflight {
                assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(allowed));
            }
        }
        assert_eq!(ask(&edge, "OPTIONS /x HTTP/1.1\r\nHost: e\r\n\r\n").status, 404);
        let refused = ask(&edge, "DELETE /download HTTP/1.1\r\nHost: e\r\n\r\n");
        assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    }
    let edge = Edge::start();
    let refused = ask(&edge, &preflight.replacen("OPTIONS", "PUT", 1));
    assert_eq!(refused.field("Access-Control-Allow-Origin"), None);
    assert_eq!((refused.status, refused.field("Vary")), (405, None));
}
