//! `GET, HEAD /openapi.json`: the document against the router that it is of.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Coordinator, Edge, LIMIT};

#[test]
fn the_document_is_told_to_anybody() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], "[auth]\nschemes = [\"signature\", \"app-jwt\"]\n");
    let answer = coordinator.get("/openapi.json");
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
    assert_eq!(answer.field("cache-control"), "no-cache");
    let document = answer.json();
    assert!(document["components"]["securitySchemes"]["Auth-Signature"].is_object());
    assert!(document["paths"].get("/security-info").is_none());
    let head = coordinator.send("HEAD", "/openapi.json", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), answer.body.len().to_string());
    coordinator.send("GET", "/openapi.json", &[("Content-Length", "1")]).problem(400);
}

#[test]
fn each_path_has_the_methods_that_are_documented() {
    let edge = Edge::start("edge-1");
    let coordinator =
        Coordinator::start_with(&[&edge], "[timed]\nsecret = \"0123456789abcdef0123456789abcdef\"\n");
    let document = coordinator.get("/openapi.json").json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let target = path.replace(['{', '}'], "");
        let answer = coordinator.send("TRACE", &target, &[]);
        answer.problem(405);
        let allowed: BTreeSet<String> =
            answer.field("allow").split(',').map(|method| method.trim().to_lowercase()).collect();
        let documented: BTreeSet<String> = operations.as_object().unwrap().keys().cloned().collect();
        assert_eq!(allowed, documented, "{path}");
    }
}

#[test]
fn what_is_no_call_is_refused_without_a_body() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let long = "a".repeat(70_000);
    let table = [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nx: {long}"), "431"),
        (format!("GET /{long}"), "431"),
    ];
    for (request, status) in table {
        let mut stream = TcpStream::connect(coordinator.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be refused before it is whole.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("x-request-id"), "{answer}");
    }
}
