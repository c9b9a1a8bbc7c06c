//! An edge over a kernel's NFS mount whose server vanishes for a minute, comes back, and changes its files: what is
//! cached is served as if nothing were, what is not gets its answer in time, and no body is ever wrong.
//!
//! It cuts the machine's network to its server, so it runs as root in the guest of `loadtest/guest` and nowhere else:
//! `make test-nfs`. A line for each claim that held, with what was measured; the first that does not hold ends it.

mod cut;
mod edge;
mod files;
mod heartbeat;
mod nginx;
mod readiness;
mod recovery;
mod report;
mod stalled;
mod store;
mod traffic;
mod truth;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use sluice_loadtest::settings::Settings;

use crate::cut::Files;
use crate::edge::Edge;
use crate::report::{passed, section};
use crate::store::Store;

/// Takes an edge's NFS server away and looks what clients notice.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that the server is away.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(30..))]
    cut: u64,
}

/// Whom the edge runs as: nobody that the store knows.
const EDGE_USER: u32 = 4711;
/// The edge's `storage_timeout`.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(5);
const THREADS: usize = 2;
/// Lines of a server's log that are shown where a claim does not hold.
const LOG_LINES: usize = 40;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("nfs-guest-").tempdir()?;
    // The edge's user has to enter it.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let Err(fault) = run(folder.path(), Duration::from_secs(arguments.cut)) else {
        return Ok(ExitCode::SUCCESS);
    };
    report::failed(&fault)?;
    for log in ["edge.log", "nginx.log"] {
        report::tail(&folder.path().join(log), LOG_LINES)?;
    }
    Ok(ExitCode::FAILURE)
}

fn run(folder: &Path, away: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let store = Store::find()?;
    // The harder case: nothing is believed for long.
    store.set_delegations(false)?;
    section(&format!("The store: {}", store.mounted))?;
    let (hot, cold, half) = (files::hot(), files::cold(away), files::half());
    for stored in hot.iter().chain(&cold).chain([&half]) {
        store.publish(stored)?;
    }
    let mut edge = start_edge(folder)?;
    passed("an edge without privileges starts over it", &report::user_of(edge.pid()?)?)?;
    files::fetch_all(&edge, &hot)?;
    passed("files come whole", &format!("{} files, {} bytes", hot.len(), files::total_bytes(&hot)))?;
    ensure!(edge.log()?.contains("\"confined: "), "the edge is not confined; this kernel has landlock");
    passed("the kernel lets it open nothing else", "landlock, over NFS")?;

    let before = recovery::Held::by(&edge)?;
    section(&format!("The server vanishes for {} s", away.as_secs()))?;
    cut::survive(&edge, &store, &Files { hot: &hot, cold: &cold, half: &half }, away)?;
    section("It is back")?;
    recovery::check(&mut edge, &hot, &[cold, vec![half]].concat(), &before)?;
    section("Files change while they are sent")?;
    truth::check(&edge, &store)?;
    section("nginx over the same mount, for comparison")?;
    nginx::compare(folder, &edge, &store)?;
    recovery::check_alive(&mut edge)?;
    passed("all of it held", &format!("{:.0} s", began.elapsed().as_secs_f64()))
}

fn start_edge(folder: &Path) -> anyhow::Result<Edge> {
    let timeout = STORAGE_TIMEOUT.as_secs();
    // Room for all that is fetched; what is open at a time fits a limit of 1024 descriptors.
    let settings = Settings::default()
        .threads(THREADS)
        .cache("256MiB")
        .toml(&format!("[limits]\nstorage_timeout = \"{timeout}s\"\nconnections = 400"));
    Edge::start(folder.join("edge.log"), Path::new(store::MOUNT), &settings, EDGE_USER)
}
