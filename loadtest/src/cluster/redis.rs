//! A Redis of a cluster's own, on a socket in its folder or on a host, which keeps all that it has confirmed.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::hosts::Host;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::wait_until;

/// What it asks everybody for.
pub const PASSWORD: &str = "redis-s-password";

/// A `redis-server`.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    socket: PathBuf,
    /// Where others are to find it, if not at the socket.
    port: Option<Port>,
}

impl RedisServer {
    pub(super) fn new(folder: &Path, port: Option<Port>) -> Self {
        let socket = folder.join("redis.sock");
        let mut arguments = vec!["--unixsocket".into(), socket.clone().into(), "--dir".into(), folder.into()];
        let number = port.as_ref().map_or(0, Port::number).to_string();
        let address = port.as_ref().map_or(Ipv4Addr::LOCALHOST, |port| port.host().address()).to_string();
        let network = ["--port", &number, "--bind", &address, "--protected-mode", "no"];
        arguments.extend(network.map(Into::into));
        // Every answer is durable.
        let rest =
            ["--requirepass", PASSWORD, "--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        arguments.extend(rest.map(Into::into));
        let process =
            Process::with_arguments("redis", "redis-server".into(), arguments, folder.join("redis.log"));
        let process = process.on(port.as_ref().map_or(&Host::local(), Port::host));
        Self { process, socket, port }
    }

    pub fn url(&self) -> String {
        match &self.port {
            Some(port) => format!("redis://:{PASSWORD}@{}", port.address()),
            None => format!("unix://{}?pass={PASSWORD}", self.socket.display()),
        }
    }

    /// Starts it, or starts it again with what it has on disk, and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, or does not get to answer.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.process.start().context("deploy/needs.sh test installs redis-server")?;
        wait_until("redis-server answers", || {
            ensure!(
                self.process.is_running()?,
                "redis-server has ended; it said:\n{}",
                self.process.log_tail()
            );
            Ok(self.answers())
        })
    }

    /// Where it lives, if on a host.
    pub fn host(&self) -> Option<&Host> {
        self.port.as_ref().map(Port::host)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// It has begun to, and is not loading any more.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else {
            return false;
        };
        let asked = format!("AUTH {PASSWORD}\r\nPING\r\nQUIT\r\n");
        let mut answer = String::new();
        let told = stream.write_all(asked.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        told.is_ok() && answer.contains("PONG")
    }
}
