//! A coordinator's own document against the coordinator: schemathesis calls everything that is in it, with good and
//! bad values, and holds each answer against what the document says of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sluice_loadtest::{Cluster, client, tool};

/// Where a secret is wanted; it opens nothing.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const FERNET_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";

/// Calls with each value that a document allows and forbids, then with some more at random; always the same ones.
fn hold_to_its_document(cluster: &mut Cluster) -> anyhow::Result<()> {
    let url = cluster.coordinator().url();
    let schemathesis = tool::python()?.with_file_name("schemathesis");
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("schemathesis.toml");
    fs::write(&config, "")?;
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance";
    tool::run(
        "env",
        &[
            // It keeps what it found where it runs, and would try that first the next time.
            "-C",
            &folder.path().to_string_lossy(),
            &schemathesis.to_string_lossy(),
            "--config-file",
            &config.to_string_lossy(),
            "run",
            &format!("{url}/openapi.json"),
            "--url",
            &url,
            "--checks",
            checks,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "100",
            "--generation-deterministic",
            // An edge's answers are not the coordinator's.
            "--max-redirects",
            "0",
            "--continue-on-failure",
            "--no-shrink",
            "--no-color",
        ],
    )?;
    // It did not come to an end by a refusal, and the coordinator not by a call.
    assert_eq!(client::get_here(&format!("{url}/openapi.json"))?.status(), 200);
    assert!(cluster.coordinator().process().is_running()?);
    Ok(())
}

#[test]
fn every_answer_to_anybody_is_as_documented() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).file("a.bin", 1000).ready()?;
    hold_to_its_document(&mut cluster)
}

#[test]
fn every_answer_to_strangers_is_as_documented() -> anyhow::Result<()> {
    let secrets = tempfile::tempdir()?;
    let clients = secrets.path().join("clients.toml");
    let client = |key: &str, scheme: &str| {
        format!(
            "[[clients]]\naccess_key = {key:?}\nsecret = {SECRET:?}\nscheme = {scheme:?}\nprefixes = [\"\"]\n"
        )
    };
    fs::write(&clients, client("AK1", "signature") + &client("APP1", "app-jwt"))?;
    fs::set_permissions(&clients, fs::Permissions::from_mode(0o600))?;
    let settings = format!(
        "public_prefixes = [\"public\"]\n\
         [auth]\nschemes = [\"signature\", \"app-jwt\", \"sealed\"]\nclients_file = {clients:?}\n\
         [sealed]\nencryption_key = {FERNET_KEY:?}\napi_secret_key = {SECRET:?}\n\
         [timed]\nsecret = {SECRET:?}\nfile_id = \"public/a.bin\"\n"
    );
    let cluster = Cluster::start().file("public/a.bin", 1000);
    let mut cluster = cluster.coordinator(|coordinator| coordinator.toml(&settings)).ready()?;
    hold_to_its_document(&mut cluster)
}
