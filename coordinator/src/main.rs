//! The program's edge to the world: arguments in, one sentence and an exit code out. Everything else is the library's.

#![forbid(unsafe_code)]

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use sluice_coordinator::config::Config;
use sluice_coordinator::service::{self, confine};
use sluice_shared::handover::{Inherited, InheritedError};
use sluice_shared::{confinement, papers, telemetry};

/// Sluice's coordinator: decides who may fetch what, and sends each client to the best edge.
#[derive(Parser)]
#[command(name = "sluice-coordinator", version)]
struct Arguments {
    /// The configuration, TOML.
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    config: PathBuf,
    /// Check the configuration and the files it names, then exit; nothing is made and nothing is listened on.
    #[arg(long)]
    check: bool,
    /// With --check: look at what is around, too (etcd, Redis, edges, ports), and print all findings as JSON; exit code 0
    /// where all is well, 1 for warnings, 2 where something fails. `sluicectl check` shows them.
    #[arg(long, requires = "check")]
    findings: bool,
}

/// For blocking work that is still under way at the end: name resolution, the build of a ring.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // First of all: descriptors that were passed have numbers that nothing else must take.
    let inherited = Inherited::from_environment();
    if let Err(error) = confinement::refuse_new_rights() {
        complain(&anyhow::anyhow!("no_new_privs cannot be set: {error}"));
        return ExitCode::FAILURE;
    }
    match papers::write_if_asked(Arguments::command(), sluice_coordinator::METRICS) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.into());
            return ExitCode::FAILURE;
        }
    }
    let arguments = Arguments::parse();
    if arguments.findings {
        let findings = service::findings(&arguments.config);
        confirm(&findings.to_json());
        return ExitCode::from(findings.worst().exit_code());
    }
    match run(&arguments, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, inherited: Result<Inherited, InheritedError>) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        let _logs = telemetry::start_logs(&config.log_filter)?;
        service::check(&config)?;
        confirm("configuration is valid");
        let confined = confine::try_out(&config);
        if confined.is_amiss() {
            complain(&anyhow::anyhow!(confined.to_string()));
        }
        return Ok(());
    }
    let inherited = inherited?;
    // Two at least: one call that computes must not hold up every other. Asked before files of the kernel's are closed.
    let workers = thread::available_parallelism().map_or(2, NonZero::get).max(2);
    // Before there are threads, of which those that are there already would not be bound.
    let confined = confine::bind(&config)?;
    let _logs = telemetry::start_logs(&config.log_filter)?;
    confined.log();
    let metrics = telemetry::start_metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let ended = runtime.block_on(service::run(config, metrics, inherited));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    Ok(ended?)
}

#[allow(clippy::print_stderr, reason = "the one line that says why the program ends")]
fn complain(error: &anyhow::Error) {
    // The errors of our modules say their cause themselves; the chain would say it twice.
    eprintln!("sluice-coordinator: {error}");
}

#[allow(clippy::print_stdout, reason = "the one line that answers --check")]
fn confirm(text: &str) {
    println!("{text}");
}
