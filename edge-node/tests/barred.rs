//! What is barred is refused, whatever its token says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, SystemTime};

use sluice_shared::revocations::{Instant, Kind, Mark, RevocationBook, Target};
use sluice_shared::token::{Claims, NumericDate};
use support::{Edge, get_request};

const COORDINATOR: &str = "http://coordinator.example";

#[test]
fn what_the_file_of_revocations_bars_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.json");
    let now = Instant::now();
    let until = |offset: i64| Instant(now.0.saturating_add_signed(offset));
    let marks = [
        (Kind::Link, "l", 600_000),
        (Kind::User, "u", 600_000),
        (Kind::Client, "c", 600_000),
        (Kind::File, "file.bin", 600_000),
        (Kind::Prefix, "folder", 600_000),
        (Kind::Link, "lifted", -1),
    ];
    let book = RevocationBook::open(Some(&path)).unwrap();
    let marks = marks.map(|(kind, value, offset)| {
        (Target::new(kind, value).unwrap(), Mark { set: now, until: until(offset), cut: false })
    });
    book.merge(marks);
    book.save().unwrap();

    let top = format!("revocations_file = {path:?}\ncoordinator_urls = [\"{COORDINATOR}\"]");
    let edge = Edge::start_with(&top, "size = \"64MiB\"");
    for name in ["a.bin", "file.bin", "folder/b.bin", "folders.bin"] {
        edge.file(name, b"content");
    }
    let claims = |file: &'static str| Claims { iss: Some(COORDINATOR.into()), ..edge.claims(file) };
    let past = NumericDate::from_system_time(SystemTime::now() - Duration::from_secs(5));
    let later = NumericDate::from_system_time(SystemTime::now() + Duration::from_secs(600));
    let table = [
        ("nothing", claims("a.bin"), 200, ""),
        ("link", Claims { lnk: Some("l".into()), ..claims("a.bin") }, 403, "Link revoked"),
        ("user", Claims { user_id: Some("u".into()), ..claims("a.bin") }, 403, "gets nothing more"),
        ("client", Claims { cid: Some("c".into()), ..claims("a.bin") }, 403, "gets nothing more"),
        ("file", claims("file.bin"), 403, "not given any more"),
        ("prefix", claims("folder/b.bin"), 403, "not given any more"),
        ("no prefix", claims("folders.bin"), 200, ""),
        ("lifted", Claims { lnk: Some("lifted".into()), ..claims("a.bin") }, 200, ""),
        ("others", Claims { lnk: Some("u".into()), user_id: Some("l".into()), ..claims("a.bin") }, 200, ""),
        // Nobody is sent back for another token of what is barred.
        (
            "expired",
            Claims { exp: past, lxp: Some(later), lnk: Some("l".into()), ..claims("a.bin") },
            403,
            "Link revoked",
        ),
    ];
    for (what, claims, status, text) in table {
        let mut connection = edge.connect();
        connection.send(&get_request(&edge.seal(&claims), ""));
        let answer = connection.answer();
        assert_eq!(answer.status, status, "{what}");
        if status == 403 {
            assert!(answer.detail().contains(text), "{what}: {}", answer.detail());
        }
    }
}
