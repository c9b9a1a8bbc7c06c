//! A coordinator over one edge, as it comes: its log on, a line a call.

use std::fs;
use std::path::Path;

use anyhow::Context;
use sluice_loadtest::SoloEdge;
use sluice_loadtest::ports::Port;

use crate::server::{Kind, Server, Sign};

/// `sign` says what it is asked for.
pub(crate) fn start(own: &Path, program: &Path, edge: &SoloEdge, sign: Sign) -> anyhow::Result<Server> {
    let (port, admin) = (Port::take()?, Port::take()?);
    let config = own.join("coordinator.toml");
    fs::write(&config, configuration(&port, &admin, edge))?;
    let command = [
        program.to_str().context("the coordinator's path is text")?,
        "--config",
        config.to_str().context("the folder's name is text")?,
    ];
    // The admin port's number stays taken for as long as links are made.
    let sign = move |file: &str, number: u64| {
        let _taken = &admin;
        sign(file, number)
    };
    Server::start(Kind::Coordinator, &command, port, Box::new(sign), own)
}

fn configuration(port: &Port, admin: &Port, edge: &SoloEdge) -> String {
    let (listen, admin_listen, public_url) = (port.address(), admin.address(), port.url());
    let (url, admin_url, keys) = (edge.url(), edge.admin_url(), edge.keys_path());
    format!(
        r#"id = "coordinator-1"
listen = "{listen}"
admin_listen = "{admin_listen}"
public_url = "{public_url}"
admin_token_file = "admin.tokens"

[auth]
schemes = ["open"]

[keys]
path = {keys:?}

[[registry.edges]]
id = "edge-1"
url = "{url}"
admin_url = "{admin_url}"
"#
    )
}

/// Asks for a redirection, each number for another user.
pub(crate) fn redirect(file: &str, number: u64) -> anyhow::Result<String> {
    Ok(format!("/download/{file}?user_id=user-{number:04}"))
}

/// Asks for a link in JSON, which the Python server gives too.
pub(crate) fn request_download(file: &str, number: u64) -> anyhow::Result<String> {
    Ok(format!("/api/request-download?file_id={file}&user_id=user-{number:04}"))
}
