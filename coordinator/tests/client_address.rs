//! Where a caller comes from: by its connection, or by what a trusted proxy says, and by nobody else's word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use support::{Coordinator, Edge, LIMIT, Signal, send};

/// A PROXY v2 header: `0x21` of a client at 203.0.113.9, `0x20` of the proxy itself.
fn proxy_header(command: u8) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0x30, 0x39, 0, 80];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 12][..], &addresses].concat()
}

fn call(id: &str, fields: &str) -> Vec<u8> {
    let head = "GET /download/a HTTP/1.1\r\nHost: c\r\nConnection: close\r\n";
    format!("{head}X-Request-Id: {id}\r\n{fields}\r\n").into_bytes()
}

/// Sends bytes part by part; gives all that comes back.
fn exchange(address: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        // Closed already, where it is to be.
        let _ = stream.write_all(part);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// The client that the log names for a call.
fn logged(coordinator: &Coordinator, id: &str) -> String {
    let line = coordinator.log_line(|line| line["request_id"] == id);
    line["client"].as_str().unwrap().to_owned()
}

#[test]
fn only_a_trusted_proxy_says_who_is_behind_it() {
    let edge = Edge::start("edge-1");
    let table = [
        ("", "127.0.0.1"),
        ("trusted_proxies = [\"192.0.2.0/24\"]", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.0/8\"]", "203.0.113.9"),
    ];
    for (proxies, expected) in table {
        let coordinator = Coordinator::start_with(&[&edge], proxies);
        for (id, fields) in [
            ("one", "X-Forwarded-For: 1.1.1.1, 203.0.113.9:4711\r\n"),
            ("two", "X-Forwarded-For: 1.1.1.1,203.0.113.9\r\nx-forwarded-for: 127.0.0.7\r\n"),
        ] {
            let answer = exchange(coordinator.address, &[&call(id, fields)]);
            assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
            assert_eq!(logged(&coordinator, id), expected, "{proxies} {fields}");
        }
    }
}

const PROXY_PROTOCOL: &str = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";

#[test]
fn a_proxy_header_says_who_the_connection_is_for() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXY_PROTOCOL);
    let forwarded = "X-Forwarded-For: 198.51.100.1\r\n";
    let table = [
        ("together", vec![[proxy_header(0x21), call("together", forwarded)].concat()], "203.0.113.9"),
        ("apart", vec![proxy_header(0x21), call("apart", "")], "203.0.113.9"),
        ("local", vec![proxy_header(0x20), call("local", forwarded)], "127.0.0.1"),
        (
            "in-parts",
            [&proxy_header(0x21)[..], &call("in-parts", "")].concat().chunks(9).map(<[u8]>::to_vec).collect(),
            "203.0.113.9",
        ),
    ];
    for (id, parts, expected) in table {
        let answer = exchange(coordinator.address, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert!(answer.starts_with("HTTP/1.1 302"), "{id}: {answer}");
        assert_eq!(logged(&coordinator, id), expected, "{id}");
    }
}

#[test]
fn without_a_proxy_header_there_is_no_answer() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXY_PROTOCOL);
    assert_eq!(exchange(coordinator.address, &[&call("bare", "")]), "");
    coordinator.log_line(|line| line["reason"] == "no PROXY v2 header");
    assert_eq!(exchange(coordinator.address, &[&proxy_header(0x22), &call("unknown", "")]), "");
    // The admin port is asked directly, whatever stands before the API.
    assert_eq!(send(coordinator.admin, "GET", "/healthz", &[]).status, 200);

    let elsewhere = PROXY_PROTOCOL.replace("127.0.0.1", "192.0.2.1");
    let coordinator = Coordinator::start_with(&[&edge], &elsewhere);
    assert_eq!(exchange(coordinator.address, &[&proxy_header(0x21), &call("stranger", "")]), "");
    coordinator.log_line(|line| line["reason"] == "not from one of `trusted_proxies`");
    assert!(!coordinator.log_text().contains("\"call\""));
}

#[test]
fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXY_PROTOCOL);
    let mut silent = TcpStream::connect(coordinator.address).unwrap();
    silent.write_all(&proxy_header(0x21)[..5]).unwrap();
    assert!(exchange(coordinator.address, &[&proxy_header(0x21), &call("one", "")]).contains("302"));
    let began = std::time::Instant::now();
    coordinator.signal(Signal::TERM);
    assert!(coordinator.wait().success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_call_s_line_has_no_more_of_an_address_than_is_wanted() {
    let edge = Edge::start("edge-1");
    for (shown, expected) in [("prefix", json!("192.0.2.0/24")), ("none", json!(null))] {
        let more = format!("trusted_proxies = [\"127.0.0.1\"]\n[log]\nclient_ip = \"{shown}\"\n");
        let coordinator = Coordinator::start_with(&[&edge], &more);
        let fields = [("X-Forwarded-For", "192.0.2.7"), ("X-Request-Id", "r-1")];
        assert_eq!(coordinator.send("GET", "/download/a.bin?user_id=ann", &fields).status, 302);
        let line = coordinator.log_line(|line| line["request_id"] == "r-1");
        assert_eq!(line["client"], expected, "{shown}");
        assert!(!coordinator.log_text().contains("192.0.2.7"), "{shown}");
    }
}
