//! Files arrive whole, in parts, small and large, cold and warm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use support::{Edge, content, get_request, wait_for};

const SIZES: [usize; 9] = [0, 1, 1024, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, (10 << 20) + 3];

#[test]
fn files_of_every_size_arrive_cold_and_warm() {
    let edge = Edge::start();
    for size in SIZES {
        let name = format!("f{size}.bin");
        let bytes = content(size, size as u64);
        edge.file(&name, &bytes);
        for round in ["cold", "warm"] {
            let answer = edge.get(&name, "");
            assert_eq!(answer.status, 200, "{size} {round}");
            assert!(answer.body == bytes, "{size} bytes, {round}: content differs");
        }
    }
}

/// Heads that are equal say nothing of whose body follows: neither of two files of one name, size and time, nor of the
/// next version of one.
#[test]
fn small_files_with_equal_heads_are_told_apart_however_often_they_are_asked_for() {
    let edge = Edge::start_with("etag = \"size-mtime\"\n", "");
    let time = SystemTime::now() - Duration::from_secs(100);
    let write = |name: &str, seed| {
        let bytes = content(20_000, seed);
        let new = edge.file("new.tmp", &bytes);
        fs::File::options().append(true).open(&new).unwrap().set_modified(time).unwrap();
        fs::create_dir_all(edge.root().join(name).parent().unwrap()).unwrap();
        fs::rename(new, edge.root().join(name)).unwrap();
        bytes
    };
    let mut contents = [("a/x.bin", write("a/x.bin", 1)), ("b/x.bin", write("b/x.bin", 2))];
    let mut connection = edge.connect();
    let mut etag = None;
    for round in 0..3 {
        for (name, bytes) in contents.iter().cycle().take(8) {
            let request = get_request(&edge.token(name), "");
            for _ in 0..20 {
                connection.send(&request);
                let answer = connection.answer();
                assert!(answer.body == *bytes, "{name}, round {round}: content differs");
                let of_answer = answer.field("ETag").map(str::to_owned);
                assert_eq!(of_answer, *etag.get_or_insert_with(|| of_answer.clone()));
            }
        }
        // Noticed within the second, and until then the old one is sent.
        contents[round % 2].1 = write(contents[round % 2].0, 3 + round as u64);
        let (name, bytes) = &contents[round % 2];
        wait_for("the new version", || (edge.get(name, "").body == *bytes).then_some(()));
    }
}

#[test]
fn small_files_arrive_whole_by_a_socket_that_is_full() {
    const REQUESTS: usize = 100;
    let edge = Edge::start();
    let bytes = content(60_000, 1);
    edge.file("a", &bytes);
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.token("a"), "").repeat(REQUESTS));
    // As far as it gets without being read.
    let mut sent = 0.0;
    wait_for("a full socket", || {
        let before = std::mem::replace(&mut sent, edge.metric("sluice_edge_body_bytes_total "));
        (before > 0.0 && before == sent).then_some(())
    });
    assert!(sent < (REQUESTS * bytes.len()) as f64);
    for request in 0..REQUESTS {
        assert!(connection.answer().body == bytes, "answer {request}");
    }
}

#[test]
fn any_range_of_a_large_file_is_exact_even_from_a_cache_smaller_than_it() {
    for cache in ["size = \"64MiB\"", "size = \"16MiB\"", "size = \"256MiB\""] {
        let edge = Edge::start_with("", cache);
        let size: usize = 64 << 20;
        let bytes = content(size, 7);
        edge.file("big.bin", &bytes);
        let window = 1 << 20;
        let ranges = [
            (0, 0),
            (0, size - 1),
            (window - 1, window),
            (window, 2 * window - 1),
            (5 * window + 17, 9 * window + 3),
            (size - 1, size - 1),
            (size - window - 1, size - 1),
            (0, window - 1),
            (33 * window - 1, 33 * window + 1),
        ];
        let token = edge.token("big.bin");
        let mut connection = edge.connect();
        for round in 0..2 {
            for (first, last) in ranges {
                connection.send(&get_request(&token, &format!("Range: bytes={first}-{last}\r\n")));
                let answer = connection.answer();
                assert_eq!(answer.status, 206);
                assert_eq!(
                    answer.field("Content-Range"),
                    Some(&*format!("bytes {first}-{last}/{size}")),
                    "{cache} round {round}"
                );
                assert!(answer.body == bytes[first..=last], "{cache} round {round}: {first}-{last} differs");
            }
        }
        let held = edge.metric("sluice_edge_cache_bytes ");
        assert!(held <= edge.metric("sluice_edge_cache_capacity_bytes "), "{held}");
    }
}

