//! Several ranges by one request: `multipart/byteranges` (RFC 9110 §14.6), from wherever the file is kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::ops::Range;
use std::time::Instant;

use support::{Answer, Edge, content, get_request, wait_for};

/// What a client takes out of a body of parts: each part's range, and its bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.field("Content-Type").unwrap();
    let delimiter = format!("--{}", kind.strip_prefix("multipart/byteranges; boundary=").unwrap());
    let mut rest = answer.body.strip_prefix(delimiter.as_bytes()).unwrap();
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let range = head.lines().find_map(|line| line.strip_prefix("Content-Range: bytes ")).unwrap();
        let (span, _) = range.split_once('/').unwrap();
        let (first, last) = span.split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        parts.push((range.to_owned(), rest[end + 4..end + 4 + length].to_vec()));
        let next = format!("\r\n{delimiter}");
        rest = rest[end + 4 + length..].strip_prefix(next.as_bytes()).unwrap();
    }
    assert_eq!(rest, b"--\r\n");
    parts
}

fn field(ranges: &[Range<usize>]) -> String {
    let specs: Vec<_> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    format!("Range: bytes={}\r\n", specs.join(","))
}

fn check(answer: &Answer, bytes: &[u8], ranges: &[Range<usize>]) {
    assert_eq!(answer.status, 206);
    let expected = ranges.iter().map(|range| {
        (format!("{}-{}/{}", range.start, range.end - 1, bytes.len()), bytes[range.clone()].to_vec())
    });
    assert!(parts(answer) == expected.collect::<Vec<_>>(), "{}", answer.head);
}

#[test]
fn parts_come_from_memory_from_shared_memory_and_from_windows() {
    let edge = Edge::start();
    let window = 1 << 20;
    let far_apart = [
        5 * window + 17..7 * window + 3,
        0..1,
        9 * window..9 * window + 100_000,
        3 * window - 1..3 * window + 1,
        10 * window + 2..10 * window + 3,
    ];
    let table: [(usize, &[Range<usize>]); 3] = [
        (5000, &[4000..5000, 0..10]),
        (40_000, &[30_000..30_001, 100..20_000]),
        (10 * window + 3, &far_apart),
    ];
    for (size, ranges) in table {
        let (name, bytes) = (format!("{size}.bin"), content(size, size as u64));
        edge.file(&name, &bytes);
        let token = edge.token(&name);
        let mut connection = edge.connect();
        for _ in ["cold", "warm"] {
            connection.send(&get_request(&token, &field(ranges)));
            check(&connection.answer(), &bytes, ranges);
        }
        // What comes next on the connection begins where the last answer said it would end.
        connection.send(&get_request(&token, "Range: bytes=7-8\r\n"));
        assert_eq!(connection.answer().body, bytes[7..9]);
    }
}

#[test]
fn parts_keep_to_the_rate() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "rate = \"400kB\"");
    let bytes = content(3 << 20, 9);
    edge.file("a.bin", &bytes);
    let ranges = [2_000_000..2_200_000, 0..100_000];
    let began = Instant::now();
    check(&edge.get("a.bin", &field(&ranges)), &bytes, &ranges);
    assert!(began.elapsed().as_secs_f64() > 0.6, "300 kB at 400 kB a second took {:?}", began.elapsed());
}

#[test]
fn no_two_answers_have_one_boundary() {
    let edge = Edge::start();
    edge.file("a.bin", &content(5000, 1));
    let boundary = || {
        let answer = edge.get("a.bin", "Range: bytes=0-0,4000-4000\r\n");
        answer.field("Content-Type").unwrap().to_owned()
    };
    assert_ne!(boundary(), boundary());
}

#[test]
fn too_many_ranges_get_the_whole_file() {
    let edge = Edge::start();
    let bytes = content(100_000, 1);
    edge.file("a.bin", &bytes);
    let ranges = |count: usize| (0..count).map(|at| at * 1000..at * 1000 + 1).collect::<Vec<_>>();
    check(&edge.get("a.bin", &field(&ranges(32))), &bytes, &ranges(32));
    let answer = edge.get("a.bin", &field(&ranges(33)));
    assert_eq!((answer.status, answer.body == bytes), (200, true));
}

#[test]
fn a_file_is_not_asked_for_many_times_at_once() {
    let edge = Edge::start();
    let bytes = content(100_000, 1);
    edge.file("a.bin", &bytes);
    let answer = edge.get("a.bin", &format!("Range: bytes={}\r\n", ["0-"; 32].join(",")));
    assert_eq!((answer.status, answer.field("Content-Range")), (206, Some("bytes 0-99999/100000")));
    assert!(answer.body == bytes);
}

#[test]
fn parts_are_logged_and_counted_as_one_body() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "[log]\naccess_file = \"access.jsonl\"");
    edge.file("a.bin", &content(2 << 20, 1));
    let answer = edge.get("a.bin", "Range: bytes=1000000-1000009,5-6\r\n");
    let log = edge.folder.path().join("access.jsonl");
    let line = wait_for("the line", || {
        let text = fs::read_to_string(&log).ok()?;
        text.lines().next().map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["range"], "1000000-1000009,5-6");
    assert_eq!((&line["bytes"], &line["ended"]), (&answer.body.len().into(), &"complete".into()));
    assert_eq!(edge.metric("sluice_edge_in_flight_bytes "), 0.0);
    assert_eq!(edge.metric("sluice_edge_body_bytes_total "), answer.body.len() as f64);
}
