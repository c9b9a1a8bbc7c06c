//! A store that fails or lies costs the download that meets it, and never brings a wrong byte to anybody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use sluice_loadtest::client::Connection;
use sluice_loadtest::faulty_store::{Errno, FaultyStore, Manner, Which};
use sluice_loadtest::{Content, wait_until};
use support::{MIB, Rig, STORAGE_TIMEOUT, expect_refusal};

const LARGE: u64 = 12 * MIB + 5;

/// Reads of the middle of a large file.
fn middle() -> Which {
    Which::that(|asked| asked.path == "large.bin" && (6 * MIB..8 * MIB).contains(&asked.offset))
}

/// What came of a body that ended before its length; how far it got is for the caller to judge.
fn expect_short(connection: &mut Connection, content: &Content) -> u64 {
    let head = connection.read_head().unwrap();
    assert_eq!((head.status, head.field("content-length")), (200, Some(content.size().to_string().as_str())));
    let bytes = connection.read_to_close().unwrap();
    content.check(0, &bytes).unwrap();
    assert!((bytes.len() as u64) < content.size(), "the body was whole");
    bytes.len() as u64
}

#[test]
fn a_read_that_fails_in_the_middle_ends_the_body_short_and_is_not_kept() {
    for errno in [Errno::EIO, Errno::ESTALE, Errno::ENODEV] {
        let rig = Rig::start([("large.bin", LARGE)], |settings| settings);
        let content = Content::new("large.bin", LARGE);
        rig.store.fail_reads(middle(), errno);
        for _ in 0..2 {
            let mut connection = rig.edge.ask("large.bin", "tester", "").unwrap();
            let got = expect_short(&mut connection, &content);
            assert_eq!(got, 6 * MIB, "up to the window that failed");
        }
        rig.store.mend();
        rig.check("large.bin", LARGE);
    }
}

#[test]
fn a_read_that_fails_once_costs_one_download_at_most() {
    for errno in [Errno::EIO, Errno::ESTALE] {
        let rig = Rig::start([("large.bin", LARGE)], |settings| settings);
        let content = Content::new("large.bin", LARGE);
        rig.store.fail_next_reads(1, middle(), errno);
        // Read ahead, it may have been tried again before anybody needed it.
        match rig.edge.get("large.bin") {
            Ok(answer) => content.check_whole(&answer.body).unwrap(),
            Err(fault) => assert!(fault.to_string().contains("short"), "{fault}"),
        }
        rig.check("large.bin", LARGE);
        rig.check("large.bin", LARGE);
    }
}

#[test]
fn a_first_read_that_fails_is_answered_503_and_is_not_kept() {
    for (name, size) in [("small.bin", 5000), ("window.bin", 100_000), ("large.bin", LARGE)] {
        let rig = Rig::start([(name, size)], |settings| settings);
        rig.store.fail_reads(name, Errno::EIO);
        for _ in 0..2 {
            expect_refusal(&mut rig.edge.ask(name, "tester", "").unwrap());
        }
        rig.store.mend();
        rig.check(name, size);
    }
}

#[test]
fn a_file_that_went_stale_is_opened_anew() {
    for (name, size) in [("small.bin", 5000), ("window.bin", 100_000), ("large.bin", LARGE)] {
        let rig = Rig::start([(name, size)], |settings| settings);
        rig.store.fail_next_reads(1, name, Errno::ESTALE);
        // Within one request: what is stale says that another file has its name.
        rig.check(name, size);
        assert!(rig.store.opens(name) >= 2, "{name}");
    }
}

#[test]
fn a_short_read_is_completed() {
    for (name, size) in [("small.bin", 50_000), ("large.bin", LARGE)] {
        let rig = Rig::start([(name, size)], |settings| settings);
        rig.store.shorten_next_reads(1, name, 8192 + 1);
        rig.check(name, size);
    }
}

#[test]
fn files_that_end_before_their_size_are_not_made_up_for() {
    // Neither direct nor asynchronous, the kernel itself makes up for them, with zeros: see `Manner`.
    for (direct, asynchronous) in [(true, false), (false, true), (true, true)] {
        let files = [("small.bin", 50_000), ("large.bin", LARGE)];
        let manner = Manner { direct, asynchronous, ..Manner::default() };
        let rig = Rig::start_in(manner, files, |settings| settings);
        rig.store.shorten_next_reads(usize::MAX, middle(), 0);
        let mut connection = rig.edge.ask("large.bin", "tester", "").unwrap();
        assert_eq!(expect_short(&mut connection, &Content::new("large.bin", LARGE)), 6 * MIB);
        rig.store.shorten_next_reads(usize::MAX, "small.bin", 0);
        expect_refusal(&mut rig.edge.ask("small.bin", "tester", "").unwrap());
        rig.store.mend();
        rig.check("large.bin", LARGE);
        rig.check("small.bin", 50_000);
    }
}

