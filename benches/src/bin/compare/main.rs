//! One edge beside nginx, on one core each: requests per second, and processor time per request and per byte.
//!
//! Each round measures every server once, in another order; what is reported are medians, and medians of the
//! ratios within a round, so that a machine that slows down between rounds does not show as a difference.

mod edge;
mod machine;
mod nginx;
mod report;
mod server;
mod wrk;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use sluice_loadtest::Content;

use crate::machine::Machine;
use crate::report::{Measurement, Report, Size};
use crate::server::Server;
use crate::wrk::Wrk;

/// Compares an edge with nginx, plain and with open_file_cache, both checking secure_link.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; every server is measured once in each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of one measurement; a fifth of it, at least one, goes before as a warm-up.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Only this size (1KiB, 16KiB, 128KiB, 1MiB, 64MiB); may be repeated.
    #[arg(long, value_name = "SIZE")]
    only: Vec<String>,
    /// The edge's program; the one built beside this one if not said.
    #[arg(long, value_name = "FILE")]
    path_to_edge: Option<PathBuf>,
    /// Where the JSON goes.
    #[arg(long, value_name = "FILE", default_value = "target/compare.json")]
    out: PathBuf,
}

/// What is downloaded, and over how many connections: enough to keep one core busy, few where each is long.
const SIZES: [Size; 5] = [
    Size { name: "1KiB", bytes: 1 << 10, connections: 64 },
    Size { name: "16KiB", bytes: 16 << 10, connections: 64 },
    Size { name: "128KiB", bytes: 128 << 10, connections: 64 },
    Size { name: "1MiB", bytes: 1 << 20, connections: 64 },
    Size { name: "64MiB", bytes: 64 << 20, connections: 8 },
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0 && arguments.seconds > 0, "--rounds and --seconds must be 1 or more");
    let sizes = select(&arguments.only)?;
    let edge = match &arguments.path_to_edge {
        Some(path) => path.clone(),
        None => sluice_loadtest::process::binary("sluice-edge")?,
    };

    let folder = tempfile::Builder::new().prefix("sluice-compare-").tempdir()?;
    let root = folder.path().join("files");
    fs::create_dir(&root)?;
    for size in &sizes {
        Content::new(size.name, size.bytes).write(&root.join(size.name))?;
    }
    let machine = Machine::here(&edge)?;
    let mut servers = [
        nginx::start(folder.path(), &root, nginx::FileCache::Off)?,
        nginx::start(folder.path(), &root, nginx::FileCache::On)?,
        edge::start(folder.path(), &root, &edge)?,
    ];
    for server in &mut servers {
        server.wait_until_it_serves(sizes[0])?;
        for size in &sizes {
            server.check(*size)?;
        }
    }

    let wrk = Wrk::new(folder.path())?;
    let mut report = Report::new(machine, &arguments, servers.each_ref().map(|server| server.name));
    for size in &sizes {
        for round in 0..arguments.rounds {
            for turn in 0..servers.len() {
                let server = &mut servers[(round + turn) % 3];
                say(&format!("{:>7}  round {}  {}", size.name, round + 1, server.name))?;
                let measured = measure(&wrk, server, *size, arguments.seconds)?;
                report.add(*size, server.name, round, measured);
            }
        }
    }
    report.conclude();
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", report.markdown())?;
    write_json(&arguments.out, &report)?;
    writeln!(out, "Written to {}", arguments.out.display())?;
    Ok(())
}

/// Warms up, then measures one server once.
fn measure(wrk: &Wrk, server: &mut Server, size: Size, seconds: u64) -> anyhow::Result<Measurement> {
    let url = server.url(size.name)?;
    wrk.run(&url, size, (seconds / 5).max(1))?;
    let before = server.cpu_time()?;
    let seen = wrk.run(&url, size, seconds)?;
    // What wrk left unread is thrown away within moments; it belongs to what was measured.
    std::thread::sleep(Duration::from_millis(20));
    let cpu = server.cpu_time()? - before;
    ensure!(server.is_running()?, "{} has ended; it said:\n{}", server.name, server.log());
    Ok(Measurement::new(&seen, cpu))
}

fn select(only: &[String]) -> anyhow::Result<Vec<Size>> {
    let known = || SIZES.map(|size| size.name).join(", ");
    for name in only {
        if !SIZES.iter().any(|size| size.name.eq_ignore_ascii_case(name)) {
            bail!("--only {name}: the sizes are {}", known());
        }
    }
    let chosen =
        |size: &Size| only.is_empty() || only.iter().any(|name| size.name.eq_ignore_ascii_case(name));
    Ok(SIZES.into_iter().filter(chosen).collect())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{line}")
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(report)?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
