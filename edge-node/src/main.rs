//! `sluice-edge`: arguments, and the one line said where it cannot start.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.check {
        sluice_edge_node::check(&arguments.config).map(|()| say("configuration is valid"))
    } else {
        sluice_edge_node::run(&arguments.config)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sluice-edge: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "said to whoever started the program, before there are logs")]
fn say(line: &str) {
    eprintln!("{line}");
}
