//! `sluice-edge`: arguments, and the one line said where it cannot start.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sluice_shared::handover::Inherited;
use sluice_shared::{confinement, papers};

/// Sluice's edge node: verifies tokens and streams files.
#[derive(Debug, Parser)]
#[command(name = "sluice-edge", version)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    config: PathBuf,
    /// Validate the configuration and what it names, then exit.
    #[arg(long)]
    check: bool,
    /// With --check: look at what is around, too (store, etcd, coordinators, ports, kernel), and print all findings as JSON;
    /// exit code 0 where all is well, 1 for warnings, 2 where something fails. `sluicectl check` shows them.
    #[arg(long, requires = "check")]
    findings: bool,
}

fn main() -> ExitCode {
    // First of all: descriptors that were passed have numbers that nothing else must take.
    let inherited = Inherited::from_environment();
    if let Err(error) = confinement::refuse_new_rights() {
        say(&format!("sluice-edge: no_new_privs cannot be set: {error}"));
        return ExitCode::FAILURE;
    }
    match papers::write_if_asked(Arguments::command(), sluice_edge_node::METRICS) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sluice-edge: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let arguments = Arguments::parse();
    if arguments.findings {
        let findings = sluice_edge_node::findings(&arguments.config);
        tell(&findings.to_json());
        return ExitCode::from(findings.worst().exit_code());
    }
    let ended = if arguments.check {
        sluice_edge_node::check(&arguments.config).map(|confined| {
            say("configuration is valid");
            if confined.is_amiss() {
                say(&format!("sluice-edge: {confined}"));
            }
        })
    } else {
        inherited
            .map_err(Into::into)
            .and_then(|inherited| sluice_edge_node::run(&arguments.config, inherited))
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sluice-edge: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "what --findings answers")]
fn tell(json: &str) {
    println!("{json}");
}

#[allow(clippy::print_stderr, reason = "said to whoever started the program, before there are logs")]
fn say(line: &str) {
    eprintln!("{line}");
}
