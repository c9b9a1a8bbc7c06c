//! What operators revoke or block is not given any more: neither asked for, nor by a link, nor renewed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_shared::revocations::{Kind, Target};
use support::{Coordinator, Edge, Setting, complaint, output_of, token_of};

fn ctl(coordinator: &Coordinator, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().arg("--coordinator").arg(format!("http://{}", coordinator.admin));
    command.arg("--token-file").arg(coordinator.setting.path("admin.tokens")).args(arguments);
    let output = output_of(&mut command);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

/// Statuses of the ways to `file` for `user`: asked for, redirected, by a new link, by an old one, by a renewal.
fn ways(coordinator: &Coordinator, file: &str, user: &str, old_link: &str, old_token: &str) -> [u16; 5] {
    let link = json!({ "file_id": file, "user_id": user }).to_string();
    [
        coordinator.get(&format!("/api/request-download?file_id={file}&user_id={user}")).status,
        coordinator.get(&format!("/download/{file}?user_id={user}")).status,
        coordinator.post("/api/links", &[], &link).status,
        coordinator.get(old_link).status,
        coordinator.get(&format!("/renew?token={old_token}")).status,
    ]
}

#[test]
fn what_is_barred_is_given_in_no_way_until_it_is_lifted() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let (file, user) = ("a/b.bin", "ann");
    let new = json!({ "file_id": file, "user_id": user }).to_string();
    let created = coordinator.post("/api/links", &[], &new).json();
    let link = created["link"].as_str().unwrap();
    let link = &link[link.find("/d/").unwrap()..];
    let id = created["id"].as_str().unwrap();
    let token = token_of(coordinator.get(link).field("location"));
    let all = |file: &str, user: &str| ways(&coordinator, file, user, link, &token);
    let given = [200, 302, 201, 302, 302];
    assert_eq!(all(file, user), given);
    let table: [(&[&str], [u16; 5]); 6] = [
        (&["revoke", "user", user], [403; 5]),
        (&["revoke", "file", file], [403; 5]),
        (&["block", "--prefix", "a"], [403; 5]),
        (&["block", "--prefix", ""], [403; 5]),
        // The link alone: what is asked for anew is given.
        (&["revoke", "link", id], [200, 302, 201, 403, 403]),
        (&["revoke", "client", "AK1"], given),
    ];
    for (arguments, expected) in table {
        let (code, text) = ctl(&coordinator, arguments);
        assert_eq!(code, 0, "{text}");
        assert_eq!(all(file, user), expected, "{arguments:?}");
        assert_eq!(
            all("b.bin", "bob")[..3],
            if arguments[2].is_empty() { [403; 3] } else { [200, 302, 201] }
        );
        let lift: Vec<&str> = arguments.iter().copied().chain(["--lift"]).collect();
        assert_eq!(ctl(&coordinator, &lift).0, 0, "{lift:?}");
        assert_eq!(all(file, user), given, "{lift:?}");
        let (code, text) = ctl(&coordinator, &lift);
        assert_eq!((code, text.contains("revoked or blocked now")), (1, true), "{text}");
    }
    let audited =
        coordinator.log_line(|line| line["action"] == "revocations.set" && line["subject"] == "prefix a");
    assert_eq!(audited["done"], true);
}

#[test]
fn what_was_barred_is_so_after_a_restart() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    assert_eq!(ctl(&coordinator, &["revoke", "user", "ann", "--cut", "--yes"]).0, 0);
    assert_eq!(ctl(&coordinator, &["block", "--prefix", "late/", "--until", "2099-01-01T00:00:00Z"]).0, 0);
    coordinator.signal(Signal::KILL);
    let coordinator = coordinator.start_again();
    assert_eq!(coordinator.get("/download/a.bin?user_id=ann").status, 403);
    let refused = coordinator.get("/download/late/a.bin");
    assert_eq!(refused.problem(403), "the prefix is not served any more");
    let reason = "sluice_coordinator_refusals_total{reason=\"barred\"}";
    assert_eq!(coordinator.metric(reason), 2.0);
    let (code, json) = ctl(&coordinator, &["revoke", "list", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let known = &json["revocations"][0];
    assert_eq!((code, &known["what"], &known["value"]), (0, &json!("user"), &json!("ann")));
    assert_eq!((&known["in_force"], &known["cut"]), (&json!(true), &json!(true)));
    let (_, table) = ctl(&coordinator, &["block", "--list"]);
    assert!(table.contains("2099-01-01T00:00:00.000Z") && table.contains("'late/'"), "{table}");
}

/// As a coordinator leaves it whose clock was ahead by decades.
#[test]
fn what_was_lifted_by_a_clock_ahead_is_barred_again() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    let lifted = |key: &str| json!({ "key": key, "set": "2099-01-01T00:00:00Z", "until": now, "cut": false });
    let marks = [lifted("revoked/user/YW5u"), lifted("blocked/YQ")];
    setting.write_private("revocations.json", &json!({ "revocations": marks }).to_string());
    let coordinator = Coordinator::launch(setting);
    support::wait_until("it is ready", || coordinator.ready().status == 200);
    assert_eq!(coordinator.get("/download/b.bin?user_id=ann").status, 302);
    let table = [
        ("/admin/v1/revocations", json!({ "what": "user", "value": "ann" }), "/download/b.bin?user_id=ann"),
        ("/admin/v1/blocks", json!({ "prefix": "a" }), "/download/a/b.bin?user_id=bob"),
    ];
    for (path, body, barred) in table {
        let answer = coordinator.admin_call("POST", path, &body.to_string());
        assert_eq!((answer.status, &answer.json()["in_force"]), (201, &json!(true)), "{body}");
        assert!(answer.json()["set"].as_str().unwrap().starts_with("2099"), "{body}");
        assert_eq!(coordinator.get(barred).status, 403, "{body}");
    }
    assert_eq!(coordinator.metric("sluice_revocations{what=\"user\"}"), 1.0);
}

