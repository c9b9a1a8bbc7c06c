//! What a service manager hears of the programs: when they serve, that they live, that they reread, and that they leave.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_loadtest::process::{Process, Signal, binary};
use sluice_loadtest::{Cluster, client};

const LIMIT: Duration = Duration::from_secs(30);

/// The manager's side.
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Path) -> anyhow::Result<Self> {
        let socket = UnixDatagram::bind(place)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self(socket))
    }

    fn hear(&self) -> anyhow::Result<String> {
        let mut text = [0; 256];
        let length = self.0.recv(&mut text).context("the program says nothing")?;
        Ok(String::from_utf8_lossy(&text[..length]).into_owned())
    }

    /// The next that is not of the watchdog.
    fn hear_of_state(&self) -> anyhow::Result<String> {
        loop {
            let said = self.hear()?;
            if said != "WATCHDOG=1" {
                return Ok(said);
            }
        }
    }
}

/// Starts a program of a cluster under a manager; `url` is one that it answers as soon as it serves.
fn its_life_is_told(program: &str, folder: &Path, id: &str, url: &str) -> anyhow::Result<()> {
    let place = folder.join("notify");
    let manager = Manager::new(&place)?;
    let arguments: Vec<OsString> = vec![
        format!("NOTIFY_SOCKET={}", place.display()).into(),
        "WATCHDOG_USEC=200000".into(),
        binary(program)?.into(),
        "--config".into(),
        folder.join(format!("{id}.toml")).into(),
    ];
    let log = folder.join(format!("{id}-managed.log"));
    let mut process = Process::with_arguments(id, "/usr/bin/env".into(), arguments, log);
    process.start()?;
    let said = manager.hear_of_state().with_context(|| process.log_tail())?;
    ensure!(said == "READY=1", "{program} begins with {said}");
    ensure!(client::get_here(url)?.status() == 200, "{program} says that it is ready and is not");
    for _ in 0..3 {
        let said = manager.hear()?;
        ensure!(said == "WATCHDOG=1", "{program} says {said} while nothing happens");
    }
    process.signal(Signal::HUP)?;
    let said = manager.hear_of_state()?;
    ensure!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{program} rereads and says {said}");
    ensure!(manager.hear_of_state()? == "READY=1", "{program} has reread");
    process.signal(Signal::TERM)?;
    ensure!(manager.hear_of_state()? == "STOPPING=1", "{program} leaves");
    ensure!(process.wait()?.success(), "{}", process.log_tail());
    Ok(())
}

#[test]
fn a_service_manager_is_told_of_an_edge_s_life() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .every_edge(|settings| settings.toml("limits.drain_grace = \"0s\""))
        .file("a.bin", 1000)
        .ready()?;
    cluster.terminate(0)?;
    let url = format!("{}/healthz", cluster.edges()[0].admin_url());
    its_life_is_told("sluice-edge", cluster.folder(), "edge-1", &url)
}

#[test]
fn a_service_manager_is_told_of_a_coordinator_s_life() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().file("a.bin", 1000).ready()?;
    cluster.coordinator().process().terminate()?;
    let url = format!("{}/openapi.json", cluster.coordinators()[0].url());
    its_life_is_told("sluice-coordinator", cluster.folder(), "coordinator-1", &url)
}
