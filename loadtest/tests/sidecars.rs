//! What tells a file's hash is of the store like the file: it may hang, shrink or fail, and the file is served all the
//! same, with no hash rather than a wrong one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use sluice_loadtest::faulty_store::{Errno, Which};
use sluice_loadtest::{Content, wait_until};
use support::Rig;

/// Nobody compares it with the file's.
const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const FIELD: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
/// Whole in memory, and in windows.
const FILES: [(&str, u64); 2] = [("small.bin", 20_000), ("large.bin", 200_000)];

fn sidecars() -> Which {
    Which::that(|asked| asked.path.ends_with(".sha256"))
}

fn rig() -> Rig {
    let rig = Rig::start(FILES, |settings| settings);
    for (name, _) in FILES {
        fs::write(rig.source().join(format!("{name}.sha256")), format!("{HEX}  {name}\n")).unwrap();
    }
    rig
}

/// The hash that an answer with the right bytes has.
fn hash_of(rig: &Rig, (name, size): (&str, u64)) -> Option<String> {
    let answer = rig.edge.get(name).unwrap();
    assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
    Content::new(name, size).check_whole(&answer.body).unwrap();
    answer.head.field("repr-digest").map(str::to_owned)
}

#[test]
fn a_sidecar_that_hangs_keeps_no_file_from_being_served_and_is_heard_late() {
    for hold_reads in [false, true] {
        let rig = rig();
        if hold_reads {
            rig.store.hold_reads(sidecars());
        } else {
            rig.store.hold_opens(sidecars());
        }
        for _ in 0..3 {
            for file in FILES {
                assert_eq!(hash_of(&rig, file), None);
            }
        }
        // One look a file, whoever asks and however often.
        assert_eq!(rig.store.held(), FILES.len());
        rig.store.release();
        for file in FILES {
            wait_until("the hash is told", || Ok(hash_of(&rig, file).as_deref() == Some(FIELD))).unwrap();
        }
        rig.wait_until_well();
    }
}

#[test]
fn a_sidecar_that_fails_says_nothing() {
    for errno in [Errno::EIO, Errno::ESTALE, Errno::EACCES] {
        let rig = rig();
        rig.store.fail_reads(sidecars(), errno);
        for file in FILES {
            assert_eq!(hash_of(&rig, file), None, "{errno:?}");
        }
        rig.wait_until_well();
    }
}

#[test]
fn a_sidecar_that_changes_while_it_is_read_says_nothing() {
    // Cut off, and another hash of the same length.
    for text in [String::new(), format!("{}  small.bin\n", HEX.replace('2', "3"))] {
        let rig = rig();
        rig.store.hold_reads(sidecars());
        assert_eq!(hash_of(&rig, FILES[0]), None);
        rig.wait_until_held(1);
        rig.store.change(|| fs::write(rig.source().join("small.bin.sha256"), &text)).unwrap();
        rig.store.release();
        rig.wait_until_well();
        assert_eq!(hash_of(&rig, FILES[0]), None, "{text:?}");
    }
}
