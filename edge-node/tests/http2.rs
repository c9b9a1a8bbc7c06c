//! HTTP/2's own bounds: streams, heads, resets, and clients that ask for much and take little.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod encrypted;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use encrypted::{Fronts, ask_http2, run, shake_hands};
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use sluice_shared::token::Claims;
use support::{Edge, content};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request(target: &str) -> Request<()> {
    Request::builder().uri(format!("https://edge.example{target}")).body(()).unwrap()
}

/// A connection, and how it ends.
async fn open(
    fronts: &Fronts,
    builder: &mut h2::client::Builder,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = fronts.connect(&["h2"]).await;
    let (send, connection) = builder.handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

/// Memory of the edge's own, shared memory not counted.
fn anonymous_bytes(edge: &Edge) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    line.unwrap().parse::<u64>().unwrap() * 1024
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a server said, up to the last whole frame: type, flags, stream and payload of each.
fn frames(mut received: &[u8]) -> impl Iterator<Item = (u8, u8, u32, &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = received.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        let (payload, rest) = rest.split_at_checked(length)?;
        received = rest;
        Some((header[3], header[4], stream, payload))
    })
}

/// The content of each stream that came to its end.
fn whole_bodies(received: &[u8]) -> Vec<Vec<u8>> {
    let (mut bodies, mut whole) = (BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
    for (kind, flags, stream, payload) in frames(received) {
        // DATA; END_STREAM.
        if kind == 0 {
            bodies.entry(stream).or_default().extend_from_slice(payload);
            if flags & 1 != 0 {
                whole.push(bodies.remove(&stream).unwrap());
            }
        }
    }
    whole
}

/// What a client says to ask for one file a hundred times, with windows of so many bytes for each stream and for all.
fn hundred_requests(target: &str, window: u32) -> Vec<u8> {
    // HPACK (RFC 7541 §6.2.2): literals that are not indexed.
    let text = |text: &str| {
        let mut bytes = Vec::new();
        let mut left = text.len();
        if left < 127 {
            bytes.push(u8::try_from(left).unwrap());
        } else {
            bytes.push(127);
            left -= 127;
            while left >= 128 {
                bytes.push(u8::try_from(left % 128 + 128).unwrap());
                left /= 128;
            }
            bytes.push(u8::try_from(left).unwrap());
        }
        [&bytes, text.as_bytes()].concat()
    };
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", "edge.example"), (":path", target)];
    let head: Vec<u8> =
        fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE, then WINDOW_UPDATE for the connection.
    said.extend(frame(4, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    if window > 65_535 {
        said.extend(frame(8, 0, 0, &(window - 65_535).to_be_bytes()));
    }
    for stream in 0..100 {
        said.extend(frame(1, 5, 2 * stream + 1, &head));
    }
    said
}

#[test]
fn many_requests_share_a_connection_and_no_more_than_so_many() {
    let fronts = Fronts::start("", "");
    let bytes = content(300_000, 1);
    fronts.edge.file("a.bin", &bytes);
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        let mut send = fronts.connect_http2().await;
        // Once answered, it knows how many may be asked for at a time.
        assert_eq!(ask_http2(&mut send, "HEAD", &target, &[]).await.status, 200);
        let asking = (0..300).map(|_| {
            let (mut send, target) = (send.clone(), target.clone());
            tokio::spawn(async move { ask_http2(&mut send, "GET", &target, &[]).await })
        });
        for asked in asking.collect::<Vec<_>>() {
            assert!(asked.await.unwrap().body == bytes);
        }
        assert_eq!(send.current_max_send_streams(), 100);
    });
}

#[test]
fn heads_and_bodies_are_refused_as_everywhere() {
    let fronts = Fronts::start("", "");
    fronts.edge.file("a.bin", b"content");
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        let mut send = fronts.connect_http2().await;
        let large = "x".repeat(20_000);
        let answered = ask_http2(&mut send, "GET", &target, &[("x", &large)]).await;
        assert_eq!(answered.status, 431);
        let long = format!("/download?token={}", "a".repeat(12 * 1024));
        assert_eq!(ask_http2(&mut send, "GET", &long, &[]).await.status, 414);
        let other_host = [("host", "other.example")];
        assert_eq!(ask_http2(&mut send, "GET", &target, &other_host).await.status, 400);
        let same_host = [("host", "edge.example")];
        assert_eq!(ask_http2(&mut send, "GET", &target, &same_host).await.status, 200);
        // h2 itself: what is said to come has not come (RFC 9113 §8.1.1).
        let announced = Request::builder().header("content-length", "3").uri(request(&target).uri());
        let mut ready = send.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(announced.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
        // Content that no length announces.
        let mut ready = send.clone().ready().await.unwrap();
        let (response, mut body) = ready.send_request(request(&target), false).unwrap();
        let _ = body.send_data(Bytes::from_static(b"abc"), true);
        assert_eq!(response.await.unwrap().status(), 400);
        // All of that leaves the connection as it was.
        assert_eq!(ask_http2(&mut send, "GET", &target, &[]).await.body, b"content");
    });
}

