//! What a Prometheus would have of a cluster: every series of its programs' `/metrics`, scrape after scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use sluice_loadtest::Cluster;
use sluice_loadtest::client::Connection;

/// As Prometheus waits for an answer unless it is told otherwise.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The metric that is a time of day. Rules compare it with `time()`, and promtool's time begins at 0.
const TIME_OF_DAY: &str = "sluice_certificate_expires_seconds";

/// Who is scraped, under the names that the rules expect.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    job: &'static str,
    instance: String,
    /// `host:port`
    address: String,
}

impl Target {
    /// Every program of a cluster, and so many members of its etcd.
    pub(crate) fn all_of(cluster: &mut Cluster, etcd_members: usize) -> Vec<Self> {
        let plain = |url: String| url.trim_start_matches("http://").to_owned();
        let mut targets = Vec::new();
        for (job, members) in
            [("sluice-coordinator", cluster.coordinators()), ("sluice-edge", cluster.edges())]
        {
            targets.extend(members.iter().map(|member| Self {
                job,
                instance: member.id().to_owned(),
                address: plain(member.admin_url()),
            }));
        }
        targets.extend((0..etcd_members).map(|index| Self {
            job: "etcd",
            instance: format!("etcd-{}", index + 1),
            address: plain(cluster.etcd().member(index).url()),
        }));
        targets
    }

    pub(crate) fn is_edge(&self) -> bool {
        self.job == "sluice-edge"
    }

    /// How often a coordinator that answers has probed edges.
    pub(crate) fn probes(&self) -> Option<f64> {
        let text = self.scrape().ok().filter(|_| self.job == "sluice-coordinator")?;
        let counts = text.lines().filter(|line| line.starts_with("sluice_probes_total{"));
        counts.map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// # Errors
    /// Nobody answers, or not with metrics.
    fn scrape(&self) -> anyhow::Result<String> {
        let mut connection = Connection::open_with(&self.address, SCRAPE_TIMEOUT)?;
        // HTTP/1.0, so that etcd does not answer in chunks.
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        connection.send(request.as_bytes())?;
        let answer = String::from_utf8(connection.read_to_close()?)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{head}");
        Ok(body.to_owned())
    }
}

/// Series by name and labels; of each its values, scrape by scrape, where it was there.
#[derive(Debug)]
pub(crate) struct Record {
    series: BTreeMap<String, Vec<Option<f64>>>,
    scrapes: usize,
    /// Factors that a metric's values are recorded with.
    magnified: &'static [(&'static str, f64)],
    /// When the record began, in seconds since 1970: the 0 of its own time.
    began: f64,
}

impl Record {
    pub(crate) fn new(magnified: &'static [(&'static str, f64)]) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { series: BTreeMap::new(), scrapes: 0, magnified, began }
    }

    pub(crate) fn scrapes(&self) -> usize {
        self.scrapes
    }

    /// Scrapes everybody once.
    ///
    /// # Errors
    /// What somebody answers is no metric.
    pub(crate) fn scrape(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        for target in targets {
            let labels = format!("instance=\"{}\",job=\"{}\"", target.instance, target.job);
            let scraped = target.scrape().ok();
            self.note(format!("up{{{labels}}}"), if scraped.is_some() { 1.0 } else { 0.0 });
            for line in scraped.iter().flat_map(|text| text.lines()) {
                if line.starts_with('#') || line.is_empty() {
                    continue;
                }
                let (name, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
                let value = value.parse().with_context(|| format!("no number: {line}"))?;
                let (metric, own) = name.split_once('{').unwrap_or((name, "}"));
                let comma = if own == "}" { "" } else { "," };
                self.note(format!("{metric}{{{labels}{comma}{own}"), self.recorded(metric, value));
            }
        }
        self.scrapes += 1;
        Ok(())
    }

    fn recorded(&self, metric: &str, value: f64) -> f64 {
        let value = if metric == TIME_OF_DAY { value - self.began } else { value };
        let factor = self.magnified.iter().find(|(magnified, _)| *magnified == metric);
        factor.map_or(value, |(_, factor)| value * factor)
    }

    fn note(&mut self, name: String, value: f64) {
        let values = self.series.entry(name).or_default();
        values.resize(self.scrapes, None);
        values.push(Some(value));
    }

    /// Whether there is a series of this metric.
    pub(crate) fn has(&self, metric: &str) -> bool {
        let names: BTreeSet<&str> = self.series.keys().filter_map(|name| name.split('{').next()).collect();
        names.contains(metric)
    }

    /// The series as promtool takes them, in YAML, each line after so many blanks.
    pub(crate) fn write_to(&self, text: &mut String, indent: usize) {
        for (name, values) in &self.series {
            let name = name.replace('\'', "''");
            let values = self.notation(values);
            let _ = writeln!(text, "{:indent$}- {{series: '{name}', values: '{values}'}}", "");
        }
    }

    /// Values in promtool's notation: what ends is stale, what is not there yet is missing.
    fn notation(&self, values: &[Option<f64>]) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut values = values.iter().copied().chain(std::iter::repeat(None)).take(self.scrapes).peekable();
        let mut was_there = false;
        while let Some(value) = values.next() {
            let mut more = 0;
            while was_there == value.is_some() && values.peek().is_some_and(|next| same(*next, value)) {
                values.next();
                more += 1;
            }
            words.push(match value {
                Some(value) if more > 0 => format!("{}x{more}", number(value)),
                Some(value) => number(value),
                None if was_there => "stale".to_owned(),
                None => format!("_x{}", more + 1),
            });
            was_there = value.is_some();
        }
        words.join(" ")
    }
}

fn same(one: Option<f64>, other: Option<f64>) -> bool {
    one.map(f64::to_bits) == other.map(f64::to_bits)
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[test]
fn series_are_written_as_promtool_reads_them() {
    let record = Record { scrapes: 8, ..Record::new(&[]) };
    let table = [
        (vec![Some(1.0)], "1 stale _x6"),
        (vec![None, None, Some(2.5), Some(2.5), Some(3.0)], "_x2 2.5 2.5 3 stale _x2"),
        (vec![Some(0.0); 8], "0 0x6"),
        (vec![Some(f64::INFINITY), None, None, Some(-1.0)], "Inf stale _x1 -1 stale _x3"),
    ];
    for (values, expected) in table {
        assert_eq!(record.notation(&values), expected, "{values:?}");
    }
}
