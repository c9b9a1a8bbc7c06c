//! What it takes to send a file's bytes, by the calls alone: a server that reads requests and sends a head and a body, and
//! does nothing else, each way in turn. What a real server takes over this is its own.
//!
//! Ways take turns of some milliseconds, for machines drift by more than ways differ. The server has one core and its clients
//! another, which read as wrk does.

mod clients;
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rustix::event::epoll;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use sluice_loadtest::host::Host;
use sluice_loadtest::median::median;

use ways::Way;

/// Bytes of a request, and of a head.
const HEAD_BYTES: usize = 350;
/// A way's turn: what comes first does not count, for caches are another way's.
const WARMING: Duration = Duration::from_millis(4);
const COUNTED: Duration = Duration::from_millis(30);

/// Measures what sending takes, by the calls alone.
#[derive(Debug, Parser)]
struct Arguments {
    /// Sizes of the body.
    #[arg(long, value_delimiter = ',', default_value = "16384,131072,1048576")]
    bytes: Vec<usize>,
    /// For each size.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// JSON, for `benches/results/`.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut figures = BTreeMap::new();
    let mut shown = io::stdout().lock();
    for bytes in arguments.bytes.iter().copied() {
        for (way, micros) in measure(bytes, &arguments)? {
            writeln!(shown, "{bytes:>9} bytes  {way:<28} {micros:>8.2} µs")?;
            figures.insert(format!("{way}_{bytes}"), micros);
        }
    }
    if let Some(out) = &arguments.out {
        let how = "Processor time of the server for a request, in microseconds: the median of turns.";
        let result = json!({ "host": Host::here(), "how": how, "figures": figures });
        fs::write(out, serde_json::to_string_pretty(&result)? + "\n")
            .with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}

/// The median of each way's turns, in microseconds a request.
fn measure(bytes: usize, arguments: &Arguments) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let folder = tempfile::tempdir_in(".").context("a file is needed in this folder, which is on a disk")?;
    let ways = ways::all(folder.path(), bytes)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, count) = (listener.local_addr()?, arguments.connections);
    let clients = std::thread::spawn(move || {
        keep_to(1);
        clients::run(address, count, HEAD_BYTES + bytes)
    });
    keep_to(0);
    let server = Server::new(&listener, count)?;
    let mut turns = vec![Vec::new(); ways.len()];
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < until {
        for (way, turns) in ways.iter().zip(&mut turns) {
            server.turn(way, WARMING)?;
            turns.push(server.turn(way, COUNTED)?);
        }
    }
    drop((server, listener));
    clients.join().expect("clients do not panic")?;
    Ok(ways.iter().zip(turns).map(|(way, turns)| (way.name, median(turns))).collect())
}

struct Server {
    connections: Vec<TcpStream>,
    ready: rustix::fd::OwnedFd,
}

impl Server {
    fn new(listener: &TcpListener, count: usize) -> anyhow::Result<Self> {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for number in 0..count {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&ready, &stream, data, epoll::EventFlags::IN)?;
            connections.push(stream);
        }
        Ok(Self { connections, ready })
    }

    /// Answers one way for a while; gives the processor time of a request, in microseconds.
    fn turn(&self, way: &Way, time: Duration) -> io::Result<f64> {
        let (began, used_before) = (Instant::now(), processor_time());
        let mut events = Vec::with_capacity(256);
        let mut request = [0; 8192];
        let mut count = 0_u32;
        while began.elapsed() < time {
            events.clear();
            epoll::wait(&self.ready, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let number = usize::try_from(event.data.u64()).expect("a connection's number");
                let stream = &self.connections[number];
                rustix::net::recv(stream, &mut request, rustix::net::RecvFlags::empty())?;
                way.answer(stream)?;
                count += 1;
            }
        }
        Ok((processor_time() - used_before) / f64::from(count) * 1e6)
    }
}

/// Of this thread, in seconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Keeps this thread to a core, where there is one.
fn keep_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    let _ = sched_setaffinity(None, &cores);
}
