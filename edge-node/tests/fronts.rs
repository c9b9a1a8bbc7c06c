//! One plan, three fronts: what is asked over plain HTTP/1.1, over TLS and over HTTP/2 is answered alike.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encrypted;
mod support;

use std::collections::BTreeMap;

use encrypted::{Fronts, Got, ask_http2, read_http1, run};
use support::content;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

type Fields = &'static [(&'static str, &'static str)];

/// Method, target, fields, status. `TOKEN` is good for a file of so many bytes, and `ETAG` is its entity tag.
const TABLE: &[(&str, &str, Fields, u16)] = &[
    ("GET", "/download?token=TOKEN", &[], 200),
    ("GET", "/download/a%20name?token=TOKEN", &[], 200),
    ("HEAD", "/download?token=TOKEN", &[], 200),
    ("HEAD", "/download?token=TOKEN", &[("range", "bytes=0-3")], 200),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=0-3")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=-3")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=900-")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=0-3,900-901")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=900-901,0-3")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=0-3,2-9")], 206),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=9-3")], 200),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=99999999999-")], 416),
    ("GET", "/download?token=TOKEN", &[("if-none-match", "ETAG")], 304),
    ("GET", "/download?token=TOKEN", &[("if-none-match", "\"x\""), ("if-none-match", "W/ETAG")], 304),
    ("HEAD", "/download?token=TOKEN", &[("if-none-match", "ETAG")], 304),
    ("GET", "/download?token=TOKEN", &[("if-match", "\"x\"")], 412),
    ("GET", "/download?token=TOKEN", &[("if-match", "W/ETAG")], 412),
    ("GET", "/download?token=TOKEN", &[("if-match", "ETAG"), ("range", "bytes=1-1")], 206),
    ("GET", "/download?token=TOKEN", &[("if-range", "ETAG"), ("range", "bytes=1-1")], 206),
    ("GET", "/download?token=TOKEN", &[("if-range", "W/ETAG"), ("range", "bytes=1-1")], 200),
    ("GET", "/download?token=TOKEN", &[("if-modified-since", "Fri, 31 Dec 2100 23:59:59 GMT")], 304),
    ("GET", "/download?token=TOKEN", &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 412),
    ("GET", "/download?token=TOKEN", &[("range", "bytes=0-0"), ("range", "bytes=1-1")], 200),
    ("GET", "/download?token=TOKEN", &[("origin", "https://a.example")], 200),
    ("GET", "/download?token=TOKEN", &[("origin", "https://b.example")], 200),
    ("GET", "/download?token=TOKEN", &[("expect", "100-continue")], 200),
    ("GET", "/download?token=TOKEN", &[("expect", "tea")], 417),
    ("GET", "/download?token=TOKEN&token=TOKEN", &[], 400),
    ("GET", "/download?token=x", &[], 400),
    ("HEAD", "/download?token=x", &[], 400),
    ("GET", "/download", &[("origin", "https://a.example")], 400),
    ("GET", "/elsewhere?token=TOKEN", &[], 404),
    ("HEAD", "/elsewhere", &[], 404),
    ("POST", "/download?token=TOKEN", &[], 405),
    ("DELETE", "/download?token=TOKEN", &[], 405),
    (
        "OPTIONS",
        "/download",
        &[("origin", "https://a.example"), ("access-control-request-method", "GET")],
        204,
    ),
    ("OPTIONS", "/elsewhere", &[], 404),
    ("GET", "/download?token=TOKEN", &[("content-length", "0")], 200),
    ("GET", "/download?token=TOKEN", &[("accept-encoding", "gzip, br")], 200),
];

/// What is to be equal: all but the time, the connection, and what is drawn anew for each answer.
fn comparable(mut got: Got) -> Got {
    got.fields.retain(|name, _| !matches!(name.as_str(), "date" | "connection"));
    let kind = got.fields.get("content-type").cloned().unwrap_or_default();
    if let Some(boundary) = kind.strip_prefix("multipart/byteranges; boundary=") {
        got.body = String::from_utf8(got.body).unwrap().replace(boundary, "BOUNDARY").into_bytes();
        got.fields.insert("content-type".to_owned(), kind.replace(boundary, "BOUNDARY"));
    }
    got
}

