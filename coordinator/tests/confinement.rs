//! What the kernel refuses a coordinator: rights that it did not begin with, and files that are none of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sluice_shared::confinement::{Confined, Confinement};
use support::{Coordinator, Edge, Setting, config, wait_until};

const CLIENTS: &str = "[[clients]]\naccess_key = \"NEW\"\nsecret = \"a secret of some length\"\n\
                       scheme = \"signature\"\nprefixes = [\"\"]\n";

#[test]
fn no_thread_of_a_coordinator_can_get_new_rights() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", coordinator.pid())).unwrap().collect();
    assert!(threads.len() > 2, "it has workers");
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}

/// A coordinator whose list of clients becomes a link to one elsewhere; `more` is made of that folder's name.
fn clients_that_lead_out(edge: &Edge, more: impl Fn(&str) -> String) -> (Coordinator, tempfile::TempDir) {
    let elsewhere = tempfile::tempdir().unwrap();
    let setting = Setting::new(&[edge], "");
    let signed = "[auth]\nschemes = [\"signature\"]\nclients_file = \"clients.toml\"\n";
    let more = more(elsewhere.path().to_str().unwrap());
    setting.write_config(&config(&[edge], &format!("{more}\n{signed}")));
    let coordinator = Coordinator::launch(setting);
    wait_until("it is ready", || coordinator.ready().status == 200);
    let list = elsewhere.path().join("clients.toml");
    fs::write(&list, CLIENTS).unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(list, coordinator.setting.path("clients.toml")).unwrap();
    (coordinator, elsewhere)
}

#[test]
fn a_confined_coordinator_is_refused_what_is_not_its_own() {
    if !matches!(Confinement::default().try_out(), Confined::Yes { .. }) {
        return;
    }
    let edge = Edge::start("edge-1");
    let (coordinator, _elsewhere) = clients_that_lead_out(&edge, |_| String::new());
    wait_until("it is refused", || coordinator.log_text().contains("Permission denied"));
    assert!(!coordinator.admin_call("GET", "/admin/v1/clients", "").text().contains("NEW"));
    // What it keeps itself, it goes on keeping.
    fs::remove_file(coordinator.setting.path("clients.toml")).unwrap();
    coordinator.setting.write_private("clients.toml", CLIENTS);
    wait_until("they are known", || {
        coordinator.admin_call("GET", "/admin/v1/clients", "").text().contains("NEW")
    });
    let added = r#"{"access_key": "AK2", "scheme": "signature", "prefixes": [""]}"#;
    let answer = coordinator.admin_call("POST", "/admin/v1/clients", added);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn folders_that_are_named_can_be_read_all_the_same() {
    let edge = Edge::start("edge-1");
    let (coordinator, _elsewhere) =
        clients_that_lead_out(&edge, |folder| format!("confine_reads = [\"{folder}\"]"));
    wait_until("they are known", || {
        coordinator.admin_call("GET", "/admin/v1/clients", "").text().contains("NEW")
    });
}
