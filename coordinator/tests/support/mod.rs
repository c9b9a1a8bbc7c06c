//! A coordinator as a process, and what stands around it in these tests: edges' admin ports that answer as told, and
//! a client that sends bytes as they are.

#![allow(dead_code, unused_imports, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's support fails as a test does")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, Scratch, open};

mod edge;
mod http;
mod signed;
mod tls;

pub(crate) use edge::{Edge, Mood};
pub(crate) use http::{Answer, send};
pub(crate) use signed::{Signed, nonce, seconds};
pub(crate) use tls::{Authority, TlsClient, date};

/// The token key of every test, as the operator would have written it.
pub(crate) const KEY_SET: &str = r#"{"keys":[{"kty":"oct","kid":"test-1","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","alg":"dir","enc":"A256GCM","use":"enc","state":"current"}]}"#;
pub(crate) const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const PUBLIC_URL: &str = "http://coordinator.example";

/// For anything that is bound to happen on a machine that is busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits for `condition`; panics with `what` when the limit has passed.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with a configuration, a key file and an admin token file.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) folder: Arc<tempfile::TempDir>,
}

impl Setting {
    /// `more` is TOML for the top of the file, before its sections.
    pub(crate) fn new(edges: &[&Edge], more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setting = Self { folder: Arc::new(folder) };
        setting.write_private("keys.jwks.json", KEY_SET);
        setting.write_private("admin.tokens", &format!("ops:{ADMIN_TOKEN}\n"));
        setting.write_config(&config(edges, more));
        setting
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("coordinator.toml")
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn write_private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.set_mode(name, 0o600);
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// The names of the files in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-coordinator"));
        command.env_clear().arg("--config").arg(self.config());
        command
    }

    /// Runs a coordinator that is expected to end by itself.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        output_of(self.command().args(arguments))
    }
}

/// A program's output; one that does not end is killed and fails the test.
pub(crate) fn output_of(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        output
    });
    if ended.recv_timeout(LIMIT).is_err() {
        send_signal(pid, Signal::KILL);
        panic!("the program ran for {LIMIT:?} and was to end");
    }
    waiter.join().unwrap()
}

/// The one line that a program which refuses to start leaves on standard error.
pub(crate) fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let line = text.lines().last().unwrap();
    let line = line.strip_prefix("sluice-coordinator: ").unwrap_or_else(|| panic!("{text}"));
    line.to_owned()
}

pub(crate) fn config(edges: &[&Edge], more: &str) -> String {
    let mut text = format!(
        "id = \"coordinator-1\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         public_url = \"{PUBLIC_URL}\"\nadmin_token_file = \"admin.tokens\"\n{more}\n\
         [keys]\npath = \"keys.jwks.json\"\n"
    );
    if !more.contains("[auth]") {
        text += "[auth]\nschemes = [\"open\"]\n";
    }
    for edge in edges {
        text += &format!(
            "[[registry.edges]]\nid = \"{}\"\nurl = \"{}\"\nadmin_url = \"http://{}\"\nzone = \"a\"\n",
            edge.id,
            edge.url(),
            edge.address
        );
    }
    text
}

/// A running coordinator; killed when dropped.
pub(crate) struct Coordinator {
    child: Child,
    pub(crate) setting: Setting,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Coordinator {
    /// Starts one and waits until it listens.
    pub(crate) fn launch(setting: Setting) -> Self {
        let mut child = setting.command().stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let listening = find(&log, |line| line["message"] == "listening");
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        Self { address: address("listen"), admin: address("admin_listen"), child, setting, log }
    }

    /// Starts one and waits until it is ready and all edges are up.
    pub(crate) fn start(edges: &[&Edge]) -> Self {
        Self::start_with(edges, "")
    }

    /// With one edge, whose clients are sent to another address than is probed.
    pub(crate) fn start_at(edge: &Edge, url: &str) -> Self {
        let setting = Setting::new(&[edge], "");
        setting.write_config(&config(&[edge], "").replace(&edge.url(), url));
        Self::up(Self::launch(setting), &[edge])
    }

    pub(crate) fn start_with(edges: &[&Edge], more: &str) -> Self {
        Self::up(Self::launch(Setting::new(edges, more)), edges)
    }

    fn up(coordinator: Self, edges: &[&Edge]) -> Self {
        wait_until("all edges are up", || {
            coordinator.ready().status == 200
                && edges.iter().all(|edge| coordinator.state_of(&edge.id) == "up")
        });
        coordinator
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[])
    }

    pub(crate) fn send(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        send(self.address, method, target, fields)
    }