fn text(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: edge.example\r\n{fields}\r\n")
}

#[test]
fn every_front_answers_alike() {
    let fronts = Fronts::start("", "[cors]\norigins = [\"https://a.example\"]");
    // In ordinary memory, in shared memory, in windows.
    for size in [1000, 20_000, 3 << 20] {
        let name = format!("{size}.bin");
        // Plain text, so that parts can be compared as such.
        let bytes: Vec<u8> = content(size, 1).into_iter().map(|byte| b'a' + byte % 26).collect();
        fronts.edge.file(&name, &bytes);
        let (token, first) = (fronts.edge.token(&name), fronts.edge.get(&name, ""));
        assert!(first.body == bytes);
        let etag = first.field("ETag").unwrap();
        run(async {
            let mut plain = TcpStream::connect(fronts.edge.address).await.unwrap();
            let mut tls = fronts.connect(&["http/1.1"]).await;
            let mut http2 = fronts.connect_http2().await;
            for (method, target, fields, status) in TABLE {
                let target = target.replace("TOKEN", &token);
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| (*name, value.replace("ETAG", etag))).collect();
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (text, to_head) = (text(method, &target, &fields), *method == "HEAD");
                plain.write_all(text.as_bytes()).await.unwrap();
                let expected = comparable(read_http1(&mut plain, to_head).await);
                assert_eq!(expected.status, *status, "{text}");
                tls.write_all(text.as_bytes()).await.unwrap();
                let over_tls = comparable(read_http1(&mut tls, to_head).await);
                assert!(over_tls == expected, "{text}{:?}\n{:?}", over_tls.fields, expected.fields);
                let over_http2 = comparable(ask_http2(&mut http2, method, &target, &fields).await);
                assert!(over_http2 == expected, "{text}{:?}\n{:?}", over_http2.fields, expected.fields);
            }
        });
    }
}

#[test]
fn large_files_arrive_whole_over_every_front() {
    let fronts = Fronts::start("", "");
    let bytes = content((20 << 20) + 3, 7);
    fronts.edge.file("a.bin", &bytes);
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        for _ in ["cold", "warm"] {
            let mut tls = fronts.connect(&["http/1.1"]).await;
            tls.write_all(text("GET", &target, &[]).as_bytes()).await.unwrap();
            assert!(read_http1(&mut tls, false).await.body == bytes);
            let mut http2 = fronts.connect_http2().await;
            assert!(ask_http2(&mut http2, "GET", &target, &[]).await.body == bytes);
        }
    });
}

#[test]
fn requests_over_tls_are_logged_and_counted_as_all_are() {
    let fronts = Fronts::start("", "[log]\naccess_file = \"access.jsonl\"\nusage_file = \"usage.jsonl\"");
    fronts.edge.file("a.bin", &content(2 << 20, 1));
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        let mut tls = fronts.connect(&[]).await;
        tls.write_all(text("GET", &target, &[]).as_bytes()).await.unwrap();
        read_http1(&mut tls, false).await;
        let mut http2 = fronts.connect_http2().await;
        ask_http2(&mut http2, "GET", &target, &[("range", "bytes=5-9")]).await;
        ask_http2(&mut http2, "GET", "/download?token=x", &[]).await;
    });
    let lines = support::wait_for("three lines", || {
        let text = std::fs::read_to_string(fronts.edge.folder.path().join("access.jsonl")).ok()?;
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 3).then_some(lines)
    });
    let seen: BTreeMap<_, _> = lines.iter().map(|line| (line["status"].as_u64().unwrap(), line)).collect();
    assert_eq!((&seen[&200]["bytes"], &seen[&200]["ended"]), (&(2 << 20).into(), &"complete".into()));
    assert_eq!((&seen[&206]["bytes"], &seen[&206]["range"]), (&5.into(), &"5-9".into()));
    assert_eq!(seen[&400]["bytes"], 0);
    assert_eq!(fronts.edge.metric("sluice_edge_body_bytes_total "), f64::from((2 << 20) + 5));
    assert_eq!(fronts.edge.metric("sluice_edge_in_flight_bytes "), 0.0);
    assert_eq!(fronts.edge.metric("sluice_edge_transfers "), 0.0);
}
