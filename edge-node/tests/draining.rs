//! SIGTERM: out of the registry first, downloads to their end, then gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{Edge, content, get_request, wait_for};

#[test]
fn a_draining_edge_finishes_its_downloads_and_refuses_new_ones() {
    let mut edge = Edge::start();
    let bytes = content(40 << 20, 4);
    edge.file("big.bin", &bytes);
    edge.file("small.bin", b"content");
    let mut downloading = edge.connect();
    downloading.send(&get_request(&edge.token("big.bin"), ""));
    wait_for("the download to begin", || (edge.metric("sluice_edge_transfers ") >= 1.0).then_some(()));
    let mut idle = edge.connect();
    idle.send(&get_request(&edge.token("small.bin"), ""));
    assert_eq!(idle.answer().status, 200);
    let mut late = edge.connect();
    late.send("GET /download?tok");

    edge.terminate();
    let (status, text) = wait_for("the edge to say it is draining", || {
        edge.admin_get("/readyz").ok().filter(|(status, _)| *status == 503)
    });
    assert!(status == 503 && text.contains("draining"), "{text}");
    assert_eq!(edge.admin_get("/healthz").unwrap().0, 200);
    assert!(idle.is_closed(), "an idle connection ends");
    wait_for("the listener to close", || std::net::TcpStream::connect(edge.address).is_err().then_some(()));
    late.send(&format!("en={} HTTP/1.1\r\nHost: e\r\n\r\n", edge.token("small.bin")));
    let refused = late.answer();
    assert_eq!((refused.status, refused.field("Connection")), (503, Some("close")));
    assert!(refused.field("Retry-After").is_some());
    assert!(!edge.has_exited(), "a download is under way");
    assert!(downloading.answer().body == bytes, "it arrives whole");
    assert_eq!(edge.exit_code(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut edge = Edge::start();
    edge.file("big.bin", &content(40 << 20, 4));
    let mut downloading = edge.connect();
    downloading.send(&get_request(&edge.token("big.bin"), ""));
    wait_for("the download to begin", || (edge.metric("sluice_edge_transfers ") >= 1.0).then_some(()));
    edge.terminate();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!edge.has_exited());
    edge.terminate();
    assert_eq!(edge.exit_code(), 0);
}

/// Coordinators need a moment to notice: until then a new client is answered, however slowly it begins.
#[test]
fn a_client_that_comes_while_the_edge_is_leaving_is_answered() {
    let mut edge = Edge::start_configured("", "size = \"64MiB\"", "drain_grace = \"5s\"");
    edge.file("small.bin", b"content");
    edge.terminate();
    wait_for("the edge to say it is draining", || {
        edge.admin_get("/readyz").ok().filter(|(status, _)| *status == 503)
    });
    let mut connection = edge.connect();
    // Longer than it takes the edge to end connections that idle.
    std::thread::sleep(Duration::from_millis(1000));
    connection.send(&get_request(&edge.token("small.bin"), ""));
    let answer = connection.answer();
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
}
