//! What is being sent stays in memory, is counted there, and cannot be held for ever.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use socket2::{Domain, Socket, Type};
use support::{Edge, content, get_request, wait_for};

const MIB: usize = 1 << 20;

/// A client that asks for a file, takes next to nothing of it and keeps the connection.
fn stall(edge: &Edge, name: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&edge.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(get_request(&edge.token(name), "").as_bytes()).unwrap();
    stream
}

/// Shared memory that the edge's descriptors hold.
fn shared_bytes(edge: &Edge) -> u64 {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap();
    let blocks = descriptors.filter_map(|entry| {
        let path = entry.unwrap().path();
        let is_memory = fs::read_link(&path).ok()?.to_string_lossy().starts_with("/memfd:");
        is_memory.then(|| fs::metadata(&path).map_or(0, |metadata| metadata.blocks()))
    });
    blocks.sum::<u64>() * 512
}

#[test]
fn clients_that_stall_lose_their_place_where_memory_is_short() {
    let edge = Edge::start_with("", "size = \"16MiB\"");
    let names: Vec<String> = (0..24).map(|n| format!("{n}.bin")).collect();
    for (seed, name) in names.iter().enumerate() {
        edge.file(name, &content(4 * MIB, seed as u64));
    }
    let fresh = content(3 * MIB, 99);
    edge.file("fresh.bin", &fresh);
    let stalled: Vec<TcpStream> = names.iter().map(|name| stall(&edge, name)).collect();
    wait_for("memory to be all in use", || (edge.metric("sluice_edge_cache_bytes ") >= 15e6).then_some(()));
    // Nothing can be evicted but what they hold.
    let answer = edge.get("fresh.bin", "");
    assert!(answer.status == 200 && answer.body == fresh);
    assert!(edge.metric("sluice_edge_slow_clients_total ") >= 1.0, "somebody had to go");
    assert!(shared_bytes(&edge) <= 16 * MIB as u64, "{} bytes of shared memory", shared_bytes(&edge));
    drop(stalled);
    wait_for("the rest to be gone", || (edge.metric("sluice_edge_transfers ") == 0.0).then_some(()));
}

#[test]
fn clients_that_stall_are_left_alone_while_there_is_room() {
    let edge = Edge::start_with("", "size = \"64MiB\"");
    for n in 0..8 {
        edge.file(&format!("{n}.bin"), &content(4 * MIB, n));
    }
    let _stalled: Vec<TcpStream> = (0..8).map(|n| stall(&edge, &format!("{n}.bin"))).collect();
    wait_for("all to be under way", || (edge.metric("sluice_edge_transfers ") == 8.0).then_some(()));
    for n in 100..140 {
        let (name, bytes) = (format!("{n}.bin"), content(2 * MIB, n));
        edge.file(&name, &bytes);
        assert!(edge.get(&name, "").body == bytes);
    }
    assert_eq!(edge.metric("sluice_edge_transfers "), 8.0);
    assert_eq!(edge.metric("sluice_edge_slow_clients_total "), 0.0);
    assert!(shared_bytes(&edge) <= 64 * MIB as u64);
}
