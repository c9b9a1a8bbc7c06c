//! `sluicectl check` over a coordinator's configuration: what is wrong around it is found and named with its remedy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::{Edge, Setting, config, output_of};

const SIGNED: &str = "[auth]\nschemes = [\"signature\"]\nclients_file = \"clients.toml\"\n";

fn setting(sections: &str) -> Setting {
    let setting = Setting::new(&[], "");
    setting.write_config(&format!("{}{sections}", config(&[], SIGNED)));
    setting
}

fn edge_at(url: &str, admin: SocketAddr) -> String {
    format!(
        "[[registry.edges]]\nid = \"edge-1\"\nurl = \"{url}\"\nadmin_url = \"http://{admin}\"\nzone = \"a\"\n"
    )
}

fn check(setting: &Setting, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().arg("check").arg("--config").arg(setting.config()).args(more);
    let output = output_of(&mut command);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), stdout, stderr)
}

/// What this machine has, or has not.
const MACHINE: [&str; 2] = ["descriptors", "confinement"];

/// The findings that are not well, as `what: found`; this machine's limits and kernel are nobody's fault.
fn bad(setting: &Setting) -> Vec<(String, String)> {
    let (code, json, stderr) = check(setting, &["--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{code} {json}{stderr}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    let bad: Vec<_> = findings
        .filter(|finding| finding["level"] != "ok" && !MACHINE.contains(&finding["what"].as_str().unwrap()))
        .collect();
    let worst =
        if bad.iter().any(|finding| finding["level"] == "fail") { 2 } else { i32::from(!bad.is_empty()) };
    assert!(code == worst || (worst == 0 && code == 1), "{code} {json}");
    bad.iter().map(|finding| (text(finding, "what"), text(finding, "found"))).collect()
}

#[test]
fn what_is_well_is_said_and_nothing_is_made() {
    let edge = Edge::start("edge-1");
    let setting = setting(&edge_at(&format!("http://{}", refusing()), edge.address));
    assert_eq!(bad(&setting), []);
    let (_, table, _) = check(&setting, &[]);
    for expected in ["ok    configuration", "ok    edge ", "ok    clock", "ok    listen", "0 failures"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert_eq!(setting.files(), ["admin.tokens", "coordinator.toml", "keys.jwks.json"]);
}

/// Answers each caller with these bytes.
fn server(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut some = [0; 1024];
            let _ = stream.read(&mut some);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// The port of an edge that clients use: it refuses who brings no token.
fn refusing() -> SocketAddr {
    let now = httpdate::fmt_http_date(SystemTime::now());
    server(format!("HTTP/1.1 400 Bad Request\r\nDate: {now}\r\nContent-Length: 0\r\n\r\n"))
}

#[test]
fn operators_mistakes_are_named() {
    let edge = Edge::start("edge-1");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let late = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(3600));
    let slow_clock = server(format!("HTTP/1.1 200 OK\r\nDate: {late}\r\nContent-Length: 0\r\n\r\n"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}", refusing());
    let table = [
        (edge_at(&format!("http://{nobody}"), edge.address), "edge", "no connection to it"),
        (edge_at(&format!("https://{}", refusing()), edge.address), "edge", "speaks no TLS; write http://"),
        (edge_at("http://edge.invalid", edge.address), "edge", "its name has no address here"),
        (edge_at(&own, nobody), "edge's admin port", "no connection to it"),
        (edge_at(&own, slow_clock), "clock", "here it is 3"),
        (
            "[state]\nsource = \"redis\"\nurl = \"redis://:hunter22@127.0.0.1:1\"\n".to_owned(),
            "Redis",
            "does not answer",
        ),
        (
            format!(
                "[registry]\nsource = \"etcd\"\nallow_urls = [\"http://*.e\"]\n[etcd]\nendpoints = [\"http://{nobody}\"]\n"
            ),
            "etcd",
            "edges/ is not read",
        ),
        (
            edge_at(&own, edge.address) + &edge_at("http://other.example", nobody),
            "configuration",
            "two edges have the id 'edge-1'; give each one of its own",
        ),
        ("[state]\npath = \"none/state.redb\"\n".to_owned(), "state", "is no folder"),
        ("[colour]\n".to_owned(), "configuration", "colour"),
    ];
    for (sections, what, expected) in table {
        let good = if sections.contains("registry") { String::new() } else { edge_at(&own, edge.address) };
        let bad = bad(&setting(&(sections + &good)));
        let is_it = |(name, found): &(String, String)| name == what && found.contains(expected);
        assert!(bad.iter().any(is_it), "{what}, {expected}: {bad:?}");
        assert!(!format!("{bad:?}").contains("hunter22"), "{bad:?}");
    }
    let setting = setting(&edge_at(&format!("http://{}", refusing()), edge.address));
    let text = std::fs::read_to_string(setting.config()).unwrap();
    let address = taken.local_addr().unwrap();
    setting.write_config(&text.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""), 1));
    assert_eq!(bad(&setting), [("listen".to_owned(), format!("{address} is in use"))]);
    let (code, table, _) = check(&setting, &[]);
    assert!(code == 1 && table.contains("→ right where this program runs already"), "{table}");
}

#[test]
fn a_file_that_is_no_configuration_is_told() {
    let setting = Setting::new(&[], "");
    setting.write_config("id = \"x\"\n");
    let (code, stdout, stderr) = check(&setting, &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("--program"), "{stderr}");
    let (code, table, _) = check(&setting, &["--program", "coordinator"]);
    assert!(code == 2 && table.contains("fail  configuration"), "{table}");
}