#[test]
fn who_opens_streams_only_to_reset_them_is_sent_away() {
    let fronts = Fronts::start("", "");
    fronts.edge.file("a.bin", &content(5 << 20, 1));
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        let (send, connection) = open(&fronts, &mut h2::client::Builder::new()).await;
        for _ in 0..2000 {
            let Ok(mut ready) = send.clone().ready().await else { break };
            let Ok((response, mut stream)) = ready.send_request(request(&target), true) else { break };
            // Some before the edge has looked, some when it has begun to answer.
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
            drop(response);
        }
        drop(send);
        let ended = connection.await.unwrap().unwrap_err();
        assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{ended}");
    });
    // Others are served.
    run(async {
        let mut send = fronts.connect_http2().await;
        assert_eq!(ask_http2(&mut send, "GET", &target, &[("range", "bytes=0-9")]).await.status, 206);
    });
}

/// RFC 9113 §5.4.1. A client that finds itself reset while it says more may never read why.
#[test]
fn who_breaks_the_protocol_is_told_how_and_not_reset() {
    let fronts = Fronts::start("", "");
    run(async {
        let mut stream = fronts.connect(&["h2"]).await;
        // DATA belongs to a stream.
        let said = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..], &frame(0, 0, 0, b"lost")];
        stream.write_all(&said.concat()).await.unwrap();
        let mut received = Vec::new();
        let reason = loop {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "no GOAWAY");
            if let Some((.., payload)) = frames(&received).find(|(kind, ..)| *kind == 7) {
                break payload[4..8].to_vec();
            }
        };
        assert_eq!(reason, 1_u32.to_be_bytes(), "PROTOCOL_ERROR");
        // The first would be answered with a reset, which the second would fail of.
        for _ in 0..2 {
            stream.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn clients_that_take_nothing_hold_little_and_are_cut() {
    let fronts = Fronts::start("", "send_timeout = \"2s\"\ntransfers_per_token = 10000");
    fronts.edge.file("a.bin", &content(30 << 20, 1));
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        let mut warm = fronts.connect_http2().await;
        assert_eq!(ask_http2(&mut warm, "GET", &target, &[]).await.body.len(), 30 << 20);
        let before = anonymous_bytes(&fronts.edge);
        let mut held = Vec::new();
        let began = Instant::now();
        for window in [65_535, (1 << 31) - 1] {
            // Twenty connections ask for three gigabytes each, by windows that are small or as large as may be.
            for _ in 0..20 {
                let mut stream = fronts.connect(&["h2"]).await;
                stream.write_all(&hundred_requests(&target, window)).await.unwrap();
                held.push(stream);
            }
        }
        // Nothing is read of what comes.
        let mut most = 0;
        while began.elapsed() < Duration::from_secs(3) {
            most = most.max(anonymous_bytes(&fronts.edge).saturating_sub(before));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let each = most / 40;
        assert!(each < 1 << 20, "{each} bytes a connection, of hundreds of megabytes asked for");
        assert_eq!(ask_http2(&mut warm, "GET", &target, &[("range", "bytes=0-9")]).await.status, 206);
        while fronts.edge.metric("sluice_edge_slow_clients_total ") < 3000.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other() {
    let fronts = Fronts::start("", "");
    fronts.edge.file("a.bin", &content(30 << 20, 1));
    let bytes = content(3 << 20, 2);
    fronts.edge.file("b.bin", &bytes);
    let (a, b) = (fronts.edge.token("a.bin"), fronts.edge.token("b.bin"));
    run(async {
        let mut builder = h2::client::Builder::new();
        // The stream's own window is what stops it.
        builder.initial_window_size(100_000).initial_connection_window_size(1 << 30);
        let (mut send, _connection) = open(&fronts, &mut builder).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut ready = send.clone().ready().await.unwrap();
            let target = format!("/download?token={a}");
            held.push(ready.send_request(request(&target), true).unwrap().0.await.unwrap());
        }
        for _ in 0..3 {
            let target = format!("/download?token={b}");
            assert!(ask_http2(&mut send, "GET", &target, &[]).await.body == bytes);
        }
    });
}

#[test]
fn an_idle_connection_ends_whatever_it_says_beside_requests() {
    let fronts = Fronts::start("", "idle_timeout = \"500ms\"\nhead_timeout = \"500ms\"");
    fronts.edge.file("a.bin", b"content");
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        for asks in [false, true] {
            let stream = fronts.connect(&["h2"]).await;
            let (mut send, mut connection) = h2::client::handshake(stream).await.unwrap();
            let mut pings = connection.ping_pong().unwrap();
            let connection = tokio::spawn(connection);
            if asks {
                assert_eq!(ask_http2(&mut send, "GET", &target, &[]).await.status, 200);
            }
            let began = Instant::now();
            while pings.ping(h2::Ping::opaque()).await.is_ok() {
                assert!(began.elapsed() < Duration::from_secs(10), "pings kept it alive");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(send);
            let _ = connection.await.unwrap();
        }
    });
    support::wait_for("no connection", || {
        (fronts.edge.metric("sluice_edge_connections ") == 0.0).then_some(())
    });
}

#[test]
fn an_edge_that_drains_says_so_and_ends_what_it_has_begun() {
    let mut fronts = Fronts::start("", "drain_grace = \"2s\"");
    let bytes = content(20 << 20, 1);
    fronts.edge.file("a.bin", &bytes);
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    let address = fronts.address;
    fronts.edge.terminate();
    run(async {
        assert_eq!(address, fronts.address);
        let (mut send, connection) = open(&fronts, &mut h2::client::Builder::new()).await;
        assert!(ask_http2(&mut send, "GET", &target, &[]).await.body == bytes);
        drop(send);
        connection.await.unwrap().unwrap();
    });
    assert_eq!(fronts.edge.exit_code(), 0);
}

/// What h2, TLS and the socket hold when the last answer has been given to them.
#[test]
fn what_a_slow_client_has_yet_to_take_arrives_though_the_connection_ends() {
    for (limits, drains) in [("idle_timeout = \"500ms\"", false), ("", true)] {
        let mut fronts = Fronts::start("", limits);
        let bytes = content(60_000, 1);
        fronts.edge.file("a.bin", &bytes);
        let target = format!("/download?token={}", fronts.edge.token("a.bin"));
        run(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(16 * 1024).unwrap();
            let config = Arc::new(fronts.authority.client(&["h2"]));
            let socket = socket.connect(fronts.address).await.unwrap();
            let mut stream = shake_hands(socket, config, "edge.example").await.unwrap();
            stream.write_all(&hundred_requests(&target, 1 << 30)).await.unwrap();
            let mut received = Vec::new();
            while fronts.edge.metric("sluice_edge_answer_seconds_count ") < 100.0 {
                let _ = tokio::time::timeout(Duration::from_millis(20), stream.read_buf(&mut received)).await;
            }
            let left = 100 - whole_bodies(&received).len();
            assert!(left > 5, "{left} are under way");
            if drains {
                fronts.edge.terminate();
            }
            // What must not happen has had its time.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let (mut reading, mut writing) = tokio::io::split(stream);
            while reading.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
                // Whoever reads slowly says so.
                let _ = writing.write_all(&frame(8, 0, 0, &[0, 0, 0, 1])).await;
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
            let bodies = whole_bodies(&received);
            assert_eq!(bodies.len(), 100, "drains: {drains}; {left} were under way");
            assert!(bodies.iter().all(|body| *body == bytes));
        });
        assert!(!drains || fronts.edge.exit_code() == 0);
    }
}