#[test]
fn a_thousand_requests_for_one_cold_file_read_it_once() {
    let edge = Edge::start();
    let bytes = content(3 << 20, 3);
    edge.file("one.bin", &bytes);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let token = edge.token("one.bin");
                let mut connection = edge.connect();
                for _ in 0..20 {
                    connection.send(&get_request(&token, ""));
                    assert!(connection.answer().body == bytes);
                }
            });
        }
    });
    assert_eq!(edge.metric("sluice_edge_cache_fills_total "), 3.0, "three windows, each filled once");
}

/// The ring's queue goes to the kernel when an operation is added, not when the loop finds time.
#[test]
fn cold_files_come_while_hot_ones_keep_a_worker_busy() {
    let edge = Edge::start_with("threads = 1", "size = \"64MiB\"");
    edge.file("hot.bin", &content(1000, 1));
    let names: Vec<String> = (0..200).map(|n| format!("cold/{n}.bin")).collect();
    for name in &names {
        edge.file(name, b"cold");
    }
    let token = edge.token("hot.bin");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connections: Vec<_> = (0..25).map(|_| edge.connect()).collect();
                while !stop.load(Ordering::Relaxed) {
                    connections.iter_mut().for_each(|connection| connection.send(&get_request(&token, "")));
                    connections.iter_mut().for_each(|connection| assert_eq!(connection.answer().status, 200));
                }
            });
        }
        let began = Instant::now();
        let came = names.iter().take_while(|name| {
            assert_eq!(edge.get(name, "").status, 200);
            began.elapsed() < Duration::from_secs(20)
        });
        let came = came.count();
        stop.store(true, Ordering::Relaxed);
        // At seconds each, as it was, a handful would come; at milliseconds each, all do.
        assert!(came > 50, "{came} cold files in 20 s");
    });
}

#[test]
fn one_pass_over_many_files_does_not_empty_the_cache() {
    let edge = Edge::start_with("", "size = \"16MiB\"\nrevalidate = \"60s\"");
    let file = |kind: &str, count: usize| -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("{kind}/{n}.bin")).collect();
        for (seed, name) in names.iter().enumerate() {
            edge.file(name, &content(60_000, seed as u64));
        }
        names
    };
    let (hot, passing) = (file("hot", 40), file("passing", 600));
    let fills = || edge.metric("sluice_edge_cache_fills_total ");
    let get_all = |names: &[String]| names.iter().for_each(|name| assert_eq!(edge.get(name, "").status, 200));
    for _ in 0..4 {
        get_all(&hot);
    }
    get_all(&passing);
    let before = fills();
    get_all(&hot);
    assert!(fills() - before <= 4.0, "{} of 40 hot files were evicted", fills() - before);
}

