//! The operators' tool: each command is one call of a coordinator's admin API. Arguments in, a table or the API's JSON
//! out; what cannot be done ends in one sentence and an exit code.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use sluice_shared::units::BaseUrl;

use crate::coordinator::Coordinator;
use crate::fault::Fault;

mod clients;
mod consent;
mod coordinator;
mod edges;
mod fault;
mod links;
mod output;
mod plain;
mod table;

/// Over the options that every command has, so that its own stand apart.
const EVERYWHERE: &str = "Options of every command";

/// Operates a Sluice cluster through a coordinator's admin API.
///
/// Exit codes: 0 done; 1 the coordinator refused, or you did; 2 the command cannot be run as it is given; 3 the
/// coordinator cannot be reached, or does not answer within 10 s.
#[derive(Parser)]
#[command(name = "sluicectl", version)]
struct Arguments {
    // Its variables are not `SLUICE_…`: those are keys of the coordinator's own configuration.
    /// The coordinator's admin port, http.
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "ADMIN-URL",
        env = "SLUICECTL_COORDINATOR",
        default_value = "http://127.0.0.1:8081",
        value_parser = admin_url
    )]
    coordinator: BaseUrl,
    /// The file whose first line is `name:token`, readable by you only; the coordinator's admin_token_file is one.
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "FILE",
        env = "SLUICECTL_TOKEN_FILE",
        default_value = "admin.tokens"
    )]
    token_file: PathBuf,
    /// What to print: a table for people, or the API's JSON.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Who may call, for which files, how often.
    #[command(subcommand)]
    Clients(clients::Command),
    /// Links that are made here.
    #[command(subcommand)]
    Links(links::Command),
    /// The edges, and how they are.
    #[command(subcommand)]
    Edges(edges::Command),
}

/// What a command works with.
struct Session {
    coordinator: Coordinator,
    format: Format,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            output::tell(&fault.to_string());
            ExitCode::from(fault.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Fault> {
    let session = Session {
        coordinator: Coordinator::new(arguments.coordinator, &arguments.token_file)?,
        format: arguments.output,
    };
    match arguments.command {
        Command::Clients(command) => command.run(&session),
        Command::Links(command) => command.run(&session),
        Command::Edges(command) => command.run(&session),
    }
}

fn admin_url(text: &str) -> Result<BaseUrl, String> {
    let url = BaseUrl::parse(text).map_err(|error| error.to_string())?;
    if url.as_str().starts_with("http://") {
        Ok(url)
    } else {
        Err("the admin port speaks http only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn variables_are_none_of_the_coordinators_configuration() {
        for argument in Arguments::command().get_arguments() {
            let variable = argument.get_env().unwrap_or_default().to_string_lossy().into_owned();
            assert!(!variable.starts_with("SLUICE_"), "{variable}");
        }
    }

    #[test]
    fn the_admin_port_is_a_plain_http_address() {
        assert!(admin_url("http://10.0.0.1:8081/").is_ok());
        for wrong in ["https://10.0.0.1:8081", "10.0.0.1:8081", "http://10.0.0.1/admin", "http://a:b@c"] {
            assert!(admin_url(wrong).is_err(), "{wrong}");
        }
    }
}
