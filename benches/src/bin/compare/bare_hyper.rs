//! Bare hyper: the answer that somebody else gave once, again and again.

use std::path::Path;

use anyhow::Context;
use sluice_loadtest::client::Head;
use sluice_loadtest::ports::Port;
use sluice_loadtest::process;

use crate::coordinator;
use crate::server::{Kind, Server};

/// Answers as `head` does, which has to be a redirection without a body; asked as a coordinator is.
pub(crate) fn start(own: &Path, head: &Head) -> anyhow::Result<Server> {
    let port = Port::take()?;
    let program = process::binary("bare-redirect")?;
    let address = port.address();
    // hyper adds the first two itself; the third was for that one connection.
    let left_out = ["date", "content-length", "connection"];
    let fields = head.fields.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {value}")).collect();
    let mut command = vec![program.to_str().context("the program's path is text")?, &address];
    command.extend(fields.iter().map(String::as_str));
    Server::start(Kind::BareHyper, &command, port, Box::new(coordinator::redirect), own)
}
