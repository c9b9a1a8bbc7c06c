//! Listening sockets that a service manager passes (`sd_listen_fds(3)`): a coordinator's queue outlives its process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, kill_process};
use support::{Edge, LIMIT, Setting, Signal, config, wait_until};

/// Becomes the program, with its standard input and output as descriptors 3 and 4.
const LAUNCH: &str = r#"LISTEN_PID=$$ exec "$0" --config "$1" 3<&0 4<&1 </dev/null >/dev/null"#;

fn launch(setting: &Setting, passed: [&TcpListener; 2], names: &str) -> Child {
    let [first, second] = passed.map(|socket| Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    Command::new("sh")
        .args(["-c", LAUNCH, env!("CARGO_BIN_EXE_sluice-coordinator")])
        .arg(setting.config())
        .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)])
        .stdin(first)
        .stdout(second)
        .stderr(std::fs::File::create(setting.path("log")).unwrap())
        .spawn()
        .unwrap()
}

/// Asks, whether anybody accepts or not.
fn ask(address: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn end_of(child: &mut Child) -> bool {
    let mut ended = None;
    wait_until("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap().success()
}

#[test]
fn who_calls_between_two_starts_is_answered_by_the_next() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    let [api, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, admin_address) = (api.local_addr().unwrap(), admin.local_addr().unwrap());
    for _ in 0..2 {
        let queued: Vec<_> = (0..10).map(|_| ask(address, "/openapi.json")).collect();
        let mut coordinator = launch(&setting, [&api, &admin], "listen:admin");
        for stream in queued {
            let answer = answer(stream);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        assert!(answer(ask(admin_address, "/healthz")).starts_with("HTTP/1.1 200 "));
        kill_process(Pid::from_child(&coordinator), Signal::TERM).unwrap();
        assert!(end_of(&mut coordinator));
    }
}

#[test]
fn a_coordinator_takes_one_socket_of_a_name() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let said = |names: &str| {
        assert!(!end_of(&mut launch(&setting, [&one, &other], names)), "it must not start");
        std::fs::read_to_string(setting.path("log")).unwrap()
    };
    let fault = said("listen:listen");
    assert!(fault.contains("2 different sockets were passed as 'listen'"), "{fault}");
    let fault = said("listen:");
    assert!(fault.contains("2 descriptors were passed and LISTEN_FDNAMES names 1"), "{fault}");
    setting.write_config(&config(&[&edge], "").replacen(
        "admin_listen = \"127.0.0.1:0\"",
        "admin_listen = \"127.0.0.1:9\"",
        1,
    ));
    let fault = said("listen:admin");
    assert!(
        fault.contains("'admin' listens on") && fault.contains("`admin_listen` is 127.0.0.1:9"),
        "{fault}"
    );
}
