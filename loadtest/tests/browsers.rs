//! A browser's downloads, over plain HTTP and over TLS, by a click on a link that leads to the coordinator.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use sluice_loadtest::{Cluster, tool, wait_until};

const NAME: &str = "Übersicht 2026 漢字.bin";
const FILE: &str = "reports/Übersicht 2026 漢字.bin";
const FILE_IN_URL: &str = "reports/%C3%9Cbersicht%202026%20%E6%BC%A2%E5%AD%97.bin";
const SIZE: u64 = (30 << 20) + 3;

fn over_both(edge: &str, claim: impl Fn(&Cluster) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for is_tls in [false, true] {
        let builder = Cluster::start().edges(2).file(FILE, SIZE).every_edge(|settings| settings.toml(edge));
        let cluster = if is_tls { builder.tls() } else { builder }.ready()?;
        claim(&cluster).with_context(|| format!("TLS: {is_tls}"))?;
    }
    Ok(())
}

fn click(cluster: &Cluster, into: &Path) -> anyhow::Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/browser.py");
    let mut command = Command::new(tool::python()?);
    command.arg(script).arg("chromium").arg(cluster.download_url(FILE_IN_URL)).arg(into);
    Ok(command)
}

fn check(cluster: &Cluster, into: &Path) -> anyhow::Result<()> {
    Ok(cluster.content(FILE).check_whole(&fs::read(into.join(NAME))?)?)
}

#[test]
fn a_click_saves_the_file_under_its_name() -> anyhow::Result<()> {
    over_both("", |cluster| {
        let folder = tempfile::tempdir()?;
        let said = tool::complete(&mut click(cluster, folder.path())?)?;
        ensure!(said.trim() == NAME, "named {said:?}");
        check(cluster, folder.path())
    })
}

#[test]
fn a_download_that_was_paused_until_the_edge_cut_it_resumes() -> anyhow::Result<()> {
    let edge = "[limits]\nrate = \"4MB\"\nsend_timeout = \"1s\"\n[log]\naccess_file = \"access.jsonl\"";
    over_both(edge, |cluster| {
        let folder = tempfile::tempdir()?;
        let mut command = click(cluster, folder.path())?;
        let mut browser = command.arg("pause").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(browser.stdout.take().context("its output is a pipe")?).lines();
        ensure!(said.next().transpose()?.as_deref() == Some("paused"), "it was paused");
        wait_until("an edge has cut it", || {
            let cut = cluster.edges().iter().map(|edge| edge.metric("sluice_edge_slow_clients_total"));
            Ok(cut.sum::<anyhow::Result<f64>>()? > 0.0)
        })?;
        writeln!(browser.stdin.take().context("its input is a pipe")?, "resume")?;
        let name = said.next().transpose()?;
        ensure!(browser.wait()?.success() && name.as_deref() == Some(NAME), "it came to {name:?}");
        check(cluster, folder.path())?;
        // What it had, it did not ask for again.
        wait_until("the resumption is logged", || {
            let log = fs::read_to_string(cluster.folder().join("access.jsonl"))?;
            Ok(log.lines().any(|line| line.contains("\"status\":206") && !line.contains("\"range\":\"0-")))
        })
    })
}
