//! The runbook's blocks of commands run as they are written, on a machine of their own: `machine.sh` beside this, in the
//! runbook's order of need, with etcd and Redis. What takes systemd itself is run by `make test-install`
//! and `make test-deb`. Every block has its
//! place, and a new one fails until it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use sluice_loadtest::process::binary;
use sluice_loadtest::tool;

/// Who runs a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `machine.sh`, by this name.
    Machine(&'static str),
    /// A script of `loadtest/guest/`, under a systemd.
    Guest(&'static str),
    /// Both.
    Both(&'static str, &'static str),
}

/// `make test-install` and `make test-deb`.
const INSTALL: &str = "test-install.sh";
const DEB: &str = "test-deb.sh";

impl Place {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Machine(name) | Self::Both(name, _) => Some(name),
            Self::Guest(_) => None,
        }
    }

    fn script(self) -> Option<&'static str> {
        match self {
            Self::Guest(script) | Self::Both(_, script) => Some(script),
            Self::Machine(_) => None,
        }
    }
}

/// Blocks by how they begin.
const PLACES: [(&str, Place); 18] = [
    ("export SLUICECTL_TOKEN_FILE=", Place::Machine("look-first")),
    ("make build\n", Place::Both("first-installation", INSTALL)),
    ("umask 077\nhead -c 32", Place::Machine("keys-of-etcd")),
    ("sluicectl edges drain edge-1   ", Place::Machine("take-one-out")),
    ("sluicectl edges weight edge-1 20\n", Place::Machine("give-less")),
    ("sluicectl explain ", Place::Machine("explain")),
    ("sluicectl edges drain edge-1\nmake build", Place::Machine("upgrade")),
    ("systemctl stop sluice-coordinator\n", Place::Guest(INSTALL)),
    ("apt install ./sluice-coordinator_", Place::Guest(DEB)),
    ("curl -sS http://127.0.0.1:9101/metrics ", Place::Machine("store")),
    ("export ETCDCTL_API=3 ", Place::Machine("etcd")),
    ("revision=$(etcdctl ", Place::Machine("etcd-quota")),
    ("ETCDCTL_ENDPOINTS=http://10.0.0.1:2379 etcdctl snapshot save ", Place::Machine("etcd-backup")),
    ("systemctl stop etcd\n", Place::Machine("etcd-restore")),
    ("redis-cli ping\n", Place::Machine("redis")),
    ("sluicectl revoke file ", Place::Machine("takedown")),
    ("sluicectl keys list\n", Place::Machine("leaked-key")),
    ("journalctl -u sluice-coordinator -o cat | grep ", Place::Machine("one-request")),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The runbook's fenced `sh` blocks, those in lists without the blanks before their lines.
fn blocks() -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(repository().join("deploy/RUNBOOK.md"))?;
    let (mut blocks, mut block) = (Vec::new(), None::<(usize, String)>);
    for line in text.lines() {
        let blanks = line.len() - line.trim_start().len();
        match &mut block {
            None if line.trim() == "```sh" => block = Some((blanks, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(block.take().map(|(_, text)| text)),
            Some((indent, text)) => {
                text.push_str(line.get(*indent..).unwrap_or_default());
                text.push('\n');
            }
        }
    }
    ensure!(block.is_none(), "a block does not end: {block:?}");
    Ok(blocks)
}

/// Every block with its place.
fn placed() -> anyhow::Result<Vec<(Place, String)>> {
    let mut left: BTreeMap<&str, Place> = PLACES.into_iter().collect();
    let mut placed = Vec::new();
    for block in blocks()? {
        let begin = left.keys().copied().find(|begin| block.starts_with(begin));
        let Some(begin) = begin else { bail!("no place for this block, or two of them: {block}") };
        placed.push((left.remove(begin).context("it was there")?, block));
    }
    ensure!(left.is_empty(), "blocks that the runbook has not: {left:?}");
    Ok(placed)
}

#[test]
fn every_block_has_its_place() -> anyhow::Result<()> {
    let placed = placed()?;
    let names: Vec<_> = placed.iter().filter_map(|(place, _)| place.name()).collect();
    ensure!(names.iter().collect::<BTreeSet<_>>().len() == names.len(), "{names:?}");
    for (script, block) in placed.iter().filter_map(|(place, block)| Some((place.script()?, block))) {
        let first = block.lines().next().unwrap_or_default();
        let text = fs::read_to_string(repository().join("loadtest/guest").join(script))?;
        ensure!(text.contains(&format!("\nblock '{first}' >")), "{script} does not run {first}");
    }
    Ok(())
}

/// What has a machine made; said where it is not permitted.
const UNSHARE: [&str; 7] =
    ["--mount", "--propagation=private", "--net", "--uts", "--pid", "--fork", "--kill-child"];

#[test]
fn every_block_does_what_the_runbook_says() -> anyhow::Result<()> {
    let permitted = tool::run("unshare", &[&UNSHARE[..], &["mount", "-t", "tmpfs", "none", "/mnt"]].concat());
    if let Err(error) = permitted {
        let _ = writeln!(io::stderr().lock(), "namespaces are not permitted here; nothing is run: {error:#}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let ours = placed()?.into_iter().filter_map(|(place, block)| Some((place.name()?, block)));
    let ours: Vec<(&str, String)> = ours.collect();
    for (name, block) in &ours {
        fs::write(folder.path().join(format!("{name}.sh")), block)?;
    }
    let programs = binary("sluicectl")?;
    let ended = Command::new("unshare")
        .args(UNSHARE)
        .arg(repository().join("loadtest/tests/runbook/machine.sh"))
        .arg(folder.path())
        .arg(programs.parent().context("a program is in a folder")?)
        .arg(repository())
        .output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{}\n{said}", ended.status);
    for (name, _) in ours {
        ensure!(folder.path().join(format!("{name}.ran")).exists(), "machine.sh does not run {name}");
    }
    Ok(())
}
