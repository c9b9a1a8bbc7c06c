//! The status page: what a coordinator over fifty edges costs that nobody watches, and what it costs with one watcher.
//!
//! The edges are simulated, but for one: their records are put into a real etcd and renewed each second with other loads,
//! and this program answers the coordinator's probes for them.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use sluice_loadtest::cluster::EtcdServer;
use sluice_loadtest::{Cluster, wait_until};

use crate::lab::Lab;
use crate::machine;
use crate::report::{Bound, Goal, Measures, Rows};
use crate::server::Kind;
use crate::tables::Style::{Count, Ratio};
use crate::tables::Value::Median;
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "A coordinator over 50 edges, records renewed each second, every edge probed each second: percent of a core";

pub(super) const COLUMNS: &[Column] = &[
    column("nobody watches", Kind::Coordinator, Median("unwatched_percent_of_core"), Ratio),
    column("one watches", Kind::Coordinator, Median("watched_percent_of_core"), Ratio),
    column("the page", Kind::Coordinator, Median(PAGE), Ratio),
    column("bytes a second", Kind::Coordinator, Median("event_bytes_per_second"), Count),
];

pub(super) const GOALS: &[Goal] =
    &[Goal { what: "percent of a core for the page", case: CASE, measure: PAGE, bound: Bound::AtMost(1.0) }];

const PAGE: &str = "page_percent_of_core";
const CASE: &str = "50 edges";
const EDGES: u8 = 50;
/// A process's time is counted in hundredths of a second: shorter, and they would be seen.
const SECONDS_MIN: u64 = 30;
const RENEW_EVERY: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let edges = (1..=EDGES).map(SimulatedEdge::start).collect::<anyhow::Result<Vec<_>>>()?;
    let allowed = "registry.allow_urls = [\"http://127.0.0.1:*\", \"http://127.0.9.*:*\"]";
    let mut cluster =
        Cluster::start().edges(1).etcd(1).coordinator(|settings| settings.toml(allowed)).ready()?;
    renew(cluster.etcd().member(0), &edges)?;
    wait_until("all edges are up", || {
        Ok(cluster.edge_statuses()?.iter().filter(|edge| edge.up).count() == edges.len() + 1)
    })?;
    let coordinator = cluster.coordinator().process().pid().context("the coordinator runs")?;
    let events = format!("{}/status/events", cluster.coordinators()[0].admin_url());
    let etcd: &EtcdServer = cluster.etcd().member(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                renew(etcd, &edges)?;
                thread::sleep(RENEW_EVERY.saturating_sub(begun.elapsed()));
            }
            anyhow::Ok(())
        });
        let measured = (0..lab.rounds).try_for_each(|round| {
            rows.add(CASE, Kind::Coordinator.name(), measure(lab, round, coordinator, &events)?);
            Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        renewing.join().expect("renewing does not panic").and(measured)
    })
}

/// Once with a watcher and once without; the round says with which it begins.
fn measure(lab: &Lab, round: usize, coordinator: u32, events: &str) -> anyhow::Result<Measures> {
    let span = Duration::from_secs(lab.seconds.max(SECONDS_MIN));
    let (mut watched, mut unwatched) = ((0.0, 0), 0.0);
    for is_watched in if round.is_multiple_of(2) { [false, true] } else { [true, false] } {
        lab.say(CASE, round, if is_watched { "one watches" } else { "nobody watches" })?;
        let watcher = is_watched.then(|| Watcher::start(events)).transpose()?;
        thread::sleep(SETTLE);
        let before = watcher.as_ref().map_or(0, Watcher::bytes);
        let used = percent_of_core(coordinator, span)?;
        match watcher {
            Some(watcher) => watched = (used, watcher.bytes() - before),
            None => unwatched = used,
        }
    }
    let (used, bytes) = watched;
    ensure!(bytes > 0, "the watcher was told nothing");
    Ok(Measures::default()
        .with("unwatched_percent_of_core", unwatched)
        .with("watched_percent_of_core", used)
        .with(PAGE, used - unwatched)
        .with("event_bytes_per_second", bytes as f64 / span.as_secs_f64()))
}

