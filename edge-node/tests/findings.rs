//! What an edge's `--check --findings` finds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluice_shared::keys::KeyFile;

/// What this machine has, or has not.
const MACHINE: [&str; 2] = ["descriptors", "confinement"];

/// The findings that are not well; this machine's limits and kernel are nobody's fault.
fn bad(change: impl FnOnce(&Path, String) -> String) -> (i32, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    fs::write(folder.path().join("root/a"), "a").unwrap();
    KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
    let config = "id = \"e\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nroot = \"root\"\n\
                  [cache]\nsize = \"64MiB\"\n[keys]\npath = \"keys.jwks.json\"\n";
    let config = change(folder.path(), config.to_owned());
    fs::write(folder.path().join("edge.toml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
        .env_clear()
        .args(["--check", "--findings", "--config"])
        .arg(folder.path().join("edge.toml"))
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    let bad = findings
        .filter(|finding| finding["level"] != "ok" && !MACHINE.contains(&finding["what"].as_str().unwrap()));
    let bad = bad.map(|finding| (text(finding, "what"), text(finding, "found"))).collect();
    (output.status.code().unwrap(), bad)
}

#[test]
fn a_good_edge_is_found_good() {
    let (code, bad) = bad(|_, config| config);
    assert!(code <= 1 && bad.is_empty(), "{bad:?}");
}

#[test]
fn mistakes_are_found() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let etcd = format!("[etcd]\nendpoints = [\"http://{nobody}\"]\n[registry]\nsource = \"etcd\"\n");
    type Change = Box<dyn FnOnce(&Path, String) -> String>;
    let edit = |from: &'static str, to: String| -> Change {
        Box::new(move |_: &Path, config: String| config.replacen(from, &to, 1))
    };
    let advertised =
        |url: &str| format!("advertise_url = \"{url}\"\nadmin_url = \"http://127.0.0.1:1\"\nid = \"e\"");
    let (with_etcd, https) = (etcd.clone(), advertised("https://e.example"));
    let table: Vec<(Change, i32, &str, &str)> = vec![
        (
            Box::new(|folder: &Path, config| {
                fs::remove_file(folder.join("root/a")).unwrap();
                config
            }),
            2,
            "root",
            "has nothing in it, as where a mount is missing",
        ),
        (
            edit("root = \"root\"", "root = \"root\"\nroot_marker = \".store\"".into()),
            2,
            "root",
            "lacks .store",
        ),
        (
            Box::new(|folder: &Path, config| {
                fs::remove_file(folder.join("keys.jwks.json")).unwrap();
                config
            }),
            2,
            "token keys",
            "does not exist; copy it from the coordinator",
        ),
        (
            edit("id = \"e\"", format!("id = \"e\"\ncoordinator_urls = [\"http://{nobody}\"]")),
            2,
            "coordinator",
            "no connection",
        ),
        (
            Box::new(move |_, config| config.replacen("id = \"e\"", &https, 1) + &with_etcd),
            2,
            "advertise_url",
            "has no [tls]",
        ),
        (
            Box::new(move |_, config| {
                config.replacen("id = \"e\"", &advertised("http://e.example"), 1) + &etcd
            }),
            2,
            "etcd",
            "keys/ is not read",
        ),
        (
            edit("id = \"e\"", "id = \"e\"\nweight = 0".into()),
            2,
            "configuration",
            "an edge that is to get nobody is drained",
        ),
        (
            edit("id = \"e\"", "id = \"e\"\nweight = -1".into()),
            2,
            "configuration",
            "an edge that is to get nobody is drained",
        ),
    ];
    for (change, expected_code, what, expected) in table {
        let (code, bad) = bad(change);
        let is_it = |(name, found): &(String, String)| name == what && found.contains(expected);
        assert!(code == expected_code && bad.iter().any(is_it), "{what}, {expected}: {code} {bad:?}");
    }
}

#[test]
fn an_edge_whose_clients_would_speak_what_it_does_not_says_so_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    fs::write(folder.path().join("root/a"), "a").unwrap();
    KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "id = \"e\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nroot = \"root\"\nthreads = 1\n\
         advertise_url = \"https://e.example\"\nadmin_url = \"http://127.0.0.1:1\"\n[cache]\nsize = \"64MiB\"\n\
         [keys]\npath = \"keys.jwks.json\"\n[registry]\nsource = \"etcd\"\n[etcd]\nendpoints = [\"http://{nobody}\"]\n"
    );
    fs::write(folder.path().join("edge.toml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
        .env_clear()
        .arg("--config")
        .arg(folder.path().join("edge.toml"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        said += &line;
        if line.contains("\"serving\"") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("there is no [tls]") && said.contains("write http://"), "{said}");
}
