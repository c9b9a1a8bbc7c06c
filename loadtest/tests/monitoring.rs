//! Alerts and dashboards ask for metrics that exist: of the programs and the etcd of a running cluster, by name and labels.
//! Each alert fires on what it is for, and no other does; the runbook has a section for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_loadtest::{Cluster, client, tool};

/// Labels that Prometheus adds, whose values are the operator's.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
/// Prometheus' own: whether it could scrape.
const UP: &str = "up";
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// A metric that an expression asks for, and the values of its labels, where it says which.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    labels: Vec<(String, Vec<String>)>,
}

/// Reads as much of PromQL as our expressions have.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Everything that an expression asks for.
    fn selectors(mut self) -> anyhow::Result<Vec<Selector>> {
        let mut found = Vec::new();
        while let Some(first) = self.0.chars().next() {
            if first.is_ascii_digit() {
                // A number, or a duration.
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
            } else if first == '[' {
                self.take_through(']')?;
            } else if first.is_ascii_alphabetic() {
                let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                let rest = self.0.trim_start();
                let is_function = ["(", "by ", "without "].iter().any(|next| rest.starts_with(next));
                if GROUPINGS.contains(&word) {
                    self.take_through(')')?;
                } else if !is_function && !OPERATORS.contains(&word) {
                    let labels = if rest.starts_with('{') { self.labels()? } else { Vec::new() };
                    found.push(Selector { metric: word.to_owned(), labels });
                }
            } else {
                self.0 = &self.0[first.len_utf8()..];
            }
        }
        Ok(found)
    }

    fn take_while(&mut self, is_of_it: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !is_of_it(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn take_through(&mut self, end: char) -> anyhow::Result<&'a str> {
        let (taken, rest) = self.0.split_once(end).with_context(|| format!("no {end} in {}", self.0))?;
        self.0 = rest;
        Ok(taken)
    }

    /// What is in braces. None of our values has a brace, a comma or a quote.
    fn labels(&mut self) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let inside = self.take_through('}')?.trim_start().trim_start_matches('{');
        let matchers = inside.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
        matchers
            .map(|matcher| {
                let (label, value) = matcher.split_once('=').context("a matcher is label=value")?;
                let values = value.trim_start_matches('~').trim_matches('"').split('|');
                Ok((label.trim().to_owned(), values.map(str::to_owned).collect()))
            })
            .collect()
    }
}

/// Every expression of the rules, each with its alert's name.
fn rules() -> anyhow::Result<Vec<(String, String)>> {
    let python = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let path = deploy().join("prometheus/sluice.rules.yml");
    let told = tool::run(tool::python()?, &["-c", python, &*path.to_string_lossy()])?;
    let rules: Value = serde_json::from_str(&told)?;
    let groups = rules["groups"].as_array().context("rules are in groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    rules
        .map(|rule| {
            let text = |key: &str| -> anyhow::Result<String> {
                Ok(rule[key].as_str().with_context(|| format!("no {key} in {rule}"))?.to_owned())
            };
            Ok((text("alert")?, text("expr")?))
        })
        .collect()
}

/// Every expression of the dashboards, each with its panel's title.
fn panels() -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in ["cluster", "edges"] {
        let text = fs::read_to_string(deploy().join(format!("grafana/{name}.json")))?;
        let dashboard: Value = serde_json::from_str(&text)?;
        let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let title = panel["title"].as_str().context("a panel has a title")?;
            for target in panel["targets"].as_array().context("a panel asks for something")? {
                let expression = target["expr"].as_str().context("a target has an expression")?;
                found.push((format!("{name}: {title}"), expression.to_owned()));
            }
        }
        for variable in dashboard["templating"]["list"].as_array().context("variables")? {
            if let Some(metric) =
                variable["definition"].as_str().and_then(|text| text.strip_prefix("label_values("))
            {
                let metric = metric.split(',').next().unwrap_or_default();
                found.push((format!("{name}: ${}", variable["name"]), metric.to_owned()));
            }
        }
    }
    Ok(found)
}

/// What is exported: metrics, and of each the values that its labels have.
#[derive(Default)]
struct Exported(BTreeMap<String, BTreeSet<(String, String)>>);

impl Exported {
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, _) = line.rsplit_once(' ').context("a series has a value")?;
            let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
            let known = self.0.entry(metric.to_owned()).or_default();
            for label in labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')) {
                known.insert((label.0.to_owned(), label.1.trim_matches('"').to_owned()));
            }
        }
        Ok(())
    }

    fn has(&self, asked: &Selector) -> Result<(), String> {
        if asked.metric == UP {
            return Ok(());
        }
        let known = self.0.get(&asked.metric).ok_or_else(|| format!("nobody exports {}", asked.metric))?;
        for (label, values) in
            asked.labels.iter().filter(|(label, _)| !OF_PROMETHEUS.contains(&label.as_str()))
        {
            if let Some(value) =
                values.iter().find(|value| !known.contains(&(label.clone(), (*value).clone())))
            {
                return Err(format!("no {} has {label}=\"{value}\"", asked.metric));
            }
        }
        Ok(())
    }
}

