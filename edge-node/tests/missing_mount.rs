//! An empty folder where the store should be mounted: no file is said to be missing, and the edge says what is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sluice_shared::confinement::{Confined, Confinement};
use support::{Edge, free_address, get_request, wait_for};

/// Starts an edge whose root may be wrong; the support's own waits until it is ready.
struct Unready {
    child: std::process::Child,
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

impl Unready {
    fn start(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        prepare(&folder.path().join("root"));
        let (address, admin) = (free_address(), free_address());
        let config = format!(
            "id = \"edge-1\"\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\nroot = \"root\"\nthreads = 1\n{more}\n\
             [keys]\npath = \"keys.jwks.json\"\n[cache]\nsize = \"64MiB\"\n"
        );
        fs::write(folder.path().join("edge.toml"), config).unwrap();
        sluice_shared::keys::KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
            .arg("--config")
            .arg(folder.path().join("edge.toml"))
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder, address, admin }
    }

    /// Status and JSON of `/readyz`.
    fn ready(&self) -> Option<(u16, Value)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.admin).ok()?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.parse().ok()?, serde_json::from_str(body).ok()?))
    }

    fn is_degraded(&self) -> bool {
        let (status, said) = wait_for("an answer", || self.ready());
        let notes = said["notes"].to_string();
        status == 503 && said["reasons"] == serde_json::json!(["degraded"]) && notes.contains("mounted?")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn status_of(&self, file_id: &str) -> u16 {
        use std::io::{Read, Write};
        let keys = sluice_shared::keys::KeyFile::load(&self.folder.path().join("keys.jwks.json")).unwrap();
        let exp = sluice_shared::token::NumericDate::from_secs(4_000_000_000);
        let file_id = sluice_shared::file_id::FileId::parse(file_id).unwrap();
        let claims = sluice_shared::token::Claims::new(file_id, exp);
        let token = sluice_shared::token::seal(&claims, keys.ring().load().current()).unwrap();
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(get_request(&token, "Connection: close\r\n").as_bytes()).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text[9..12]).parse().unwrap()
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn files_of_a_store_that_is_not_mounted_are_not_missing_and_come_with_it() {
    let edge = Unready::start("", |_| {});
    assert!(edge.is_degraded(), "{}", edge.log());
    assert_eq!(edge.status_of("a.bin"), 503);
    let log = edge.log();
    assert!(log.contains("`root` has nothing in it") && log.contains("root_marker"), "{log}");
    // The mount comes over the folder: another folder stands at the root's path from then on.
    let root = edge.folder.path().join("root");
    fs::create_dir(edge.folder.path().join("store")).unwrap();
    fs::write(edge.folder.path().join("store/a.bin"), "a").unwrap();
    fs::remove_dir(&root).unwrap();
    fs::rename(edge.folder.path().join("store"), &root).unwrap();
    wait_for("the edge is ready", || edge.ready().filter(|(status, _)| *status == 200));
    assert_eq!((edge.status_of("a.bin"), edge.status_of("b.bin")), (200, 404));
    assert!(edge.log().contains("the store is there"));
    // Once it was there, it may become empty.
    fs::remove_file(root.join("a.bin")).unwrap();
    assert_eq!(edge.status_of("c.bin"), 404);
}

#[test]
fn with_a_marker_that_alone_decides_for_as_long_as_the_edge_runs() {
    let edge = Edge::start_prepared("root_marker = \".store\"", "size = \"64MiB\"", "", |folder| {
        // The support makes the root after this; so it is given its marker as soon as it is there.
        let root = folder.join("root");
        std::thread::spawn(move || {
            while fs::write(root.join(".store"), "").is_err() {
                std::thread::yield_now();
            }
        });
    });
    assert_eq!(edge.get("a.bin", "").status, 404, "it is rightly empty");
    edge.file("b.bin", b"b");
    fs::remove_file(edge.root().join(".store")).unwrap();
    wait_for("the edge is degraded", || (edge.admin_get("/readyz").ok()?.0 == 503).then_some(()));
    assert_eq!(edge.get("b.bin", "").status, 503);
    assert_eq!(edge.get("c.bin", "").status, 503);
    assert!((edge.metric("sluice_edge_root_absent ") - 1.0).abs() < 0.1);
    assert!(edge.log().contains("`root` lacks `root_marker`"), "{}", edge.log());
    fs::write(edge.root().join(".store"), "").unwrap();
    wait_for("the edge is ready", || (edge.admin_get("/readyz").ok()?.0 == 200).then_some(()));
    assert_eq!(edge.get("b.bin", "").status, 200);
}

/// Puts another folder in the root's place, as where a mount is taken away and another made.
fn exchange_root(edge: &Edge, file: &str) {
    let (root, next) = (edge.root(), edge.folder.path().join("next"));
    fs::create_dir(&next).unwrap();
    for name in [".store", file] {
        fs::write(next.join(name), "new").unwrap();
    }
    fs::rename(&root, edge.folder.path().join("before")).unwrap();
    fs::rename(&next, &root).unwrap();
}

#[test]
fn a_store_that_is_mounted_anew_is_followed() {
    for top in ["confine = false", "root_marker = \".store\""] {
        let edge = Edge::start_prepared(top, "size = \"64MiB\"", "", |folder| {
            let root = folder.join("root");
            std::thread::spawn(move || {
                while fs::write(root.join(".store"), "").is_err() {
                    std::thread::yield_now();
                }
            });
        });
        edge.file("a.bin", b"a");
        assert_eq!(edge.get("a.bin", "").status, 200);
        exchange_root(&edge, "b.bin");
        wait_for("the new store", || (edge.get("b.bin", "").status == 200).then_some(()));
        wait_for("the old one's end", || (edge.get("a.bin", "").status == 404).then_some(()));
        assert!(edge.log().contains("another folder or mount is at `root`: opened anew"), "{}", edge.log());
        // An empty folder is left: that is no store.
        if top.contains("confine") {
            fs::rename(edge.root(), edge.folder.path().join("gone")).unwrap();
            fs::create_dir(edge.root()).unwrap();
            wait_for("the edge is degraded", || (edge.admin_get("/readyz").ok()?.0 == 503).then_some(()));
            assert_eq!(edge.get("c.bin", "").status, 503);
        }
    }
}

#[test]
fn an_edge_that_may_not_read_what_is_mounted_anew_says_what_to_do() {
    if !matches!(Confinement::default().try_out(), Confined::Yes { .. }) {
        return;
    }
    let edge = Edge::start();
    edge.file("a.bin", b"a");
    // Out of its own folders, as a mount is.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("b.bin"), "b").unwrap();
    fs::rename(edge.root(), edge.folder.path().join("before")).unwrap();
    symlink(elsewhere.path(), edge.root()).unwrap();
    wait_for("a line in the log", || edge.log().contains("with `root_marker` set, it follows").then_some(()));
    assert_eq!(edge.get("a.bin", "").status, 200, "it serves on from what it has");
}

#[test]
fn a_marker_is_a_path_beneath_the_root() {
    let mut edge = Unready::start("root_marker = \"../x\"", |_| {});
    assert_eq!(edge.child.wait().unwrap().code(), Some(1));
    assert!(edge.log().contains("`root_marker` is no path of a file beneath `root`"), "{}", edge.log());
}
