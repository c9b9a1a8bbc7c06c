//! `GET /api/request-download`: what callers get for a file, and what they are told when they ask wrongly.

mod support;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::{Coordinator, Edge, PUBLIC_URL, origin, token_of};

#[test]
fn the_answer_holds_a_token_that_says_what_was_asked() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let before = SystemTime::now();
    let answer = coordinator.send(
        "GET",
        "/api/request-download?file_id=a%2Fb+c%C3%A9.bin&user_id=ann%40example&other=1",
        &[("X-Request-Id", "call-7")],
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-type"), "application/json");
    assert_eq!(answer.field("cache-control"), "no-store");
    assert_eq!(answer.field("x-request-id"), "call-7");
    let json = answer.json();
    assert_eq!(json["edge"], "edge-1");
    assert_eq!(json["alternates"].as_array().unwrap().len(), 0);
    assert_eq!(json.as_object().unwrap().len(), 4);
    let url = json["download_url"].as_str().unwrap();
    assert!(url.starts_with("http://edge-1.example:9000/download?token="), "{url}");

    let claims = coordinator.claims(&token_of(url));
    assert_eq!(claims.file_id.as_str(), "a/b cé.bin");
    assert_eq!(claims.user_id.as_deref(), Some("ann@example"));
    assert_eq!(claims.rid.as_deref(), Some("call-7"));
    assert_eq!(claims.iss.as_deref(), Some(PUBLIC_URL));
    assert_eq!(claims.edg.as_deref(), Some("edge-1"));
    assert_eq!(claims.jti.as_ref().unwrap().len(), 22);
    assert_eq!((claims.cid, claims.ip, claims.lnk), (None, None, None));
    assert!(!claims.head);
    let (iat, exp) = (claims.iat.unwrap().as_secs_f64(), claims.exp.as_secs_f64());
    assert_eq!(exp - iat, 900.0);
    let asked = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!((iat - asked.as_secs_f64()).abs() < 30.0);
    let expires_at = humantime::parse_rfc3339(json["expires_at"].as_str().unwrap()).unwrap();
    assert_eq!(
        expires_at,
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(exp),
        "expires_at says the same as exp"
    );
}

#[test]
fn token_ttl_is_what_the_configuration_says() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], "links.token_ttl = \"90s\"");
    let url = coordinator.request_download("a").json()["download_url"].clone();
    let claims = coordinator.claims(&token_of(url.as_str().unwrap()));
    assert_eq!(claims.exp.as_secs_f64() - claims.iat.unwrap().as_secs_f64(), 90.0);
}

#[test]
fn alternates_are_three_other_edges_with_the_same_token() {
    let edges = Edge::several(6);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    for file in 0..20 {
        let json = coordinator.request_download(&format!("{file}.bin")).json();
        let alternates = json["alternates"].as_array().unwrap();
        let urls = std::iter::once(&json["download_url"]).chain(alternates);
        let urls: Vec<_> = urls.map(|url| url.as_str().unwrap()).collect();
        assert_eq!(urls.len(), 4);
        let token = token_of(urls[0]);
        let mut origins: Vec<_> = urls.iter().map(|url| origin(url)).collect();
        assert_eq!(json["edge"], origins[0].as_str());
        for url in &urls {
            assert_eq!(*url, format!("http://{}.example:9000/download?token={token}", origin(url)));
        }
        origins.sort();
        origins.dedup();
        assert_eq!(origins.len(), 4, "four different edges");
    }
}

#[test]
fn wrong_calls_are_told_what_is_wrong() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let long_id = "x".repeat(1025);
    let long_user = format!("file_id=a&user_id={}", "u".repeat(257));
    let long_file = format!("file_id={long_id}&user_id=u");
    // Within their own limits, and together too long for a token.
    let long_both = format!("file_id={}&user_id={}", "%22".repeat(1000), "u".repeat(256));
    let table = [
        ("user_id=u", "'file_id' is missing"),
        ("file_id=a", "'user_id' is missing"),
        ("", "'file_id' is missing"),
        ("file_id=a&file_id=b&user_id=u", "'file_id' is given more than once"),
        ("file_id=a&user_id=u&user_id=u", "'user_id' is given more than once"),
        ("file_id=a&user_id=u&x=1&x=1", "'x' is given more than once"),
        ("file_id=&user_id=u", "file_id is empty"),
        ("file_id=..&user_id=u", "'..' segment"),
        ("file_id=a/../b&user_id=u", "'..' segment"),
        ("file_id=a/%2e%2e/b&user_id=u", "'..' segment"),
        ("file_id=a%2F%2Fb&user_id=u", "segment"),
        ("file_id=a/&user_id=u", "segment"),
        ("file_id=/etc/passwd&user_id=u", "starts with '/'"),
        ("file_id=a%00&user_id=u", "control character"),
        ("file_id=a%5Cb&user_id=u", "backslash"),
        ("file_id=a%E2%80%AEb&user_id=u", "bidirectional"),
        ("file_id=a%ff&user_id=u", "UTF-8"),
        ("file_id=a%2&user_id=u", "UTF-8"),
        ("file_id=a&user_id=", "user_id is not 1 to 256 bytes"),
        ("file_id=a&user_id=a%0Ab", "control characters"),
        (&long_user, "user_id is not 1 to 256 bytes"),
        (&long_file, "longer than 1024 bytes"),
        (&long_both, "too long together"),
    ];
    for (query, detail) in table {
        let answer = coordinator.get(&format!("/api/request-download?{query}"));
        let told = answer.problem(400);
        assert!(told.contains(detail), "{query}: {told}");
        assert_eq!(answer.field("cache-control"), "no-store");
        assert_eq!(answer.field("x-request-id").len(), 22);
    }
    coordinator.get("/api/request-download").problem(400);
    let longest_user = format!("file_id=a&user_id={}", "u".repeat(256));
    let answer = coordinator.get(&format!("/api/request-download?{longest_user}"));
    assert_eq!(answer.status, 200);
}

