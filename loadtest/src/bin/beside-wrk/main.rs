//! The load test beside wrk: the same closed loop against the same server, in turn. Where both can measure a thing they
//! have to agree on it, and the load test, which checks every byte, must not need twice the processor time of wrk, which
//! checks none.
//!
//! The server has one core and the clients another. Where wrk fills its own, it measures itself and not the server. Nor do both
//! measure the same where an answer is more than wrk reads at a time: it opens its window bit by bit then, which costs a
//! server twice the time (128 KiB: half the rate of the load test). There only what a download costs is held against it.
//! And wrk begins to count when it writes a request, after it has read what
//! else was ready. In a closed loop a connection always waits for something, so rate × mean latency is the same for both tools
//! (Little's law): where wrk's is over a tenth less, it left time out, and only rate and cost are held against it.
//!
//! A table of medians of the ratios within rounds, for others who use the machine disturb both alike only then; exit status 1
//! where a bound is not held, or nothing but costs could be compared.

mod omission;
mod servers;
mod wrk;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde_json::{Value, json};
use sluice_loadtest::host::Host;
use sluice_loadtest::median::median;
use sluice_loadtest::process;

use servers::Server;
use wrk::Wrk;

/// How far two tools may be apart that measure the same.
const AGREEMENT: f64 = 0.10;
/// Of the time that the load test counts, the part that wrk has to have counted for its percentiles to be the server's.
const COUNTED_MIN: f64 = 1.0 - AGREEMENT;
/// wrk is the limit where it uses more than this part of its core.
const BUSY_MAX: f64 = 0.9;
/// Of a file: wrk reads 8 KiB at a time, with the head.
const COMPARED_BYTES_MAX: u64 = 7 << 10;
/// The load test's processor time for a download, as a multiple of wrk's.
const CPU_MAX: f64 = 2.0;
/// What is compared, in order.
const FIGURES: [&str; 5] = ["rate", "p50", "p90", "p99", "CPU"];
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Of each measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Fewer, but 8 or more, where that many would have more than 8 MiB under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    connections: u32,
    /// Sizes of the file.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096,16384,1048576", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    bytes: Vec<u64>,
    /// Where the figures go as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/beside-wrk.json")]
    out: PathBuf,
}

/// What a tool saw: downloads a second, quantiles of the latency in seconds, processor time for a download.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    rate: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    cpu: f64,
    /// Of the latency.
    mean: f64,
}

/// The load test beside wrk, by one server.
#[derive(Debug, Clone, Copy)]
struct Compared {
    /// Of the file.
    bytes: u64,
    /// The part of its core that wrk used.
    busy: f64,
    /// The part of the time of all connections that wrk's latencies have, over the load test's.
    counted: f64,
    /// The load test's figures over wrk's.
    ratios: [f64; 5],
}

impl Compared {
    fn holds(&self) -> bool {
        let agrees = |ratio: f64| (ratio - 1.0).abs() <= AGREEMENT;
        let [rate, percentiles @ .., cpu] = self.ratios;
        let is_same = self.is_of_the_same();
        let counts = is_same && self.counted >= COUNTED_MIN;
        cpu <= CPU_MAX && (!is_same || agrees(rate)) && (!counts || percentiles.into_iter().all(agrees))
    }

    /// Both measured what the server does, and it did the same for both.
    fn is_of_the_same(&self) -> bool {
        self.busy <= BUSY_MAX && self.bytes <= COMPARED_BYTES_MAX
    }
}

impl Arguments {
    /// For a file of this size.
    fn connections_for(&self, size: u64) -> u32 {
        let bounded = u32::try_from(UNDER_WAY_MAX / size.max(1)).unwrap_or(u32::MAX).max(CONNECTIONS_MIN);
        self.connections.min(bounded)
    }
}

impl Seen {
    /// How many connections waited at a time.
    fn waited(&self) -> f64 {
        self.rate * self.mean
    }

