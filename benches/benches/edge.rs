//! One edge with one worker, in this process: how fast bytes leave by each way, and what a hit and a fill of the cache take.
//! Beside it a thread that sends ready-made answers from memory. Requests of small files go out sixteen at a time, so that
//! the waking of threads does not hide the rest.

#![allow(unreachable_pub, dead_code, reason = "`inside` is shared by two benches")]

mod inside;

use std::thread;
use std::time::SystemTime;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inside::Pipeline;
use sluice_loadtest::Content;
use sluice_loadtest::ports::Port;
use sluice_shared::file_id::FileId;
use sluice_shared::handover::Inherited;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use tempfile::TempDir;

/// Bytes, and the way that they leave by: up to 8 KiB copied behind their head, above that from shared memory.
const WARM: [(&str, u64, &str); 7] = [
    ("1KiB", 1 << 10, "send"),
    ("8KiB", 8 << 10, "send"),
    ("16KiB", 16 << 10, "sendfile"),
    ("64KiB", 64 << 10, "sendfile"),
    ("128KiB", 128 << 10, "sendfile"),
    ("1MiB", 1 << 20, "sendfile"),
    ("16MiB", 16 << 20, "sendfile"),
];
/// Files that do not fit together, asked for in turn, so that each was evicted when its turn comes again.
const COLD: [(&str, u64, u64); 2] = [("16KiB", 16 << 10, 8192), ("1MiB", 1 << 20, 192)];
const CACHE: &str = "48MiB";
/// Bytes under way at most, where requests are pipelined.
const UNDER_WAY: u64 = 256 << 10;
const PIPELINED_MAX: u64 = 16;

struct Edge {
    address: String,
    keys: std::sync::Arc<KeyFile>,
    folder: TempDir,
    _ports: [Port; 2],
}

impl Edge {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("files");
        std::fs::create_dir(&root).expect("a folder");
        // A root with nothing in it would be taken for a mount that is missing.
        std::fs::write(root.join("present"), "").expect("a file");
        let keys = KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).expect("a key file");
        let ports = [Port::take().expect("a port"), Port::take().expect("a port")];
        let [address, admin] = ports.each_ref().map(Port::address);
        let (listen, admin_listen) = (address.as_str(), admin.as_str());
        let config = toml::toml! {
            id = "edge-1"
            listen = listen
            admin_listen = admin_listen
            advertise_url = "http://edge.example"
            root = "files"
            threads = 1
            coordinator_urls = ["http://coordinator.example"]
            revocations_file = "revocations.json"
            [cache]
            size = CACHE
            [keys]
            source = "file"
            path = "keys.jwks.json"
            [registry]
            source = "static"
            [log]
            filter = "error"
        };
        let path = folder.path().join("edge.toml");
        inside::write(&path, &config);
        thread::spawn(move || sluice_edge_node::run(&path, Inherited::default()).expect("it starts"));
        inside::until_answered(&format!("http://{admin}/readyz"), 200);
        Self { address, keys, folder, _ports: ports }
    }

    fn file(&self, name: &str, size: u64) {
        let path = self.folder.path().join("files").join(name);
        Content::new(name, size).write(&path).expect("a file");
    }

    fn request(&self, name: &str) -> Vec<u8> {
        let expiry =
            NumericDate::from_system_time(SystemTime::now() + std::time::Duration::from_secs(24 * 3600));
        let claims = Claims::new(FileId::parse(name).expect("a plain name"), expiry);
        let token = seal(&claims, self.keys.ring().load().current()).expect("a short token");
        format!("GET /download?token={token} HTTP/1.1\r\nHost: edge\r\n\r\n").into_bytes()
    }
}

/// How many requests of files of this size go out together.
fn pipelined(size: u64) -> u64 {
    (UNDER_WAY / size).clamp(1, PIPELINED_MAX)
}

fn warm(c: &mut Criterion, edge: &Edge) {
    let mut group = c.benchmark_group("edge");
    for (name, size, way) in WARM {
        edge.file(name, size);
        let count = pipelined(size);
        group.throughput(Throughput::Bytes(size * count));
        let mut client = Pipeline::open(&edge.address);
        let one = edge.request(name);
        let length = client.length_of(&one);
        let (times, bytes) = repeated(count, length);
        let requests = one.repeat(times);
        group.bench_function(BenchmarkId::new(way, name), |b| b.iter(|| client.ask(&requests, bytes)));
        let mut client = Pipeline::open(&inside::bare(vec![b'x'; length]));
        group.bench_function(BenchmarkId::new("bare", name), |b| b.iter(|| client.ask(&requests, bytes)));
    }
    group.finish();
}

fn cold(c: &mut Criterion, edge: &Edge) {
    let mut group = c.benchmark_group("edge");
    for (name, size, files) in COLD {
        let made = |number| {
            let file = format!("{name}-{number}");
            edge.file(&file, size);
            edge.request(&file)
        };
        let requests: Vec<Vec<u8>> = (0..files).map(made).collect();
        let mut client = Pipeline::open(&edge.address);
        let length = client.length_of(&requests[0]);
        let (count, bytes) = repeated(pipelined(size), length);
        group.throughput(Throughput::Bytes(size * pipelined(size)));
        let batches: Vec<Vec<u8>> = requests.chunks_exact(count).map(<[_]>::concat).collect();
        let mut batches = batches.iter().cycle();
        group.bench_function(BenchmarkId::new("cold", name), |b| {
            b.iter(|| client.ask(batches.next().expect("it goes on for ever"), bytes));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("cache");
    let (name, _, files) = COLD[0];
    let mut client = Pipeline::open(&edge.address);
    let requests: Vec<Vec<u8>> = (0..files).map(|number| edge.request(&format!("{name}-{number}"))).collect();
    let length = client.length_of(&requests[0]);
    group.bench_function(BenchmarkId::new("hit", name), |b| b.iter(|| client.ask(&requests[0], length)));
    let mut requests = requests.iter().cycle();
    group.bench_function(BenchmarkId::new("fill", name), |b| {
        b.iter(|| client.ask(requests.next().expect("it goes on for ever"), length));
    });
    group.finish();
}

fn repeated(count: u64, length: usize) -> (usize, usize) {
    let count = usize::try_from(count).expect("a few");
    (count, count * length)
}

fn edge(c: &mut Criterion) {
    let edge = Edge::start();
    warm(c, &edge);
    cold(c, &edge);
}

criterion_group!(benches, edge);
criterion_main!(benches);
