//! The load-test harness: what it is asked for on the command line, and with what exit status it ends.

mod arguments;
mod clock;
mod cluster;
mod compare;
mod fault;
mod files;
mod generator;
mod histogram;
mod http;
mod join;
mod machine;
mod number;
mod outcome;
mod plan;
mod report;
mod run;
mod scenario;
mod simulate;
mod summary;
mod tally;
mod worker;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

/// A server said what was not so: wrong bytes, lengths, ranges, ETags.
const WRONG: u8 = 3;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Cluster(arguments) => cluster::command(&arguments),
        Command::Files(arguments) => files::command(&arguments).map(|()| true),
        Command::Compare(arguments) => compare::command(&arguments).map(|()| true),
        Command::Simulate(arguments) => simulate::run(&arguments).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "sluice-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
