//! Where a client comes from: by its connection, or by what a trusted proxy says, and by nobody else's word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::borrow::Cow;
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use support::{Connection, Edge, get_request, wait_for};

const FORWARDED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";
const PROXY_PROTOCOL: &str = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// A PROXY v2 header over IPv4, with a TLV behind its addresses.
fn proxy_header(command: u8, client: &str) -> Vec<u8> {
    let client: Ipv4Addr = client.parse().unwrap();
    let addresses = [&client.octets()[..], &[192, 0, 2, 1, 0x30, 0x39, 0, 80], &[4, 0, 2, 0, 0]].concat();
    let length = u8::try_from(addresses.len()).unwrap();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, length][..], &addresses].concat()
}

/// A request whose token is bound to an address.
fn bound_request(edge: &Edge, ip: &str, fields: &str) -> String {
    let mut claims = edge.claims("a.bin");
    claims.ip = Some(Cow::Owned(ip.to_owned()));
    get_request(&edge.seal(&claims), fields)
}

fn edge_with(top: &str, limits: &str) -> Edge {
    let top = format!("{top}[log]\naccess_file = \"access.jsonl\"\n");
    let edge = Edge::start_configured(&format!("threads = 1\n{top}"), "size = \"64MiB\"", limits);
    edge.file("a.bin", b"content");
    edge
}

/// The clients of the access log's first `count` lines.
fn logged_clients(edge: &Edge, count: usize) -> Vec<String> {
    wait_for("the lines to be written", || {
        let text = std::fs::read_to_string(edge.folder.path().join("access.jsonl")).ok()?;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let client = |line: &Value| line["client"].as_str().unwrap().to_owned();
        (lines.len() >= count).then(|| lines.iter().map(client).collect())
    })
}

fn refused(edge: &Edge, reason: &str) -> f64 {
    edge.metric(&format!("sluice_edge_refused_connections_total{{reason=\"{reason}\"}} "))
}

#[test]
fn forwarded_addresses_hold_request_by_request() {
    let edge = edge_with(FORWARDED, "");
    let mut connection = edge.connect();
    let table = [
        ("203.0.113.9", "X-Forwarded-For: 203.0.113.9\r\n", 200),
        ("203.0.113.9", "X-Forwarded-For: 1.1.1.1, 203.0.113.9:4711\r\nx-forwarded-for: 127.0.0.7\r\n", 200),
        ("203.0.113.9", "X-Forwarded-For: 203.0.113.10\r\n", 403),
        // What stands left of an untrusted entry was written by anybody.
        ("203.0.113.9", "X-Forwarded-For: 203.0.113.9, 203.0.113.10\r\n", 403),
        ("203.0.113.9", "", 403),
        ("127.0.0.1", "", 200),
        ("127.0.0.1", "X-Forwarded-For: unknown\r\n", 200),
        ("2001:db8:0:1::1", "X-Forwarded-For: [2001:db8:0:1::7]:443\r\n", 200),
    ];
    for (ip, fields, status) in table {
        connection.send(&bound_request(&edge, ip, fields));
        assert_eq!(connection.answer().status, status, "{ip} {fields}");
    }
    let clients = logged_clients(&edge, table.len());
    let expected = [
        "203.0.113.9",
        "203.0.113.9",
        "203.0.113.10",
        "203.0.113.10",
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.1",
        "2001:db8:0:1::7",
    ];
    assert_eq!(clients, expected);
}

#[test]
fn a_file_that_has_to_be_read_first_is_bound_likewise() {
    let edge = edge_with(FORWARDED, "");
    edge.file("a.bin", &support::content(3 << 20, 1));
    let mut connection = edge.connect();
    let request = bound_request(&edge, "203.0.113.9", "X-Forwarded-For: 203.0.113.9\r\n");
    for _ in 0..2 {
        connection.send(&request);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.body.len()), (200, 3 << 20));
    }
    assert_eq!(logged_clients(&edge, 2), ["203.0.113.9", "203.0.113.9"]);
}

#[test]
fn nobody_else_says_where_a_client_is() {
    for top in ["", "trusted_proxies = [\"192.0.2.0/24\"]\n"] {
        let edge = edge_with(top, "connections_per_address = 2");
        let fields = "X-Forwarded-For: 203.0.113.9\r\n";
        let mut connection = edge.connect();
        connection.send(&bound_request(&edge, "203.0.113.9", fields));
        assert_eq!(connection.answer().status, 403);
        connection.send(&bound_request(&edge, "127.0.0.1", fields));
        assert_eq!(connection.answer().status, 200);
        assert_eq!(logged_clients(&edge, 2), ["127.0.0.1", "127.0.0.1"]);
        let mut second = edge.connect();
        second.send(&get_request(&edge.token("a.bin"), ""));
        assert_eq!(second.answer().status, 200);
        assert_eq!(edge.connect().answer().status, 429, "its connections are counted as its own");
    }
}

#[test]
fn a_trusted_proxy_has_as_many_connections_as_it_needs() {
    let edge = edge_with(FORWARDED, "connections_per_address = 2");
    let mut held: Vec<Connection> = (0..5).map(|_| edge.connect()).collect();
    for connection in &mut held {
        connection.send(&get_request(&edge.token("a.bin"), "X-Forwarded-For: 203.0.113.9\r\n"));
        assert_eq!(connection.answer().status, 200);
    }
    assert_eq!(refused(&edge, "address"), 0.0);
}