#[test]
fn other_methods_and_paths_are_problems_too() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = coordinator.send(method, "/api/request-download?file_id=a&user_id=u", &[]);
        answer.problem(405);
        assert!(answer.field("allow").contains("GET"), "{answer:?}");
        assert_eq!(answer.field("x-request-id").len(), 22);
    }
    for target in [
        "/",
        "/api",
        "/api/request-download/",
        "/api/request-download/x",
        "/download",
        "/admin/v1/edges",
        "/metrics",
        "/readyz",
    ] {
        let answer = coordinator.get(target);
        answer.problem(404);
        assert_eq!(answer.field("x-request-id").len(), 22);
    }
}

#[test]
fn request_ids_are_kept_or_replaced_logged_and_sealed() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let longest = "x".repeat(64);
    let too_long = "x".repeat(65);
    let target = "/api/request-download?file_id=a&user_id=u";
    let table: [(&[&str], bool); 9] = [
        (&["Az0._-"], true),
        (&[&longest], true),
        (&[], false),
        (&[""], false),
        (&[&too_long], false),
        (&["a b"], false),
        (&["a;b"], false),
        (&["\u{e9}"], false),
        (&["same", "same"], false),
    ];
    for (sent, kept) in table {
        let fields: Vec<_> = sent.iter().map(|id| ("X-Request-Id", *id)).collect();
        let answer = coordinator.send("GET", target, &fields);
        let id = answer.field("x-request-id").to_owned();
        if kept {
            assert_eq!(id, sent[0]);
        } else {
            assert_eq!(id.len(), 22, "{sent:?}");
            assert!(!sent.contains(&id.as_str()));
        }
        let token = token_of(answer.json()["download_url"].as_str().unwrap());
        assert_eq!(coordinator.claims(&token).rid.as_deref(), Some(id.as_str()));

        let line = coordinator.log_line(|line| line["request_id"] == id.as_str());
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["method"], "GET");
        assert_eq!(line["path"], "/api/request-download");
        assert_eq!(line["status"], 200);
        assert_eq!(line["edge"], "edge-1");
        let log = coordinator.log_text();
        assert!(!log.contains(&token) && !log.contains("user_id="));
    }
    // Refused calls have one as well.
    let refused = coordinator.send("GET", "/nowhere", &[("X-Request-Id", "lost-1")]);
    assert_eq!(refused.field("x-request-id"), "lost-1");
    let line = coordinator.log_line(|line| line["request_id"] == "lost-1");
    assert_eq!((&line["status"], &line["edge"]), (&404.into(), &serde_json::Value::Null));
}

#[test]
fn calls_picks_and_tokens_are_counted() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    for _ in 0..3 {
        coordinator.request_download("a");
    }
    coordinator.get("/download/a");
    coordinator.get("/download/..");
    coordinator.get("/nowhere");
    let requests = |endpoint: &str, status: &str| {
        coordinator.metric(&format!(
            "sluice_coordinator_requests_total{{endpoint=\"{endpoint}\",status=\"{status}\"}}"
        ))
    };
    assert_eq!(requests("request-download", "200"), 3.0);
    assert_eq!(requests("download", "302"), 1.0);
    assert_eq!(requests("download", "400"), 1.0);
    assert_eq!(requests("unknown", "404"), 1.0);
    assert_eq!(coordinator.metric("sluice_tokens_minted_total"), 4.0);
    assert_eq!(coordinator.metric("sluice_picks_total{edge=\"edge-1\"}"), 4.0);
    assert_eq!(coordinator.metric("sluice_edges{state=\"up\"}"), 1.0);
    assert_eq!(coordinator.metric("sluice_ring_share_ratio{edge=\"edge-1\"}"), 1.0);
    let duration = "sluice_request_duration_seconds_count{endpoint=\"request-download\"}";
    assert_eq!(coordinator.metric(duration), 3.0);
}

#[test]
fn a_rotated_key_file_mints_with_the_new_key() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let new = support::KEY_SET.replace("test-1", "test-2").replace("AAEC", "AAED");
    coordinator.setting.write_private("keys.jwks.json", &new);
    support::wait_until("tokens are minted with the new key", || {
        let json = coordinator.request_download("a").json();
        let token = token_of(json["download_url"].as_str().unwrap());
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&header).unwrap()["kid"] == "test-2"
    });
    // Opened with the new file's only key.
    let location = coordinator.get("/download/a").field("location").to_owned();
    assert_eq!(coordinator.claims(&token_of(&location)).file_id.as_str(), "a");
}
