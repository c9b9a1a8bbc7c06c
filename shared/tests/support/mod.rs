//! An etcd of a test's own: the real program, on loopback, with its data in a temporary folder.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use rustix::process::{Pid, Signal, kill_process};
use sluice_shared::etcd::{Etcd, EtcdSettings, RawEtcd};
use tokio::time::{Instant, sleep};

/// How long anything is waited for before the test fails.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Below the range of outgoing ports, so that nobody is given the number while the server is restarted.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

pub struct EtcdServer {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    /// Tells clusters with empty data apart.
    token: u32,
    child: Option<Child>,
}

impl EtcdServer {
    pub async fn start() -> Self {
        Self::start_with("http", &[]).await
    }

    /// One that asks clients for certificates of `ca.pem`, and has `server.pem` itself, both in `folder`.
    pub async fn start_with_tls(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let arguments = [
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
            format!("--trusted-ca-file={}", file("ca.pem")),
            "--client-cert-auth".to_owned(),
        ];
        Self::start_with("https", &arguments).await
    }

    async fn start_with(scheme: &str, more: &[String]) -> Self {
        for _ in 0..20 {
            let port = free_port();
            let url = format!("{scheme}://127.0.0.1:{port}");
            let mut arguments: Vec<String> = more.to_vec();
            arguments.push(format!("--listen-client-urls={url}"));
            arguments.push(format!("--advertise-client-urls={url}"));
            let folder = tempfile::tempdir().unwrap();
            let mut server = Self { folder, port, arguments, token: 0, child: None };
            if server.try_run().await {
                return server;
            }
        }
        panic!("etcd does not start; deploy/needs.sh test installs etcd-server");
    }

    /// Runs it over what is in its folder.
    pub async fn run(&mut self) {
        assert!(self.try_run().await, "etcd does not start again: {}", self.log());
    }

    async fn try_run(&mut self) -> bool {
        // Alone it has no peers: any port will do.
        let peer = "http://127.0.0.1:0";
        let child = Command::new("etcd")
            .args(["--name=one", "--logger=zap", "--heartbeat-interval=50", "--election-timeout=250"])
            .arg(format!("--data-dir={}", self.folder.path().join("data").display()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=one={peer}"))
            .arg(format!("--initial-cluster-token={}", self.token))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap())
            .spawn()
            .expect("deploy/needs.sh test installs etcd-server");
        self.child = Some(child);
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            // Logged once clients are served.
            if self.log().matches("serving client traffic ").count() > self.runs() {
                fs::write(self.folder.path().join("runs"), (self.runs() + 1).to_string()).unwrap();
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.folder.path().join("runs")).map_or(0, |text| text.parse().unwrap())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The section `[etcd]`, with more of it where wanted.
    pub fn settings(&self, more: &str) -> EtcdSettings {
        settle(&format!("endpoints = [\"{}\"]\n{more}", self.url()))
    }

    pub fn etcd(&self) -> Etcd {
        Etcd::new(&self.settings(""))
    }

    /// The library's own client, for what ours does not do.
    pub async fn raw(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    pub async fn raw_as(&self, user: &str, password: &str) -> Client {
        let options = ConnectOptions::new().with_user(user, password);
        Client::connect([self.url()], Some(options)).await.unwrap()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Loses all data. Without `is_same_cluster`, what is started next has another cluster id.
    pub fn wipe(&mut self, is_same_cluster: bool) {
        assert!(self.child.is_none(), "it is ended first");
        fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.token += u32::from(!is_same_cluster);
    }

    /// Stops it in its tracks: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of etcd's log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

pub fn settle(text: &str) -> EtcdSettings {
    settle_in(text, Path::new("/nowhere"))
}

/// Files are named as of `folder`.
pub fn settle_in(text: &str, folder: &Path) -> EtcdSettings {
    let raw: RawEtcd = toml::from_str(text).unwrap();
    raw.settle(&folder.join("test.toml")).unwrap()
}

fn free_port() -> u16 {
    let span = u32::from(PORTS.end - PORTS.start);
    loop {
        let port = PORTS.start + u16::try_from(rand::random::<u32>() % span).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `condition` gives something.
pub async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Passes connections on to a port, until it is cut.
pub struct Relay {
    address: std::net::SocketAddr,
    open: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    pub async fn start(to: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = tokio::sync::watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut is_open = is_open.clone();
                tokio::spawn(async move {
                    if !*is_open.borrow_and_update() {
                        return;
                    }
                    let mut onward = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut onward) => {}
                        _ = is_open.changed() => {}
                    }
                });
            }
        });
        Self { address, open, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes all connections, and every new one.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
