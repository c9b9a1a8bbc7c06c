//! Start and end: what the program says when it cannot start, and how it stops.

mod support;

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Coordinator, Edge, KEY_SET, Setting, Signal, complaint, config, output_of, wait_until};

#[test]
fn a_check_confirms_and_makes_nothing() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    std::fs::remove_file(setting.path("keys.jwks.json")).unwrap();
    std::fs::remove_file(setting.path("admin.tokens")).unwrap();
    // A port in use is no fault of the configuration.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let text = config(&[&edge], "").replacen("listen = \"127.0.0.1:0\"", &listen, 1);
    setting.write_config(&text);
    let output = setting.run(&["--check"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"configuration is valid\n");
    // A kernel that confines nobody is this machine's.
    assert!(output.stderr.is_empty() || output.stderr.starts_with(b"sluice-coordinator: not confined"));
    assert_eq!(setting.files(), ["coordinator.toml"]);
    assert_eq!(edge.probes(), 0);
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-coordinator"));
    command.env_clear().arg("--check");
    let without = output_of(&mut command);
    assert!(!without.status.success());
    assert!(String::from_utf8_lossy(&without.stderr).contains("--config"));
    let with = output_of(command.env("SLUICE_CONFIG", setting.config()));
    assert!(with.status.success(), "{with:?}");
    // Other variables are keys, over the file's.
    let over = output_of(command.env("SLUICE_LINKS__TOKEN_TTL", "48h"));
    assert!(complaint(&over).contains("`links.token_ttl`"));
}

#[test]
fn faults_name_file_line_and_key() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    let whole = config(&[&edge], "");
    let file = setting.config().display().to_string();
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let table = [
        ("admin_token_file", "admin_tokens_file", "admin_tokens_file"),
        ("public_url = \"http://", "public_url = \"ftp://", "public_url"),
        ("listen = \"127.0.0.1:0\"", "listen = \"localhost\"", "listen"),
        ("[\"open\"]", "[\"opne\"]", "schemes"),
        ("id = \"edge-1\"", "id = \"edge 1\"", "id"),
        ("zone = \"a\"", "weight = 0", "weight"),
        ("zone = \"a\"", "zone = a", "zone"),
    ];
    for (from, to, key) in table {
        let text = whole.replacen(from, to, 1);
        setting.write_config(&text);
        for arguments in [&["--check"][..], &[]] {
            let complaint = complaint(&setting.run(arguments));
            let place = format!("{file}:{}:", line_of(&text, to));
            assert!(complaint.starts_with(&place), "{place} {complaint}");
            assert!(complaint.contains(key), "{key}: {complaint}");
        }
    }
    // What is missing has no line; the key and the remedy are named.
    let table = [
        ("schemes = [\"open\"]", "", "`auth.schemes`"),
        ("path = \"keys.jwks.json\"", "", "`keys.path`"),
        ("id = \"coordinator-1\"", "", "`id`"),
    ];
    for (from, to, key) in table {
        setting.write_config(&whole.replacen(from, to, 1));
        let complaint = complaint(&setting.run(&["--check"]));
        assert!(complaint.starts_with(&file) && complaint.contains(key), "{complaint}");
    }
    setting.write_config(&config(&[], ""));
    assert!(complaint(&setting.run(&[])).contains("[[registry.edges]]"));
    setting.write_config(&config(&[&edge], "log.filter = \"sluice=loud\""));
    assert!(complaint(&setting.run(&["--check"])).contains("`log.filter`"));
    std::fs::remove_file(setting.config()).unwrap();
    assert!(complaint(&setting.run(&[])).contains(&file));
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let edge = Edge::start("edge-1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["listen", "admin_listen"] {
        let setting = Setting::new(&[&edge], "");
        std::fs::remove_file(setting.path("keys.jwks.json")).unwrap();
        let free = format!("\n{key} = \"127.0.0.1:0\"");
        let used = format!("\n{key} = \"{address}\"");
        setting.write_config(&config(&[&edge], "").replacen(&free, &used, 1));
        let complaint = complaint(&setting.run(&[]));
        for part in [&address, &format!("`{key}`"), "choose another port"] {
            assert!(complaint.contains(part), "{complaint}");
        }
        assert_eq!(setting.files(), ["admin.tokens", "coordinator.toml"], "nothing was made");
    }
}

#[test]
fn exposed_and_broken_secret_files_are_refused() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    for name in ["keys.jwks.json", "admin.tokens"] {
        setting.set_mode(name, 0o644);
        for arguments in [&["--check"][..], &[]] {
            let complaint = complaint(&setting.run(arguments));
            for part in [name, "0644", "chmod 600"] {
                assert!(complaint.contains(part), "{complaint}");
            }
        }
        setting.set_mode(name, 0o600);
    }
    let short = KEY_SET.replace("GxwdHh8", "GxwdHg");
    setting.write_private("keys.jwks.json", &short);
    let complaint_of_key = complaint(&setting.run(&["--check"]));
    assert!(complaint_of_key.contains("key 'test-1' is 31 bytes long"), "{complaint_of_key}");
    assert!(!complaint_of_key.contains("AAECAwQF"));
    setting.write_private("keys.jwks.json", KEY_SET);
    setting.write_private("admin.tokens", "ops:short\n");
    assert!(complaint(&setting.run(&[])).contains("line 1"));
}

#[test]
fn missing_secret_files_are_made_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    for name in ["keys.jwks.json", "admin.tokens"] {
        std::fs::remove_file(setting.path(name)).unwrap();
    }
    let coordinator = Coordinator::launch(setting);
    for name in ["keys.jwks.json", "admin.tokens"] {
        let meta = std::fs::metadata(coordinator.setting.path(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{name}");
        coordinator.log_line(|line| {
            line["level"] == "WARN" && line["path"].as_str().is_some_and(|p| p.ends_with(name))
        });
    }
    coordinator
        .log_line(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("open"));
}

#[test]
fn a_signal_drains_and_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let edge = Edge::start("edge-1");
        let coordinator = Coordinator::start(&[&edge]);
        coordinator.signal(signal);
        wait_until("it says so", || coordinator.ready().status == 503);
        assert_eq!(coordinator.ready().json()["reasons"], serde_json::json!(["draining"]));
        // Whoever has not heard yet is served.
        assert_eq!(coordinator.request_download("a").status, 200);
        assert!(coordinator.wait().success());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    // A call that never ends would hold the listener for its ten seconds.
    let mut call = std::net::TcpStream::connect(coordinator.address).unwrap();
    std::io::Write::write_all(&mut call, b"GET /download/a HTTP/1.1\r\n").unwrap();
    coordinator.signal(Signal::TERM);
    wait_until("it drains", || coordinator.ready().status == 503);
    let begun = Instant::now();
    coordinator.signal(Signal::TERM);
    assert!(coordinator.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(8));
}
