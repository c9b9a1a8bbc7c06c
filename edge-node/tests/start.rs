//! What keeps an edge from starting is said in one sentence that tells what to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sluice_shared::keys::KeyFile;

/// Runs the edge over a configuration that cannot run; gives what it says.
fn fault(change: impl FnOnce(&std::path::Path, String) -> String, arguments: &[&str]) -> String {
    fault_in(&[], change, arguments)
}

fn fault_in(
    environment: &[(&str, &str)],
    change: impl FnOnce(&std::path::Path, String) -> String,
    arguments: &[&str],
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("root")).unwrap();
    KeyFile::load_or_create(&path.join("keys.jwks.json")).unwrap();
    let config = format!(
        "id = \"edge-1\"\nlisten = \"{}\"\nadmin_listen = \"{}\"\nroot = \"root\"\n[cache]\nsize = \"64MiB\"\n\
         [keys]\npath = \"keys.jwks.json\"\n",
        support::free_address(),
        support::free_address()
    );
    let config = change(path, config);
    fs::write(path.join("edge.toml"), config).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
        .arg("--config")
        .arg(path.join("edge.toml"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1), "it must not start");
    let said = String::from_utf8(ended.stderr).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("sluice-edge: ")).unwrap_or(&said);
    line.to_owned()
}

#[test]
fn faults_of_the_configuration_name_file_line_and_key() {
    let unknown = fault(|_, config| config.replace("root =", "rooot ="), &[]);
    assert!(unknown.contains("edge.toml:4:") && unknown.contains("`rooot`"), "{unknown}");
    let wrong = fault(|_, config| config.replace("\"64MiB\"", "\"much\""), &["--check"]);
    assert!(wrong.contains("edge.toml:6:") && wrong.contains("`size`") && wrong.contains("8GiB"), "{wrong}");
    let missing = fault(|_, config| config.replace("id = \"edge-1\"\n", ""), &["--check"]);
    assert!(missing.contains("edge.toml") && missing.contains("`id` is missing"), "{missing}");
}

#[test]
fn a_missing_root_says_what_to_do() {
    let said = fault(|_, config| config.replace("\"root\"", "\"/no/such/folder\""), &[]);
    assert!(said.contains("/no/such/folder") && said.contains("mount the store there"), "{said}");
}

#[test]
fn a_cache_folder_has_to_be_on_a_tmpfs_with_room() {
    let with =
        |line: &'static str| fault(move |_, config| config.replace("size = \"64MiB\"", line), &["--check"]);
    let disk = with("size = \"64MiB\"\ndir = \".\"");
    assert!(disk.contains("is on no tmpfs") && disk.contains("mount -t tmpfs"), "{disk}");
    let small = with("size = \"900TiB\"\ndir = \"/dev/shm\"");
    assert!(small.contains("mount it with a larger size="), "{small}");
}

#[test]
fn key_files_are_judged_before_anything_is_served() {
    let missing = fault(
        |path, config| {
            fs::remove_file(path.join("keys.jwks.json")).unwrap();
            config
        },
        &[],
    );
    assert!(missing.contains("does not exist; copy it from the coordinator"), "{missing}");
    let exposed = fault(
        |path, config| {
            fs::set_permissions(path.join("keys.jwks.json"), fs::Permissions::from_mode(0o644)).unwrap();
            config
        },
        &["--check"],
    );
    assert!(exposed.contains("chmod 600"), "{exposed}");
    let short = fault(
        |path, config| {
            // The sample key of the system this replaces: 31 bytes.
            let k = "dGhpc19pc19hXzMyYnl0ZV9zZWNyZXRfa2V5ISEhIQ";
            fs::write(
                path.join("keys.jwks.json"),
                format!(r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{k}"}}]}}"#),
            )
            .unwrap();
            config
        },
        &[],
    );
    assert!(short.contains("31 bytes") && !short.contains("dGhpc"), "{short}");
}

#[test]
fn ports_in_use_are_named() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    for key in ["listen", "admin_listen"] {
        let said = fault(
            |_, config| {
                let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
                let line = lines.iter_mut().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
                *line = format!("{key} = \"{address}\"");
                lines.join("\n")
            },
            &[],
        );
        assert!(said.contains(&address.to_string()) && said.contains("another port"), "{said}");
        assert!(said.contains(&format!("`{key}`")), "{said}");
    }
}

#[test]
fn environment_variables_win_over_the_file_and_are_judged_alike() {
    let table = [
        ("SLUICE_CACHE__SIZE", "1MiB", "`cache.size` comes to 1048576 bytes"),
        ("SLUICE_LIMITS__CONNECTIONS", "many", "LIMITS.CONNECTIONS"),
        ("SLUICE_COLOUR", "blue", "colour"),
        ("SLUICE_LIMITS__COLOUR", "blue", "colour"),
    ];
    for (name, value, expected) in table {
        let said = fault_in(&[(name, value)], |_, config| config, &["--check"]);
        assert!(said.contains(expected), "{name}={value}: {said}");
    }
}

#[test]
fn a_good_configuration_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
    let config = "id = \"e\"\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\nroot = \"root\"\n[keys]\npath = \"keys.jwks.json\"\n";
    fs::write(folder.path().join("edge.toml"), config).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
        .args(["--check", "--config"])
        .arg(folder.path().join("edge.toml"))
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
