//! What is not cached is read from the store once, a few windows ahead, and no more of it than the cache may hold.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sluice_loadtest::client::Connection;
use sluice_loadtest::faulty_store::Manner;
use sluice_loadtest::process::RunAs;
use sluice_loadtest::{Content, SoloEdge, wait_until};
use support::{MIB, Rig};

/// Reads an answer's body to its end, compares it with what it should be, and keeps none of it.
fn expect_body(connection: &mut Connection, expected: &[u8]) {
    let head = connection.read_head().unwrap();
    assert_eq!(head.status, 200);
    let mut body = connection.body(&head, "GET").unwrap();
    let (mut at, mut chunk) = (0, vec![0; 256 * 1024]);
    loop {
        let count = body.read(&mut chunk).unwrap();
        if count == 0 {
            break;
        }
        assert!(chunk[..count] == expected[at..at + count], "wrong bytes after {at}");
        at += count;
    }
    assert_eq!(at, expected.len());
}

#[test]
fn a_thousand_cold_requests_for_one_file_read_it_once() {
    const REQUESTS: usize = 1000;
    const THREADS: usize = 8;
    for (name, size) in [("large.bin", 4 * MIB + 5), ("window.bin", 100_000), ("small.bin", 50_000)] {
        let rig =
            Rig::start([(name, size)], |settings| settings.toml("limits.connections_per_address = 2000"));
        let expected = Content::new(name, size).bytes(0..size);
        rig.store.hold_lookups(name);
        // Some users, as some come behind one address.
        let ask = |request| rig.edge.ask(name, &format!("user-{}", request % 50), "").unwrap();
        let mut waiting: Vec<_> = (0..REQUESTS).map(ask).collect();
        wait_until("all have been accepted", || Ok(rig.edge.load_of("connections")? == REQUESTS as u64))
            .unwrap();
        rig.store.release();
        thread::scope(|scope| {
            for part in waiting.chunks_mut(REQUESTS / THREADS) {
                scope.spawn(|| part.iter_mut().for_each(|connection| expect_body(connection, &expected)));
            }
        });
        assert_eq!(rig.store.bytes_read(name), size, "{name}: each byte once");
        rig.check(name, size);
        assert_eq!(rig.store.bytes_read(name), size, "{name}: and never again");
    }
}

#[test]
fn a_cold_download_reads_a_few_windows_ahead() {
    const SIZE: u64 = 256 * MIB;
    for manner in [Manner::default(), Manner { direct: true, ..Manner::default() }] {
        let rig = Rig::start_in(manner, [("empty.bin", 0)], |settings| settings);
        // A hole: 256 MiB of zeros that nobody has to write.
        File::create(rig.source().join("large.bin")).unwrap().set_len(SIZE).unwrap();
        rig.store.delay(Duration::from_millis(5));
        let mut connection = rig.edge.ask("large.bin", "tester", "").unwrap();
        expect_body(&mut connection, &vec![0; usize::try_from(SIZE).unwrap()]);
        let most = rig.store.most_reads_at_once("large.bin");
        assert!((3..=4).contains(&most), "{most} reads at the same time");
        assert_eq!(rig.store.bytes_read("large.bin"), SIZE);
    }
}

#[test]
fn a_slow_client_makes_nobody_read_further_ahead_than_a_few_windows() {
    const SIZE: u64 = 64 * MIB;
    let rig = Rig::start([("large.bin", SIZE)], |settings| settings);
    rig.store.delay(Duration::from_millis(5));
    let mut connection = rig.edge.ask("large.bin", "tester", "").unwrap();
    let head = connection.read_head().unwrap();
    let mut first = vec![0; 1000];
    connection.body(&head, "GET").unwrap().read_exact(&mut first).unwrap();
    rig.wait_until_well();
    // What both sockets hold, and as many windows as are ever read ahead.
    let read = rig.store.bytes_read("large.bin");
    assert!(read <= 24 * MIB, "{} MiB were read for a client that took 1000 bytes", read / MIB);
    let rest = Content::new("large.bin", SIZE).bytes(1000..SIZE);
    let mut body = connection.body(&head, "GET").unwrap().take(SIZE - 1000);
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).unwrap();
    assert!(bytes == rest);
}

#[test]
fn files_that_are_read_through_the_page_cache_arrive_whole() {
    let files = [("small.bin", 50_000), ("large.bin", 5 * MIB + 3)];
    let rig = Rig::start_in(Manner { refuses_direct: true, ..Manner::default() }, files, |settings| settings);
    for (name, size) in files {
        rig.check(name, size);
        assert_eq!(rig.store.bytes_read(name), size, "{name}");
    }
    let rig = Rig::start_in(Manner { asynchronous: true, ..Manner::default() }, files, |settings| settings);
    for (name, size) in files {
        rig.check(name, size);
        assert_eq!(rig.store.bytes_read(name), size, "{name}");
    }
}

#[test]
fn more_cold_downloads_than_the_cache_has_room_for_all_arrive() {
    const SIZE: u64 = 12 * MIB;
    const FILES: usize = 12;
    let name = |file| format!("{file}.bin");
    let rig = Rig::start((0..FILES).map(|file| (name(file), SIZE)), |settings| settings.cache("32MiB"));
    rig.store.delay(Duration::from_millis(2));
    thread::scope(|scope| {
        for file in 0..FILES {
            let rig = &rig;
            scope.spawn(move || rig.check(&name(file), SIZE));
        }
    });
    let (held, most) = (rig.edge.load_of("cache_bytes").unwrap(), 32 * MIB);
    assert!(held <= most, "{held} bytes are cached");
}

/// An edge that has no descriptors left for another large file lets go of the one that is longest unused, and of no more.
#[test]
fn more_large_files_than_may_be_open_all_arrive_and_the_latest_stay_cached() {
    const FILES: usize = 1500;
    const LATEST: usize = 100;
    const THREADS: usize = 16;
    const SIZE: u64 = 100_000;
    let root = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        File::create(root.path().join(file.to_string())).unwrap().set_len(SIZE).unwrap();
    }
    // 100 for connections, and 356 large files with two each.
    let run_as = RunAs { descriptors_max: Some(1324), ..RunAs::default() };
    let edge = SoloEdge::start_as(run_as, root.path(), |settings| {
        settings
            .threads(2)
            .cache("256MiB")
            .toml("limits.connections = 100\nlimits.connections_per_address = 100")
    })
    .unwrap();
    let fetch = |file: usize| {
        let answer = edge.get(&file.to_string()).unwrap();
        assert_eq!((answer.status(), answer.body.len() as u64), (200, SIZE), "{file}: {}", answer.text());
    };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(file) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|file| *file < FILES)
                {
                    fetch(file);
                }
            });
        }
    });
    let fills = || edge.metric("sluice_edge_cache_fills_total").unwrap();
    let before = fills();
    (FILES - LATEST..FILES).for_each(fetch);
    let filled = fills() - before;
    assert!(filled < 1.0, "{filled} of those that were fetched last were let go of");
}
