//! The harness's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sluice_shared::units::Span;

/// Measures Sluice: real clusters under load, and simulated ones at sizes that no machine has.
#[derive(Debug, Parser)]
#[command(name = "sluice-loadtest", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Downloads from a cluster through its coordinators, checks every byte, and reports what it measured.
    Run(Run),
    /// Starts a cluster on this machine, and runs against it while its parts fail as planned.
    Cluster(Cluster),
    /// Makes the files that a scenario asks for.
    Files(Files),
    /// Compares two reports: ratios with the intervals that they lie in.
    ///
    /// Intervals are drawn from what the seconds of both runs measured, so they say how far chance goes within a run. Where
    /// these do not show it, there is none ("–"): in runs of less than eight intervals, for a quantile that fewer than ten
    /// downloads of a run exceed (p99 takes 1000 downloads, p99.9 10,000), and for the maximum, which nothing exceeds.
    Compare(Compare),
    /// Routes a simulated cluster's requests by the coordinator's own code, while edges come, go and flap.
    Simulate(Simulate),
}

/// What is the conductor's to say, and not a joiner's.
const CONDUCTORS: [&str; 9] =
    ["scenario", "duration", "rate", "clients", "seed", "report", "joiners", "listen", "join_timeout"];

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(crate) struct Run {
    /// A coordinator, http://host:port; several are asked in turn.
    #[arg(long, value_name = "URL", group = "whom")]
    pub(crate) coordinator: Vec<String>,
    /// Any server of files in place of a cluster: {file} stands for the file, as in http://host/{file}.
    #[arg(long, value_name = "URL", group = "whom")]
    pub(crate) url: Option<String>,
    /// Takes part in the run of this conductor, host:port, which says what to do.
    #[arg(long, value_name = "ADDRESS", group = "whom", requires = "secret_file", conflicts_with_all = CONDUCTORS)]
    pub(crate) join: Option<String>,
    #[command(flatten)]
    pub(crate) manner: Manner,
    /// Conducts: waits for so many machines that run with --join, and makes one report of all.
    #[arg(long, value_name = "N", requires = "secret_file", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) joiners: Option<u32>,
    /// Where a conductor waits for them.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7411")]
    pub(crate) listen: SocketAddr,
    /// How long a conductor waits for them.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = Span::parse)]
    pub(crate) join_timeout: Span,
    /// A file, mode 0600, with a secret that the machines of a run share.
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_SECRET_FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// How a run is made and told, whoever starts it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Manner {
    /// What to do; without it, what deploy/samples/scenario.toml says.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// What is measured, in place of the scenario's.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) duration: Option<Span>,
    /// An open loop: downloads a second.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// A closed loop: clients.
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) clients: Option<u32>,
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Worker threads; without it, one a core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// A folder for report.html and report.json; made when missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Says nothing but the result.
    #[arg(long, conflicts_with = "json_lines")]
    pub(crate) quiet: bool,
    /// For machines: a JSON object a second on standard output, the result last.
    #[arg(long)]
    pub(crate) json_lines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The files that edges serve; those of the scenario that are missing are made.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) edges: u32,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) coordinators: u32,
    /// Edges name themselves in an etcd of three members, of the cluster's own.
    #[arg(long)]
    pub(crate) etcd: bool,
    /// Coordinators keep their state in a Redis of the cluster's own; needed for more than one.
    #[arg(long)]
    pub(crate) redis: bool,
    /// What happens to it, and when: a TOML file, see deploy/samples/faults.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// How the run is made: --scenario, --duration, --rate, --report and others, as of `run`.
    #[arg(last = true, value_name = "RUN ARGUMENTS")]
    pub(crate) run: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The folder that the files are made beneath.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Whose files; without it, those of deploy/samples/scenario.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// report.json of the run to compare with.
    pub(crate) before: PathBuf,
    /// report.json of the run that is compared.
    pub(crate) after: PathBuf,
    #[arg(long, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Edges, spread evenly over the zones.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) edges: u32,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub(crate) zones: u32,
    /// Files, asked for by Zipf's law.
    #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) files: u64,
    /// Equal seeds give equal results, but for times and memory.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Requests a second that an edge of the usual weight gets on the mean.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Simulated seconds of each phase.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(2..=3600))]
    pub(crate) seconds: u32,
    /// Where the results go; a plot goes beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn a_joiner_says_nothing_that_is_the_conductors_to_say() {
        let parsed = |rest: &[&str]| {
            let joiner = ["sluice-loadtest", "run", "--join", "conductor:7411", "--secret-file", "secret"];
            Arguments::try_parse_from([&joiner[..], rest].concat()).map_err(|error| error.kind())
        };
        for rest in [&[][..], &["--threads", "2"], &["--quiet"], &["--json-lines"]] {
            assert!(parsed(rest).is_ok(), "{rest:?}");
        }
        for rest in [
            ["--scenario", "scenario.toml"],
            ["--duration", "1s"],
            ["--rate", "1"],
            ["--clients", "1"],
            ["--seed", "1"],
            ["--report", "report"],
            ["--joiners", "1"],
            ["--listen", "0.0.0.0:1"],
            ["--join-timeout", "1s"],
            ["--coordinator", "http://127.0.0.1"],
            ["--url", "http://127.0.0.1"],
        ] {
            assert_eq!(parsed(&rest).err(), Some(ErrorKind::ArgumentConflict), "{rest:?}");
        }
    }
}
