//! Keys in files, as operators see and revoke them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Coordinator, Edge, output_of};

fn ctl(coordinator: &Coordinator, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().arg("--coordinator").arg(format!("http://{}", coordinator.admin));
    command.arg("--token-file").arg(coordinator.setting.path("admin.tokens")).args(arguments);
    let output = output_of(&mut command);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn keys_of_files_are_shown_without_their_secrets_and_revoked_at_once() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let ask = || coordinator.get("/api/request-download?file_id=a.bin&user_id=ann").status;
    assert_eq!(ask(), 200);
    let (code, text) = ctl(&coordinator, &["keys", "list", "--output", "json"]);
    assert_eq!(code, 0, "{text}");
    let file = std::fs::read_to_string(coordinator.setting.path("keys.jwks.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let (kid, secret) = (file["keys"][0]["kid"].as_str().unwrap(), file["keys"][0]["k"].as_str().unwrap());
    assert!(text.contains(kid) && text.contains("\"ticket\"") && !text.contains(secret), "{text}");
    for arguments in [&["keys", "rotate"][..], &["keys", "retire", kid, "--yes"]] {
        let (code, text) = ctl(&coordinator, arguments);
        assert!(code == 1 && text.contains("keys are in files"), "{arguments:?}: {text}");
    }
    let (code, text) = ctl(&coordinator, &["keys", "revoke", "no-such-key", "--yes"]);
    assert!(code == 1 && text.contains("no key is called so"), "{text}");
    let (code, text) = ctl(&coordinator, &["keys", "revoke", kid]);
    assert_eq!(code, 2, "nobody is there to say yes: {text}");
    assert_eq!(ask(), 200);
    let (code, text) = ctl(&coordinator, &["keys", "revoke", kid, "--yes"]);
    assert_eq!(code, 0, "{text}");
    // The file has no other: nothing is minted until somebody puts one there.
    support::wait_until("nothing is minted", || ask() == 503);
}