/// What an edge keeps of a file is bounded by what is read of it, not by what the file claims to be.
#[test]
fn a_file_of_15_tib_costs_no_memory() {
    let edge = Edge::start();
    let path = edge.file("sparse.bin", b"");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(15 << 40).unwrap();
    let answer = edge.get("sparse.bin", "Range: bytes=10995116277760-10995116277775\r\n");
    assert_eq!((answer.status, answer.body.as_slice()), (206, &[0; 16][..]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 32 * 1024, "{kib} KiB");
}

#[test]
fn head_describes_what_get_would_send() {
    let edge = Edge::start();
    edge.file("réport final.pdf", b"content");
    let get = edge.get("réport final.pdf", "");
    let mut connection = edge.connect();
    let token = edge.token("réport final.pdf");
    connection
        .send(&format!("HEAD /download?token={token} HTTP/1.1\r\nHost: edge\r\nRange: bytes=0-1\r\n\r\n"));
    let head = connection.answer_to_head();
    assert_eq!((get.status, head.status), (200, 200), "Range is for GET alone");
    let fields = |answer: &support::Answer| -> Vec<String> {
        answer.head.lines().filter(|line| !line.starts_with("Date:")).map(str::to_owned).collect()
    };
    assert_eq!(fields(&get), fields(&head));
    for (name, value) in [
        ("Content-Length", "7"),
        ("Content-Type", "application/pdf"),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        (
            "Content-Disposition",
            "attachment; filename=\"r_port final.pdf\"; filename*=UTF-8''r%C3%A9port%20final.pdf",
        ),
    ] {
        assert_eq!(head.field(name), Some(value));
    }
    assert!(head.field("ETag").unwrap().starts_with('"') && head.field("Last-Modified").is_some());
}

#[test]
fn the_token_can_name_the_file_to_save() {
    let edge = Edge::start();
    edge.file("4711", b"content");
    let mut claims = edge.claims("4711");
    claims.r#fn = Some("Übersicht.html".into());
    let mut connection = edge.connect();
    connection.send(&get_request(&edge.seal(&claims), ""));
    assert_eq!(
        connection.answer().field("Content-Disposition"),
        Some("attachment; filename=\"_bersicht.html\"; filename*=UTF-8''%C3%9Cbersicht.html")
    );
}

#[test]
fn path_templates_place_ids_in_the_store() {
    let edge = Edge::start_with("path_template = \"docs/{file_id}.pdf\"", "size = \"64MiB\"");
    edge.file("docs/a/b.pdf", b"pdf");
    let answer = edge.get("a/b", "");
    assert_eq!(answer.body, b"pdf");
    assert_eq!(answer.field("Content-Type"), Some("application/pdf"));
    assert!(answer.field("Content-Disposition").unwrap().contains("filename=\"b.pdf\""));
}

#[test]
fn conditions_spare_what_the_client_has() {
    let edge = Edge::start();
    edge.file("a.bin", b"0123456789");
    let first = edge.get("a.bin", "");
    let (etag, modified) = (first.field("ETag").unwrap(), first.field("Last-Modified").unwrap());
    let table = [
        (format!("If-None-Match: {etag}\r\n"), 304, ""),
        ("If-None-Match: \"other\"\r\n".to_owned(), 200, "0123456789"),
        (format!("If-Modified-Since: {modified}\r\n"), 304, ""),
        (format!("If-Match: {etag}\r\n"), 200, "0123456789"),
        ("If-Match: \"other\"\r\n".to_owned(), 412, ""),
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=-2\r\n".to_owned(), 206, "89"),
        ("Range: bytes=10-\r\n".to_owned(), 416, ""),
        ("Range: bytes=4-2\r\n".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n"), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {modified}\r\n"), 206, "234"),
        ("Range: bytes=2-4\r\nIf-Range: \"other\"\r\n".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=10-\r\nIf-None-Match: {etag}\r\n"), 304, ""),
    ];
    for (fields, status, body) in table {
        let answer = edge.get("a.bin", &fields);
        assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{fields}");
        assert_eq!(answer.field("ETag"), Some(etag), "{fields}");
        if status == 416 {
            assert_eq!(answer.field("Content-Range"), Some("bytes */10"));
        }
    }
}

#[test]
fn a_cache_in_a_folder_serves_the_same_bytes_and_leaves_nothing_there() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let edge = Edge::start_with("", &format!("size = \"32MiB\"\ndir = \"{}\"", folder.path().display()));
    for (seed, length) in [(1, 20_000), (2, 100_000), (3, 5 << 20)] {
        let (name, body) = (format!("{length}.bin"), content(length, seed));
        edge.file(&name, &body);
        for _ in 0..2 {
            assert!(edge.get(&name, "").body == body, "{length}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
