//! An edge over a store that hangs when it is told to, and downloads that must not notice.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_loadtest::client::Connection;
use sluice_loadtest::faulty_store::{FaultyStore, Manner};
use sluice_loadtest::settings::Settings;
use sluice_loadtest::{Content, SoloEdge, wait_until};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// What every edge here is told: to give up soon. A healthy store has time enough even on a busy machine.
pub const STORAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// Beyond a limit on a busy machine: deadlines are looked at four times a second, and tests share two cores.
pub const SLACK: Duration = Duration::from_secs(5);

/// The store goes first when all is dropped, so that the edge can end.
pub struct Rig {
    pub store: FaultyStore,
    pub edge: SoloEdge,
    source: TempDir,
    _mount: TempDir,
}

impl Rig {
    /// An edge over `files`, each with its size and the content that [`Content::new`] gives it.
    pub fn start<N: AsRef<str>>(
        files: impl IntoIterator<Item = (N, u64)>,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        Self::start_in(Manner::default(), files, change)
    }

    pub fn start_in<N: AsRef<str>>(
        manner: Manner,
        files: impl IntoIterator<Item = (N, u64)>,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        raise_descriptors();
        let (source, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, size) in files {
            publish(source.path(), name.as_ref(), &Content::new(name.as_ref(), size));
        }
        let store = FaultyStore::mount_in(manner, source.path(), mount.path()).unwrap();
        let usual = |settings: Settings| {
            settings.threads(2).toml(&format!("limits.storage_timeout = \"{}s\"", STORAGE_TIMEOUT.as_secs()))
        };
        let edge = SoloEdge::start(mount.path(), |settings| change(usual(settings))).unwrap();
        Self { store, edge, source, _mount: mount }
    }

    /// The folder that is mirrored.
    pub fn source(&self) -> &Path {
        self.source.path()
    }

    pub fn publish(&self, name: &str, content: &Content) -> PathBuf {
        publish(self.source(), name, content)
    }

    /// Downloads a file that was there from the start, and checks every byte.
    pub fn check(&self, name: &str, size: u64) {
        let answer = self.edge.get(name).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
        Content::new(name, size).check_whole(&answer.body).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }

    pub fn wait_until_held(&self, count: usize) {
        wait_until(&format!("{count} requests are held"), || Ok(self.store.held() == count))
            .unwrap_or_else(|fault| panic!("{fault}: {} are", self.store.held()));
    }

    /// Waits until the edge has no more descriptors open than this.
    pub fn wait_until_descriptors(&self, most: usize) {
        wait_until("descriptors are closed", || Ok(self.edge.descriptors()? <= most))
            .unwrap_or_else(|fault| panic!("{fault}, {most} at most: {:#?}", self.edge.open_files()));
    }

    /// Waits until no operation is left in the store, and the edge is ready.
    pub fn wait_until_well(&self) {
        wait_until("nothing is under way and the edge is ready", || {
            let operations = self.edge.load_of("storage_operations")?;
            Ok(operations == 0 && self.edge.readiness()?.0 == 200)
        })
        .unwrap_or_else(|fault| panic!("{fault}: {:?}", self.edge.load()));
    }
}

/// Writes a file as publishers should: under another name first.
pub fn publish(root: &Path, name: &str, content: &Content) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let unfinished = path.with_extension("unfinished");
    content.write(&unfinished).unwrap();
    let hour = Duration::from_secs(3600);
    File::options().write(true).open(&unfinished).unwrap().set_modified(SystemTime::now() - hour).unwrap();
    fs::rename(&unfinished, &path).unwrap();
    path
}

/// Thousands of connections are more than the usual limit allows.
fn raise_descriptors() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

/// Reads an answer that must be 503 with Retry-After.
pub fn expect_refusal(connection: &mut Connection) {
    let answer = connection.read_answer("GET").unwrap();
    assert_eq!(answer.status(), 503, "{}", answer.text());
    let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "Retry-After: {seconds}");
}

/// Connections that ask for one small file that is cached, again and again, until this is finished.
pub struct Hot {
    stop: Arc<AtomicBool>,
    connections: Vec<HotConnection>,
}

struct HotConnection {
    answers: Arc<AtomicU64>,
    /// Gives the longest time that it waited for an answer.
    thread: JoinHandle<anyhow::Result<Duration>>,
}

impl Hot {
    const CONNECTIONS: usize = 8;
    /// Between two requests of a connection: enough of them to see a gap, few enough to leave the cores to others.
    const PACE: Duration = Duration::from_millis(5);

    pub fn start(rig: &Rig, name: &str, size: u64) -> Self {
        rig.check(name, size);
        let stop = Arc::new(AtomicBool::new(false));
        let expected = Content::new(name, size).bytes(0..size);
        let connections = (0..Self::CONNECTIONS).map(|_| {
            let mut connection = rig.edge.ask(name, "hot", "").unwrap();
            let target = rig.edge.target(name, "hot").unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n");
            let answers = Arc::new(AtomicU64::new(0));
            let (stop, counted, expected) = (Arc::clone(&stop), Arc::clone(&answers), expected.clone());
            let thread = thread::spawn(move || {
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                loop {
                    let answer = connection.read_answer("GET")?;
                    ensure!(answer.status() == 200 && answer.body == expected, "status {}", answer.status());
                    counted.fetch_add(1, Ordering::Relaxed);
                    longest = longest.max(last.elapsed());
                    if stop.load(Ordering::Relaxed) {
                        return Ok(longest);
                    }
                    thread::sleep(Self::PACE);
                    last = Instant::now();
                    connection.send(request.as_bytes())?;
                }
            });
            HotConnection { answers, thread }
        });
        let connections = connections.collect();
        Self { stop, connections }
    }

    /// Every connection is answered, again and again, as things are now.
    pub fn goes_on(&self) {
        let answers = |connection: &HotConnection| connection.answers.load(Ordering::Relaxed);
        let before: Vec<u64> = self.connections.iter().map(answers).collect();
        wait_until("every hot connection is answered", || {
            Ok(self
                .connections
                .iter()
                .zip(&before)
                .all(|(connection, before)| answers(connection) > before + 10))
        })
        .unwrap();
    }

    /// No request of any waited for the store: that takes as long as an edge has patience with it.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections {
            let longest = connection.thread.join().unwrap().expect("every hot request is answered");
            assert!(longest < STORAGE_TIMEOUT, "a hot request waited {longest:?}");
        }
    }
}
