//! Looks before a run: who is asked is there, and there are descriptors enough. What would fail ten thousand times is said
//! once.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::{Exchange, Pool, Url};
use crate::scenario::{Client, Scenario};
use crate::worker::{ApiAnswer, Target};

const PATIENCE: Duration = Duration::from_secs(5);
/// Files, timers, and the program's own.
const DESCRIPTORS_BESIDE: u64 = 64;

/// What the target says that it is, if it does.
///
/// # Errors
/// Nobody answers there.
pub(super) async fn ask(target: &Target, client: &Client) -> anyhow::Result<Option<String>> {
    let urls = match target {
        Target::Coordinators(urls) => urls.as_slice(),
        Target::Server(url) => std::slice::from_ref(url),
    };
    let is_coordinator = matches!(target, Target::Coordinators(_));
    let patience = |time: Duration| time.min(PATIENCE);
    let pool = Pool::new(Client {
        connect_timeout: patience(client.connect_timeout),
        silence_max: patience(client.silence_max),
        ..client.clone()
    });
    let mut version = None;
    for text in urls {
        let url = Url::parse(text).with_context(|| format!("{text} is no URL; write http://host:port"))?;
        let request = format!("GET /openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n", url.host());
        let mut answer = ApiAnswer::default();
        let exchange = Exchange { server: &url.server, request: request.as_bytes() };
        match pool.exchange(&exchange, &mut answer, None).await {
            Ok(_) => version = version.or(answer.body().ok().and_then(version_of)),
            // Whatever another server says to this is its own.
            Err(fault) if is_coordinator || fault.is_unreachable() => {
                let who = if is_coordinator { "coordinator" } else { "server" };
                return Err(fault).with_context(|| {
                    format!("no {who} answers at {}; is it running, and is that its address?", url.server)
                });
            }
            Err(_) => {}
        }
    }
    Ok(version)
}

fn version_of(document: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(document).ok()?;
    let version = document["info"]["version"].as_str()?;
    Some(format!("{} {version}", document["info"]["title"].as_str().unwrap_or("coordinator")))
}

/// Raises the limit of descriptors as far as it goes.
///
/// # Errors
/// That is not as far as the scenario needs.
pub(super) fn raise_descriptors(scenario: &Scenario) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    if limit.current != most {
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
            .context("cannot raise the limit of open files")?;
    }
    let in_flight = scenario.load.in_flight_max();
    // A download has one connection at a time; those that idle make room.
    let wanted = in_flight + DESCRIPTORS_BESIDE;
    let is_closed = matches!(scenario.load, crate::scenario::Load::Closed { .. });
    match most {
        // An open loop may never come to its bound; it is told of what it cannot have when it does.
        Some(most) if most < wanted && is_closed => bail!(
            "{in_flight} clients need {wanted} open files, and this process may have {most}; raise the hard limit \
             (`ulimit -Hn`), or use fewer clients"
        ),
        _ => Ok(()),
    }
}
