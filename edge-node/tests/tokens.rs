//! Who gets a file: tokens live, expired, foreign, cut, bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::borrow::Cow;
use std::time::SystemTime;

use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use support::{Edge, get_request, wait_for};

#[test]
fn tokens_that_do_not_hold_are_refused_with_the_reference_texts() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
    let at = |offset: f64| NumericDate::from_secs_f64(now + offset).unwrap();
    let good = edge.token("a.bin");
    let expired = edge.seal(&Claims { exp: at(-1.0), ..edge.claims("a.bin") });
    let early = edge.seal(&Claims { nbf: Some(at(60.0)), ..edge.claims("a.bin") });
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign_keys = KeyFile::load_or_create(&elsewhere.path().join("k")).unwrap();
    let foreign = seal(&edge.claims("a.bin"), foreign_keys.ring().load().current()).unwrap();
    let mut altered = good.clone().into_bytes();
    let at_middle = altered.len() / 2;
    altered[at_middle] = if altered[at_middle] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    let mut table = vec![
        (good.clone(), 200, "", ""),
        (expired, 401, "Token expired", "expired"),
        (early, 401, "Token not yet valid", "not yet valid"),
        (foreign, 400, "Invalid or malformed token", "key that is not in the key set"),
        (altered, 400, "Invalid or malformed token", "not authentic"),
        ("a.b.c".to_owned(), 400, "Invalid or malformed token", "not five parts"),
        (format!("{good}="), 400, "Invalid or malformed token", "wrong length"),
    ];
    // 22 characters are a whole tag of 16 bytes; these are tags of 1, 2, 4, 8 and 12.
    let (rest, tag) = good.rsplit_once('.').unwrap();
    for characters in [2, 3, 6, 11, 16] {
        table.push((
            format!("{rest}.{}", &tag[..characters]),
            400,
            "Invalid or malformed token",
            "wrong length",
        ));
    }
    for (token, status, detail, reason) in &table {
        let mut connection = edge.connect();
        connection.send(&get_request(token, ""));
        let answer = connection.answer();
        assert_eq!(answer.status, *status, "{reason}");
        if *status != 200 {
            assert_eq!(answer.detail(), *detail);
            assert_eq!(answer.field("WWW-Authenticate").is_some(), *status == 401);
            wait_for("the log to say why", || edge.log().contains(reason).then_some(()));
        }
    }
    let log = edge.log();
    for (token, ..) in &table {
        assert!(!log.contains(token.as_str()), "a token in the log");
        let ciphertext = token.split('.').nth(3).unwrap_or("no such part");
        assert!(!log.contains(ciphertext), "a token's part in the log");
    }
    assert_eq!(edge.metric("sluice_edge_token_failures_total{reason=\"length\"}"), 6.0);
}

#[test]
fn who_brings_no_token_is_told_which_edge_answers_and_nobody_else_is() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    for (method, target) in [("GET", "/download"), ("HEAD", "/download"), ("HEAD", "/download/a.bin")] {
        let mut connection = edge.connect();
        connection.send(&format!("{method} {target} HTTP/1.1\r\nHost: edge\r\n\r\n"));
        let answer = if method == "HEAD" { connection.answer_to_head() } else { connection.answer() };
        assert_eq!((answer.status, answer.field("Sluice-Edge")), (400, Some("edge-1")), "{method} {target}");
    }
    let mut connection = edge.connect();
    connection.send(&get_request("a.b.c", ""));
    assert_eq!(connection.answer().field("Sluice-Edge"), None);
    assert_eq!(edge.get("a.bin", "").field("Sluice-Edge"), None);
    // Coordinators ask so each minute: no line each time.
    assert!(!edge.log().contains("request refused"), "{}", edge.log());
}

#[test]
fn bindings_are_held_against_the_connection() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let answer = |change: &dyn Fn(&mut Claims<'_>), method: &str| {
        let mut claims = edge.claims("a.bin");
        change(&mut claims);
        let token = edge.seal(&claims);
        let mut connection = edge.connect();
        connection.send(&format!("{method} /download?token={token} HTTP/1.1\r\nHost: e\r\n\r\n"));
        connection.try_answer(method == "HEAD").unwrap().status
    };
    let table = [
        ("127.0.0.1", 200),
        ("127.0.0.0/8", 200),
        ("::ffff:127.0.0.1", 200),
        ("127.0.0.2", 403),
        ("192.0.2.0/24", 403),
        ("::1", 403),
        ("nonsense", 400),
    ];
    for (ip, status) in table {
        assert_eq!(answer(&|claims| claims.ip = Some(Cow::Owned(ip.to_owned())), "GET"), status, "{ip}");
    }
    assert_eq!(answer(&|claims| claims.head = true, "HEAD"), 200);
    assert_eq!(answer(&|claims| claims.head = true, "GET"), 403);
}

const COORDINATOR: &str = "http://coordinator.example:8080";