/// With an etcd that is away, of which edges hear later.
#[test]
fn links_that_are_taken_back_are_marked_while_their_tokens_live_and_there_is_room() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], "[etcd]\nendpoints = [\"http://127.0.0.1:1\"]\n");
    assert_eq!(coordinator.metric("sluice_etcd_up"), 0.0);
    let make = |coordinator: &Coordinator| {
        let made = coordinator.post("/api/links", &[], r#"{"file_id":"a.bin","ttl":86400}"#).json();
        let path = made["link"].as_str().unwrap().strip_prefix(support::PUBLIC_URL).unwrap().to_owned();
        (path, format!("/api/links/{}", made["id"].as_str().unwrap()))
    };
    let (link, id) = make(&coordinator);
    assert_eq!(coordinator.get(&link).status, 302);
    for _ in 0..2 {
        assert_eq!(coordinator.send("DELETE", &id, &[]).status, 204);
    }
    assert_eq!(coordinator.get(&link).status, 403);
    let marks = coordinator.ask_admin("/admin/v1/revocations").json();
    let time =
        |name: &str| humantime::parse_rfc3339(marks["revocations"][0][name].as_str().unwrap()).unwrap();
    let lives = time("until").duration_since(time("set")).unwrap().as_secs();
    assert!((900..1000).contains(&lives), "as long as a token, and not as a link: {lives}");

    coordinator.signal(Signal::KILL);
    let until =
        humantime::format_rfc3339(std::time::SystemTime::now() + Duration::from_secs(900)).to_string();
    let mark = |number: u32| {
        let target = Target::new(Kind::Link, &format!("u{number:022}")).unwrap();
        json!({ "key": target.key(), "set": "2026-01-01T00:00:00Z", "until": until, "cut": false })
    };
    let marks: Vec<_> = (0..90_000).map(mark).collect();
    let marks = serde_json::to_string_pretty(&json!({ "revocations": marks })).unwrap();
    coordinator.setting.write_private("revocations.json", &marks);
    let coordinator = coordinator.start_again();
    let (link, id) = make(&coordinator);
    let answer = coordinator.send("DELETE", &id, &[]);
    assert!(answer.problem(503).contains("live until they expire"), "{}", answer.text());
    assert!(answer.field("retry-after").parse::<u32>().is_ok());
    assert_eq!(coordinator.get(&link).status, 403, "it is taken back all the same");
    assert_eq!(ctl(&coordinator, &["revoke", "user", "ann"]).0, 0, "operators have room");
    assert_eq!(coordinator.get("/download/a.bin?user_id=ann").status, 403);
}

#[test]
fn what_can_belong_to_nothing_is_refused() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let path = "/admin/v1/revocations";
    let table = [
        (path, json!({ "what": "prefix", "value": "a" }), "a link, a user"),
        (path, json!({ "what": "x", "value": "a" }), "a link, a user"),
        (path, json!({ "what": "user", "value": "" }), "1 to 1024 bytes"),
        (path, json!({ "what": "user", "value": "a\nb" }), "control characters"),
        (path, json!({ "what": "file", "value": "/etc" }), "starts with '/'"),
        (path, json!({ "what": "user", "value": "a", "until": "2020-01-01T00:00:00Z" }), "future"),
        (path, json!({ "what": "user", "value": "a", "until": "soon" }), "2027-01-01T00:00:00Z"),
        (path, json!({ "what": "user", "value": "a", "more": 1 }), "more"),
        ("/admin/v1/blocks", json!({ "prefix": "../" }), "segment"),
    ];
    for (path, body, text) in table {
        let answer = coordinator.admin_call("POST", path, &body.to_string());
        assert!(answer.problem(400).contains(text), "{body}: {}", answer.text());
    }
    let list = coordinator.ask_admin(path).json();
    assert_eq!(list["revocations"], json!([]));
}

#[test]
fn a_file_of_revocations_that_cannot_be_read_stops_the_start() {
    let edge = Edge::start("edge-1");
    let setting = Setting::new(&[&edge], "");
    setting.write_private("revocations.json", "nonsense");
    let complaint = complaint(&setting.run(&[]));
    assert!(complaint.contains("is no list of revocations"), "{complaint}");
}
