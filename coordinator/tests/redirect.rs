//! `GET, HEAD /download/{file_id}`: the redirection to an edge.

mod support;

use support::{Coordinator, Edge, token_of};

#[test]
fn a_file_is_redirected_to_its_edge() {
    let edges = Edge::several(3);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    for file in ["a.bin", "reports/2026/q1.pdf", "b", "c", "d"] {
        let answer = coordinator.get(&format!("/download/{file}"));
        assert_eq!(answer.status, 302);
        assert_eq!(answer.body, b"");
        assert_eq!(answer.field("cache-control"), "no-store");
        assert_eq!(answer.field("referrer-policy"), "no-referrer");
        let location = answer.field("location");
        let first = &coordinator.candidates(file)[0];
        let name = file.rsplit('/').next().unwrap();
        let expected = format!("http://{first}.example:9000/download/{name}?token=");
        assert!(location.starts_with(&expected), "{location}");

        let claims = coordinator.claims(&token_of(location));
        assert_eq!(claims.file_id.as_str(), file);
        assert_eq!(claims.edg.as_deref(), Some(first.as_str()));
        assert_eq!(claims.rid.as_deref(), Some(answer.field("x-request-id")));
        assert_eq!(claims.user_id, None);
        assert!(!claims.head);
    }
}

#[test]
fn a_head_call_gets_a_token_for_head_only() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let answer = coordinator.send("HEAD", "/download/a.bin", &[]);
    assert_eq!((answer.status, answer.body.len()), (302, 0));
    assert!(coordinator.claims(&token_of(answer.field("location"))).head);
}

#[test]
fn the_path_is_decoded_once_and_the_name_escaped_again() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let table = [
        ("a%20b.bin", "a b.bin", "a%20b.bin"),
        ("a%2Fb", "a/b", "b"),
        ("x/a+b", "x/a+b", "a%2Bb"),
        ("%252e%252e/x", "%2e%2e/x", "x"),
        ("%252e%252e", "%2e%2e", "%252e%252e"),
        ("caf%C3%A9%3Fx%23y%26.pdf", "café?x#y&.pdf", "caf%C3%A9%3Fx%23y%26.pdf"),
        ("...", "...", "..."),
        ("a;b=c,d~e", "a;b=c,d~e", "a%3Bb%3Dc%2Cd~e"),
    ];
    for (path, file_id, name) in table {
        let answer = coordinator.get(&format!("/download/{path}"));
        assert_eq!(answer.status, 302, "{path}");
        let location = answer.field("location");
        let expected = format!("http://edge-1.example:9000/download/{name}?token=");
        assert!(location.starts_with(&expected), "{path}: {location}");
        assert_eq!(coordinator.claims(&token_of(location)).file_id.as_str(), file_id);
    }
}

#[test]
fn bad_file_ids_are_refused() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let too_long = "x".repeat(1025);
    let table = [
        ("", "empty"),
        ("..", "segment"),
        ("../etc/passwd", "segment"),
        ("%2e%2e/etc/passwd", "segment"),
        ("a/..%2fb", "segment"),
        ("a//b", "segment"),
        ("a/", "segment"),
        ("./a", "segment"),
        ("/etc/passwd", "starts with '/'"),
        ("%2Fetc/passwd", "starts with '/'"),
        ("a%00", "control"),
        ("a%0d%0aLocation:%20x", "control"),
        ("a%5C..%5Cb", "backslash"),
        ("a%E2%80%AEgnp.exe", "bidirectional"),
        ("a%E2%81%A6b", "bidirectional"),
        ("a%", "percent-encoded"),
        ("a%zz", "percent-encoded"),
        ("a%ff", "percent-encoded"),
        (&too_long, "longer than 1024"),
    ];
    for (path, detail) in table {
        for method in ["GET", "HEAD"] {
            let answer = coordinator.send(method, &format!("/download/{path}"), &[]);
            assert!(!answer.fields.contains_key("location"));
            if method == "GET" {
                let told = answer.problem(400);
                assert!(told.contains(detail), "{path}: {told}");
            } else {
                assert_eq!((answer.status, answer.body.len()), (400, 0), "{path}");
            }
        }
    }
}

#[test]
fn a_user_may_be_named_and_only_once() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let answer = coordinator.get("/download/a?user_id=ann+b");
    let claims = coordinator.claims(&token_of(answer.field("location")));
    assert_eq!(claims.user_id.as_deref(), Some("ann b"));
    coordinator.get("/download/a?user_id=ann&user_id=bob").problem(400);
    coordinator.get("/download/a?user_id=").problem(400);
    coordinator.get("/download/a?user_id=%0a").problem(400);
}

#[test]
fn other_methods_are_refused_with_allow() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for target in ["/download/a", "/download/a/b", "/download/"] {
            let answer = coordinator.send(method, target, &[]);
            answer.problem(405);
            assert_eq!(answer.field("allow").replace(' ', ""), "GET,HEAD");
        }
    }
}

#[test]
fn an_absolute_request_target_means_the_same() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let answer = coordinator.get("http://coordinator.example/download/a.bin?user_id=u");
    let claims = coordinator.claims(&token_of(answer.field("location")));
    assert_eq!(claims.file_id.as_str(), "a.bin");
}
