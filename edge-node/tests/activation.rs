//! Listening sockets that a service manager passes (`sd_listen_fds(3)`): used, judged, and left to whoever comes next.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use support::{LIMIT, wait_for};

/// Becomes the program, with its standard input and output as descriptors 3 and 4.
const LAUNCH: &str = r#"LISTEN_PID=$$ exec "$0" --config "$1" 3<&0 4<&1 </dev/null >/dev/null"#;

/// A service manager's part: it holds the sockets for as long as the test lasts.
struct Manager {
    folder: tempfile::TempDir,
    public: TcpListener,
    admin: TcpListener,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (public, admin) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::write(folder.path().join("root/a.bin"), b"content").unwrap();
        KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
        let manager = Self { folder, public, admin };
        manager.configure(&manager.public.local_addr().unwrap().to_string());
        manager
    }

    fn configure(&self, listen: &str) {
        let config = format!(
            "id = \"edge-1\"\nlisten = \"{listen}\"\nadmin_listen = \"{}\"\nroot = \"root\"\nthreads = 2\n\
             [keys]\npath = \"keys.jwks.json\"\n[cache]\nsize = \"64MiB\"\n[limits]\ndrain_grace = \"100ms\"\n",
            self.admin.local_addr().unwrap()
        );
        fs::write(self.folder.path().join("edge.toml"), config).unwrap();
    }

    /// Starts the edge with two descriptors under these names.
    fn launch(&self, passed: [OwnedFd; 2], names: &str) -> Child {
        let [first, second] = passed;
        Command::new("sh")
            .args(["-c", LAUNCH, env!("CARGO_BIN_EXE_sluice-edge")])
            .arg(self.folder.path().join("edge.toml"))
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", names)
            .stdin(Stdio::from(first))
            .stdout(Stdio::from(second))
            .stderr(File::create(self.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn sockets(&self) -> [OwnedFd; 2] {
        [self.public.try_clone().unwrap().into(), self.admin.try_clone().unwrap().into()]
    }

    fn start(&self) -> Child {
        let mut child = self.launch(self.sockets(), "listen:admin");
        wait_for("the edge says that it serves", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            self.log().contains("\"serving\"").then_some(())
        });
        child
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What it says when it will not run.
    fn fault(&self, passed: [OwnedFd; 2], names: &str) -> String {
        let mut child = self.launch(passed, names);
        let status = wait_for("the edge ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "it must not start");
        self.log()
    }

    /// Connects and asks, whether anybody accepts or not.
    fn ask(&self) -> TcpStream {
        let keys = KeyFile::load(&self.folder.path().join("keys.jwks.json")).unwrap();
        let now = NumericDate::from_system_time(SystemTime::now()).as_secs_f64();
        let expiry = NumericDate::from_secs_f64(now + 900.0).unwrap();
        let claims = Claims::new(FileId::parse("a.bin").unwrap(), expiry);
        let token = seal(&claims, keys.ring().load().current()).unwrap();
        let mut stream = TcpStream::connect(self.public.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!("GET /download?token={token} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn terminate(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = wait_for("the edge ends", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn who_connects_between_two_starts_is_served_by_the_next() {
    let manager = Manager::new();
    let early = manager.ask();
    let mut edge = manager.start();
    assert!(answer(early).ends_with("\r\n\r\ncontent"));
    for _ in 0..2 {
        terminate(edge);
        let queued: Vec<_> = (0..20).map(|_| manager.ask()).collect();
        edge = manager.start();
        for stream in queued {
            let answer = answer(stream);
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ncontent"), "{answer}");
        }
    }
    terminate(edge);
}

#[test]
fn descriptors_that_are_not_what_they_should_be_are_refused_by_name() {
    let manager = Manager::new();
    let [public, admin] = manager.sockets();
    let said = manager.fault([public, admin], "listen:metrics");
    assert!(said.contains("'metrics' is none of 'listen', 'tls' and 'admin'"), "{said}");
    let said = manager.fault(manager.sockets(), "listen");
    assert!(said.contains("2 descriptors were passed and LISTEN_FDNAMES names 1"), "{said}");
    let said = manager.fault(manager.sockets(), "admin:admin");
    assert!(said.contains("'admin' listens on") || said.contains("passed as 'admin'"), "{said}");
    let [public, _] = manager.sockets();
    let file = File::open("/dev/null").unwrap();
    let said = manager.fault([public, file.into()], "listen:admin");
    assert!(said.contains("'admin' is no listening TCP socket"), "{said}");
    let [public, _] = manager.sockets();
    let connected = TcpStream::connect(manager.public.local_addr().unwrap()).unwrap();
    let said = manager.fault([public, connected.into()], "listen:admin");
    assert!(said.contains("'admin' is no listening TCP socket"), "{said}");
    manager.configure("127.0.0.1:9");
    let said = manager.fault(manager.sockets(), "listen:admin");
    assert!(said.contains("'listen' listens on") && said.contains("`listen` is 127.0.0.1:9"), "{said}");
}