/// What a whole cluster exports: keys, clients and edges in etcd, TLS, a download made.
fn exported() -> anyhow::Result<Exported> {
    let mut exported = Exported::default();
    let mut scrape = |url: &str| -> anyhow::Result<()> {
        // Not our client: etcd answers in chunks.
        exported.add(&tool::run("curl", &["-fsS", &format!("{url}/metrics")])?)
    };
    let mut cluster =
        Cluster::start().edges(2).etcd(1).keys_in_etcd("").file("large.bin", 5 << 20).ready()?;
    let answer = client::get(&cluster.download_url("large.bin"))?;
    ensure!(answer.status() == 200, "{}", answer.text());
    scrape(&cluster.coordinators()[0].admin_url())?;
    scrape(&cluster.edges()[0].admin_url())?;
    scrape(&cluster.etcd().member(0).url())?;
    let folder = tempfile::tempdir()?;
    let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let (certificate_out, key_out) = (certificate.to_string_lossy(), key.to_string_lossy());
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                   -addext subjectAltName=DNS:localhost";
    let out = ["-out", &*certificate_out, "-keyout", &*key_out];
    tool::run("openssl", &request.split_whitespace().chain(out).collect::<Vec<_>>())?;
    let tls = format!(
        "public_url = \"https://localhost\"\n[tls]\ncert_file = {certificate_out:?}\nkey_file = {key_out:?}"
    );
    let served = Cluster::start().coordinator(|settings| settings.toml(&tls)).file("a.bin", 1).ready()?;
    scrape(&served.coordinators()[0].admin_url())?;
    Ok(exported)
}

#[test]
fn every_query_of_alerts_and_dashboards_asks_for_what_is_exported() -> anyhow::Result<()> {
    let exported = exported()?;
    let mut wrong = Vec::new();
    for (place, expression) in rules()?.into_iter().chain(panels()?) {
        let asked = Reader(&expression).selectors().with_context(|| format!("{place}: {expression}"))?;
        ensure!(!asked.is_empty(), "{place} asks for nothing: {expression}");
        wrong.extend(
            asked
                .iter()
                .filter_map(|asked| exported.has(asked).err())
                .map(|fault| format!("{place}: {fault}")),
        );
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_alone_on_what_it_is_for() -> anyhow::Result<()> {
    let folder = deploy().join("prometheus");
    tool::run("promtool", &[Path::new("check"), Path::new("config"), &folder.join("prometheus.yml")])?;
    tool::run("promtool", &[Path::new("test"), Path::new("rules"), &folder.join("sluice.rules.test.yml")])?;
    let tests = fs::read_to_string(folder.join("sluice.rules.test.yml"))?;
    let runbook = fs::read_to_string(deploy().join("RUNBOOK.md"))?;
    for (alert, _) in rules()? {
        ensure!(tests.contains(&format!("{{alertname=\"{alert}\"}}")), "nothing makes {alert} fire");
        ensure!(
            runbook.contains(&format!("\n#### {alert}\n")),
            "the runbook does not say what to do about {alert}"
        );
    }
    Ok(())
}

#[test]
fn expressions_are_read_as_they_are_meant() -> anyhow::Result<()> {
    let expression = "histogram_quantile(0.99, sum by (le, status) (rate(a_bucket{instance=~\"$instance\",\
                      status=~\"500|503\"}[5m]))) > 2 * b and on (instance) c{d=\"e\"} == 1";
    let plain = |metric: &str| Selector { metric: metric.to_owned(), labels: Vec::new() };
    let label =
        |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
    let expected = vec![
        Selector {
            labels: vec![label("instance", &["$instance"]), label("status", &["500", "503"])],
            ..plain("a_bucket")
        },
        plain("b"),
        Selector { labels: vec![label("d", &["e"])], ..plain("c") },
    ];
    ensure!(Reader(expression).selectors()? == expected, "{:?}", Reader(expression).selectors()?);
    let mut exported = Exported::default();
    exported.add("# HELP a_bucket x\na_bucket{status=\"500\",le=\"+Inf\"} 3\nc{d=\"e\"} 1\n")?;
    let faults: Vec<_> = expected.iter().filter_map(|asked| exported.has(asked).err()).collect();
    ensure!(faults == ["no a_bucket has status=\"503\"", "nobody exports b"], "{faults:?}");
    Ok(())
}
