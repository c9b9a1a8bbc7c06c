//! The servers that both tools ask, each for one file that it has in memory: nginx with one worker, and an edge.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_loadtest::ports::Port;
use sluice_loadtest::process::Process;
use sluice_loadtest::{Content, SoloEdge, client, wait_until};

const SERVER_CORE: usize = 0;

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Of the file, from its `/` on.
    pub(crate) target: String,
    /// Ended with this.
    _running: Running,
}

enum Running {
    Nginx { _process: Nginx, _port: Port },
    Edge { _edge: SoloEdge },
}

/// Its master ends its worker when it is asked to end, not when it is killed.
struct Nginx(Process);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.0.terminate();
    }
}

impl Server {
    pub(crate) fn nginx(folder: &Path, size: u64) -> anyhow::Result<Self> {
        let root = root(folder, size)?;
        let port = Port::take()?;
        // Its worker has to enter a folder that is its owner's alone.
        let user = if geteuid().is_root() { "user root;\n" } else { "" };
        let (own, address) = (folder.display(), port.address());
        let text = format!(
            "{user}daemon off;\nworker_processes 1;\npid {own}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
             default_type application/octet-stream; open_file_cache max=100;\n\
             client_body_temp_path {own}/b; proxy_temp_path {own}/p; fastcgi_temp_path {own}/f;\n\
             uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;\n\
             server {{ listen {address} backlog=4096; root {}; }} }}\n",
            root.display()
        );
        let config = folder.join("nginx.conf");
        fs::write(&config, text)?;
        let debian = Path::new("/usr/sbin/nginx");
        let program = if debian.exists() { debian.to_owned() } else { "nginx".into() };
        let arguments = vec!["-p".into(), folder.into(), "-c".into(), config.into()];
        let log = folder.join("nginx.log");
        let mut nginx = Nginx(Process::with_arguments("nginx", program, arguments, log));
        let process = &mut nginx.0;
        process.start().context("deploy/needs.sh compare installs nginx")?;
        let target = "/a.bin".to_owned();
        let url = format!("{}{target}", port.url());
        wait_until("nginx answers", || {
            ensure!(process.is_running()?, "nginx has ended:\n{}", process.log_tail());
            Ok(client::get_here(&url).is_ok_and(|answer| answer.status() == 200))
        })?;
        let pid = process.pid().context("nginx runs")?;
        pin(pid)?;
        // Its worker is a process of its own.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        for child in children.split_whitespace() {
            pin(child.parse()?)?;
        }
        let address = address.parse()?;
        let _running = Running::Nginx { _process: nginx, _port: port };
        Ok(Self { name: "nginx", address, target, _running })
    }

    pub(crate) fn edge(folder: &Path, size: u64) -> anyhow::Result<Self> {
        let edge = SoloEdge::start(&root(folder, size)?, |edge| edge.threads(1))?;
        let (address, target) = (edge.address().parse()?, edge.target("a.bin", "beside-wrk")?);
        for thread in fs::read_dir(format!("/proc/{}/task", edge.pid()?))? {
            let number = thread?.file_name();
            pin(number.to_string_lossy().parse()?)?;
        }
        Ok(Self { name: "edge", address, target, _running: Running::Edge { _edge: edge } })
    }
}

fn root(folder: &Path, size: u64) -> anyhow::Result<PathBuf> {
    let root = folder.join(size.to_string());
    fs::create_dir_all(&root)?;
    Content::new("a.bin", size).write(&root.join("a.bin"))?;
    Ok(root)
}

/// Gives a thread the server's core, and no other.
fn pin(thread: u32) -> anyhow::Result<()> {
    give_core(rustix::process::Pid::from_raw(thread.cast_signed()))
}

/// Gives the calling thread the server's core, and those that it starts.
pub(crate) fn pin_this() -> anyhow::Result<()> {
    give_core(None)
}

fn give_core(thread: Option<rustix::process::Pid>) -> anyhow::Result<()> {
    let mut core = CpuSet::new();
    core.set(SERVER_CORE);
    Ok(sched_setaffinity(thread, &core)?)
}
