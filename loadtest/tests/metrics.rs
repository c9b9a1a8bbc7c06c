//! The list of all metrics, the programs, and what running ones export are one: nothing is exported that is not listed, as it
//! is listed; nothing is listed that nobody exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::process::binary;
use sluice_loadtest::{Cluster, Member, client, tool, wait_until_within};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// A metric as the list has it.
#[derive(Debug)]
struct Listed {
    kind: String,
    unit: String,
    meaning: String,
    labels: BTreeMap<String, Values>,
}

#[derive(Debug)]
enum Values {
    These(BTreeSet<String>),
    Edges,
}

/// The list, by program and metric.
type List = BTreeMap<String, BTreeMap<String, Listed>>;

/// Reads the tables of the list.
fn read(text: &str) -> anyhow::Result<List> {
    let mut list = List::new();
    let mut program = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.trim_matches('`').clone_into(&mut program);
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, unit, labels, meaning] = cells[..] else { anyhow::bail!("five cells: {line}") };
            let labels = labels.split("; ").filter(|label| !label.is_empty()).map(|label| {
                let (name, values) = label.split_once(": ").with_context(|| format!("a label: {line}"))?;
                let plain = |text: &str| text.trim_matches('`').to_owned();
                let values = match values {
                    "ids of edges" => Values::Edges,
                    values => Values::These(values.split(", ").map(plain).collect()),
                };
                anyhow::Ok((plain(name), values))
            });
            let listed = Listed {
                kind: kind.to_owned(),
                unit: unit.to_owned(),
                meaning: meaning.to_owned(),
                labels: labels.collect::<anyhow::Result<_>>()?,
            };
            let of_program = list.entry(program.clone()).or_default();
            let before = of_program.insert(name.trim_matches('`').to_owned(), listed);
            ensure!(before.is_none(), "{name} is listed twice");
        }
    }
    Ok(list)
}

fn listed() -> anyhow::Result<List> {
    read(&fs::read_to_string(deploy().join("METRICS.md"))?)
}

#[test]
fn the_list_is_what_the_programs_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("METRICS.md");
    let programs = binary("sluice-edge")?;
    let programs = programs.parent().context("a program is in a folder")?;
    tool::complete(
        Command::new(deploy().join("metrics.sh")).env("PROGRAMS", programs).env("METRICS", &made),
    )?;
    let (shown, made) = (fs::read_to_string(deploy().join("METRICS.md"))?, fs::read_to_string(made)?);
    ensure!(shown == made, "deploy/METRICS.md is not what `make metrics` writes:\n{made}");
    Ok(())
}

/// As Prometheus' own practice has names (prometheus.io/docs/practices/naming): the unit last, and `_total` after it for what
/// is counted.
#[test]
fn names_say_what_values_are_in() -> anyhow::Result<()> {
    for (program, metrics) in listed()? {
        for (name, Listed { kind, unit, meaning, labels }) in metrics {
            let (plain, is_total) =
                name.strip_suffix("_total").map_or((&*name, false), |plain| (plain, true));
            ensure!(is_total == (kind == "counter"), "{name} is a {kind}");
            let suffix = match unit.as_str() {
                "seconds" | "Unix time" => Some("_seconds"),
                "bytes" => Some("_bytes"),
                "0 to 1" => Some("_ratio"),
                "number" | "1 or 0" => None,
                other => anyhow::bail!("{name}: the unit {other:?}"),
            };
            let units = ["_seconds", "_bytes", "_ratio"];
            let said = units.into_iter().find(|unit| plain.ends_with(unit));
            ensure!(said == suffix, "{program}: {name} is in {unit}");
            ensure!(name.starts_with("sluice_"), "{name}");
            ensure!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            ensure!(meaning.ends_with('.') && meaning.len() > 10, "{name}: {meaning}");
            for (label, values) in labels {
                // Those that Prometheus gives are its own.
                ensure!(!["instance", "job", "le", "quantile"].contains(&&*label), "{name} has {label}");
                let is_bounded = match values {
                    Values::These(values) => !values.is_empty() && !values.contains(""),
                    Values::Edges => label == "edge",
                };
                ensure!(is_bounded, "{name}: {label}");
            }
        }
    }
    Ok(())
}

/// What a program exports, by metric.
#[derive(Debug, Default)]
struct Exported(BTreeMap<String, Family>);

/// A metric as it is exported.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    meaning: String,
    /// Of all its series, with their values.
    labels: BTreeSet<(String, String)>,
}

