//! The Python server that the coordinator replaces: one worker process, minting with the edge's own key.

use std::path::Path;

use anyhow::Context;
use sluice_loadtest::SoloEdge;
use sluice_loadtest::ports::Port;
use sluice_loadtest::tool;

use crate::coordinator;
use crate::server::{Kind, Server};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/reference_server.py");

pub(crate) fn start(own: &Path, kind: Kind, edge: &SoloEdge) -> anyhow::Result<Server> {
    let port = Port::take()?;
    let (python, keys) = (tool::python_of("compare")?, edge.keys_path());
    let (number, url) = (port.number().to_string(), edge.url());
    let manner = if kind == Kind::PythonTuned { "tuned" } else { "plain" };
    let command = [
        python.to_str().context("Python's path is text")?,
        SCRIPT,
        manner,
        &number,
        keys.to_str().context("the folder's name is text")?,
        &url,
    ];
    Server::start(kind, &command, port, Box::new(coordinator::request_download), own)
}
