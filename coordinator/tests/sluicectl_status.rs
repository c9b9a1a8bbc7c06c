//! `sluicectl status`: a cluster on one screen; and edges that do not have the coordinator's key.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use sluice_shared::keys::KeyFile;
use support::{Coordinator, Edge, Mood, output_of};

fn command(coordinator: &Coordinator, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().arg("--coordinator").arg(format!("http://{}", coordinator.admin));
    command.arg("--token-file").arg(coordinator.setting.path("admin.tokens")).arg("status").args(arguments);
    command
}

fn screen(coordinator: &Coordinator, arguments: &[&str]) -> String {
    let output = output_of(&mut command(coordinator, arguments));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const LOAD: &str = r#"{"connections":7,"transfers":3,"in_flight_bytes":5242880,"version":"9.9.9""#;

#[test]
fn a_cluster_is_shown_on_one_screen() {
    let edges = Edge::several(2);
    edges[0].set_load(&format!("{LOAD}}}"));
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    support::wait_until("its load is known", || coordinator.edge("edge-1")["transfers"] == 3);
    let text = screen(&coordinator, &[]);
    for expected in [
        "coordinator  coordinator-1 ready, version ",
        "etcd         not used",
        "state        embedded answers",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let row = text.lines().find(|line| line.starts_with("edge-1 ")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!((cells[1], cells[2], cells[3]), ("up", "a", "100"), "{text}");
    assert_eq!((cells[5], cells[6], cells[7], cells[9]), ("7", "3", "5MiB", "9.9.9"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("test-1") && line.contains("current")), "{text}");
    let json: Value = serde_json::from_str(&screen(&coordinator, &["--output", "json"])).unwrap();
    assert_eq!(json["status"]["coordinator"]["id"], "coordinator-1");
    assert_eq!(
        (&json["status"]["etcd"], &json["status"]["state"]["kind"]),
        (&Value::Null, &"embedded".into())
    );
    assert_eq!(
        (&json["edges"]["edges"][0]["version"], &json["keys"]["keys"][0]["kid"]),
        (&"9.9.9".into(), &"test-1".into())
    );
    edges.iter().for_each(|edge| edge.set(Mood::Dead));
    for edge in &edges {
        coordinator.wait_for_state(&edge.id, "down");
    }
    support::wait_until("it says so", || screen(&coordinator, &[]).contains("NOT READY: no live edge"));
}

#[test]
fn what_is_watched_is_shown_again() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let mut child =
        command(&coordinator, &["--watch", "--every", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let shown = lines.filter(|line| line.starts_with("coordinator  ")).take(2).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(shown, 2);
}

#[test]
fn an_edge_without_the_key_that_tokens_are_minted_with_is_named_and_gets_no_clients() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    let file = KeyFile::load(&coordinator.setting.path("keys.jwks.json")).unwrap();
    let own = file.ring().load().current().fingerprint();
    edges[0].set_load(&format!("{LOAD},\"keys\":[\"0123456789abcdef\"]}}"));
    edges[1].set_load(&format!("{LOAD},\"keys\":[\"0123456789abcdef\",\"{own}\"]}}"));
    coordinator.wait_for_state("edge-1", "degraded");
    assert_eq!(coordinator.edge("edge-1")["reason"], "keys");
    let line = coordinator.log_line(|line| line["edge"] == "edge-1" && line["to"] == "degraded");
    assert!(line["remedy"].as_str().unwrap().contains("copy the coordinator's keys.path"), "{line}");
    assert!(screen(&coordinator, &[]).contains("degraded:keys"));
    for number in 0..20 {
        assert_eq!(coordinator.candidates(&format!("f{number}"))[0], "edge-2");
    }
    // Given the key, it is back by itself.
    edges[0].set_load(&format!("{LOAD},\"keys\":[\"{own}\"]}}"));
    coordinator.wait_for_state("edge-1", "up");
    assert_eq!(coordinator.state_of("edge-2"), "up");
}
