//! Request heads in raw bytes, over plain HTTP and over TLS: status, and what becomes of the connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encrypted;
mod heads_table;
mod support;

use encrypted::{Fronts, read_http1, run};
use heads_table::Fate::{Ends, GoesOn};
use support::{Edge, get_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn every_head_is_answered_as_its_section_says() {
    let edge = Edge::start();
    edge.file("a.bin", b"0123456789");
    let token = edge.token("a.bin");
    let rows = heads_table::rows();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let mut faults = Vec::new();
    for (section, head, status, fate) in rows {
        let bytes = head.bytes(&token);
        let mut connection = edge.connect();
        connection.send(&bytes);
        let to_head = bytes.starts_with(b"HEAD ");
        let answer = connection.try_answer(to_head).unwrap();
        let ends = answer.field("Connection") == Some("close");
        if (answer.status, ends) != (status, fate == Ends) {
            let detail = String::from_utf8_lossy(&answer.body).into_owned();
            faults.push(format!(
                "{section} {head:?}: {} ends {ends}, not {status} {fate:?}: {detail}",
                answer.status
            ));
            continue;
        }
        if status >= 400 && !matches!(status, 412 | 416) && !to_head {
            assert_eq!(answer.field("Content-Type"), Some("application/problem+json"), "{section} {head:?}");
            assert!(!answer.detail().is_empty());
        }
        assert_eq!(answer.field("Allow"), (status == 405).then_some("GET, HEAD"), "{section} {head:?}");
        match fate {
            GoesOn => {
                connection.send(&get_request(&token, ""));
                assert_eq!(connection.answer().body, b"0123456789", "after {section} {head:?}");
            }
            Ends => assert!(connection.is_closed(), "after {section} {head:?}"),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What an intermediary took for one request's body is never another request here.
#[test]
fn what_follows_a_refused_body_is_not_answered() {
    let edge = Edge::start();
    edge.file("a.bin", b"0123456789");
    let token = edge.token("a.bin");
    let smuggled = get_request(&token, "");
    for fields in [
        format!("Content-Length: {}\r\n", smuggled.len()),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", smuggled.len()),
        "Content-Length: 0\r\nContent-Length: 44\r\n".to_owned(),
        "Transfer-Encoding:\x0bchunked\r\n".to_owned(),
        " Content-Length: 44\r\n".to_owned(),
    ] {
        let mut connection = edge.connect();
        connection.send(&(get_request(&token, &fields) + &smuggled));
        assert_eq!(connection.answer().status, 400, "{fields:?}");
        assert!(connection.is_closed(), "{fields:?}");
    }
}

#[test]
fn over_tls_every_head_is_answered_alike() {
    let fronts = Fronts::start("", "");
    fronts.edge.file("a.bin", b"0123456789");
    let token = fronts.edge.token("a.bin");
    run(async {
        for (section, head, status, fate) in heads_table::rows() {
            let bytes = head.bytes(&token);
            let mut stream = fronts.connect(&["http/1.1"]).await;
            stream.write_all(&bytes).await.unwrap();
            let got = read_http1(&mut stream, bytes.starts_with(b"HEAD ")).await;
            let ends = got.fields.get("connection").is_some_and(|value| value == "close");
            assert_eq!((got.status, ends), (status, fate == Ends), "{section} {head:?}");
            if fate == GoesOn {
                stream.write_all(get_request(&token, "").as_bytes()).await.unwrap();
                assert_eq!(
                    read_http1(&mut stream, false).await.body,
                    b"0123456789",
                    "after {section} {head:?}"
                );
            } else {
                assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0, "after {section} {head:?}");
            }
        }
    });
}
