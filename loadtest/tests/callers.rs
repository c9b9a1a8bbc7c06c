//! Callers in the languages that callers are written in, each with nothing but what its language comes with: signed
//! requests and app keys with a JWT, as those systems' own samples make them.

use std::ffi::OsStr;
use std::path::Path;

use sluice_loadtest::{Cluster, caller, client, tool};

const FILE_ID: &str = "reports/年度 a+b.bin";
const SECRET: &str = "sécret of signatures";
const APP_SECRET: &str = "sécret of apps";

/// A language's caller asks for a download by a signed GET, for a link by a signed POST, and for a download by its
/// app's JWT; every URL that it prints gives the whole file.
fn calls_succeed(language: &str, program: impl AsRef<OsStr>, script: &str) -> anyhow::Result<()> {
    let client = |key: &str, secret: &str, scheme: &str| {
        format!(
            "[[clients]]\naccess_key = {key:?}\nsecret = {secret:?}\nscheme = {scheme:?}\nprefixes = [\"reports\"]\n"
        )
    };
    let clients =
        client(language, SECRET, "signature") + &client(&format!("{language}-app"), APP_SECRET, "app-jwt");
    let mut cluster = Cluster::start()
        .edges(1)
        .clients(&clients)
        .coordinator(|coordinator| coordinator.toml("auth.schemes = [\"signature\", \"app-jwt\"]"))
        .file(FILE_ID, 300_000)
        .ready()?;
    caller::wait_for_next_second()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let url = cluster.coordinator().url();
    let said = tool::run(program, &[&*script.to_string_lossy(), &url, SECRET, APP_SECRET, FILE_ID])?;
    let urls: Vec<&str> = said.lines().collect();
    assert_eq!(urls.len(), 3, "{said}");
    assert!(urls[1].starts_with(&format!("{url}/d/")), "{said}");
    for url in &urls {
        let answer = client::get(url)?;
        assert_eq!(answer.status(), 200, "{url}: {}", answer.text());
        cluster.content(FILE_ID).check_whole(&answer.body)?;
    }
    // filename of the link: 年度 報告.bin
    let disposition = client::get(urls[1])?.field("content-disposition")?.to_owned();
    assert!(disposition.contains("%E5%B9%B4%E5%BA%A6%20%E5%A0%B1%E5%91%8A.bin"), "{disposition}");
    Ok(())
}

#[test]
fn a_caller_in_python_is_served() -> anyhow::Result<()> {
    calls_succeed("python", tool::python()?, "python/caller.py")
}

#[test]
fn a_caller_in_php_is_served() -> anyhow::Result<()> {
    calls_succeed("php", "php", "php/caller.php")
}

#[test]
fn a_caller_in_java_is_served() -> anyhow::Result<()> {
    calls_succeed("java", "java", "java/Caller.java")
}
