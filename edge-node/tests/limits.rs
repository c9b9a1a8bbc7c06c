//! Rates, slow clients, and places that are bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{self, Read};
use std::time::{Duration, Instant};

use support::{Answer, Connection, Edge, content, get_request, wait_for};

/// Reads an answer, and says how long it took.
fn timed(connection: &mut Connection, request: &str) -> (Answer, Duration) {
    let began = Instant::now();
    connection.send(request);
    (connection.answer(), began.elapsed())
}

#[test]
fn the_rate_of_a_token_is_never_passed() {
    let edge = Edge::start();
    for length in [60_000, 300_000] {
        let (name, bytes) = (format!("{length}.bin"), content(length, 1));
        edge.file(&name, &bytes);
        assert_eq!(edge.get(&name, "").status, 200, "warm");
        let mut claims = edge.claims(&name);
        claims.rate = Some(100_000);
        let request = get_request(&edge.seal(&claims), "");
        let (answer, took) = timed(&mut edge.connect(), &request);
        assert!(answer.body == bytes);
        // The last portion of a twentieth is on its way when the body ends.
        let least = Duration::from_secs_f64((length as f64 / 100_000.0 - 0.05) * 0.95);
        assert!(took >= least, "{length} bytes in {took:?}");
    }
}

#[test]
fn the_configured_rate_holds_from_answer_to_answer() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "rate = \"50KB\"");
    edge.file("a.bin", &content(5_000, 1));
    let token = edge.token("a.bin");
    let mut connection = edge.connect();
    let began = Instant::now();
    for _ in 0..20 {
        connection.send(&get_request(&token, ""));
        assert_eq!(connection.answer().body.len(), 5_000);
    }
    assert!(began.elapsed() >= Duration::from_millis(1800), "100 kB in {:?}", began.elapsed());
    let mut claims = edge.claims("a.bin");
    claims.rate = Some(0);
    connection.send(&get_request(&edge.seal(&claims), ""));
    assert_eq!(connection.answer().status, 400, "a token for nothing a second");
}

#[test]
fn who_takes_too_little_is_cut_and_who_takes_enough_is_not() {
    let edge =
        Edge::start_configured("", "size = \"128MiB\"", "send_timeout = \"1s\"\nsend_rate_min = \"1KiB\"");
    let bytes = content(24 << 20, 1);
    edge.file("a.bin", &bytes);
    let mut idle = edge.connect();
    idle.send(&get_request(&edge.token("a.bin"), ""));
    let mut slow = edge.connect();
    slow.send(&get_request(&edge.token("a.bin"), ""));
    let (began, mut taken) = (Instant::now(), 0);
    let mut some = vec![0; 64 * 1024];
    while edge.metric("sluice_edge_slow_clients_total ") < 1.0 || began.elapsed() < Duration::from_secs(4) {
        slow.stream.read_exact(&mut some).unwrap();
        taken += some.len();
        assert!(began.elapsed() < support::LIMIT, "the idle one is cut");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(taken < bytes.len() / 2, "the slow one was slow");
    assert_eq!(edge.metric("sluice_edge_transfers "), 1.0, "and goes on");
    // What the kernel had taken for the idle one is gone with its connection.
    let mut rest = Vec::new();
    let ended = idle.stream.read_to_end(&mut rest);
    assert!(rest.len() < bytes.len());
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
}

#[test]
fn a_client_with_all_the_connections_it_may_have_is_told_so() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "connections_per_address = 3");
    edge.file("a.bin", b"content");
    let mut held: Vec<Connection> = (0..3).map(|_| edge.connect()).collect();
    for connection in &mut held {
        connection.send(&get_request(&edge.token("a.bin"), ""));
        assert_eq!(connection.answer().status, 200);
    }
    let mut refused = edge.connect();
    refused.send(&get_request(&edge.token("a.bin"), ""));
    let answer = refused.answer();
    assert_eq!((answer.status, answer.field("Connection")), (429, Some("close")));
    assert!(answer.detail().contains("from this address") && answer.field("Retry-After").is_some());
    assert!(refused.is_closed());
    assert_eq!(edge.metric("sluice_edge_refused_connections_total{reason=\"address\"} "), 1.0);
    held.clear();
    wait_for("a place", || (edge.get("a.bin", "").status == 200).then_some(()));
}

#[test]
fn a_full_edge_says_so_though_it_is_not_asked() {
    let edge = Edge::start_configured("threads = 1", "size = \"64MiB\"", "connections = 2");
    edge.file("a.bin", b"content");
    let mut held: Vec<Connection> = (0..2).map(|_| edge.connect()).collect();
    for connection in &mut held {
        connection.send(&get_request(&edge.token("a.bin"), ""));
        assert_eq!(connection.answer().status, 200);
    }
    let refused: Vec<Connection> = (0..10).map(|_| edge.connect()).collect();
    for mut connection in refused {
        assert_eq!(connection.answer().status, 503);
    }
    assert_eq!(edge.metric("sluice_edge_refused_connections_total{reason=\"full\"} "), 10.0);
    assert_eq!(edge.metric("sluice_edge_connections "), 2.0);
}

#[test]
fn a_token_has_so_many_transfers_at_a_time() {
    let edge = Edge::start_configured("", "size = \"128MiB\"", "transfers_per_token = 2");
    edge.file("a.bin", &content(24 << 20, 1));
    let request = get_request(&edge.token("a.bin"), "");
    let begin = |request: &str| {
        let mut connection = edge.connect();
        connection.send(request);
        connection
    };
    let held = (begin(&request), begin(&request));
    wait_for("two transfers", || (edge.metric("sluice_edge_transfers ") == 2.0).then_some(()));
    let mut third = begin(&request);
    let answer = third.answer();
    assert_eq!(answer.status, 429);
    assert!(answer.detail().contains("with this link") && answer.field("Retry-After").is_some());
    assert_eq!(edge.get("a.bin", "").status, 200, "another token has its own");
    drop(held);
    wait_for("a place", || {
        third.send(&request);
        (third.answer().status == 200).then_some(())
    });
}