#[test]
fn what_a_client_takes_back_ends_while_it_waits_for_its_rate() {
    let fronts = Fronts::start("", "transfers_per_token = 10000");
    fronts.edge.file("a.bin", &content(20_000, 1));
    let claims = Claims { rate: Some(1024), ..fronts.edge.claims("a.bin") };
    let target = format!("/download?token={}", fronts.edge.seal(&claims));
    run(async {
        let (send, connection) = open(&fronts, &mut h2::client::Builder::new()).await;
        for _ in 0..400 {
            let Ok(mut ready) = send.clone().ready().await else { break };
            let Ok((response, mut stream)) = ready.send_request(request(&target), true) else { break };
            if response.await.is_err() {
                break;
            }
            stream.send_reset(Reason::CANCEL);
        }
        drop(send);
        let ended = connection.await.unwrap().unwrap_err();
        assert!(ended.reason() == Some(Reason::ENHANCE_YOUR_CALM) || ended.is_io(), "{ended}");
    });
    support::wait_for("no transfer", || (fronts.edge.metric("sluice_edge_transfers ") == 0.0).then_some(()));
}

#[test]
fn transfers_of_one_token_are_bounded() {
    let fronts = Fronts::start("", "transfers_per_token = 2");
    fronts.edge.file("a.bin", &content(30 << 20, 1));
    let target = format!("/download?token={}", fronts.edge.token("a.bin"));
    run(async {
        // The streams' own windows are what stops them.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 30);
        let (mut send, _connection) = open(&fronts, &mut builder).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut ready = send.clone().ready().await.unwrap();
            held.push(ready.send_request(request(&target), true).unwrap().0.await.unwrap());
        }
        assert_eq!(ask_http2(&mut send, "GET", &target, &[]).await.status, 429);
        drop(held);
        while ask_http2(&mut send, "GET", &target, &[("range", "bytes=0-9")]).await.status != 206 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
