//! The load test beside wrk: the same closed loop against the same server, in turn. Where both can measure a thing they
//! have to agree on it, and the load test, which checks every byte, must not need twice the processor time of wrk, which
//! checks none.
//!
//! The server has one core and the clients another. Each is asked directly, which shows what a download costs and where it is the
//! server that limits the rate, and by a [way](way::Way) with delays, which shows latencies: the tools wait for the server then.
//!
//! Directly, a wrk that fills its core measures itself and not the server, and from half a core on answers wait for either tool.
//! Nor do both measure the same where an answer is more than wrk reads at a time: it opens its window bit by bit then, which
//! costs a server twice the time (128 KiB: half the rate of the load test). There only what a download costs is held against it.
//! And wrk begins to count when it writes a request, after it has read what else was ready. In a closed loop a connection
//! always waits for something, so rate × mean latency is the same for both tools (Little's law): where wrk's is over a tenth
//! less, it left time out, and only rate and cost are held against it.
//!
//! A table of medians of the ratios within rounds, for others who use the machine disturb both alike only then; exit status 1
//! where a bound is not held, or a server's percentiles could not be compared.

mod compared;
mod omission;
mod own;
mod servers;
mod way;
mod wrk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use sluice_loadtest::host::Host;

use compared::{Compared, Extent, FIGURES};
use servers::Server;
use way::Way;
use wrk::Wrk;

const CLIENT_CORE: &str = "1";
/// Bytes under way at most, over all connections: wrk counts from when it begins to read an answer, and of many that come at
/// once it begins with most late, so that its own median is too small (64 × 1 MiB: by half).
const UNDER_WAY_MAX: u64 = 8 << 20;
/// Below that many there is little for a server to do at a time.
const CONNECTIONS_MIN: u32 = 8;

/// Compares the load test with wrk, against nginx and against an edge.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measurements of each tool, in turn; medians count.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Fewer, but 8 or more, where that many would have more than 8 MiB under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    connections: u32,
    /// Sizes of the file.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096,16384,1048576", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    bytes: Vec<u64>,
    /// Milliseconds that requests are on their way to the server, on the mean; 0 stands for no way between.
    #[arg(long, value_delimiter = ',', default_value = "0,10", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delays: Vec<u64>,
    /// Where the figures go as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/beside-wrk.json")]
    out: PathBuf,
}

/// What both tools do in turn.
struct Task {
    url: String,
    /// Of the file.
    size: u64,
    connections: u32,
    seconds: u32,
}

/// What was found so far.
struct Findings {
    is_held: bool,
    servers: BTreeSet<&'static str>,
    /// Those of which every figure could be compared.
    compared_whole: BTreeSet<&'static str>,
    /// By server, size and delay.
    rows: serde_json::Map<String, Value>,
}

impl Arguments {
    /// For a file of this size.
    fn connections_for(&self, size: u64) -> u32 {
        let bounded = u32::try_from(UNDER_WAY_MAX / size.max(1)).unwrap_or(u32::MAX).max(CONNECTIONS_MIN);
        self.connections.min(bounded)
    }
}

impl Findings {
    fn add(&mut self, server: &'static str, size: u64, delay: u64, compared: &Compared) {
        self.is_held &= compared.holds();
        self.servers.insert(server);
        if compared.extent() == Extent::All {
            self.compared_whole.insert(server);
        }
        let mut row: BTreeMap<&str, f64> = FIGURES.into_iter().zip(compared.ratios).collect();
        let [wrk, own] = compared.busy;
        row.extend([("wrk_busy", wrk), ("own_busy", own), ("counted", compared.counted)]);
        self.rows.insert(format!("{server}, {size} bytes, {delay} ms"), json!(row));
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("beside-wrk-").tempdir()?;
    let wrk = Wrk::new(folder.path())?;
    let mut out = io::stdout().lock();
    writeln!(out, "the load test over wrk, medians of the ratios of {} rounds", arguments.rounds)?;
    let head = ["ms away", "bytes", "clients", "wrk busy", "own busy", "counts"].into_iter().chain(FIGURES);
    writeln!(out, "{:6}{}  compared", "", head.map(|name| format!("{name:>9}")).collect::<String>())?;
    let mut found = Findings {
        is_held: true,
        servers: BTreeSet::new(),
        compared_whole: BTreeSet::new(),
        rows: serde_json::Map::new(),
    };
    for delay in arguments.delays.iter().copied() {
        for size in arguments.bytes.iter().copied() {
            let clients = arguments.connections_for(size);
            for server in [Server::nginx(folder.path(), size)?, Server::edge(folder.path(), size)?] {
                let compared = compare(&wrk, &server, delay, size, &arguments, folder.path())?;
                writeln!(out, "{:6}{delay:>9}{size:>9}{clients:>9}{compared}", server.name)?;
                found.add(server.name, size, delay, &compared);
            }
        }
    }
    let Findings { is_held, servers, compared_whole, rows } = found;
    let missed: Vec<&str> = servers.difference(&compared_whole).copied().collect();
    if !missed.is_empty() {
        writeln!(out, "nothing was compared whole against {}", missed.join(" and "))?;
    }
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    let all = json!({ "host": Host::here(), "rounds": arguments.rounds, "seconds": arguments.seconds, "over_wrk": rows });
    fs::write(&arguments.out, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(if is_held && missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs both in turn.
fn compare(
    wrk: &Wrk,
    server: &Server,
    delay: u64,
    size: u64,
    arguments: &Arguments,
    folder: &Path,
) -> anyhow::Result<Compared> {
    let way = (delay > 0).then(|| Way::to(server.address, Duration::from_millis(delay))).transpose()?;
    let address = way.as_ref().map_or(server.address, |way| way.address);
    let task = Task {
        url: format!("http://{address}{}", server.target),
        size,
        connections: arguments.connections_for(size),
        seconds: arguments.seconds,
    };
    let mut rounds = Vec::new();
    // One that does not count: caches are warm then.
    for round in 0..=arguments.rounds {
        let one = wrk.run(&task)?;
        let other = own::run(&task, folder)?;
        if round > 0 {
            rounds.push((one, other));
        }
    }
    Ok(Compared::new(&rounds, size, way.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_under_way_are_bounded() {
        let arguments = Arguments::parse_from(["beside-wrk"]);
        let connections =
            [1 << 10, 16 << 10, 256 << 10, 1 << 20, 64 << 20].map(|size| arguments.connections_for(size));
        assert_eq!(connections, [64, 64, 32, 8, 8]);
        assert_eq!(Arguments::parse_from(["beside-wrk", "--connections", "4"]).connections_for(1 << 20), 4);
    }
}
