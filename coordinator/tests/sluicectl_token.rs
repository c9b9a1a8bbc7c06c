//! `sluicectl token`: what tokens say and whether they hold, by key files and without a coordinator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use support::{Coordinator, Edge, KEY_SET, Setting};

/// Runs `sluicectl token`; no key is ever in what it prints.
fn token(setting: &Setting, stdin: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().current_dir(setting.folder.path()).arg("token").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who has a token already does not read on.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!texts.concat().contains("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), "{texts:?}");
    let [stdout, stderr] = texts;
    (output.status.code().unwrap(), stdout, stderr)
}

fn sealed(setting: &Setting, change: impl FnOnce(&mut Claims<'static>)) -> String {
    let soon = SystemTime::now() + Duration::from_secs(600);
    let exp = NumericDate::from_system_time(soon);
    let mut claims = Claims::new(FileId::parse("a/b.bin").unwrap(), exp);
    change(&mut claims);
    let file = KeyFile::load(&setting.path("keys.jwks.json")).unwrap();
    seal(&claims, file.ring().load().current()).unwrap()
}

const BY_FILE: [&str; 2] = ["--key-file", "keys.jwks.json"];

fn verify(setting: &Setting, text: &str, more: &[&str]) -> (i32, Value, String) {
    let arguments = [&["verify", "--output", "json"], &BY_FILE[..], more].concat();
    let (code, stdout, stderr) = token(setting, text, &arguments);
    (code, serde_json::from_str(&stdout).unwrap(), stderr)
}

#[test]
fn a_minted_token_is_opened_from_its_url_and_shown() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let answer = coordinator.request_download("a.bin").json();
    let url = answer["download_url"].as_str().unwrap();
    let (code, table, stderr) =
        token(&coordinator.setting, "", &["open", url, "--key-file", "keys.jwks.json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for row in [
        "kind        token",
        "kid         test-1",
        "file_id     a.bin",
        "user_id     ann",
        "edg         edge-1",
    ] {
        assert!(table.lines().any(|line| line == row), "{row}: {table}");
    }
    let exp = table.lines().find_map(|line| line.strip_prefix("exp         ")).unwrap();
    assert_eq!(humantime(exp), humantime(answer["expires_at"].as_str().unwrap()));
    let (code, json, _) = verify(&coordinator.setting, url, &["--edge", "edge-2"]);
    assert_eq!((code, &json["holds"], &json["claims"]["file_id"]), (0, &true.into(), &"a.bin".into()));
    assert!(json["notes"][0].as_str().unwrap().contains("minted for edge 'edge-1'"), "{json}");
}

/// Up to the second.
fn humantime(text: &str) -> &str {
    &text[..19]
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let setting = Setting::new(&[], "");
    let long_ago = NumericDate::from_secs(1_600_000_000);
    let far_off = NumericDate::from_secs(4_000_000_000);
    let whole = sealed(&setting, |_| {});
    let mut changed = whole.clone().into_bytes();
    let at = changed.len() - 30;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let table: [(String, &[&str], &str); 8] = [
        (sealed(&setting, |claims| claims.exp = long_ago), &[], "it expired at 2020-09-13T12:26:40Z"),
        (
            sealed(&setting, |claims| (claims.nbf, claims.exp) = (Some(far_off), far_off)),
            &[],
            "it is not good before 2096-10-02T07:06:40Z",
        ),
        (
            sealed(&setting, |claims| claims.ip = Some("192.0.2.0/24".into())),
            &["--client", "198.51.100.9"],
            "bound to 192.0.2.0/24, and 198.51.100.9 is not in there",
        ),
        (sealed(&setting, |claims| claims.head = true), &[], "good for HEAD only"),
        (changed, &[], "key 'test-1' does not open it: a byte of it was changed"),
        (whole[..whole.len() - 9].to_owned(), &[], "it may have been cut"),
        ("hello".to_owned(), &[], "it is no token"),
        (whole.replace('.', "%"), &[], "it is no token"),
    ];
    for (text, more, expected) in table {
        let (code, json, stderr) = verify(&setting, &text, more);
        let fault = json["faults"][0].as_str().unwrap();
        assert!(code == 1 && fault.contains(expected) && stderr.contains(expected), "{expected}: {json}");
        assert_eq!(json["holds"], false);
    }
    // Keys of the same name and of another.
    let other = sealed(&setting, |_| {});
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    setting.write_private("keys.jwks.json", &KEY_SET.replace(key, &key.replace("AAEC", "BBEC")));
    let (_, json, _) = verify(&setting, &other, &[]);
    assert!(json["faults"][0].as_str().unwrap().contains("another key here"), "{json}");
    setting.write_private("keys.jwks.json", &KEY_SET.replace("test-1", "test-2"));
    let (_, json, _) = verify(&setting, &other, &[]);
    let fault = json["faults"][0].as_str().unwrap();
    assert!(fault.contains("sealed with key 'test-1', which no key file here has"), "{fault}");
    assert!(fault.contains("'test-2'"), "{fault}");
    // With a second file that has it, all is well.
    setting.write_private("more.json", KEY_SET);
    assert_eq!(verify(&setting, &other, &["--key-file", "more.json"]).0, 0);
}

#[test]
fn a_command_that_cannot_be_run_is_told() {
    let setting = Setting::new(&[], "");
    setting.write_private("open.json", KEY_SET);
    setting.set_mode("open.json", 0o644);
    let table: [(&[&str], &str); 4] = [
        (&["open", "--key-file", "keys.jwks.json"], "there is no token"),
        (&["open", "x", "--key-file", "none.json"], "does not exist"),
        (&["open", "x", "--key-file", "open.json"], "chmod 600"),
        (&["open", "x"], "--key-file"),
    ];
    for (arguments, expected) in table {
        let (code, stdout, stderr) = token(&setting, "", arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
}