#[test]
fn an_expired_token_of_a_living_link_is_sent_back_to_its_coordinator() {
    let urls = format!("coordinator_urls = [\"http://other.example\", \"{COORDINATOR}/\"]\n");
    let edge =
        Edge::start_with(&format!("{urls}[log]\naccess_file = \"access.jsonl\"\n"), "size = \"64MiB\"");
    edge.file("a.bin", b"content");
    let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
    let at = |offset: f64| NumericDate::from_secs_f64(now + offset).unwrap();
    let renewable = Claims {
        exp: at(-1.0),
        lxp: Some(at(600.0)),
        iss: Some(COORDINATOR.into()),
        jti: Some("id-1".into()),
        ..edge.claims("a.bin")
    };
    let change = |change: &dyn Fn(&mut Claims<'_>)| {
        let mut claims = renewable.clone();
        change(&mut claims);
        claims
    };
    let table = [
        ("alive", "GET", renewable.clone(), 302),
        ("HEAD", "HEAD", renewable.clone(), 302),
        ("bound to this client", "GET", change(&|claims| claims.ip = Some("127.0.0.1".into())), 302),
        ("for HEAD only", "HEAD", change(&|claims| claims.head = true), 302),
        ("dead link", "GET", change(&|claims| claims.lxp = Some(at(-0.5))), 401),
        ("no link", "GET", change(&|claims| claims.lxp = None), 401),
        ("foreign issuer", "GET", change(&|claims| claims.iss = Some("http://evil.example".into())), 401),
        ("longer issuer", "GET", change(&|claims| claims.iss = Some(format!("{COORDINATOR}0").into())), 401),
        ("no issuer", "GET", change(&|claims| claims.iss = None), 401),
        ("not yet valid", "GET", change(&|claims| claims.nbf = Some(at(60.0))), 401),
        ("wrong address", "GET", change(&|claims| claims.ip = Some("192.0.2.1".into())), 403),
        ("unreadable address", "GET", change(&|claims| claims.ip = Some("nonsense".into())), 400),
        ("HEAD's token on GET", "GET", change(&|claims| claims.head = true), 403),
        (
            "wrong address, dead link",
            "HEAD",
            change(&|claims| (claims.ip, claims.lxp) = (Some("::1".into()), None)),
            401,
        ),
        ("holds", "GET", change(&|claims| claims.exp = at(600.0)), 200),
    ];
    let mut connection = edge.connect();
    for (name, method, claims, status) in &table {
        let token = edge.seal(claims);
        connection.send(&format!("{method} /download/name?token={token} HTTP/1.1\r\nHost: e\r\n\r\n"));
        let answer = connection.try_answer(*method == "HEAD").unwrap();
        assert_eq!(answer.status, *status, "{name}");
        let location = format!("{COORDINATOR}/renew?token={token}");
        assert_eq!(answer.field("Location"), (*status == 302).then_some(&*location), "{name}");
        if *status == 302 {
            assert_eq!(answer.field("Cache-Control"), Some("no-store"));
            assert_eq!(answer.field("Referrer-Policy"), Some("no-referrer"));
            assert_eq!((answer.field("Content-Length"), answer.field("Connection")), (Some("0"), None));
        }
    }
    let once = edge.seal(&renewable);
    connection.send(&format!("GET /download?token={once} HTTP/1.0\r\n\r\n"));
    assert_eq!(connection.answer().status, 302);
    assert!(connection.is_closed(), "HTTP/1.0 keeps nothing");
    assert_eq!(edge.metric("sluice_edge_renewals_total "), 5.0);
    assert_eq!(edge.metric("sluice_edge_requests_total{status=\"302\"} "), 5.0);
    assert!(!edge.log().contains(&once));
    let noted = |text: &String| text.lines().any(|line| line.contains("a.bin") && line.contains(":302,"));
    let path = edge.folder.path().join("access.jsonl");
    let text = wait_for("the log", || std::fs::read_to_string(&path).ok().filter(noted));
    assert!(!text.contains(&once));
}

#[test]
fn without_coordinators_an_expired_token_is_just_expired() {
    let edge = Edge::start();
    let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
    let at = |offset: f64| NumericDate::from_secs_f64(now + offset);
    let mut claims = edge.claims("a.bin");
    (claims.exp, claims.lxp) = (at(-1.0).unwrap(), at(600.0));
    claims.iss = Some(COORDINATOR.into());
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.seal(&claims), ""));
    let answer = connection.answer();
    assert_eq!((answer.status, answer.detail().as_str()), (401, "Token expired"));
}

#[test]
fn a_changed_key_file_is_taken_without_a_restart() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let old = edge.token("a.bin");
    let path = edge.folder.path().join("keys.jwks.json");
    std::fs::remove_file(&path).unwrap();
    let keys = KeyFile::load_or_create(&path).unwrap();
    let new = seal(&edge.claims("a.bin"), keys.ring().load().current()).unwrap();
    let status = |token: &str| {
        let mut connection = edge.connect();
        connection.send(&get_request(token, ""));
        connection.answer().status
    };
    wait_for("the new key to open", || (status(&new) == 200).then_some(()));
    assert_eq!(status(&old), 400, "the old key is gone");
    std::fs::write(&path, "{}").unwrap();
    wait_for("the bad file to be noticed", || edge.log().contains("keys read before stay").then_some(()));
    assert_eq!(status(&new), 200);
}
