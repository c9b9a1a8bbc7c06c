//! What the kernel refuses an edge: rights that it did not begin with, and files that are none of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};
use sluice_shared::confinement::{Confined, Confinement};
use support::{Edge, wait_for};

/// Whether this kernel confines anybody.
fn can_be_confined() -> bool {
    matches!(Confinement::default().try_out(), Confined::Yes { .. })
}

fn hang_up(edge: &Edge) {
    kill_process(Pid::from_raw(edge.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

#[test]
fn no_thread_of_an_edge_can_get_new_rights() {
    let edge = Edge::start();
    edge.file("a.bin", b"a");
    assert_eq!(edge.get("a.bin", "").status, 200);
    let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", edge.pid())).unwrap().collect();
    assert!(threads.len() > 2, "workers are threads");
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}

/// An edge whose access log becomes a link out of all its folders, to a file that it did not know of.
fn log_that_leads_out(top: &str) -> (Edge, tempfile::TempDir) {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("taken"), "").unwrap();
    let edge = Edge::start_configured(top, "size = \"64MiB\"", "[log]\naccess_file = \"access.jsonl\"");
    let log = edge.folder.path().join("access.jsonl");
    fs::rename(&log, log.with_extension("1")).unwrap();
    symlink(elsewhere.path().join("taken"), &log).unwrap();
    hang_up(&edge);
    (edge, elsewhere)
}

#[test]
fn a_confined_edge_is_refused_what_is_not_its_own() {
    if !can_be_confined() {
        return;
    }
    let (edge, elsewhere) = log_that_leads_out("");
    wait_for("the edge to be refused", || edge.log().contains("Permission denied").then_some(()));
    assert!(edge.log().contains("\"message\":\"confined: the kernel lets this process open nothing else\""));
    edge.file("a.bin", b"a");
    assert_eq!(edge.get("a.bin", "").status, 200);
    let old = edge.folder.path().join("access.1");
    wait_for("a line in the old log", || fs::read_to_string(&old).unwrap().contains("a.bin").then_some(()));
    assert_eq!(fs::read_to_string(elsewhere.path().join("taken")).unwrap(), "");
}

#[test]
fn an_edge_that_is_not_to_be_confined_is_not() {
    let (edge, elsewhere) = log_that_leads_out("confine = false");
    edge.file("a.bin", b"a");
    wait_for("a line elsewhere", || {
        // Until the log is opened anew, lines go to the old one.
        assert_eq!(edge.get("a.bin", "").status, 200);
        let taken = fs::read_to_string(elsewhere.path().join("taken")).unwrap();
        taken.contains("a.bin").then_some(())
    });
    assert!(edge.log().contains("not confined, for confine = false"));
}
