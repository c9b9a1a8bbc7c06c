//! What the documents show runs as they show it: the README's commands, the runbook's, the sample configurations.

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

/// The commands that `make WHAT` would run, and nothing else, also where another make runs this test.
fn dry_run(what: &str) -> anyhow::Result<String> {
    shell(&format!("make --no-print-directory -n {what}"), &repository())
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
        } else if let Some(arguments) = command.strip_prefix("target/release/sluice-loadtest ") {
            // From the checkout's root, as `make loadtest` has built it.
            let report = folder.path().join("report");
            let arguments = arguments
                .replace("http://127.0.0.1:8080", base)
                .replace("--report report", &format!("--report {}", report.display()));
            let program = binary("sluice-loadtest")?;
            shell(&format!("{} {arguments}", program.display()), &repository())?;
            let page = fs::read_to_string(report.join("report.html"))?;
            ensure!(page.contains("Load test of"), "{page}");
            checked.push("sluice-loadtest");
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
    for kind in ["make", "cargo", "sluicectl", "sluice-loadtest", "api", "download", "shown"] {
        ensure!(checked.contains(&kind), "no {kind} command in the README: {checked:?}");
    }
    Ok(())
}

#[test]
fn make_loadtest_leaves_a_report_of_the_demo_s_cluster() -> anyhow::Result<()> {
    // As `make demo` has them: three edges, and these files with whatever content.
    let cluster =
        Cluster::start().edges(3).file("big.bin", 10 << 20).file("reports/2026.pdf", 1 << 20).ready()?;
    fs::write(cluster.root().join("hello.txt"), "Hello from Sluice.\n")?;
    let base = cluster.download_url("");
    let base = base.split("/download/").next().context("a URL of the coordinator")?;
    let folder = tempfile::tempdir()?;
    let lines = dry_run(&format!("loadtest COORDINATOR={base}"))?;
    let start = lines.find("/release/sluice-loadtest run").context("make loadtest runs the load test")?;
    let (_, arguments) = lines[start..].split_once(' ').context("a command has arguments")?;
    let report = folder.path().display();
    let arguments =
        arguments.replace("--report target/loadtest", &format!("--quiet --duration 2s --report {report}"));
    ensure!(arguments.contains("--quiet"), "the report is in target/loadtest: {lines}");
    shell(&format!("{} {arguments}", binary("sluice-loadtest")?.display()), &repository())?;
    let page = fs::read_to_string(folder.path().join("report.html"))?;
    ensure!(page.contains(&format!("Load test of {base}")), "{page}");
    let told: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("report.json"))?)?;
    let tally = &told["tally"];
    ensure!(tally["ended"].as_u64() > Some(0) && tally["failed"] == 0 && tally["wrong"] == 0, "{tally}");
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

#[test]
fn every_command_of_the_runbook_is_one_that_the_tools_know() -> anyhow::Result<()> {
    let text = fs::read_to_string(repository().join("deploy/RUNBOOK.md"))?;
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut commands = Vec::new();
    for block in blocks {
        let ended = Command::new("bash").args(["-nc", block]).output()?;
        ensure!(ended.status.success(), "{block}: {}", String::from_utf8_lossy(&ended.stderr));
        commands
            .extend(block.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned()));
    }
    // Those in the midst of sentences, which may be broken over two lines.
    commands.extend(
        text.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")),
    );
    let tool = binary("sluicectl")?;
    let mut checked = 0;
    for command in commands.iter().filter_map(|command| command.strip_prefix("sluicectl ")) {
        // What comes before it is parsed: commands and options have to be there.
        shell(&format!("{} {command} --help", tool.display()), &repository())?;
        checked += 1;
    }
    ensure!(checked >= 15, "only {checked} commands of the tool in the runbook");
    for script in commands.iter().filter_map(|command| command.strip_prefix("deploy/")) {
        let script = script.split(' ').next().unwrap_or_default();
        ensure!(repository().join("deploy").join(script).is_file(), "no deploy/{script}");
    }
    Ok(())
}
