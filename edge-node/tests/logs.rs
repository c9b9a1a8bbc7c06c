//! The access log and the usage record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Read;

use serde_json::Value;
use support::{Edge, content, get_request, wait_for};

fn edge_with(log: &str) -> Edge {
    let top =
        format!("threads = 2\n[log]\naccess_file = \"access.jsonl\"\nusage_file = \"usage.jsonl\"\n{log}");
    Edge::start_with(&top, "size = \"64MiB\"")
}

fn lines(edge: &Edge, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(edge.folder.path().join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the log has so many lines.
fn logged(edge: &Edge, count: usize) -> Vec<Value> {
    wait_for("the lines to be written", || {
        let lines = lines(edge, "access.jsonl");
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn every_request_is_a_line_that_tells_who_got_what_and_why_it_ended() {
    let edge = edge_with("");
    edge.file("a/small \"1\".bin", &content(1000, 1));
    edge.file("big.bin", &content(24 << 20, 2));
    let token = |file_id: &str| {
        let mut claims = edge.claims(file_id);
        claims.user_id = Some("ann\n\"the first\"".into());
        claims.cid = Some("AK1".into());
        claims.rid = Some("request-1".into());
        edge.seal(&claims)
    };
    let mut connection = edge.connect();
    let small = token("a/small \"1\".bin");
    for fields in ["", "Range: bytes=10-19\r\n", "If-None-Match: *\r\n"] {
        connection.send(&get_request(&small, fields));
        connection.answer();
    }
    connection.send(&format!("HEAD /download?token={small} HTTP/1.1\r\nHost: edge\r\n\r\n"));
    connection.answer_to_head();
    connection.send(&get_request(&token("none"), ""));
    connection.answer();
    connection.send(&get_request("no.token", ""));
    connection.answer();
    let mut aborted = edge.connect();
    aborted.send(&get_request(&token("big.bin"), ""));
    aborted.stream.read_exact(&mut [0; 100_000]).unwrap();
    drop(aborted);

    let lines = logged(&edge, 7);
    let expected = [
        // file, method, status, bytes, range, ended
        (Some("a/small \"1\".bin"), "GET", 200, Some(1000), None, "complete"),
        (Some("a/small \"1\".bin"), "GET", 206, Some(10), Some("10-19"), "complete"),
        (Some("a/small \"1\".bin"), "GET", 304, Some(0), None, "complete"),
        (Some("a/small \"1\".bin"), "HEAD", 200, Some(0), None, "complete"),
        (Some("none"), "GET", 404, Some(0), None, "complete"),
        (None, "GET", 400, Some(0), None, "complete"),
        (Some("big.bin"), "GET", 200, None, None, "client"),
    ];
    for (file, method, status, bytes, range, ended) in expected {
        let is_it = |line: &&Value| {
            line["file"].as_str() == file
                && line["method"] == method
                && line["status"] == status
                && bytes.is_none_or(|bytes: u64| line["bytes"] == bytes)
                && line["range"].as_str() == range
                && line["ended"] == ended
        };
        let found: Vec<_> = lines.iter().filter(is_it).collect();
        let [line] = found[..] else { panic!("{file:?} {method} {status} in {lines:#?}") };
        assert_eq!((&line["edge"], &line["client"]), (&"edge-1".into(), &"127.0.0.1".into()));
        if file.is_some() {
            let known = (&line["user"], &line["cid"], &line["id"]);
            assert_eq!(known, (&"ann\n\"the first\"".into(), &"AK1".into(), &"request-1".into()));
        }
        let seconds = |name: &str| line[name].as_f64().unwrap();
        assert!(seconds("first_byte_seconds") <= seconds("seconds"));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    let text = fs::read_to_string(edge.folder.path().join("access.jsonl")).unwrap();
    assert!(!text.contains(&small) && !text.contains("no.token"), "no token is ever logged");
    assert_eq!(edge.metric("sluice_edge_answer_seconds_count "), 7.0);
}

#[test]
fn rotated_logs_are_opened_anew() {
    let edge = edge_with("client_ip = \"prefix\"");
    edge.file("a.bin", b"content");
    let path = |name: &str| edge.folder.path().join(name);
    edge.get("a.bin", "");
    assert_eq!(logged(&edge, 1)[0]["client"], "127.0.0.0/24");
    fs::rename(path("access.jsonl"), path("access.jsonl.1")).unwrap();
    fs::rename(path("usage.jsonl"), path("usage.jsonl.1")).unwrap();
    let pid = rustix::process::Pid::from_raw(edge.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_for("new files", || (path("access.jsonl").exists() && path("usage.jsonl").exists()).then_some(()));
    edge.get("a.bin", "");
    logged(&edge, 1);
    assert_eq!(lines(&edge, "access.jsonl.1").len(), 1);
}

#[test]
fn usage_adds_up_to_what_was_sent_over_an_end_by_signal() {
    let mut edge = edge_with("client_ip = \"none\"");
    edge.file("a.bin", &content(1000, 1));
    edge.file("b.bin", &content(3 << 20, 2));
    let mut expected = std::collections::BTreeMap::new();
    for turn in 0..60u64 {
        let (file, size) = if turn % 3 == 0 { ("b.bin", 3 << 20) } else { ("a.bin", 1000) };
        let mut claims = edge.claims(file);
        let cid = format!("AK{}", turn % 4);
        claims.cid = (turn % 4 != 0).then(|| cid.clone().into());
        let token = edge.seal(&claims);
        let mut connection = edge.connect();
        connection.send(&get_request(&token, ""));
        assert_eq!(connection.answer().status, 200);
        let sum: &mut (u64, u64) = expected.entry(claims.cid.map(|_| cid)).or_default();
        *sum = (sum.0 + 1, sum.1 + size);
    }
    edge.terminate();
    assert_eq!(edge.exit_code(), 0);
    let mut sums = std::collections::BTreeMap::new();
    for line in lines(&edge, "usage.jsonl") {
        let sum: &mut (u64, u64) = sums.entry(line["cid"].as_str().map(str::to_owned)).or_default();
        *sum = (sum.0 + line["downloads"].as_u64().unwrap(), sum.1 + line["bytes"].as_u64().unwrap());
    }
    assert_eq!(sums, expected);
    let lines = lines(&edge, "access.jsonl");
    assert_eq!(lines.len(), 60, "nor is a line lost");
    assert!(lines.iter().all(|line| line["client"].is_null()));
}

#[test]
fn a_download_that_is_cut_at_the_end_is_logged_so() {
    let mut edge = edge_with("");
    edge.file("big.bin", &content(40 << 20, 1));
    let mut downloading = edge.connect();
    downloading.send(&get_request(&edge.token("big.bin"), ""));
    wait_for("the download to begin", || (edge.metric("sluice_edge_transfers ") >= 1.0).then_some(()));
    edge.terminate();
    wait_for("the edge to drain", || edge.log().contains("draining").then_some(()));
    edge.terminate();
    assert_eq!(edge.exit_code(), 0);
    let lines = lines(&edge, "access.jsonl");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&line["file"], &line["status"], &line["ended"]),
        (&"big.bin".into(), &200.into(), &"draining".into())
    );
    let usage = self::lines(&edge, "usage.jsonl");
    let sent: u64 = usage.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    assert_eq!(line["bytes"], sent, "and accounted for");
}
