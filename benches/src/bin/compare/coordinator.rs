//! A coordinator over one edge, as it comes: its log on, a line a call.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context;
use sluice_loadtest::SoloEdge;
use sluice_loadtest::ports::Port;

use crate::server::{Kind, Server, Sign};
use crate::signed::{ACCESS_KEY, SECRET};

const CLIENTS: &str = "clients.toml";
const NONCES_MAX: u64 = 100_000_000;

/// How a coordinator knows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Open,
    Signature,
}

/// `sign` says what it is asked for.
pub(crate) fn start(
    own: &Path,
    program: &Path,
    scheme: Scheme,
    edge: &SoloEdge,
    sign: Sign,
) -> anyhow::Result<Server> {
    let (port, admin) = (Port::take()?, Port::take()?);
    let config = own.join("coordinator.toml");
    fs::write(&config, configuration(&port, &admin, scheme, edge))?;
    if scheme == Scheme::Signature {
        write_clients(&own.join(CLIENTS))?;
    }
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

fn configuration(port: &Port, admin: &Port, scheme: Scheme, edge: &SoloEdge) -> String {
    let (listen, admin_listen, public_url) = (port.address(), admin.address(), port.url());
    let (url, admin_url, keys) = (edge.url(), edge.admin_url(), edge.keys_path());
    let auth = match scheme {
        Scheme::Open => "schemes = [\"open\"]".to_owned(),
        // All nonces of a comparison are one client's.
        Scheme::Signature => {
            format!("schemes = [\"signature\"]\nclients_file = {CLIENTS:?}\nnonces_max = {NONCES_MAX}")
        }
    };
    format!(
        r#"id = "coordinator-1"
listen = "{listen}"
admin_listen = "{admin_listen}"
public_url = "{public_url}"
admin_token_file = "admin.tokens"

[auth]
{auth}

[keys]
path = {keys:?}

[[registry.edges]]
id = "edge-1"
url = "{url}"
admin_url = "{admin_url}"
"#
    )
}

fn write_clients(path: &Path) -> io::Result<()> {
    let text = format!(
        "[[clients]]\naccess_key = {ACCESS_KEY:?}\nsecret = {SECRET:?}\nscheme = \"signature\"\nprefixes = [\"\"]\n"
    );
    // A file of secrets is its owner's alone, or it is refused.
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Asks for a redirection, each number for another user.
pub(crate) fn redirect(file: &str, number: u64) -> anyhow::Result<String> {
    Ok(format!("/download/{file}?user_id=user-{number:04}"))
}

/// Asks for a link in JSON, which the Python server gives too.
pub(crate) fn request_download(file: &str, number: u64) -> anyhow::Result<String> {
    Ok(format!("/api/request-download?file_id={file}&user_id=user-{number:04}"))
}
