//! Ten thousand clients that give up in the middle leave no descriptor and no memory behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;

use support::{Edge, content, get_request, wait_for};

const DOWNLOADS: usize = 10_000;

#[test]
fn aborted_downloads_leak_nothing() {
    let edge = Edge::start_with("", "size = \"32MiB\"");
    let names: Vec<String> = (0..8).map(|n| format!("f{n}.bin")).collect();
    for (seed, name) in names.iter().enumerate() {
        edge.file(name, &content([3000, 200_000, 6 << 20, 12 << 20][seed % 4], seed as u64));
    }
    let tokens: Vec<String> = names.iter().map(|name| edge.token(name)).collect();
    let abort = |downloads: usize| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (edge, tokens) = (&edge, &tokens);
                scope.spawn(move || {
                    for turn in 0..downloads / 8 {
                        let mut connection = edge.connect();
                        connection.send(&get_request(&tokens[(turn + thread) % tokens.len()], ""));
                        let mut some = vec![0; (turn * 977) % 30_000];
                        let _ = connection.stream.read(&mut some);
                    }
                });
            }
        });
    };
    let resident = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    abort(DOWNLOADS / 5);
    let idle = || edge.metric("sluice_edge_connections ") == 0.0;
    wait_for("the first clients to be gone", || idle().then_some(()));
    let (descriptors, memory) = (edge.descriptors(), resident());
    abort(DOWNLOADS);
    wait_for("the clients to be gone", || idle().then_some(()));
    wait_for("descriptors to be as before", || (edge.descriptors() <= descriptors + 20).then_some(()));
    let grown = resident().saturating_sub(memory);
    assert!(grown < 24 * 1024, "{grown} KiB more after {DOWNLOADS} aborted downloads");
    assert!(edge.metric("sluice_edge_cache_bytes ") <= 32.0 * 1024.0 * 1024.0);
    assert_eq!(edge.get("f0.bin", "").status, 200);
}
