//! `status`: a cluster on one screen, put together from three calls of one coordinator.

use std::thread;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use sluice_shared::findings::Finding;

use crate::coordinator::Answer;
use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::table::Table;
use crate::{Format, Session, output};

/// Clears what the terminal shows, and begins at its top.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

#[derive(clap::Args)]
pub(crate) struct Status {
    /// Show it anew, again and again, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// With --watch: how many seconds from one to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

impl Status {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        if !self.watch {
            return output::print(&screen(session)?).map_err(Fault::Output);
        }
        loop {
            // A coordinator that is away for a moment ends nothing: that is when one watches.
            let shown = screen(session).unwrap_or_else(|fault| plain(&fault.to_string()));
            let text = match session.format {
                Format::Json => shown,
                Format::Table => format!("{CLEAR}{}\n{shown}", now()),
            };
            output::print(&text).map_err(Fault::Output)?;
            thread::sleep(Duration::from_secs(self.every));
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn screen(session: &Session) -> Result<String, Fault> {
    let ask = |path| session.coordinator.get(path);
    let (status, edges, keys) = (ask("/admin/v1/status")?, ask("/admin/v1/edges")?, ask("/admin/v1/keys")?);
    if session.format == Format::Json {
        let part = |answer: &Answer| plain_json(answer.json());
        return Ok(format!(
            "{{\"status\":{},\"edges\":{},\"keys\":{}}}",
            part(&status),
            part(&edges),
            part(&keys)
        ));
    }
    let (told, edges, keys) = (status.read::<Told>()?, edges.read::<Edges>()?, keys.read::<Keys>()?);
    let parts =
        [told.lines(), told.findings(), told.peers(), edges_table(edges.edges), keys_table(keys.keys)];
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    coordinator: Coordinator,
    coordinators: Option<Vec<Peer>>,
    etcd: Option<EtcdTold>,
    state: StateTold,
    findings: Vec<Finding>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Coordinator {
    id: String,
    version: String,
    uptime_seconds: u64,
    ready: bool,
    reasons: Vec<String>,
    notes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Peer {
    id: String,
    url: String,
    state: String,
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EtcdTold {
    reached: bool,
    stale_seconds: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StateTold {
    kind: String,
    well: bool,
}

impl Told {
    fn lines(&self) -> String {
        let own = &self.coordinator;
        let why = |words: &[String]| {
            if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
        };
        let ready = if own.ready { "ready" } else { "NOT READY" };
        let mut lines = vec![format!(
            "coordinator  {} {ready}{}, version {}, up {}",
            own.id,
            why(&own.reasons),
            own.version,
            span(own.uptime_seconds)
        )];
        lines.extend(own.notes.iter().map(|note| format!("note         {note}")));
        lines.push(match &self.etcd {
            None => "etcd         not used".to_owned(),
            Some(EtcdTold { reached: false, .. }) => {
                "etcd         AWAY: what was last known goes on".to_owned()
            }
            Some(EtcdTold { stale_seconds: Some(stale), .. }) => {
                format!("etcd         answers; edges confirmed {stale:.0} s ago")
            }
            Some(_) => "etcd         answers".to_owned(),
        });
        let well = if self.state.well { "answers" } else { "AWAY: what has to be counted gets 503" };
        lines.push(format!("state        {} {well}", self.state.kind));
        lines.iter().map(|line| plain(line) + "\n").collect()
    }

    /// What is wrong with edges and records: the coordinator's own is told above.
    fn findings(&self) -> String {
        let mut text = String::new();
        for finding in self.findings.iter().filter(|finding| finding.what != "coordinator") {
            text +=
                &format!("{:<4} {}: {}\n", finding.level.name(), plain(&finding.what), plain(&finding.found));
            if let Some(remedy) = &finding.remedy {
                text += &format!("     → {}\n", plain(remedy));
            }
        }
        text
    }

    fn peers(&self) -> String {
        let Some(peers) = &self.coordinators else { return String::new() };
        let mut table = Table::new(["COORDINATOR", "STATE KEPT", "VERSION", "URL"]);
        for Peer { id, url, state, version } in peers {
            table.push([id.clone(), state.clone(), version.clone(), url.clone()]);
        }
        table.to_string()
    }
}

#[derive(Deserialize)]
struct Edges {
    edges: Vec<Edge>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Edge {
    id: String,
    state: String,
    reason: Option<String>,
    zone: String,
    weight: u32,
    share: f64,
    connections: Option<u64>,
    transfers: Option<u64>,
    in_flight_bytes: Option<u64>,
    clock_skew_seconds: Option<f64>,
    version: Option<String>,
    url: String,
}

fn edges_table(edges: Vec<Edge>) -> String {
    let mut table = Table::new([
        "EDGE",
        "STATE",
        "ZONE",
        "WEIGHT",
        "SHARE",
        "CONNECTIONS",
        "TRANSFERS",
        "TO SEND",
        "CLOCK",
        "VERSION",
        "URL",
    ]);
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    for edge in edges {
        table.push([
            edge.id,
            edge.reason.map_or(edge.state.clone(), |reason| format!("{}:{reason}", edge.state)),
            edge.zone,
            edge.weight.to_string(),
            format!("{:.1}%", edge.share * 100.0),
            count(edge.connections),
            count(edge.transfers),
            edge.in_flight_bytes.map(mebibytes).unwrap_or_default(),
            edge.clock_skew_seconds.map(|skew| format!("{skew:+.0}s")).unwrap_or_default(),
            edge.version.unwrap_or_default(),
            edge.url,
        ]);
    }
    table.to_string()
}

fn mebibytes(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Key {
    kid: String,
    kind: String,
    state: String,
    created: Option<String>,
    current_since: Option<String>,
}

fn keys_table(keys: Vec<Key>) -> String {
    let now = SystemTime::now();
    let mut table = Table::new(["KEY", "KIND", "STATE", "AGE", "CURRENT FOR"]);
    for key in keys {
        let age = |since: Option<String>| since.and_then(|since| age(&since, now)).unwrap_or_default();
        table.push([key.kid, key.kind, key.state, age(key.created), age(key.current_since)]);
    }
    table.to_string()
}

/// How long ago a time of RFC 3339 was.
fn age(since: &str, now: SystemTime) -> Option<String> {
    let since = humantime::parse_rfc3339(since).ok()?;
    Some(span(now.duration_since(since).unwrap_or_default().as_secs()))
}

/// In two units at most.
fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = humantime::parse_rfc3339("2027-01-02T03:04:05Z").unwrap();
        let table = [
            ("2027-01-02T03:04:05Z", "0s"),
            ("2027-01-01T00:00:00.5Z", "1day3h"),
            ("2028-01-01T00:00:00Z", "0s"),
        ];
        for (since, expected) in table {
            assert_eq!(age(since, now).as_deref(), Some(expected), "{since}");
        }
        assert_eq!(age("soon", now), None);
    }

    #[test]
    fn what_is_away_is_told() {
        let told: Told = serde_json::from_str(
            r#"{"coordinator":{"id":"c\u001b[2J","ready":false,"reasons":["no live edge"],"notes":["etcd is away"]},
                "etcd":{"reached":false},"state":{"kind":"redis","well":false}}"#,
        )
        .unwrap();
        let lines = told.lines();
        for expected in
            ["NOT READY: no live edge", "note         etcd is away", "etcd         AWAY", "redis AWAY"]
        {
            assert!(lines.contains(expected), "{expected}: {lines}");
        }
        assert!(!lines.contains('\u{1b}'), "{lines:?}");
        let told: Told = serde_json::from_str(
            r#"{"findings":[{"what":"coordinator","level":"fail","found":"no live edge"},
                {"what":"edge","level":"warn","found":"edge-1\u001b: refused","remedy":"compare"}]}"#,
        )
        .unwrap();
        let findings = told.findings();
        assert!(findings.starts_with("warn edge: edge-1") && findings.ends_with("→ compare\n"), "{findings}");
        assert!(!findings.contains("no live edge") && !findings.contains('\u{1b}'), "{findings:?}");
    }
}
