//! Files' hashes, where they are known: what is written beside a file, and how answers say it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use support::{Answer, Edge, get_request, wait_for};

/// SHA-256 of "hello".
const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const FIELD: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

fn edge() -> Edge {
    Edge::start_with("", "size = \"64MiB\"\nrevalidate = \"50ms\"")
}

/// The first answer that has the file's hash: on a machine that is busy, an earlier one may not have waited for it.
fn told(edge: &Edge, name: &str) -> Answer {
    wait_for("the hash", || {
        Some(edge.get(name, "")).filter(|answer| answer.field("Repr-Digest") == Some(FIELD))
    })
}

#[test]
fn answers_about_a_file_have_the_hash_of_the_whole_file() {
    let edge = edge();
    edge.file("a.txt", b"hello");
    // Written after its file, as it should be.
    edge.file("a.txt.sha256", format!("{HEX}  a.txt\n").as_bytes());
    let first = told(&edge, "a.txt");
    assert_eq!(first.status, 200);
    let etag = first.field("ETag").unwrap().to_owned();
    for (fields, status, expected) in [
        (String::new(), 200, Some(FIELD)),
        ("Range: bytes=1-2\r\n".to_owned(), 206, Some(FIELD)),
        ("Range: bytes=0-0,3-3\r\n".to_owned(), 206, Some(FIELD)),
        ("If-Range: \"other\"\r\nRange: bytes=1-2\r\n".to_owned(), 200, Some(FIELD)),
        // What the client has already is not described again, nor what it does not get (RFC 9110 §15.3.7, §15.4.5).
        (format!("If-Range: {etag}\r\nRange: bytes=1-2\r\n"), 206, None),
        (format!("If-None-Match: {etag}\r\n"), 304, None),
        ("If-Match: \"other\"\r\n".to_owned(), 412, None),
        ("Range: bytes=9-\r\n".to_owned(), 416, None),
    ] {
        let answer = edge.get("a.txt", &fields);
        assert_eq!((answer.status, answer.field("Repr-Digest")), (status, expected), "{fields}");
    }
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.token("a.txt"), "").replacen("GET", "HEAD", 1));
    assert_eq!(connection.answer_to_head().field("Repr-Digest"), Some(FIELD));
    edge.file("large.bin", &vec![7; 200_000]);
    edge.file("large.bin.sha256", HEX.as_bytes());
    told(&edge, "large.bin");
    edge.file("plain.bin", b"x");
    assert_eq!(edge.get("plain.bin", "").field("Repr-Digest"), None);
}

#[test]
fn a_sidecar_that_says_nothing_for_sure_is_not_believed() {
    let edge = edge();
    let long = format!("{HEX}  {}\n", "a".repeat(2000));
    for (name, text) in [
        ("none.bin", ""),
        ("other.bin", &format!("{HEX}  another.bin\n")),
        ("two.bin", &format!("{HEX}  two.bin\n{HEX}  b.bin\n")),
        ("short.bin", "2cf24dba"),
        ("long.bin", &long),
    ] {
        edge.file(name, b"hello");
        edge.file(&format!("{name}.sha256"), text.as_bytes());
        let answer = edge.get(name, "");
        assert_eq!((answer.status, answer.field("Repr-Digest")), (200, None), "{name}");
    }
    edge.file("folder.bin", b"hello");
    fs::create_dir(edge.root().join("folder.bin.sha256")).unwrap();
    assert_eq!(edge.get("folder.bin", "").field("Repr-Digest"), None);
    edge.file("secret", HEX.as_bytes());
    edge.file("link.bin", b"hello");
    std::os::unix::fs::symlink("secret", edge.root().join("link.bin.sha256")).unwrap();
    assert_eq!(edge.get("link.bin", "").field("Repr-Digest"), None, "links are not followed");
    // Of an earlier version.
    edge.file("old.bin.sha256", HEX.as_bytes());
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options()
        .write(true)
        .open(edge.root().join("old.bin.sha256"))
        .unwrap()
        .set_modified(hour_ago)
        .unwrap();
    edge.file("old.bin", b"hello");
    assert_eq!(edge.get("old.bin", "").field("Repr-Digest"), None);
}

#[test]
fn a_replaced_file_loses_its_hash_until_there_is_a_new_one() {
    let edge = edge();
    edge.file("a.txt", b"hello");
    edge.file("a.txt.sha256", HEX.as_bytes());
    told(&edge, "a.txt");
    fs::write(edge.root().join("new"), "other").unwrap();
    let later = SystemTime::now() + Duration::from_secs(2);
    File::options().write(true).open(edge.root().join("new")).unwrap().set_modified(later).unwrap();
    fs::rename(edge.root().join("new"), edge.root().join("a.txt")).unwrap();
    let replaced =
        wait_for("the new version", || Some(edge.get("a.txt", "")).filter(|it| it.body == b"other"));
    assert_eq!(replaced.field("Repr-Digest"), None);
}

#[test]
fn nobody_looks_where_the_operator_says_so() {
    let edge = Edge::start_with("sha256_sidecars = false", "size = \"64MiB\"");
    edge.file("a.txt", b"hello");
    edge.file("a.txt.sha256", HEX.as_bytes());
    assert_eq!(edge.get("a.txt", "").field("Repr-Digest"), None);
}
