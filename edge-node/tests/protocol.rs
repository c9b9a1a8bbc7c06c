//! HTTP/1 on the wire, in raw bytes: framing, limits, persistence (RFC 9112), and what each fault is answered with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::net::Shutdown;

use support::{Edge, content, get_request, wait_for};

#[test]
fn every_status_is_given_for_its_reason() {
    let edge = Edge::start();
    edge.file("a.bin", b"0123456789");
    let token = edge.token("a.bin");
    let request = |text: &str| text.replace("TOKEN", &token);
    // request, status, detail, whether the connection goes on
    let table: &[(&str, u16, &str, bool)] = &[
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n", 200, "", true),
        ("GET /download/name.bin?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n", 200, "", true),
        ("GET http://e/download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n", 200, "", true),
        ("\r\nGET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n", 200, "", true),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n", 200, "", false),
        ("GET /download?token=TOKEN HTTP/1.0\r\n\r\n", 200, "", false),
        ("GET /download?token=TOKEN HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "", true),
        ("GET /download HTTP/1.1\r\nHost: e\r\n\r\n", 400, "Invalid or malformed token", true),
        ("GET /download?token= HTTP/1.1\r\nHost: e\r\n\r\n", 400, "Invalid or malformed token", true),
        (
            "GET /download?token=TOKEN&token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n",
            400,
            "Invalid or malformed token",
            true,
        ),
        (
            "GET /download?token=x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            400,
            "Invalid or malformed token",
            true,
        ),
        ("GET / HTTP/1.1\r\nHost: e\r\n\r\n", 404, "Not found", true),
        ("GET / HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n", 404, "Not found", false),
        ("POST /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n", 405, "Only GET and HEAD", true),
        ("OPTIONS * HTTP/1.1\r\nHost: e\r\n\r\n", 405, "Only GET and HEAD", true),
        ("GET /download?token=TOKEN HTTP/1.1\r\n\r\n", 400, "Host", true),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nHost: e\r\n\r\n", 400, "Host", true),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc", 400, "body", false),
        (
            "GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            400,
            "body",
            false,
        ),
        (
            "GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "body",
            false,
        ),
        ("GET /download?token=TOKEN HTTP/1.1\nHost: e\n\n", 400, "CR LF", false),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\nX: y\r\n\r\n", 400, "CR LF", false),
        ("GET /download?token=TO\0KEN HTTP/1.1\r\nHost: e\r\n\r\n", 400, "Malformed request", false),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: a\0b\r\n\r\n", 400, "Malformed request", false),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: a\r\n folded\r\n\r\n", 400, "Malformed", false),
        ("GET /download?token=TOKEN HTTP/1.1\r\nHost : e\r\n\r\n", 400, "Malformed request", false),
        ("GET /download?token=TOKEN HTTP/3.0\r\nHost: e\r\n\r\n", 505, "HTTP/1.1", false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1", false),
        ("\x16\x03\x01\x02\0\x01\0\x01\n", 400, "", false),
    ];
    for (text, status, detail, goes_on) in table {
        let mut connection = edge.connect();
        connection.send(&request(text));
        let answer = connection.answer();
        assert_eq!(answer.status, *status, "{text:?}");
        if *status >= 400 {
            assert_eq!(answer.field("Content-Type"), Some("application/problem+json"));
            assert!(answer.detail().contains(detail), "{text:?}: {}", answer.detail());
        } else {
            assert_eq!(answer.body, b"0123456789");
        }
        assert_eq!(answer.field("Allow").is_some(), *status == 405);
        assert_eq!(answer.field("Connection") == Some("close"), !goes_on, "{text:?}");
        if *goes_on {
            connection.send(&get_request(&token, ""));
            assert_eq!(connection.answer().status, 200, "after {text:?}");
        } else {
            assert!(connection.is_closed(), "after {text:?}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let edge = Edge::start();
    let names: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
    let contents: Vec<Vec<u8>> =
        (0..40).map(|n| content([10, 70_000, 3000, 300_000][n % 4], n as u64)).collect();
    let mut requests = String::new();
    for (name, bytes) in names.iter().zip(&contents) {
        edge.file(name, bytes);
        requests += &get_request(&edge.token(name), "");
    }
    let mut connection = edge.connect();
    let mut writing = connection.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || writing.write_all(requests.as_bytes()).unwrap());
    for (at, bytes) in contents.iter().enumerate() {
        let answer = connection.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body == *bytes, "answer {at}");
    }
    writer.join().unwrap();
}

#[test]
fn a_head_split_at_any_byte_is_read() {
    let edge = Edge::start();
    edge.file("a.bin", b"0123456789");
    let request = get_request(&edge.token("a.bin"), "Range: bytes=1-2\r\n");
    let mut connection = edge.connect();
    for cut in 1..request.len() {
        connection.send(&request[..cut]);
        std::thread::sleep(std::time::Duration::from_micros(200));
        connection.send(&request[cut..]);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.body.as_slice()), (206, &b"12"[..]), "cut at {cut}");
    }
}

