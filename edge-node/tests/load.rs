//! `/load`: what coordinators weigh an edge by.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{Edge, content, get_request, wait_for};

fn load_of(edge: &Edge, name: &str) -> u64 {
    let (status, text) = edge.admin_get("/load").unwrap();
    assert_eq!(status, 200, "{text}");
    let json = text.split("\r\n\r\n").last().unwrap();
    serde_json::from_str::<serde_json::Value>(json).unwrap()[name].as_u64().unwrap()
}

#[test]
fn what_is_to_come_is_told_and_is_nothing_once_it_has_come_or_was_cut() {
    let edge = Edge::start();
    let bytes = content(40 << 20, 4);
    edge.file("big.bin", &bytes);
    edge.file("small.bin", b"content");
    let [mut whole, mut cut] = [edge.connect(), edge.connect()];
    for connection in [&mut whole, &mut cut] {
        connection.send(&get_request(&edge.token("big.bin"), ""));
    }
    wait_for("both downloads to begin", || (load_of(&edge, "transfers") == 2).then_some(()));
    // Neither has been read; sockets hold some megabytes of each.
    let in_flight = wait_for("the sockets to be full", || {
        let before = load_of(&edge, "in_flight_bytes");
        (before > 0 && before == load_of(&edge, "in_flight_bytes")).then_some(before)
    });
    assert!((40 << 20..80 << 20).contains(&in_flight), "{in_flight}");
    drop(cut);
    wait_for("the one that was cut to be counted off", || (load_of(&edge, "transfers") == 1).then_some(()));
    assert!(load_of(&edge, "in_flight_bytes") < in_flight);
    assert!(whole.answer().body == bytes);
    let mut small = edge.connect();
    small.send(&get_request(&edge.token("small.bin"), ""));
    assert_eq!(small.answer().status, 200);
    wait_for("all to have come", || (load_of(&edge, "transfers") == 0).then_some(()));
    assert_eq!(load_of(&edge, "in_flight_bytes"), 0);
    assert_eq!(load_of(&edge, "bodies"), 3);
    assert!(load_of(&edge, "body_bytes") > 40 << 20);
    assert!(load_of(&edge, "uptime_seconds") < 600);
}

#[test]
fn what_was_in_the_cache_and_what_was_waited_for_is_told() {
    let edge = Edge::start();
    edge.file("big.bin", &content(4 << 20, 4));
    assert_eq!((load_of(&edge, "window_hits"), load_of(&edge, "window_misses")), (0, 0));
    edge.get("big.bin", "");
    let misses = wait_for("misses to be told", || {
        let misses = load_of(&edge, "window_misses");
        (misses > 0).then_some(misses)
    });
    let hits = load_of(&edge, "window_hits");
    edge.get("big.bin", "");
    wait_for("hits to be told", || (load_of(&edge, "window_hits") > hits).then_some(()));
    assert_eq!(load_of(&edge, "window_misses"), misses, "all of it was there");
    assert_eq!(load_of(&edge, "storage_stuck"), 0);
}

#[test]
fn an_edge_tells_which_keys_it_has_and_never_a_key() {
    let edge = Edge::start();
    let (_, text) = edge.admin_get("/load").unwrap();
    let said: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let ring = edge.keys.ring().load();
    assert_eq!(said["keys"], serde_json::json!([ring.current().fingerprint()]));
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    let file = std::fs::read_to_string(edge.folder.path().join("keys.jwks.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert!(!text.contains(file["keys"][0]["k"].as_str().unwrap()));
}
