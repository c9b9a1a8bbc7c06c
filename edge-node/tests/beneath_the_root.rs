//! Only regular files beneath the root are served, whatever the token says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use support::{Edge, get_request};

fn lay_out(edge: &Edge) {
    let root = edge.root();
    edge.file("dir/a.bin", b"content");
    fs::write(edge.folder.path().join("secret"), "secret").unwrap();
    symlink("dir/a.bin", root.join("inside")).unwrap();
    symlink("dir", root.join("inside-dir")).unwrap();
    symlink("../secret", root.join("outside")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let made = Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    // Only root can make a device; /dev/null serves where the test may not.
    let device = Command::new("mknod").arg(root.join("device")).args(["c", "1", "3"]).status().unwrap();
    assert!(device.success() || !rustix_is_root());
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn statuses(edge: &Edge, names: &[&str]) -> Vec<u16> {
    names.iter().map(|name| edge.get(name, "").status).collect()
}

#[test]
fn nothing_but_regular_files_is_served() {
    let edge = Edge::start();
    lay_out(&edge);
    let names = ["dir", "fifo", "socket", "device", "none", "dir/none", "dir/a.bin/b", "loop"];
    assert_eq!(statuses(&edge, &names), vec![404; names.len()]);
    assert_eq!(statuses(&edge, &["dir/a.bin"]), [200]);
    let long = format!("{}/x", "y".repeat(300));
    assert_eq!(statuses(&edge, &[&long]), [404]);
}

#[test]
fn links_are_not_followed_unless_allowed_and_never_out() {
    let names = ["inside", "inside-dir/a.bin", "outside", "absolute", "magic"];
    let edge = Edge::start();
    lay_out(&edge);
    assert_eq!(statuses(&edge, &names), [404, 404, 404, 404, 404]);
    let edge = Edge::start_with("follow_symlinks = true", "size = \"64MiB\"");
    lay_out(&edge);
    assert_eq!(statuses(&edge, &names), [200, 200, 404, 404, 404]);
}

/// Ids that no coordinator mints, sealed by whoever has the key: the edge holds to the rules by itself.
#[test]
fn ids_that_break_the_rules_are_malformed_tokens() {
    use josekit::jwe::{Dir, JweHeader, serialize_compact};
    let edge = Edge::start();
    lay_out(&edge);
    let jwks: serde_json::Value =
        serde_json::from_slice(&fs::read(edge.folder.path().join("keys.jwks.json")).unwrap()).unwrap();
    let key = josekit::jwk::Jwk::from_map(jwks["keys"][0].as_object().unwrap().clone()).unwrap();
    let encrypter = Dir.encrypter_from_jwk(&key).unwrap();
    let mut header = JweHeader::new();
    header.set_content_encryption("A256GCM");
    let ids = [
        "",
        ".",
        "..",
        "../secret",
        "dir/../../secret",
        "dir//a.bin",
        "/etc/passwd",
        "dir/a.bin/",
        "dir/./a.bin",
        "dir\\a.bin",
        "dir/a\0.bin",
        "dir/a\n.bin",
        "dir/\u{202e}a.bin",
        "dir/\u{7f}a.bin",
    ];
    let too_long = "x".repeat(1025);
    for id in ids.into_iter().chain([too_long.as_str()]) {
        let claims = serde_json::json!({ "file_id": id, "exp": 4_000_000_000u64 });
        let token = serialize_compact(claims.to_string().as_bytes(), &header, &*encrypter).unwrap();
        let mut connection = edge.connect();
        connection.send(&get_request(&token, ""));
        let answer = connection.answer();
        assert_eq!((answer.status, answer.detail().as_str()), (400, "Invalid or malformed token"), "{id:?}");
    }
}
