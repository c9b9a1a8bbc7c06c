//! The operators' tool: each command is one call of a coordinator's admin API. Arguments in, a table or the API's JSON
//! out; what cannot be done ends in one sentence and an exit code.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use sluice_shared::papers;
use sluice_shared::units::BaseUrl;

use crate::coordinator::Coordinator;
use crate::fault::Fault;

mod barred;
mod check;
mod clients;
mod consent;
mod coordinator;
mod edges;
mod explain;
mod fault;
mod hot;
mod keys;
mod links;
mod output;
mod plain;
mod status;
mod table;
mod token;

/// Over the options that every command has, so that its own stand apart.
const EVERYWHERE: &str = "Options of every command";

/// Operates a Sluice cluster through a coordinator's admin API.
///
/// Exit codes: 0 done; 1 the coordinator refused, or you did, or what was asked about is not good; 2 the command cannot be
/// run as it is given; 3 the coordinator cannot be reached, or does not answer within 10 s. `check` has its own.
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
    /// Do not ask before what cannot be undone.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    yes: bool,
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
    /// The cluster on one screen: coordinators, edges, etcd, state and keys.
    Status(status::Status),
    /// The edges, and how they are.
    #[command(subcommand)]
    Edges(edges::Command),
    /// What tokens and tickets are sealed with.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Take back what was given: links, and whatever a user, a client or a file is behind.
    #[command(subcommand)]
    Revoke(barred::Revoke),
    /// Give nothing under a prefix.
    Block(barred::Block),
    /// Why a file's request goes to the edge that it goes to.
    Explain(explain::Command),
    /// The files that a coordinator is asked for most; after two seconds, where nobody looked before.
    Hot(hot::Hot),
    /// Look at a coordinator's or an edge's configuration, and at all that it needs around it, before or while it runs.
    ///
    /// Exit codes: 0 all is well; 1 there are warnings; 2 something fails; 3 the program that checks cannot be run. Run it as
    /// the user that the program runs as.
    Check(check::Check),
    /// What a token or ticket says, and whether it holds; by key files, without a coordinator.
    #[command(subcommand)]
    Token(token::Command),
}

/// What a command works with.
struct Session {
    coordinator: Coordinator,
    format: Format,
    /// Whoever runs it has said yes to all questions.
    yes: bool,
}

fn main() -> ExitCode {
    match papers::write_if_asked(Arguments::command(), &[]) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&error.to_string());
            return ExitCode::FAILURE;
        }
    }
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(fault) => {
            output::tell(&fault.to_string());
            ExitCode::from(fault.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Fault> {
    let format = arguments.output;
    let session = || {
        let coordinator = Coordinator::new(arguments.coordinator, &arguments.token_file)?;
        Ok(Session { coordinator, format, yes: arguments.yes })
    };
    let done = match arguments.command {
        Command::Check(check) => return check.run(format),
        Command::Token(command) => command.run(format),
        Command::Clients(command) => command.run(&session()?),
        Command::Links(command) => command.run(&session()?),
        Command::Status(status) => status.run(&session()?),
        Command::Edges(command) => command.run(&session()?),
        Command::Keys(command) => command.run(&session()?),
        Command::Revoke(command) => command.run(&session()?),
        Command::Block(block) => block.run(&session()?),
        Command::Explain(command) => command.run(&session()?),
        Command::Hot(hot) => hot.run(&session()?),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn admin_url(text: &str) -> Result<BaseUrl, String> {
    let url = BaseUrl::parse(text).map_err(|error| error.to_string())?;
    if url.as_str().starts_with("http://") {
        Ok(url)
    } else {
        Err("the admin port speaks http only, whatever the coordinator's [tls]; write http://".to_owned())
    }
}

#[cfg(test)]
mod tests {
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