impl Exported {
    fn read(&mut self, text: &str) -> anyhow::Result<()> {
        let mut meaning = String::new();
        let mut metric = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (_, said) = rest.split_once(' ').with_context(|| format!("a meaning: {line}"))?;
                // As the format has it escaped.
                meaning = said.replace("\\\"", "\"");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').context("a type")?;
                name.clone_into(&mut metric);
                let family = self.0.entry(metric.clone()).or_default();
                (family.kind, family.meaning) = (kind.to_owned(), std::mem::take(&mut meaning));
            } else {
                let (series, _) = line.rsplit_once(' ').context("a series has a value")?;
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let known = self.0.get_mut(&metric).with_context(|| format!("no type before {line}"))?;
                let rest = name.strip_prefix(&metric).with_context(|| format!("{line} is of {metric}"))?;
                let parts: &[&str] =
                    if known.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                ensure!(parts.contains(&rest), "{line} is of {metric}");
                for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
                    let (label, value) = label.split_once('=').with_context(|| format!("a label: {line}"))?;
                    if label != "le" {
                        known.labels.insert((label.to_owned(), value.trim_matches('"').to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is exported otherwise than it is listed, or not listed.
    fn differs(&self, program: &str, listed: &BTreeMap<String, Listed>, edges: &[&str]) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, Family { kind, meaning, labels }) in &self.0 {
            let Some(listed) = listed.get(name) else {
                faults.push(format!("{program}: {name} is not listed"));
                continue;
            };
            if (kind, meaning) != (&listed.kind, &listed.meaning) {
                faults.push(format!("{program}: {name} is a {kind}, {meaning:?}"));
            }
            for (label, value) in labels {
                let is_listed = match listed.labels.get(label) {
                    Some(Values::These(values)) => values.contains(value),
                    Some(Values::Edges) => edges.contains(&value.as_str()),
                    None => false,
                };
                if !is_listed {
                    faults.push(format!("{program}: {name} has {label}={value:?}"));
                }
            }
            // A counter that begins with its first event hides that event from whoever looks at increases.
            for (label, values) in listed.labels.iter().filter(|_| kind == "counter") {
                let Values::These(values) = values else { continue };
                let missing =
                    values.iter().find(|value| !labels.contains(&(label.clone(), (*value).clone())));
                faults.extend(missing.map(|value| format!("{program}: no {name} has {label}={value:?}")));
            }
        }
        faults
    }
}

/// A cluster with everything in etcd, and one that speaks TLS: between them they have what there is.
fn clusters() -> anyhow::Result<[Cluster; 2]> {
    let large = |builder: Builder| builder.edges(2).file("a.bin", 5 << 20);
    let with_etcd = large(Cluster::start()).etcd(1).keys_in_etcd("").ready()?;
    let answer = client::get(&with_etcd.download_url("a.bin"))?;
    ensure!(answer.status() == 200, "{}", answer.text());
    Ok([with_etcd, large(Cluster::start()).tls().ready()?])
}

fn scrape(member: &Member) -> anyhow::Result<String> {
    let answer = client::get_here(&format!("{}/metrics", member.admin_url()))?;
    ensure!(answer.status() == 200, "{}", answer.text());
    Ok(answer.text())
}

#[test]
fn what_running_programs_export_is_what_is_listed() -> anyhow::Result<()> {
    let list = listed()?;
    let clusters = clusters()?;
    let mut faults = Vec::new();
    for program in ["sluice-coordinator", "sluice-edge"] {
        let listed = list.get(program).with_context(|| format!("{program} has a list"))?;
        let mut exported = Exported::default();
        for cluster in &clusters {
            let members = if program == "sluice-edge" { cluster.edges() } else { cluster.coordinators() };
            for member in members {
                let text = scrape(member)?;
                lint(&text)?;
                exported.read(&text)?;
            }
        }
        faults.extend(exported.differs(program, listed, &["edge-1", "edge-2"]));
        let missing = listed.keys().filter(|name| !exported.0.contains_key(*name));
        faults.extend(missing.map(|name| format!("{program}: nobody exports {name}")));
    }
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

/// What Prometheus' own tool says of an exposition.
fn lint(text: &str) -> anyhow::Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run promtool; deploy/needs.sh test installs it")?;
    std::io::Write::write_all(&mut child.stdin.take().context("it has an input")?, text.as_bytes())?;
    let ended = child.wait_with_output()?;
    let said = [ended.stdout, ended.stderr].concat();
    ensure!(ended.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Else the last that was known of its clock would be told for ever.
#[test]
fn gauges_of_an_edge_that_left_end() -> anyhow::Result<()> {
    const WITHIN: Duration = Duration::from_secs(120);
    let mut cluster = Cluster::start().edges(2).etcd(1).file("a.bin", 1).ready()?;
    let has = |cluster: &Cluster, edge: &str| -> anyhow::Result<bool> {
        let text = scrape(&cluster.coordinators()[0])?;
        let series = ["sluice_edge_clock_skew_seconds", "sluice_ring_share_ratio"];
        Ok(series.iter().any(|series| text.contains(&format!("{series}{{edge=\"{edge}\"}}"))))
    };
    ensure!(has(&cluster, "edge-1")? && has(&cluster, "edge-2")?);
    cluster.terminate(1)?;
    wait_until_within(WITHIN, "the coordinator no longer speaks of edge-2", || {
        Ok(!has(&cluster, "edge-2")?)
    })?;
    ensure!(has(&cluster, "edge-1")?);
    Ok(())
}
