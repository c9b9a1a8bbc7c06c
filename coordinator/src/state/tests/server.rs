//! A Redis for one test, on a socket in a folder of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Killed when dropped.
pub(super) struct RedisServer {
    folder: tempfile::TempDir,
    arguments: &'static [&'static str],
    child: Child,
}

impl RedisServer {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(super) fn start_with(arguments: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(&folder, arguments);
        let server = Self { folder, arguments, child };
        server.await_answer();
        server
    }

    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// With SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After [`Self::kill`]: with what it has on disk.
    pub(super) fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder, self.arguments);
        self.await_answer();
    }

    /// It hangs from now on, with its connections open.
    pub(super) fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(super) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn spawn(folder: &tempfile::TempDir, arguments: &[&str]) -> Child {
        let mut command = Command::new("redis-server");
        // Every answer is durable.
        command.args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.args(arguments).current_dir(folder.path()).stdout(Stdio::null());
        command
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}; deploy/needs.sh test installs it"))
    }

    fn await_answer(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.answers() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whatever it says, it has begun to, and is not loading any more.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else {
            return false;
        };
        let mut answer = [0; 64];
        let asked = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut answer));
        matches!(asked, Ok(length) if length > 0 && !answer.starts_with(b"-LOADING"))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
