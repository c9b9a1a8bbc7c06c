//! A file's edges as a Metalink, on `/download/…` and `/d/…`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use support::{Answer, Coordinator, Edge, PUBLIC_URL, token_of};

const ACCEPT: (&str, &str) = ("Accept", "*/*,application/metalink4+xml,application/metalink+xml");
const PROXIED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

/// The URLs of a Metalink, in their order.
fn urls(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let places: Vec<usize> =
        (1..).map_while(|place| text.find(&format!("<url priority=\"{place}\">"))).collect();
    assert!(places.is_sorted(), "{text}");
    let url = |place: &usize| {
        let rest = text[*place..].split_once('>').unwrap().1;
        rest.split_once("</url>").unwrap().0.to_owned()
    };
    places.iter().map(url).collect()
}

fn edge_of(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('.').next().unwrap()
}

#[test]
fn a_metalink_names_the_candidates_in_their_order_under_one_token() {
    let edges = Edge::several(5);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    for file in ["a.bin", "reports/q1.pdf", "c"] {
        let answer = coordinator.send("GET", &format!("/download/{file}?user_id=ann"), &[ACCEPT]);
        assert_eq!((answer.status, answer.field("content-type")), (200, "application/metalink4+xml"));
        assert_eq!((answer.field("vary"), answer.field("cache-control")), ("Accept", "no-store"));
        let name = file.rsplit('/').next().unwrap();
        assert_eq!(answer.field("content-disposition"), format!("attachment; filename=\"{name}.meta4\""));
        assert!(answer.text().contains(&format!("<file name=\"{name}\">")));
        let urls = urls(&answer);
        let named: Vec<_> = urls.iter().map(|url| edge_of(url)).collect();
        assert_eq!(named, coordinator.candidates(file), "{file}");
        let tokens: Vec<_> = urls.iter().map(|url| token_of(url)).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        let claims = coordinator.claims(&tokens[0]);
        assert_eq!((claims.file_id.as_str(), claims.user_id.as_deref()), (file, Some("ann")));
        assert_eq!((claims.edg.as_deref(), claims.head), (Some(named[0]), false));
        // Others go on being redirected, and are told that there is a choice.
        let redirected = coordinator.get(&format!("/download/{file}"));
        assert_eq!((redirected.status, redirected.field("vary")), (302, "Accept"));
    }
    let head = coordinator.send("HEAD", "/download/a.bin", &[ACCEPT]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let part = coordinator.send("GET", "/download/a.bin", &[ACCEPT, ("Range", "bytes=5-")]);
    assert_eq!(part.status, 302, "whoever wants a part wants bytes");
}

#[test]
fn a_metalink_of_a_link_is_counted_as_a_visit() {
    let edges = Edge::several(3);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), PROXIED);
    let body = json!({"file_id": "a/b.bin", "filename": "R&D <\"1\">.bin", "max_downloads": 2});
    let made = coordinator.post("/api/links", &[], &body.to_string()).json();
    let path = made["link"].as_str().unwrap().strip_prefix(PUBLIC_URL).unwrap().to_owned();
    let visit = |from: &str, accept: &str| {
        coordinator.send("GET", &path, &[("X-Forwarded-For", from), ("Accept", accept)])
    };
    let first = visit("192.0.2.1", ACCEPT.1);
    assert_eq!(first.status, 200);
    assert!(first.text().contains("<file name=\"R&amp;D &lt;&quot;1&quot;&gt;.bin\">"), "{}", first.text());
    let candidates = coordinator.candidates("a/b.bin");
    let order = |answer: &Answer| urls(answer).iter().map(|url| edge_of(url).to_owned()).collect::<Vec<_>>();
    assert_eq!(order(&first), candidates);
    // Who comes again begins with the next edge, whichever way it asks.
    let again = visit("192.0.2.1", ACCEPT.1);
    let mut turned = candidates.clone();
    turned.rotate_left(1);
    assert_eq!(order(&again), turned);
    let redirected = visit("192.0.2.1", "*/*");
    assert_eq!(edge_of(redirected.field("location")), candidates[2]);
    assert_eq!(visit("192.0.2.2", ACCEPT.1).status, 200);
    let refused = visit("192.0.2.3", ACCEPT.1);
    assert_eq!((refused.status, refused.field("content-type")), (403, "application/problem+json"));
}

/// An edge that answers HEAD as it is told to; its URL is in no test edge's domain.
fn telling(head: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            let _ = stream.read_line(&mut line);
            assert!(line.starts_with("HEAD /download?token="), "{line}");
            while line != "\r\n" && !line.is_empty() {
                line.clear();
                let _ = stream.read_line(&mut line);
            }
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.get_mut().write_all(head.as_bytes());
        }
    });
    (format!("http://{address}"), asked)
}

#[test]
fn size_and_hash_are_those_that_an_edge_tells() {
    let table = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\
             Repr-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\r\n\r\n",
            Some(
                "<size>5</size>\n    <hash type=\"sha-256\">2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824</hash>",
            ),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Some("<size>7</size>\n    <url")),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\r\n\r\n", None),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", None),
        ("nothing of the kind\r\n\r\n", None),
        ("", None),
    ];
    for (head, expected) in table {
        let (url, asked) = telling(head);
        let edge = Edge::start("edge-1");
        let coordinator = Coordinator::start_at(&edge, &url);
        for _ in 0..3 {
            let answer = coordinator.send("GET", "/download/a.bin", &[ACCEPT]);
            assert_eq!(answer.status, 200);
            match expected {
                Some(expected) => assert!(answer.text().contains(expected), "{}", answer.text()),
                None => assert!(!answer.text().contains("<size>"), "{}", answer.text()),
            }
        }
        assert!((1..=3).contains(&asked.load(Ordering::SeqCst)), "it was asked, and remembered");
    }
}