fn percent_of_core(process: u32, span: Duration) -> anyhow::Result<f64> {
    let (begun, before) = (Instant::now(), machine::cpu_time(process)?);
    thread::sleep(span);
    Ok((machine::cpu_time(process)? - before) / begun.elapsed().as_secs_f64() * 100.0)
}

/// Reads all that the page would be told, until it is dropped.
struct Watcher {
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Watcher {
    fn start(events: &str) -> anyhow::Result<Self> {
        let (address, path) = events
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .with_context(|| format!("{events} is no URL"))?;
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut head = [0; 15];
        stream.read_exact(&mut head)?;
        ensure!(head == *b"HTTP/1.1 200 OK", "the page is not told: {}", String::from_utf8_lossy(&head));
        let (bytes, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ended) = (Arc::clone(&bytes), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut some = vec![0; 64 * 1024];
            while !ended.load(Ordering::Relaxed) {
                match stream.read(&mut some) {
                    Ok(read @ 1..) => counted.fetch_add(read as u64, Ordering::Relaxed),
                    _ => break,
                };
            }
        });
        Ok(Self { bytes, is_over })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Puts every edge's record there, with its load of now.
fn renew(etcd: &EtcdServer, edges: &[SimulatedEdge]) -> anyhow::Result<()> {
    edges.iter().try_for_each(|edge| etcd.put(&format!("edges/{}", edge.id()), &edge.record()))
}

/// An edge that is a port and a record.
struct SimulatedEdge {
    number: u8,
    address: SocketAddr,
    begun: Instant,
}

impl SimulatedEdge {
    /// Each on an address of its own, as edges are; its port is open until this program ends.
    fn start(number: u8) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((IpAddr::from([127, 0, 9, number]), 0))?;
        let begun = Instant::now();
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || Self { number, address, begun }.serve(stream));
            }
        });
        Ok(Self { number, address, begun })
    }

    fn id(&self) -> String {
        format!("simulated-{}", self.number)
    }

    /// Something that moves: seconds, other ones for each.
    fn moving(&self) -> u64 {
        self.begun.elapsed().as_secs() * 7 + u64::from(self.number) * 31
    }

    fn record(&self) -> String {
        let (url, moving) = (format!("http://{}", self.address), self.moving());
        json!({
            "format": 1, "id": self.id(), "url": url, "admin_url": url, "zone": "a", "weight": 100,
            "state": "serving", "version": "0.1.0", "instance": self.id(),
            "load": {
                "transfers": moving % 200, "rate": moving * 1_000_003 % 1_000_000_000, "sent": moving * 1_000_000,
                "hits": moving * 90, "misses": moving * 10, "stuck": 0,
            },
        })
        .to_string()
    }

    fn load(&self) -> String {
        let moving = self.moving();
        json!({
            "instance": self.id(), "version": "0.1.0", "connections": moving % 300, "transfers": moving % 200,
            "in_flight_bytes": moving % 200 * 1_000_000, "bodies": moving, "body_bytes": moving * 1_000_000,
            "uptime_seconds": self.begun.elapsed().as_secs(), "window_hits": moving * 90,
            "window_misses": moving * 10, "storage_operations": 0, "storage_stuck": 0, "degraded": false,
        })
        .to_string()
    }

    /// Answers until the other end goes.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut requests = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let mut target = String::new();
            if requests.read_line(&mut target).ok()? == 0 {
                return None;
            }
            let mut field = String::new();
            while requests.read_line(&mut field).ok()? > 2 {
                field.clear();
            }
            let mut answer = String::new();
            let (status, fields, body) = match target.split(' ').nth(1)? {
                "/load" => ("200 OK", String::new(), self.load()),
                "/readyz" => ("200 OK", String::new(), json!({ "ready": true, "reasons": [] }).to_string()),
                _ => ("400 Bad Request", format!("Sluice-Edge: {}\r\n", self.id()), String::new()),
            };
            let length = body.len();
            write!(answer, "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}").ok()?;
            stream.write_all(answer.as_bytes()).ok()?;
        }
    }
}