#[test]
fn a_proxy_header_says_who_the_connection_is_for() {
    let edge = edge_with(PROXY_PROTOCOL, "");
    let header = proxy_header(PROXY, "203.0.113.9");
    // In the field's place nothing is listened to.
    let request = bound_request(&edge, "203.0.113.9", "X-Forwarded-For: 198.51.100.1\r\n").into_bytes();
    let together = [&header[..], &request].concat();
    let bytewise: Vec<&[u8]> = header.chunks(1).chain([&request[..]]).collect();
    let table = [
        ("apart", vec![&header[..], &request]),
        ("together", vec![&together[..]]),
        ("cut in the signature", vec![&header[..7], &header[7..], &request]),
        ("cut in the addresses", vec![&header[..20], &together[20..]]),
        ("cut in the request", vec![&together[..header.len() + 10], &together[header.len() + 10..]]),
        ("byte by byte", bytewise),
    ];
    for (name, parts) in &table {
        let mut connection = edge.connect();
        for part in parts {
            connection.send(part);
            // Time for what was sent to be read by itself.
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(connection.answer().status, 200, "{name}");
        connection.send(&bound_request(&edge, "203.0.113.9", ""));
        assert_eq!(connection.answer().status, 200, "{name}: the connection goes on");
        connection.send(&bound_request(&edge, "127.0.0.1", ""));
        assert_eq!(connection.answer().status, 403, "{name}");
    }
    let clients = logged_clients(&edge, table.len() * 3);
    assert!(clients.iter().all(|client| client == "203.0.113.9"), "{clients:?}");
    assert_eq!(refused(&edge, "proxy"), 0.0);
}

#[test]
fn a_local_header_means_the_proxy_itself() {
    let edge = edge_with(PROXY_PROTOCOL, "");
    let mut connection = edge.connect();
    connection.send(&proxy_header(LOCAL, "203.0.113.9"));
    connection.send(&bound_request(&edge, "127.0.0.1", "X-Forwarded-For: 198.51.100.1\r\n"));
    assert_eq!(connection.answer().status, 200);
    assert_eq!(logged_clients(&edge, 1), ["127.0.0.1"]);
}

#[test]
fn connections_without_a_proxy_header_are_closed_without_a_word() {
    let edge = edge_with(PROXY_PROTOCOL, "head_timeout = \"1s\"");
    let request = get_request(&edge.token("a.bin"), "");
    let mut altered = proxy_header(PROXY, "203.0.113.9");
    altered[12] = 0x31;
    let endless = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &[0; 64][..]].concat();
    for bytes in [request.as_bytes(), b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n", &altered, &endless] {
        let mut connection = edge.connect();
        connection.send(bytes);
        assert!(connection.is_closed(), "{bytes:?}");
    }
    assert_eq!(refused(&edge, "proxy"), 4.0);
    // A header that does not come whole; and nothing at all.
    let mut partial = edge.connect();
    partial.send(&proxy_header(PROXY, "203.0.113.9")[..20]);
    let mut silent = edge.connect();
    assert!(partial.is_closed() && silent.is_closed());
    assert_eq!(refused(&edge, "proxy"), 5.0);
    let log = edge.log();
    for reason in ["no PROXY v2 header", "another version", "longer than", "did not arrive in time"] {
        assert!(log.contains(reason), "{reason}");
    }
    assert_eq!(edge.metric("sluice_edge_connections "), 0.0);
}

#[test]
fn strangers_cannot_use_the_proxy_protocol() {
    let edge = edge_with(&PROXY_PROTOCOL.replace("127.0.0.1", "192.0.2.1"), "");
    let mut connection = edge.connect();
    // It may be closed before it is read.
    let _ = connection.stream.write_all(&proxy_header(PROXY, "203.0.113.9"));
    assert!(connection.is_closed());
    wait_for("the log to say why", || edge.log().contains("not from one of `trusted_proxies`").then_some(()));
    assert_eq!(refused(&edge, "proxy"), 1.0);
    assert_eq!(edge.metric("sluice_edge_connections_total "), 0.0);
}

#[test]
fn proxied_clients_have_their_own_number_of_connections() {
    let edge = edge_with(PROXY_PROTOCOL, "connections_per_address = 2");
    let request = get_request(&edge.token("a.bin"), "");
    let ask = |client: &str| {
        let mut connection = edge.connect();
        connection.send(&[&proxy_header(PROXY, client), request.as_bytes()].concat());
        let answer = connection.answer();
        (answer.status, connection)
    };
    let mut held: Vec<_> = ["203.0.113.9", "203.0.113.9", "203.0.113.10"].map(ask).into();
    assert!(held.iter().all(|(status, _)| *status == 200));
    let (status, mut refused_connection) = ask("203.0.113.9");
    assert_eq!(status, 429);
    assert!(refused_connection.is_closed());
    assert_eq!(refused(&edge, "address"), 1.0);
    drop((held.remove(0), refused_connection));
    wait_for("a place", || (ask("203.0.113.9").0 == 200).then_some(()));
}

#[test]
fn a_connection_that_says_nothing_is_cut_at_the_end() {
    let mut edge = edge_with(PROXY_PROTOCOL, "drain_timeout = \"100ms\"");
    let mut partial = edge.connect();
    partial.send(&proxy_header(PROXY, "203.0.113.9")[..20]);
    let mut silent = edge.connect();
    wait_for("both to be there", || (edge.metric("sluice_edge_connections ") == 2.0).then_some(()));
    edge.terminate();
    assert!(partial.is_closed() && silent.is_closed());
    assert_eq!(edge.exit_code(), 0);
}
