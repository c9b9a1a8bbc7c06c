//! An edge with one worker, its admin port on, asked with real tokens: sealed as a coordinator seals them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use sluice_loadtest::certificates;
use sluice_loadtest::ports::Port;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, random_id, seal};

use crate::server::{Kind, Server};

const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
const COORDINATOR: &str = "http://127.0.0.1:8080";

/// Everything is as it comes, but the cache where a scenario says how large.
pub(crate) fn start(
    own: &Path,
    root: &Path,
    program: &Path,
    cache_bytes: Option<u64>,
    has_tls: bool,
) -> anyhow::Result<Server> {
    let keys = KeyFile::load_or_create(&own.join("keys.jwks.json"))?;
    let (port, admin) = (Port::take()?, Port::take()?);
    let tls_port = has_tls.then(Port::take).transpose()?;
    if has_tls {
        certificates::write(own, certificates::USUAL)?;
    }
    let config = own.join("edge.toml");
    fs::write(&config, configuration(root, &port, &admin, cache_bytes, tls_port.as_ref()))?;
    let command = [
        program.to_str().context("the edge's path is text")?,
        "--config",
        config.to_str().context("the folder's name is text")?,
    ];
    // The admin port's number stays taken for as long as links are signed.
    let sign = move |file: &str, number: u64| {
        let _taken = &admin;
        sign(file, number, &keys)
    };
    let server = Server::start(Kind::Edge, &command, port, Box::new(sign), own)?;
    Ok(match tls_port {
        Some(tls_port) => server.with_tls(tls_port),
        None => server,
    })
}

fn configuration(
    root: &Path,
    port: &Port,
    admin: &Port,
    cache_bytes: Option<u64>,
    tls_port: Option<&Port>,
) -> String {
    let (tls_listen, tls) = tls_port.map_or_else(Default::default, |tls_port| {
        let (cert, key) = (certificates::SERVER, certificates::SERVER_KEY);
        let section = format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
        (format!("tls_listen = \"{}\"\n", tls_port.address()), section)
    });
    let (listen, admin_listen, url, root) = (port.address(), admin.address(), port.url(), root.display());
    let cache =
        cache_bytes.map_or(String::new(), |bytes| format!("[cache]\nsize = \"{}KiB\"\n", bytes >> 10));
    format!(
        r#"id = "edge-1"
listen = "{listen}"
{tls_listen}admin_listen = "{admin_listen}"
advertise_url = "{url}"
root = "{root}"
zone = "a"
threads = 1
coordinator_urls = ["{COORDINATOR}"]

{cache}{tls}
# All clients of a comparison share few addresses.
[limits]
connections_per_address = 50000

[keys]
source = "file"
path = "keys.jwks.json"

[registry]
source = "static"
"#
    )
}

/// As often as a client is sent from edge to edge: there is no other one here, and what this one cannot do is an error.
const SENT_ON_MAX: u8 = 3;

/// Each number is another user's link. Dates are whole seconds, as coordinators have them.
fn sign(file: &str, number: u64, keys: &Arc<KeyFile>) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let date = |time: Duration| NumericDate::from_secs(time.as_secs());
    let claims = Claims {
        user_id: Some(format!("user-{number}").into()),
        iat: Some(date(now)),
        jti: Some(random_id().into()),
        rid: Some(random_id().into()),
        iss: Some(COORDINATOR.into()),
        edg: Some("edge-1".into()),
        hop: SENT_ON_MAX,
        ..Claims::new(FileId::parse(file)?, date(now + TOKEN_TTL))
    };
    let token = seal(&claims, keys.ring().load().current())?;
    Ok(format!("/download?token={token}"))
}