    /// As the table has them.
    fn figures(&self) -> [f64; 5] {
        [self.rate, self.p50, self.p90, self.p99, self.cpu]
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("beside-wrk-").tempdir()?;
    let wrk = Wrk::new(folder.path())?;
    let mut out = io::stdout().lock();
    writeln!(out, "the load test over wrk, medians of the ratios of {} rounds", arguments.rounds)?;
    let head = ["bytes", "clients", "wrk busy", "counts"].into_iter().chain(FIGURES);
    writeln!(out, "{:8}{}", "", head.map(|name| format!("{name:>10}")).collect::<String>())?;
    let (mut is_held, mut is_compared) = (true, false);
    let mut rows = serde_json::Map::new();
    for size in arguments.bytes.iter().copied() {
        for server in [Server::nginx(folder.path(), size)?, Server::edge(folder.path(), size)?] {
            let compared = compare(&wrk, &server, size, &arguments, folder.path())?;
            let Compared { busy, counted, ratios, .. } = compared;
            let shown = ratios.map(|ratio| format!("{ratio:>10.2}")).concat();
            let holds = compared.holds();
            is_held &= holds;
            is_compared |= compared.is_of_the_same();
            let said = match (holds, compared.is_of_the_same()) {
                (false, _) => "   beyond",
                (true, false) => "   costs only",
                (true, true) => "",
            };
            let clients = arguments.connections_for(size);
            let shares = [busy, counted].map(|part| format!("{:>8.0} %", part * 100.0)).concat();
            writeln!(out, "{:8}{size:>10}{clients:>10}{shares}{shown}{said}", server.name)?;
            let figures = FIGURES.into_iter().zip(ratios);
            let mut row: BTreeMap<&str, f64> = figures.collect();
            row.extend([("wrk_busy", busy), ("counted", counted)]);
            rows.insert(format!("{} {size}", server.name), json!(row));
        }
    }
    if !is_compared {
        writeln!(out, "wrk's core was full throughout, so nothing but costs was compared")?;
    }
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    let all = json!({ "host": Host::here(), "rounds": arguments.rounds, "seconds": arguments.seconds, "over_wrk": rows });
    fs::write(&arguments.out, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(if is_held && is_compared { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs both in turn.
fn compare(
    wrk: &Wrk,
    server: &Server,
    size: u64,
    arguments: &Arguments,
    folder: &Path,
) -> anyhow::Result<Compared> {
    let connections = arguments.connections_for(size);
    let mut rounds = Vec::new();
    // One that does not count: caches are warm then.
    for round in 0..=arguments.rounds {
        let one = wrk.run(&server.url, connections, arguments.seconds)?;
        let other = ours(&server.url, size, arguments, folder)?;
        if round > 0 {
            rounds.push((one, other));
        }
    }
    let of_wrk = |figure: fn(&Seen) -> f64| median(rounds.iter().map(|(wrk, _)| figure(wrk)));
    let ratio = |at: usize| median(rounds.iter().map(|(wrk, ours)| ours.figures()[at] / wrk.figures()[at]));
    Ok(Compared {
        bytes: size,
        busy: of_wrk(|seen| seen.rate * seen.cpu),
        counted: median(rounds.iter().map(|(wrk, ours)| wrk.waited() / ours.waited())),
        ratios: std::array::from_fn(ratio),
    })
}

fn ours(url: &str, size: u64, arguments: &Arguments, folder: &Path) -> anyhow::Result<Seen> {
    let scenario = folder.join("scenario.toml");
    let (connections, seconds) = (arguments.connections_for(size), arguments.seconds);
    let text = format!(
        "duration = \"{seconds}s\"\nwarm_up = \"0s\"\nload.clients = {connections}\n\
         [[files]]\nname = \"a.bin\"\nsize = {size}\n"
    );
    fs::write(&scenario, text)?;
    let report = folder.join("report");
    let output = Command::new("taskset")
        .args(["-c", CLIENT_CORE])
        .arg(process::binary("sluice-loadtest")?)
        .args(["run", "--quiet", "--threads", "1", "--url", url])
        .arg("--scenario")
        .arg(&scenario)
        .arg("--report")
        .arg(&report)
        .output()
        .context("cannot run the load test")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load test failed: {said}");
    let report: Value = serde_json::from_str(&fs::read_to_string(report.join("report.json"))?)?;
    ensure!(report["tally"]["failed"] == 0, "downloads failed: {}", report["tally"]["failures"]);
    let number = |value: &Value| value.as_f64().context("the report lacks a figure");
    let (figures, generator) = (&report["figures"], &report["generators"][0]["generator"]);
    let rate = number(&figures["downloads_per_second"])?;
    let times: Vec<(u64, u64)> = serde_json::from_value(report["tally"]["latency"].clone())?;
    let seen_by_wrk = omission::corrected(&times, f64::from(connections) / rate);
    let quantile = |part| omission::quantile(&seen_by_wrk, part);
    Ok(Seen {
        rate,
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        cpu: number(&generator["cpu_seconds"])? / (rate * number(&generator["seconds"])?),
        mean: omission::mean(&seen_by_wrk),
    })
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

    #[test]
    fn only_what_wrk_can_measure_is_held_against_it() {
        let held = |bytes, busy, counted, ratios| Compared { bytes, busy, counted, ratios }.holds();
        let compared = |busy, counted, ratios| held(1024, busy, counted, ratios);
        assert!(compared(0.5, 1.0, [1.0, 1.09, 0.91, 1.0, 2.0]));
        assert!(!compared(0.5, 1.0, [1.0, 1.2, 1.0, 1.0, 1.0]), "a median");
        assert!(compared(0.5, 0.8, [1.0, 1.9, 1.0, 1.0, 1.0]), "it counts too little");
        assert!(!compared(0.5, 0.8, [0.8, 1.0, 1.0, 1.0, 1.0]), "the rate is counted all the same");
        assert!(held(1 << 20, 0.5, 1.0, [2.0, 0.5, 0.5, 0.5, 1.0]), "it reads bit by bit");
        assert!(compared(0.99, 1.0, [0.8, 1.9, 1.0, 1.0, 1.0]), "it is full");
        assert!(!compared(0.99, 0.8, [1.0, 1.0, 1.0, 1.0, 2.1]), "the cost");
    }
}