#[test]
fn a_store_that_fails_to_open_or_look_is_answered_503() {
    let faults: [fn(&FaultyStore); 3] = [
        |store| store.fail_lookups("a.bin", Errno::EIO),
        |store| store.fail_opens("a.bin", Errno::EIO),
        |store| store.fail_attributes("a.bin", Errno::EIO),
    ];
    for fault in faults {
        let rig = Rig::start([("a.bin", 5000), ("cached.bin", 5000)], |settings| settings);
        rig.check("cached.bin", 5000);
        fault(&rig.store);
        for _ in 0..2 {
            expect_refusal(&mut rig.edge.ask("a.bin", "tester", "").unwrap());
        }
        rig.check("cached.bin", 5000);
        rig.store.mend();
        rig.check("a.bin", 5000);
    }
}

#[test]
fn what_is_cached_outlives_a_store_that_fails() {
    const FILES: [(&str, u64); 2] = [("small.bin", 5000), ("large.bin", 5 * MIB + 3)];
    let rig = Rig::start(FILES, |settings| {
        settings.toml("cache.revalidate = \"100ms\"").toml("cache.stale_limit = \"5s\"")
    });
    for (name, size) in FILES {
        rig.check(name, size);
    }
    rig.store.fail_lookups("", Errno::EIO);
    rig.store.fail_attributes("", Errno::ESTALE);
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        for (name, size) in FILES {
            rig.check(name, size);
        }
    }
    for (name, _) in FILES {
        wait_until("it is too old", || Ok(rig.edge.get(name)?.status() == 503)).unwrap();
    }
    rig.store.mend();
    for (name, size) in FILES {
        rig.check(name, size);
    }
}

#[test]
fn all_who_wait_for_a_fill_that_fails_are_told() {
    for (name, size) in [("small.bin", 5000), ("large.bin", LARGE)] {
        let rig = Rig::start([(name, size)], |settings| settings);
        rig.store.hold_reads(name);
        let ask = |user| rig.edge.ask(name, &format!("user-{user}"), "").unwrap();
        let mut waiting: Vec<_> = (0..50).map(ask).collect();
        rig.wait_until_held(1);
        wait_until("all have been accepted", || Ok(rig.edge.load_of("connections")? == 50)).unwrap();
        let began = std::time::Instant::now();
        rig.store.fail_reads(name, Errno::EIO);
        rig.store.release();
        waiting.iter_mut().for_each(expect_refusal);
        assert!(began.elapsed() < STORAGE_TIMEOUT, "told, and not timed out");
        rig.store.mend();
        rig.check(name, size);
    }
}

#[test]
fn a_read_that_completes_late_does_no_harm() {
    const FILES: [(&str, u64); 3] = [("small.bin", 50_000), ("window.bin", 1_000_001), ("large.bin", LARGE)];
    let rig =
        Rig::start(FILES.into_iter().chain([("other.bin", 40 * MIB)]), |settings| settings.cache("64MiB"));
    let capacity = rig.edge.load_of("cache_capacity_bytes").unwrap();
    rig.store.hold_reads(Which::that(|asked| asked.path != "other.bin"));
    let mut waiting = FILES.map(|(name, _)| rig.edge.ask(name, "tester", "").unwrap());
    waiting.iter_mut().for_each(expect_refusal);
    // Others pass through the cache meanwhile, and want the room.
    rig.check("other.bin", 40 * MIB);
    assert_eq!(rig.store.held(), FILES.len());
    while rig.store.release_one() {}
    rig.store.release();
    for (name, size) in FILES {
        rig.check(name, size);
    }
    rig.check("other.bin", 40 * MIB);
    rig.wait_until_well();
    for (name, size) in FILES {
        rig.check(name, size);
    }
    let held = rig.edge.metric("sluice_edge_cache_bytes").unwrap();
    assert!(held <= capacity as f64, "{held} bytes of {capacity}");
}

#[test]
fn a_read_of_an_older_version_that_completes_late_is_not_taken_for_the_new_one() {
    for (name, size) in [("small.bin", 50_000), ("window.bin", 1_000_001), ("large.bin", LARGE)] {
        for in_place in [false, true] {
            let rig = Rig::start([(name, size)], |settings| {
                settings.toml("cache.revalidate = \"50ms\"").toml("limits.storage_timeout = \"1s\"")
            });
            rig.store.hold_reads(name);
            expect_refusal(&mut rig.edge.ask(name, "tester", "").unwrap());
            let new = Content::version(name, 1, size);
            if in_place {
                let path = rig.source().join(name);
                rig.store.change(|| {
                    new.write(&path).unwrap();
                    let file = File::options().write(true).open(&path).unwrap();
                    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
                });
            } else {
                fs::rename(rig.publish("new.bin", &new), rig.source().join(name)).unwrap();
            }
            let mut waiting = rig.edge.ask(name, "tester", "").unwrap();
            rig.store.release();
            let answer = waiting.read_answer("GET").unwrap();
            // The version that was opened before, or the new one: whichever it is, whole.
            if answer.status() == 200 {
                let old = Content::new(name, size);
                let found =
                    [&old, &new].into_iter().find(|content| content.check_whole(&answer.body).is_ok());
                assert!(found.is_some(), "{name}, in place: {in_place}: bytes of no version");
                assert!(!in_place || found == Some(&new), "{name}: bytes that the store has no more");
            }
            wait_until("the new version is served", || {
                let answer = rig.edge.get(name)?;
                Ok(answer.status() == 200 && new.check_whole(&answer.body).is_ok())
            })
            .unwrap_or_else(|fault| panic!("{name}, in place: {in_place}: {fault}"));
        }
    }
}