    pub(crate) fn post(&self, target: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        http::send_body(self.address, "POST", target, fields, body)
    }

    /// A call of the admin API, with a body where there is one.
    pub(crate) fn admin_call(&self, method: &str, target: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {ADMIN_TOKEN}");
        http::send_body(self.admin, method, target, &[("Authorization", &authorization)], body)
    }

    pub(crate) fn request_download(&self, file_id: &str) -> Answer {
        self.get(&format!("/api/request-download?file_id={file_id}&user_id=ann"))
    }

    pub(crate) fn ready(&self) -> Answer {
        send(self.admin, "GET", "/readyz", &[])
    }

    pub(crate) fn ask_admin(&self, target: &str) -> Answer {
        let authorization = format!("Bearer {ADMIN_TOKEN}");
        send(self.admin, "GET", target, &[("Authorization", &authorization)])
    }

    /// What `/admin/v1/edges` says of an edge.
    pub(crate) fn edge(&self, id: &str) -> Value {
        let edges = self.ask_admin("/admin/v1/edges").json();
        let edges = edges["edges"].as_array().unwrap().iter();
        edges.clone().find(|edge| edge["id"] == id).unwrap().clone()
    }

    pub(crate) fn state_of(&self, id: &str) -> String {
        self.edge(id)["state"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_for_state(&self, id: &str, state: &str) {
        wait_until(&format!("{id} is {state}"), || self.state_of(id) == state);
    }

    /// Waits until an edge has gone from one state to another, ever since the start.
    pub(crate) fn wait_for_change(&self, id: &str, from: &str, to: &str) {
        self.log_line(|line| line["edge"] == id && line["from"] == from && line["to"] == to);
    }

    /// The edge whose turn it is for a file, and the alternates' edges.
    pub(crate) fn candidates(&self, file_id: &str) -> Vec<String> {
        let answer = self.request_download(file_id).json();
        let urls = answer["alternates"].as_array().unwrap().iter();
        let urls = std::iter::once(&answer["download_url"]).chain(urls);
        urls.map(|url| origin(url.as_str().unwrap())).collect()
    }

    /// The first log line that a condition holds for; waits for it.
    pub(crate) fn log_line(&self, condition: impl Fn(&Value) -> bool) -> Value {
        find(&self.log, condition)
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The claims of a token, by the key file in the setting.
    pub(crate) fn claims(&self, token: &str) -> Claims<'static> {
        claims(&self.setting.path("keys.jwks.json"), token)
    }

    /// A metric's value: the line that begins with `series` and a space.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let metrics = send(self.admin, "GET", "/metrics", &[]).text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series}")).parse().unwrap()
    }

    /// Waits for its end, and starts another over what it left.
    pub(crate) fn start_again(mut self) -> Self {
        let _ = self.child.wait();
        let coordinator = Self::launch(self.setting.clone());
        wait_until("the next one is ready", || coordinator.ready().status == 200);
        coordinator
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the coordinator ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn find(log: &Mutex<Vec<String>>, condition: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    wait_until("the log line is written", || {
        let lines = log.lock().unwrap();
        let mut lines = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        found = lines.find(|line| condition(line));
        found.is_some()
    });
    found.unwrap()
}

/// Opens a token as an edge with the same key file would.
pub(crate) fn claims(key_file: &Path, token: &str) -> Claims<'static> {
    let keys = KeyFile::load(key_file).unwrap();
    let now = NumericDate::from_system_time(SystemTime::now());
    let mut scratch = Scratch::default();
    let claims = open(token.as_bytes(), &keys.ring().load(), now, &mut scratch).unwrap();
    let own = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| text.into_owned().into());
    Claims {
        file_id: claims.file_id.into_owned(),
        user_id: own(claims.user_id),
        cid: own(claims.cid),
        jti: own(claims.jti),
        rid: own(claims.rid),
        iss: own(claims.iss),
        lnk: own(claims.lnk),
        ip: own(claims.ip),
        r#fn: own(claims.r#fn),
        edg: own(claims.edg),
        exp: claims.exp,
        iat: claims.iat,
        nbf: claims.nbf,
        lxp: claims.lxp,
        rate: claims.rate,
        hop: claims.hop,
        head: claims.head,
    }
}

/// The edge of a URL, by the host names that [`Edge::url`] gives.
pub(crate) fn origin(url: &str) -> String {
    let host = url.strip_prefix("http://").unwrap().split('.').next().unwrap();
    host.to_owned()
}

pub(crate) fn token_of(url: &str) -> String {
    url.split_once("?token=").unwrap().1.to_owned()
}
