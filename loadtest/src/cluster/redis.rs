//! A Redis of a cluster's own, on a socket in its folder, which keeps all that it has confirmed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::process::Process;
use crate::wait::wait_until;

/// A `redis-server`.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    socket: PathBuf,
}

impl RedisServer {
    pub(super) fn new(folder: &Path) -> Self {
        let socket = folder.join("redis.sock");
        let mut arguments = vec!["--unixsocket".into(), socket.clone().into(), "--dir".into(), folder.into()];
        // Every answer is durable.
        let rest = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        arguments.extend(rest.map(Into::into));
        let process =
            Process::with_arguments("redis", "redis-server".into(), arguments, folder.join("redis.log"));
        Self { process, socket }
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
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

    /// SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Whatever it says, it has begun to, and is not loading any more.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else {
            return false;
        };
        let mut answer = [0; 64];
        let asked = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut answer));
        matches!(asked, Ok(length) if length > 0 && !answer.starts_with(b"-LOADING"))
    }
}
