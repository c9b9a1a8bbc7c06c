//! Where io_uring is forbidden, an edge says so, says what to do, and exits.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use sluice_loadtest::Cluster;
use sluice_loadtest::process::binary;

#[test]
fn an_edge_that_may_not_use_io_uring_says_how_to_allow_it() -> anyhow::Result<()> {
    let cluster = Cluster::start().edges(1).ready()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("edge.toml");
    let text = format!(
        "id = \"e\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nroot = \"{}\"\n[keys]\npath = \"{}\"\n",
        cluster.root().display(),
        cluster.keys_path().display()
    );
    std::fs::write(&config, text)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/without_io_uring.py");
    for arguments in [&["--config"][..], &["--check", "--config"]] {
        let mut command = Command::new("python3");
        command.arg(&script).arg(binary("sluice-edge")?).args(arguments).arg(&config);
        let ended = command.output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(1), "{}: {said}", ended.status);
        ensure!(said.contains("io_uring is forbidden here") && said.contains("seccomp profile"), "{said}");
    }
    Ok(())
}
