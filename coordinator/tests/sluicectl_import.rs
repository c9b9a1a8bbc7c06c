//! `sluicectl clients import`: the clients of a file, given to a coordinator with the secrets that they have.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Coordinator, Edge, Signed, output_of};

const SIGNED: &str = "[auth]\nschemes = [\"signature\"]\nclients_file = \"clients.toml\"\n";
const TARGET: &str = "/api/request-download?file_id=mine%2Fa.bin&user_id=u";

fn start(edge: &Edge) -> Coordinator {
    let coordinator = Coordinator::start_with(&[edge], SIGNED);
    // With nonces in memory, timestamps of before the start are refused; they are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    coordinator
}

fn client(access_key: &str, secret: &str, note: &str) -> String {
    format!(
        "[[clients]]\naccess_key = \"{access_key}\"\n{secret}\nscheme = \"signature\"\nprefixes = [\"mine/\"]\n\
         note = \"{note}\"\n"
    )
}

/// Runs `sluicectl clients …`; no secret is ever in what it prints.
fn clients(coordinator: &Coordinator, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command.env_clear().current_dir(coordinator.setting.folder.path());
    command.arg("--coordinator").arg(format!("http://{}", coordinator.admin)).arg("clients").args(arguments);
    let output = output_of(&mut command);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!text.contains("hush"), "{text}");
    (output.status.code().unwrap(), text)
}

fn call(coordinator: &Coordinator, key: &str, secret: &str) -> u16 {
    let signed = Signed::get_with_secret(secret, TARGET, key);
    coordinator.send("GET", TARGET, &signed.fields()).status
}

#[test]
fn clients_come_with_their_secrets_and_those_that_exist_are_kept_unless_replaced() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let setting = &coordinator.setting;
    setting.write_private("clients.toml", &client("AK1", "secret = \"hush-old\"", "ours"));
    support::wait_until("the file is taken", || {
        coordinator.ask_admin("/admin/v1/clients").text().contains("AK1")
    });
    setting.write_private("two.secret", "hush-two\n");
    let file = client("AK1", "secret = \"hush-new\"", "theirs")
        + &client("AK/2", "secret_file = \"two.secret\"", "second");
    setting.write_private("import.toml", &file);
    let (code, text) = clients(&coordinator, &["import", "import.toml"]);
    assert_eq!((code, text.as_str()), (0, "added      AK/2\nkept       AK1\n"));
    assert_eq!((call(&coordinator, "AK1", "hush-old"), call(&coordinator, "AK/2", "hush-two")), (200, 200));
    assert_eq!(call(&coordinator, "AK1", "hush-new"), 401);
    let (code, text) = clients(&coordinator, &["import", "import.toml", "--replace"]);
    assert!(code == 2 && text.contains("--yes"), "{text}");
    let (code, text) =
        clients(&coordinator, &["import", "import.toml", "--replace", "--yes", "--output", "json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({ "added": [], "replaced": ["AK1", "AK/2"], "kept": [] });
    assert_eq!((code, json), (0, expected));
    assert_eq!((call(&coordinator, "AK1", "hush-old"), call(&coordinator, "AK1", "hush-new")), (401, 200));
    assert!(!coordinator.log_text().contains("hush"), "{}", coordinator.log_text());
}

#[test]
fn a_file_that_is_not_good_changes_nothing() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], SIGNED);
    let setting = &coordinator.setting;
    let good = client("AK1", "secret = \"hush\"", "");
    let table = [
        (format!("{good}{good}"), "'AK1' is there twice"),
        (good.clone() + &client("AK2", "", ""), "'AK2': secret or secret_file is missing"),
        (good.clone() + &client("AK2", "secret_file = \"none\"", ""), "'AK2': secret_file does not exist"),
        (good.clone() + "colour = \"blue\"\n", "colour"),
        (good.replace("\"hush\"", "5"), "line 3"),
    ];
    for (file, expected) in table {
        setting.write_private("import.toml", &file);
        let (code, text) = clients(&coordinator, &["import", "import.toml"]);
        assert!(code == 2 && text.contains(expected), "{expected}: {text}");
    }
    setting.set_mode("import.toml", 0o644);
    assert!(clients(&coordinator, &["import", "import.toml"]).1.contains("chmod 600"));
    assert!(clients(&coordinator, &["import", "none.toml"]).1.contains("does not exist"));
    assert!(!setting.files().contains(&"clients.toml".to_owned()));
    let (code, text) = clients(&coordinator, &["reseal"]);
    assert!(code == 1 && text.contains("in a file here"), "{text}");
    // The API takes them as it takes others: nothing is told of what it was given.
    let answer = coordinator.admin_call("PUT", "/admin/v1/clients/AK1", "{\"secret\": 12345}");
    assert!(answer.status == 400 && !answer.text().contains("12345"), "{}", answer.text());
}
