//! Who gets a file: tokens live, expired, foreign, cut, bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::borrow::Cow;
use std::time::SystemTime;

use sluice_shared::keys::KeyFile;
use sluice_shared::token::{NumericDate, seal};
use support::{Edge, get_request, wait_for};

#[test]
fn tokens_that_do_not_hold_are_refused_with_the_reference_texts() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
    let at = |offset: f64| NumericDate::from_secs_f64(now + offset).unwrap();
    let good = edge.token("a.bin");
    let expired = edge.seal(&sluice_shared::token::Claims { exp: at(-1.0), ..edge.claims("a.bin") });
    let early = edge.seal(&sluice_shared::token::Claims { nbf: Some(at(60.0)), ..edge.claims("a.bin") });
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
fn bindings_are_held_against_the_connection() {
    let edge = Edge::start();
    edge.file("a.bin", b"content");
    let answer = |change: &dyn Fn(&mut sluice_shared::token::Claims<'_>), method: &str| {
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