#[test]
fn heads_are_bounded() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let token = edge.token("a.bin");
    let with_head_of = |bytes: usize| {
        let bare = get_request(&token, "X: \r\n").len();
        get_request(&token, &format!("X: {}\r\n", "x".repeat(bytes - bare)))
    };
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: e\r\n\r\n", "a".repeat(bytes - 1));
    let fields: String = (0..101).map(|n| format!("X{n}: y\r\n")).collect();
    let table = [
        (with_head_of(16 * 1024), 200),
        (with_head_of(16 * 1024 + 1), 431),
        (with_head_of(64 * 1024), 431),
        (get_request(&token, &fields), 431),
        (target(12 * 1024), 404),
        (target(12 * 1024 + 1), 414),
        (target(40 * 1024), 414),
        (get_request(&"a".repeat(8 * 1024 + 1), ""), 400),
    ];
    for (request, status) in table {
        let mut connection = edge.connect();
        let mut writing = connection.stream.try_clone().unwrap();
        let text = request.clone();
        // The answer may come before all is written.
        let writer = std::thread::spawn(move || writing.write_all(text.as_bytes()));
        assert_eq!(connection.answer().status, status, "{} bytes", request.len());
        let _ = writer.join().unwrap();
    }
}

#[test]
fn a_slow_head_is_cut_with_408_and_an_idle_connection_in_silence() {
    let edge =
        Edge::start_configured("", "size = \"64MiB\"", "head_timeout = \"300ms\"\nidle_timeout = \"300ms\"");
    let mut slow = edge.connect();
    slow.send("GET /download?token=");
    let answer = slow.answer();
    assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
    let mut idle = edge.connect();
    assert!(idle.is_closed(), "nothing was sent before the end");
}

/// Each byte in time, the whole too late: the deadline is the head's, not the read's.
#[test]
fn a_dripping_head_is_cut_as_well() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "head_timeout = \"500ms\"");
    for drip in [
        "GET /download?token=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\r\n\r\n\r\n\r\n\r\n\r\n",
    ] {
        let mut connection = edge.connect();
        let mut writing = connection.stream.try_clone().unwrap();
        let drip = drip.repeat(20);
        let dripping = std::thread::spawn(move || {
            // Ends when the edge has closed; a hundred bytes at most, far more than the deadline has room for.
            for byte in drip.as_bytes().iter().take(100) {
                if writing.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            panic!("the edge took every byte");
        });
        assert_eq!(connection.answer().status, 408);
        drop(connection);
        dripping.join().unwrap();
    }
}

#[test]
fn a_client_that_stops_writing_still_gets_its_answer() {
    let edge = Edge::start();
    let bytes = content(5 << 20, 5);
    edge.file("a.bin", &bytes);
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.token("a.bin"), ""));
    connection.stream.shutdown(Shutdown::Write).unwrap();
    assert!(connection.answer().body == bytes);
    assert!(connection.is_closed());
}

#[test]
fn connections_over_the_limit_are_told_so() {
    let edge = Edge::start_configured("", "size = \"64MiB\"", "connections = 2");
    edge.file("a.bin", b"content");
    // Two workers, one place each; the kernel chooses the worker.
    let held: Vec<_> = (0..12).map(|_| edge.connect()).collect();
    wait_for("the places to be taken", || (edge.metric("sluice_edge_connections ") >= 2.0).then_some(()));
    let turned_away = wait_for("a connection that is turned away", || {
        let mut connection = edge.connect();
        connection.stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        Some(connection.answer())
    });
    assert_eq!(turned_away.status, 503);
    assert!(turned_away.field("Retry-After").is_some());
    drop(held);
    wait_for("a place to be free again", || {
        let mut connection = edge.connect();
        connection.stream.write_all(get_request(&edge.token("a.bin"), "").as_bytes()).ok()?;
        (connection.try_answer(false).ok()?.status == 200).then_some(())
    });
}
