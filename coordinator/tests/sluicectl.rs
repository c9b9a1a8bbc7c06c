//! The operators' tool against a coordinator: what it prints, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{ADMIN_TOKEN, Coordinator, Edge, PUBLIC_URL, Setting, Signed, output_of, wait_until};

const SIGNED: &str = "[auth]\nschemes = [\"signature\", \"app-jwt\"]\nclients_file = \"clients.toml\"\n";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear();
    command
}

fn at(address: impl std::fmt::Display, setting: &Setting) -> Command {
    let mut command = program();
    command.arg("--coordinator").arg(format!("http://{address}"));
    command.arg("--token-file").arg(setting.path("admin.tokens"));
    command
}

/// Runs a command; what it prints never has the token in it.
fn ended(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = output_of(command);
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!stdout.contains(ADMIN_TOKEN) && !stderr.contains(ADMIN_TOKEN), "{stdout}{stderr}");
    (status.code().unwrap(), stdout, stderr)
}

fn ctl(coordinator: &Coordinator, arguments: &[&str]) -> (i32, String, String) {
    ended(at(coordinator.admin, &coordinator.setting).args(arguments))
}

/// What a command prints that is expected to be done.
fn done(coordinator: &Coordinator, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = ctl(coordinator, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
    stdout
}

/// The one sentence of a command that is expected not to be done.
fn refused(coordinator: &Coordinator, arguments: &[&str], expected: i32) -> String {
    let (code, stdout, stderr) = ctl(coordinator, arguments);
    assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
    sentence(&stderr)
}

fn sentence(stderr: &str) -> String {
    let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{stderr}"));
    assert!(!line.contains('\n'), "{stderr}");
    line.strip_prefix("sluicectl: ").unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

fn secret_of(stdout: &str) -> String {
    let line = stdout.lines().find_map(|line| line.strip_prefix("secret ")).unwrap();
    line.trim().to_owned()
}

fn start(edge: &Edge) -> Coordinator {
    let coordinator = Coordinator::start_with(&[edge], SIGNED);
    // With nonces in memory, timestamps of before the start are refused; they are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    coordinator
}

#[test]
fn a_secret_is_shown_once_and_signs_calls() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let target = "/api/request-download?file_id=mine%2Fa.bin&user_id=u";
    // Its name has to be encoded in a path.
    let key = "AK/1?%";
    let call = |secret: &str| {
        let signed = Signed::get_with_secret(secret, target, key);
        coordinator.send("GET", target, &signed.fields()).status
    };
    let (code, stdout, stderr) =
        ctl(&coordinator, &["clients", "add", key, "--scheme", "signature", "--prefix", "mine/"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(sentence(&stderr), "keep the secret now; it will not be shown again");
    let first = secret_of(&stdout);
    assert_eq!((stdout.matches(&first).count(), call(&first)), (1, 200));
    assert_eq!(done(&coordinator, &["clients", "disable", key]), format!("client '{key}' is disabled\n"));
    assert_eq!(call(&first), 403);
    done(&coordinator, &["clients", "enable", key]);
    assert_eq!(call(&first), 200);
    let asked = refused(&coordinator, &["clients", "rotate", key], 2);
    assert!(asked.contains("--yes"), "{asked}");
    assert_eq!(call(&first), 200, "nothing was changed without a yes");
    let json = done(&coordinator, &["clients", "rotate", key, "--yes", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let second = json["secret"].as_str().unwrap();
    assert_eq!((json["access_key"].as_str(), call(&first), call(second)), (Some(key), 401, 200));
    let list = done(&coordinator, &["clients", "list", "--output", "json"]);
    assert!(!list.contains(second) && !list.contains("secret"), "{list}");
    assert!(refused(&coordinator, &["clients", "remove", key], 2).contains("--yes"));
    assert_eq!(call(second), 200);
    done(&coordinator, &["clients", "remove", key, "--yes"]);
    assert_eq!(call(second), 403);
    let gone = refused(&coordinator, &["clients", "remove", key, "--yes"], 1);
    assert_eq!(gone, format!("there is no client '{key}'"));
    assert!(!coordinator.log_text().contains(second));
}

#[test]
fn a_client_is_added_with_all_that_it_may_have() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], SIGNED);
    let all = [
        "clients",
        "add",
        "app",
        "--scheme",
        "app-jwt",
        "--prefix",
        "",
        "--prefix",
        "a b/",
        "--expires-at",
        "2030-01-01T00:00:00Z",
        "--max-ttl",
        "90m",
        "--rate",
        "30/m",
        "--burst",
        "7",
        "--note",
        "of Ann",
        "--disabled",
    ];
    done(&coordinator, &all);
    assert_eq!(refused(&coordinator, &all, 1), "there is a client 'app' already");
    let list: Value =
        serde_json::from_str(&done(&coordinator, &["--output", "json", "clients", "list"])).unwrap();
    let expected = serde_json::json!({"clients": [{
        "access_key": "app", "scheme": "app-jwt", "enabled": false, "expires_at": "2030-01-01T00:00:00Z",
        "prefixes": ["", "a b/"], "max_ttl": 5400, "rate": 0.5, "burst": 7, "note": "of Ann",
    }], "skipped": [], "stale_seconds": null});
    assert_eq!(list, expected);
    let table = done(&coordinator, &["clients", "list"]);
    let row = table.lines().nth(1).unwrap();
    let cells: Vec<_> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let expected =
        ["app", "app-jwt", "no", "2030-01-01T00:00:00Z", "1h30m", "30/m", "7", "\"\" \"a b/\"", "of Ann"];
    assert_eq!(cells, expected, "{table}");
    let (code, _, stderr) = ctl(&coordinator, &["clients", "add", "none", "--scheme", "signature"]);
    assert!(code == 0 && stderr.contains("may ask for no file"), "{stderr}");
    let name = refused(&coordinator, &["clients", "add", "two words", "--scheme", "signature"], 1);
    assert!(name.contains("visible ASCII"), "{name}");
}

#[test]
fn what_is_no_command_is_told_before_anybody_is_called() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["clients"],
        &["clients", "add", "x"],
        &["clients", "add", "x", "--scheme", "open"],
        &["clients", "add", "x", "--scheme", "signature", "--expires-at", "soon"],
        &["clients", "add", "x", "--scheme", "signature", "--rate", "5"],
        &["clients", "add", "x", "--scheme", "signature", "--burst", "5"],
        &["clients", "disable", ""],
        &["--coordinator", "https://127.0.0.1:1", "edges", "list"],
    ];
    for arguments in wrong {
        let (code, stdout, _) = ended(program().args(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
    }
}

#[test]
fn a_hostile_note_breaks_neither_row_nor_terminal() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], SIGNED);
    let note = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\nroot signature yes\u{9b}31m\u{202e}";
    done(&coordinator, &["clients", "add", "AK1", "--scheme", "signature", "--prefix", "a", "--note", note]);
    let table = done(&coordinator, &["clients", "list"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{table:?}");
    assert!(table.contains("\\r\\nroot signature yes\\u{9b}31m\\u{202e}"), "{table}");
    let json = done(&coordinator, &["clients", "list", "--output", "json"]);
    assert!(json.is_ascii() && !json.contains('\u{1b}'), "{json:?}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["clients"][0]["note"], note);
}

#[test]
fn edges_are_listed() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    let table = done(&coordinator, &["edges", "list"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    for (line, edge) in table.lines().skip(1).zip(&edges) {
        let cells: Vec<_> = line.split_whitespace().collect();
        let expected = (edge.id.as_str(), "up", "-", "a", "100");
        assert_eq!((cells[0], cells[1], cells[2], cells[4], cells[5]), expected, "{table}");
        assert_eq!((cells[9], cells[10]), (edge.url().as_str(), format!("http://{}", edge.address).as_str()));
    }
    let json: Value =
        serde_json::from_str(&done(&coordinator, &["edges", "list", "--output", "json"])).unwrap();
    assert_eq!(json["edges"][1]["id"], edges[1].id.as_str());
}

#[test]
fn a_timed_link_is_redirected() {
    let edge = Edge::start("edge-1");
    let more = "[timed]\nsecret = \"your secret key\"\nfile_id = \"InstMsiW.exe\"\nprefixes = [\"free\"]\n";
    let coordinator = Coordinator::start_with(&[&edge], more);
    let table: [(&[&str], &str); 2] = [
        (&["links", "timed", "--to-user", "alice"], "InstMsiW.exe"),
        (&["links", "timed", "--to-user", "bob", "--file-id", "free/a"], "free/a"),
    ];
    for (arguments, file_id) in table {
        let link = done(&coordinator, arguments);
        let answer = coordinator.get(link.trim_end().strip_prefix(PUBLIC_URL).unwrap());
        assert_eq!(answer.status, 302, "{}", answer.text());
        let claims = coordinator.claims(&support::token_of(answer.field("location")));
        assert_eq!(claims.file_id.as_str(), file_id);
    }
    // The port that clients use is none for operators.
    let (code, _, stderr) = ended(at(coordinator.address, &coordinator.setting).args(["edges", "list"]));
    assert!(code == 3 && stderr.contains("not as a coordinator's admin port"), "{stderr}");
    let without = Coordinator::start(&[&edge]);
    let sentence = refused(&without, &["links", "timed", "--to-user", "a"], 1);
    assert_eq!(sentence, "the configuration has no [timed] section");
}

#[test]
fn a_token_is_private_and_the_right_one() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let setting = &coordinator.setting;
    let list = ["edges", "list"];
    setting.set_mode("admin.tokens", 0o644);
    let exposed = refused(&coordinator, &list, 2);
    assert!(exposed.contains("0644") && exposed.contains("chmod 600"), "{exposed}");
    setting.write_private("admin.tokens", "ops:another-token-of-nobody\n");
    let unknown = refused(&coordinator, &list, 1);
    assert!(unknown.contains("does not know the token") && !unknown.contains("nobody"), "{unknown}");
    setting.write_private("admin.tokens", "ops:a-token-that-is-\u{1}-no-header\n");
    assert!(refused(&coordinator, &list, 2).contains("no HTTP header"));
    setting.write_private("admin.tokens", "no token");
    assert!(refused(&coordinator, &list, 2).contains("line 1"));
    std::fs::remove_file(setting.path("admin.tokens")).unwrap();
    let missing = refused(&coordinator, &list, 2);
    assert!(missing.contains("does not exist") && missing.contains("--token-file"), "{missing}");
    // Where no file is named, the one in the folder is meant, or the variable's.
    setting.write_private("admin.tokens", &format!("# ours\nops:{ADMIN_TOKEN}\n"));
    let url = format!("http://{}", coordinator.admin);
    let mut here = program();
    here.current_dir(setting.folder.path()).env("SLUICECTL_COORDINATOR", &url).args(list);
    assert_eq!(ended(&mut here).0, 0);
    let mut named = program();
    let file = setting.path("admin.tokens");
    named.env("SLUICECTL_COORDINATOR", &url).env("SLUICECTL_TOKEN_FILE", file).args(list);
    assert_eq!(ended(&mut named).0, 0);
}

#[test]
fn a_coordinator_that_is_away_is_told_at_once() {
    let setting = Setting::new(&[], "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let began = Instant::now();
    let (code, stdout, stderr) = ended(at(address, &setting).args(["edges", "list"]));
    assert_eq!((code, stdout.as_str()), (3, ""));
    let told = sentence(&stderr);
    let url = format!("http://{address} ");
    assert!(told.contains(&url) && told.contains("refused") && told.contains("--coordinator"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_coordinator_that_hangs_is_given_up() {
    let setting = Setting::new(&[], "");
    // Connections are taken by the kernel, and by nobody else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let began = Instant::now();
    let (code, _, stderr) = ended(at(address, &setting).args(["clients", "enable", "AK1"]));
    assert_eq!(code, 3, "{stderr}");
    let told = sentence(&stderr);
    assert!(told.contains("within 10 s") && told.contains("may have been made"), "{told}");
    assert!((10..20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn another_server_is_not_taken_for_a_coordinator() {
    let setting = Setting::new(&[], "");
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "[".repeat(65 << 20));
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let table = [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>", "status 404"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "status 200"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "status 200"),
        (moved, "status 302"),
        ("SSH-2.0-OpenSSH\r\n", "broke off"),
        ("", "broke off"),
        (&endless, "length limit exceeded"),
    ];
    for (bytes, expected) in table {
        let address = answer_once(bytes.to_owned());
        let (code, stdout, stderr) = ended(at(address, &setting).args(["edges", "list"]));
        let told = sentence(&stderr);
        assert_eq!((code, stdout.as_str()), (3, ""), "{told}");
        assert!(told.contains(expected) && told.contains("--coordinator"), "{told}");
    }
}

/// A server that answers its first request with these bytes and ends.
fn answer_once(bytes: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        // Who has seen enough may hang up.
        let _ = stream.write_all(bytes.as_bytes());
    });
    address
}

#[test]
fn what_cannot_be_noted_is_not_changed() {
    let edge = Edge::start("edge-1");
    let coordinator =
        Coordinator::start_with(&[&edge], &format!("{SIGNED}[log]\naudit_file = \"/dev/full\"\n"));
    let add = ["clients", "add", "AK1", "--scheme", "signature", "--prefix", "a"];
    let told = refused(&coordinator, &add, 1);
    assert!(told.starts_with("nothing was changed, because the audit file cannot be written"), "{told}");
    assert_eq!(done(&coordinator, &["clients", "list"]).lines().count(), 1);
    assert!(!coordinator.setting.files().contains(&"clients.toml".to_owned()));
}

#[test]
fn the_audit_file_has_each_change_before_and_after() {
    let edge = Edge::start("edge-1");
    let coordinator =
        Coordinator::start_with(&[&edge], &format!("{SIGNED}[log]\naudit_file = \"audit.jsonl\"\n"));
    done(&coordinator, &["clients", "add", "AK1", "--scheme", "signature", "--prefix", "a"]);
    refused(&coordinator, &["clients", "enable", "AK2"], 1);
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(coordinator.setting.path("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_until("four lines are written", || lines().len() == 4);
    let noted: Vec<_> = lines()
        .iter()
        .map(|line| format!("{} {} {}", line["action"], line["subject"], line["done"]))
        .collect();
    let expected = [
        "\"clients.add\" \"AK1\" null",
        "\"clients.add\" \"AK1\" true",
        "\"clients.enable\" \"AK2\" null",
        "\"clients.enable\" \"AK2\" false",
    ];
    assert_eq!(noted, expected);
}

#[test]
fn a_files_way_is_explained() {
    let edges = Edge::several(2);
    let more = "[[zones]]\nname = \"a\"\nclients = [\"10.0.0.0/8\"]\n";
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), more);
    let first =
        coordinator.candidates("a b/ü?&.bin".replace(' ', "%20").replace('&', "%26").as_str()).remove(0);
    let text = done(&coordinator, &["explain", "a b/ü?&.bin", "--client", "10.1.2.3"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("ZONE"), "{text}");
    assert!(lines[1].contains("10.1.2.3 is a client of this zone"), "{text}");
    assert!(lines[2].contains("2 of its 2 edges get requests"), "{text}");
    assert!(lines[3].contains(&first) && lines[3].contains("is taken: its load is "), "{text}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("candidates  {first} edge-"))), "{text}");
    let json = done(&coordinator, &["explain", "a", "--client", "2001:db8::1", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["file_id"], &json["client"]), (&"a".into(), &"2001:db8::1".into()));
    assert_eq!(json["candidates"].as_array().unwrap().len(), 2);

    edges[0].set(support::Mood::Draining);
    coordinator.wait_for_state("edge-1", "draining");
    wait_until("the way goes round it", || {
        let text = done(&coordinator, &["explain", "a", "--client", "10.1.2.3"]);
        !text.contains("candidates  edge-1") && text.contains("candidates  edge-2\n")
    });
    let told = refused(&coordinator, &["explain", "../a", "--client", "10.1.2.3"], 1);
    assert!(told.starts_with("file_id is none: "), "{told}");
    assert_eq!(ctl(&coordinator, &["explain", "a", "--client", "here"]).0, 2);
    for target in ["/admin/v1/explain", "/admin/v1/explain?file_id=a", "/admin/v1/explain?file_id=a&client=x"]
    {
        coordinator.ask_admin(target).problem(400);
    }
    support::send(coordinator.admin, "GET", "/admin/v1/explain?file_id=a&client=::1", &[]).problem(401);
}
