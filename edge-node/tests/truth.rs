//! A body that ends complete is one version's bytes, whatever happens to the file meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use support::{Connection, Edge, content, get_request, wait_for, write_over};

const SIZE: usize = 24 << 20;

/// Asks for the file and reads no more than the head, so that the transfer is under way and stalled.
fn begin(edge: &Edge, name: &str) -> Connection {
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.token(name), ""));
    wait_for("the transfer to begin", || (edge.metric("sluice_edge_transfers ") >= 1.0).then_some(()));
    connection
}

fn small_cache() -> Edge {
    Edge::start_with("", "size = \"16MiB\"\nrevalidate = \"50ms\"")
}

type Change = (&'static str, fn(&Edge, &[u8]));

/// Every way a file changes under a transfer that is not wholly cached.
const CHANGES: [Change; 5] = [
    ("replaced", |edge, new| {
        write_over(&edge.root().join("a.bin"), new);
    }),
    ("removed", |edge, _| {
        fs::remove_file(edge.root().join("a.bin")).unwrap();
    }),
    ("truncated", |edge, _| {
        let file = File::options().write(true).open(edge.root().join("a.bin")).unwrap();
        file.set_len(3 << 20).unwrap();
    }),
    ("appended to", |edge, _| {
        let mut file = File::options().append(true).open(edge.root().join("a.bin")).unwrap();
        file.write_all(b"more").unwrap();
    }),
    ("rewritten in place", |edge, new| {
        let mut file = File::options().write(true).open(edge.root().join("a.bin")).unwrap();
        file.write_all(new).unwrap();
    }),
];

#[test]
fn a_transfer_of_a_changed_file_ends_short_and_is_a_prefix_of_the_old_version() {
    for (what, change) in CHANGES {
        let edge = small_cache();
        let (old, new) = (content(SIZE, 1), content(SIZE, 2));
        edge.file("a.bin", &old);
        let mut connection = begin(&edge, "a.bin");
        // More than the socket's buffers and the cache hold is still to come.
        std::thread::sleep(Duration::from_millis(200));
        change(&edge, &new);
        connection.send(&get_request(&edge.token("a.bin"), ""));
        let short = connection.try_answer(false).expect_err(what);
        assert!(short.head.is_some_and(|head| head.contains(&format!("Content-Length: {SIZE}"))), "{what}");
        assert!(
            short.body.len() < SIZE && short.body == old[..short.body.len()],
            "{what}: bytes of two versions"
        );
    }
}

#[test]
fn a_transfer_whose_version_is_wholly_cached_completes_after_the_file_is_replaced() {
    let edge = Edge::start_with("", "size = \"64MiB\"\nrevalidate = \"50ms\"");
    let (old, new) = (content(SIZE, 1), content(SIZE, 2));
    edge.file("a.bin", &old);
    assert!(edge.get("a.bin", "").body == old);
    let mut connection = begin(&edge, "a.bin");
    write_over(&edge.root().join("a.bin"), &new);
    wait_for("the new version to be served", || (edge.get("a.bin", "").body == new).then_some(()));
    assert!(connection.answer().body == old, "the old version goes on from the cache");
}

#[test]
fn a_replaced_file_is_served_anew_with_another_etag() {
    let edge = Edge::start_with("", "size = \"64MiB\"\nrevalidate = \"50ms\"");
    for size in [1000, 3 << 20] {
        let (old, new) = (content(size, 1), content(size, 2));
        edge.file("a.bin", &old);
        let first = edge.get("a.bin", "");
        assert!(first.body == old);
        write_over(&edge.root().join("a.bin"), &new);
        let second = wait_for("the new version", || {
            let answer = edge.get("a.bin", "");
            assert!(answer.body == old || answer.body == new, "one version or the other");
            (answer.body == new).then_some(answer)
        });
        assert_ne!(first.field("ETag"), second.field("ETag"));
        let etag = first.field("ETag").unwrap();
        let resumed = edge.get("a.bin", &format!("Range: bytes=10-\r\nIf-Range: {etag}\r\n"));
        assert_eq!(resumed.status, 200, "a resume of the old version starts anew");
        fs::remove_file(edge.root().join("a.bin")).unwrap();
        wait_for("the file to be gone", || (edge.get("a.bin", "").status == 404).then_some(()));
    }
}

/// Random changes and random ranges at random times: complete bodies are one version's.
#[test]
fn complete_bodies_are_never_mixed() {
    let edge = Edge::start_with("", "size = \"16MiB\"\nrevalidate = \"20ms\"");
    let versions: Vec<Vec<u8>> =
        (0..4usize).map(|seed| content((6 << 20) + [0, 1000, 2000, 3000][seed], seed as u64)).collect();
    let path = edge.file("a.bin", &versions[0]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let complete = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = SystemTime::now();
            let mut turn = 0usize;
            while began.elapsed().unwrap() < Duration::from_secs(6) {
                turn += 1;
                let version = &versions[turn % versions.len()];
                match turn % 3 {
                    // In place, but never within one tick of the file's clock.
                    0 => {
                        let mut file = File::options().write(true).truncate(true).open(&path).unwrap();
                        file.write_all(version).unwrap();
                    }
                    _ => write_over(&path, version),
                }
                std::thread::sleep(Duration::from_millis(40 + (turn as u64 * 37) % 90));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        for reader in 0..4usize {
            let (edge, versions, stop, complete) = (&edge, &versions, &stop, &complete);
            scope.spawn(move || {
                let token = edge.token("a.bin");
                let mut turn = reader * 7919;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    turn += 104_729;
                    let (first, length) = (turn % (5 << 20), 1 + (turn * 31) % (2 << 20));
                    let mut connection = edge.connect();
                    let range = format!("Range: bytes={first}-{}\r\n", first + length - 1);
                    connection.send(&get_request(&token, &range));
                    let Ok(answer) = connection.try_answer(false) else {
                        continue;
                    };
                    if answer.status != 206 {
                        continue;
                    }
                    let total: usize =
                        answer.field("Content-Range").unwrap().rsplit('/').next().unwrap().parse().unwrap();
                    let end = (first + length).min(total);
                    let matches = versions
                        .iter()
                        .filter(|version| version.len() == total && version[first..end] == answer.body)
                        .count();
                    // While it is written in place a file has versions of its own: prefixes of the new content.
                    let partial = versions.iter().any(|v| v.len() >= end && v[first..end] == answer.body);
                    assert!(matches == 1 || partial, "a body of {first}..{end} of {total} is no version's");
                    complete.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert!(complete.load(std::sync::atomic::Ordering::Relaxed) > 20, "enough bodies came whole");
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let edge = small_cache();
    edge.file("a.bin", &content(SIZE, 1));
    let before = edge.descriptors();
    for _ in 0..20 {
        let mut connection = begin(&edge, "a.bin");
        let mut some = vec![0; 100_000];
        connection.stream.read_exact(&mut some).unwrap();
    }
    wait_for("connections and transfers to be gone", || {
        let gone =
            edge.metric("sluice_edge_connections ") == 0.0 && edge.metric("sluice_edge_transfers ") == 0.0;
        (gone && edge.descriptors() <= before + 3).then_some(())
    });
}
