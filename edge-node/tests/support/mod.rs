//! An edge of one's own for a test: the real program over a temporary root, spoken to in raw bytes.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};

/// How long anything is waited for before the test fails.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Edge {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: tempfile::TempDir,
    pub keys: Arc<KeyFile>,
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Edge {
    pub fn start() -> Self {
        Self::start_with("", "size = \"64MiB\"")
    }

    /// `top` goes to the top of the configuration, `cache` into its section `[cache]`.
    pub fn start_with(top: &str, cache: &str) -> Self {
        Self::start_configured(top, cache, "")
    }

    pub fn start_configured(top: &str, cache: &str, limits: &str) -> Self {
        Self::start_prepared(top, cache, limits, |_| ())
    }

    /// `prepare` is given the folder that the configuration will be in.
    pub fn start_prepared(top: &str, cache: &str, limits: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        // An empty root is taken for a mount that is missing.
        if !top.contains("root_marker") {
            fs::write(root.join(".store"), "").unwrap();
        }
        let keys = KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
        let (address, admin) = (free_address(), free_address());
        let threads = if top.contains("threads") { "" } else { "threads = 2\n" };
        let grace = if limits.contains("drain_grace") { "" } else { "drain_grace = \"300ms\"\n" };
        let config = format!(
            "id = \"edge-1\"\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\nroot = \"root\"\n{threads}{top}\n\
             [keys]\npath = \"keys.jwks.json\"\n[cache]\n{cache}\n[limits]\n{grace}{limits}\n"
        );
        let path = folder.path().join("edge.toml");
        fs::write(&path, config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
            .arg("--config")
            .arg(&path)
            .stderr(File::create(folder.path().join("log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut edge = Self { child, address, admin, folder, keys };
        wait_for("the edge to be ready", || {
            assert!(edge.child.try_wait().unwrap().is_none(), "the edge ended: {}", edge.log());
            (edge.admin_get("/readyz").ok()?.0 == 200).then_some(())
        });
        edge
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a file beneath the root, its modification time in the past as published files' are.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        path
    }

    pub fn token(&self, file_id: &str) -> String {
        self.seal(&self.claims(file_id))
    }

    pub fn claims<'a>(&self, file_id: &'a str) -> Claims<'a> {
        let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
        let exp = NumericDate::from_secs_f64(now + 900.0).unwrap();
        Claims::new(FileId::parse(file_id).unwrap(), exp)
    }

    pub fn seal(&self, claims: &Claims<'_>) -> String {
        seal(claims, self.keys.ring().load().current()).unwrap()
    }

    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, received: Vec::new() }
    }

    /// One request on a connection of its own.
    pub fn get(&self, file_id: &str, fields: &str) -> Answer {
        let mut connection = self.connect();
        connection.send(&get_request(&self.token(file_id), fields));
        connection.answer()
    }

    pub fn admin_get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, text))
    }

    /// The value of a metric's line, labels included in the name.
    pub fn metric(&self, line: &str) -> f64 {
        let (_, text) = self.admin_get("/metrics").unwrap();
        let value = text.lines().find_map(|known| known.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {line} in {text}"))
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub fn exit_code(&mut self) -> i32 {
        wait_for("the edge to exit", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }

    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the edge's log:\n{}", self.log());
        }
    }
}

pub fn get_request(token: &str, fields: &str) -> String {
    format!("GET /download?token={token} HTTP/1.1\r\nHost: edge\r\n{fields}\r\n")
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn detail(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

pub struct Connection {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub fn send(&mut self, bytes: &(impl AsRef<[u8]> + ?Sized)) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer to a GET.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap()
    }

    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).unwrap()
    }

    /// `Err` where the connection ends before the answer is whole; the body so far is kept in the error's place.
    pub fn try_answer(&mut self, to_head: bool) -> Result<Answer, Short> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                return Err(Short { head: None, body: std::mem::take(&mut self.received) });
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length: usize = answer.field("Content-Length").map_or(0, |length| length.parse().unwrap());
        let length = if to_head || status == 304 { 0 } else { length };
        while self.received.len() < length {
            if self.fill() == 0 {
                return Err(Short { head: Some(answer.head), body: std::mem::take(&mut self.received) });
            }
        }
        answer.body = self.received.drain(..length).collect();
        Ok(answer)
    }

    /// Whether the other end closed, with nothing more to read.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && self.fill() == 0
    }

    fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 256 * 1024];
        let count = match self.stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing came: {error}"),
        };
        self.received.extend_from_slice(&chunk[..count]);
        count
    }
}

/// An answer that ended before it was whole.
#[derive(Debug)]
pub struct Short {
    pub head: Option<String>,
    pub body: Vec<u8>,
}

/// Bytes that differ from place to place and seed to seed.
pub fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn write_over(path: &Path, content: &[u8]) {
    let staged = path.with_extension("staged");
    fs::write(&staged, content).unwrap();
    fs::rename(&staged, path).unwrap();
}
