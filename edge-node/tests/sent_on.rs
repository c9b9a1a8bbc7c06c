//! What an edge cannot serve is sent on, by way of the coordinator that minted the token, to another edge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sluice_shared::token::{Claims, NumericDate};
use support::{Answer, Connection, Edge, content, get_request, wait_for};

const COORDINATOR: &str = "http://coordinator.example:8080";

fn known() -> String {
    format!("threads = 1\ncoordinator_urls = [\"{COORDINATOR}\"]")
}

fn minted<'a>(edge: &Edge, file_id: &'a str) -> Claims<'a> {
    Claims { iss: Some(COORDINATOR.into()), ..edge.claims(file_id) }
}

/// Checks that the client of `token` is sent to another edge than this one.
fn check_sent_on(answer: &Answer, token: &str) {
    assert_eq!(answer.status, 302, "{answer:?}");
    let location = format!("{COORDINATOR}/renew?token={token}&not=edge-1");
    assert_eq!(answer.field("Location"), Some(&*location));
    assert_eq!(
        (answer.field("Cache-Control"), answer.field("Connection")),
        (Some("no-store"), Some("close"))
    );
}

/// Requests that are not sent on, and what they are answered with instead; `otherwise` is the edge's own fault.
fn others(edge: &Edge, otherwise: u16) -> Vec<(&'static str, String, u16)> {
    let sealed = |change: &dyn Fn(&mut Claims<'_>)| {
        let mut claims = minted(edge, "a.bin");
        change(&mut claims);
        edge.seal(&claims)
    };
    let past = NumericDate::from_secs(1_000_000_000);
    vec![
        ("sent on three times", sealed(&|claims| claims.hop = 3), otherwise),
        ("of nobody", sealed(&|claims| claims.iss = None), otherwise),
        ("of a stranger", sealed(&|claims| claims.iss = Some("http://evil.example".into())), otherwise),
        ("somebody else's", sealed(&|claims| claims.ip = Some("192.0.2.1".into())), 403),
        ("expired", sealed(&|claims| claims.exp = past), 401),
        ("HEAD's", sealed(&|claims| claims.head = true), 403),
        ("no token", "nonsense".to_owned(), 400),
    ]
}

#[test]
fn a_draining_edge_sends_on_whom_it_refuses() {
    let mut edge = Edge::start_configured(&known(), "size = \"64MiB\"", "");
    edge.file("big.bin", &content(40 << 20, 4));
    edge.file("a.bin", b"content");
    let mut downloading = edge.connect();
    downloading.send(&get_request(&edge.token("big.bin"), ""));
    wait_for("the download to begin", || (edge.metric("sluice_edge_transfers ") >= 1.0).then_some(()));
    let others = others(&edge, 503);
    let begin = |edge: &Edge| {
        let mut connection = edge.connect();
        connection.send("GET /download?tok");
        connection
    };
    let mut late: Vec<Connection> = (0..=others.len()).map(|_| begin(&edge)).collect();
    edge.terminate();
    wait_for("the listener to close", || std::net::TcpStream::connect(edge.address).is_err().then_some(()));
    let mut end = |token: &str| {
        let mut connection = late.pop().unwrap();
        connection.send(&format!("en={token} HTTP/1.1\r\nHost: e\r\n\r\n"));
        connection.answer()
    };
    let token = edge.seal(&Claims { hop: 2, ..minted(&edge, "a.bin") });
    check_sent_on(&end(&token), &token);
    for (what, token, status) in others {
        assert_eq!(end(&token).status, status, "{what}");
    }
    assert_eq!(edge.metric("sluice_edge_sent_on_total "), 1.0);
    assert_eq!(downloading.answer().body.len(), 40 << 20);
    assert_eq!(edge.exit_code(), 0);
}

#[test]
fn a_full_edge_sends_on_whom_it_has_no_place_for() {
    let edge = Edge::start_configured(&known(), "size = \"64MiB\"", "connections = 2");
    edge.file("a.bin", b"content");
    let mut held: Vec<Connection> = (0..2).map(|_| edge.connect()).collect();
    for connection in &mut held {
        connection.send(&get_request(&edge.token("a.bin"), ""));
        assert_eq!(connection.answer().status, 200);
    }
    let ask = |token: &str| {
        let mut connection = edge.connect();
        connection.send(&get_request(token, ""));
        let answer = connection.answer();
        assert!(connection.is_closed());
        answer
    };
    let token = edge.seal(&minted(&edge, "a.bin"));
    check_sent_on(&ask(&token), &token);
    // Nothing is said of tokens to those who have no place.
    for (what, token, _) in others(&edge, 503) {
        assert_eq!(ask(&token).status, 503, "{what}");
    }
    assert_eq!(edge.connect().answer().status, 503, "who says nothing is told, and not waited for");
    assert_eq!(edge.metric("sluice_edge_connections "), 2.0);
    assert!(!edge.log().contains(&token));
}
