//! What the documents show runs as they show it: the README's commands, the sample configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sluice_loadtest::process::binary;
use sluice_loadtest::{Cluster, tool};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README's fenced `sh` blocks, each with the indented lines that follow it: its output, where some is shown.
fn commands() -> anyhow::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(repository().join("README.md"))?;
    let blocks = text.split("\n```sh\n").skip(1).map(|rest| {
        let (command, after) = rest.split_once("\n```\n").context("a block ends")?;
        let shown =
            after.lines().skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("    "));
        Ok((command.to_owned(), shown.collect::<Vec<_>>().join("\n")))
    });
    blocks.collect()
}

fn shell(command: &str, folder: &Path) -> anyhow::Result<String> {
    let ended = Command::new("bash").args(["-euc", command]).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{command}: {} {said}", ended.status);
    Ok(String::from_utf8(ended.stdout)?)
}

#[test]
fn every_command_of_the_readme_does_what_it_says() -> anyhow::Result<()> {
    let timed = "[timed]\nsecret = \"a secret of another site's\"\nfile_id = \"hello.txt\"";
    let cluster = Cluster::start()
        .edges(3)
        .coordinator(|settings| settings.toml(timed))
        .file("big.bin", 30 << 20)
        .file("reports/2026.pdf", 1 << 20)
        .ready()?;
    fs::write(cluster.root().join("hello.txt"), "Hello from Sluice.\n")?;
    let folder = tempfile::tempdir()?;
    let base = cluster.download_url("");
    let base = base.split("/download/").next().context("a URL of the coordinator")?;
    let dry_run = |target: &str| shell(&format!("make -n {target}"), &repository());
    let mut checked = Vec::new();
    for (command, shown) in commands()? {
        if let Some(target) = command.strip_prefix("make ") {
            // Run whole by whoever runs this test, or by CI: here, that the target exists.
            dry_run(target)?;
            checked.push("make");
        } else if command.starts_with("cargo build") {
            let demo = dry_run("demo")?;
            ensure!(demo.contains(&command), "the demo builds with another command: {demo}");
            checked.push("cargo");
        } else if command.starts_with("sluicectl ") {
            let said = shell(&format!("{}{command}", as_operator(&cluster)?), folder.path())?;
            for expected in ["edge-3", "AK1", "/api/get_file/"] {
                ensure!(said.contains(expected), "no {expected} in {said}");
            }
            checked.push("sluicectl");
        } else {
            let output = shell(&command.replace("http://127.0.0.1:8080", base), folder.path())?;
            if shown.starts_with('{') {
                let answer: serde_json::Value = serde_json::from_str(&output)?;
                for key in ["download_url", "expires_at", "edge", "alternates"] {
                    ensure!(
                        shown.contains(&format!("\"{key}\"")) && answer.get(key).is_some(),
                        "{key} in {output}"
                    );
                }
                checked.push("api");
            } else if shown.is_empty() {
                checked.push("download");
            } else {
                ensure!(output.trim() == shown, "{command} gives {output}, the README shows {shown}");
                checked.push("shown");
            }
        }
    }
    cluster.content("big.bin").check_whole(&fs::read(folder.path().join("big.bin"))?)?;
    cluster.content("big.bin").check(0, &fs::read(folder.path().join("first-100-bytes"))?)?;
    for kind in ["make", "cargo", "sluicectl", "api", "download", "shown"] {
        ensure!(checked.contains(&kind), "no {kind} command in the README: {checked:?}");
    }
    Ok(())
}

/// What an operator of this cluster would have in the shell.
fn as_operator(cluster: &Cluster) -> anyhow::Result<String> {
    let tool = binary("sluicectl")?;
    let programs = tool.parent().context("a program is in a folder")?;
    let tokens = cluster.folder().join("admin.tokens");
    Ok(format!(
        "PATH={}:$PATH\nexport SLUICECTL_COORDINATOR={} SLUICECTL_TOKEN_FILE={}\n",
        programs.display(),
        cluster.coordinators()[0].admin_url(),
        tokens.display(),
    ))
}

#[test]
fn the_sample_configurations_are_valid() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("files"))?;
    // As an operator would have it: the key file of a coordinator that has run, beside both.
    let cluster = Cluster::start().edges(1).ready()?;
    fs::copy(cluster.keys_path(), folder.path().join("keys.jwks.json"))?;
    for (program, sample) in [("sluice-coordinator", "coordinator.toml"), ("sluice-edge", "edge.toml")] {
        let path = folder.path().join(sample);
        fs::copy(repository().join("deploy/samples").join(sample), &path)?;
        tool::run(binary(program)?, &[Path::new("--check"), Path::new("--config"), &path])?;
    }
    Ok(())
}

#[test]
fn unknown_keys_of_a_sample_are_refused_by_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (program, sample) in [("sluice-coordinator", "coordinator.toml"), ("sluice-edge", "edge.toml")] {
        let path = folder.path().join(sample);
        let text = fs::read_to_string(repository().join("deploy/samples").join(sample))?;
        fs::write(&path, format!("colour = \"blue\"\n{text}"))?;
        let ended = Command::new(binary(program)?).arg("--check").arg("--config").arg(&path).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(1), "{program} takes an unknown key");
        ensure!(said.contains(&format!("{sample}:1:")) && said.contains("`colour`"), "{said}");
    }
    Ok(())
}
