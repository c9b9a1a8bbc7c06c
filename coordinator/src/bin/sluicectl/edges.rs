//! `edges`: where they are, how they are, and what is ordered of them.

use clap::builder::NonEmptyStringValueParser;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::fault::Fault;
use crate::plain::plain_json;
use crate::table::Table;
use crate::{Format, Session, output};

const EDGES: &str = "/admin/v1/edges";
const WEIGHTS: std::ops::RangeInclusive<i64> = 1..=10_000;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every edge with its state, and what is ordered of it.
    List,
    /// Send nobody to an edge any more, until it is undrained; who has a link to it is served to the end.
    Drain(Named),
    /// Send clients to an edge again.
    Undrain(Named),
    /// Give an edge another share of the files, until it is given its own again.
    Weight(NewWeight),
}

#[derive(clap::Args)]
pub(crate) struct Named {
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    edge: String,
}

#[derive(clap::Args)]
pub(crate) struct NewWeight {
    #[command(flatten)]
    edge: Named,
    /// A whole number from 1 to 10000, relative to the other edges'; or `own`, that of the edge's configuration.
    #[arg(value_parser = weight, allow_hyphen_values = true)]
    weight: Weight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Own,
    Of(i64),
}

fn weight(text: &str) -> Result<Weight, String> {
    match text.parse() {
        _ if text == "own" => Ok(Weight::Own),
        Ok(weight) if WEIGHTS.contains(&weight) => Ok(Weight::Of(weight)),
        Ok(weight) if weight < 1 => {
            Err("an edge without a share is one to drain: `edges drain`; a weight is from 1 to 10000"
                .to_owned())
        }
        _ => Err("write a whole number from 1 to 10000, or own".to_owned()),
    }
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let coordinator = &session.coordinator;
        match self {
            Self::List => list(session),
            Self::Drain(Named { edge }) => {
                coordinator.post(&path(&edge, "drain"), String::new())?;
                output::confirm(session.format, "", &format!("nobody is sent to edge '{edge}' any more"))
            }
            Self::Undrain(Named { edge }) => {
                coordinator.post(&path(&edge, "undrain"), String::new())?;
                output::confirm(session.format, "", &format!("edge '{edge}' gets clients again"))
            }
            Self::Weight(NewWeight { edge: Named { edge }, weight: Weight::Own }) => {
                coordinator.delete(&path(&edge, "weight"))?;
                output::confirm(session.format, "", &format!("edge '{edge}' has its own weight"))
            }
            Self::Weight(NewWeight { edge: Named { edge }, weight: Weight::Of(weight) }) => {
                coordinator.post(&path(&edge, "weight"), format!("{{\"weight\":{weight}}}"))?;
                output::confirm(session.format, "", &format!("edge '{edge}' has a weight of {weight}"))
            }
        }
    }
}

fn path(edge: &str, change: &str) -> String {
    format!("{EDGES}/{}/{change}", utf8_percent_encode(edge, NON_ALPHANUMERIC))
}

fn list(session: &Session) -> Result<(), Fault> {
    let answer = session.coordinator.get(EDGES)?;
    if session.format == Format::Json {
        return output::print(&plain_json(answer.json())).map_err(Fault::Output);
    }
    let Edges { edges, absent, skipped } = answer.read()?;
    let faults: Vec<String> = edges.iter().filter_map(Edge::url_fault).collect();
    output::print(&table(edges)).map_err(Fault::Output)?;
    faults.iter().for_each(|fault| output::tell(fault));
    for order in absent {
        output::tell(&format!("edge '{}' is not there, and ordered is: {}", order.edge, order.in_words()));
    }
    output::tell_skipped(skipped);
    Ok(())
}

#[derive(Deserialize)]
struct Edges {
    edges: Vec<Edge>,
    #[serde(default)]
    absent: Vec<Order>,
    #[serde(default)]
    skipped: Vec<output::Skipped>,
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Edge {
    id: String,
    state: String,
    /// Why it is in that state, where it is degraded.
    reason: Option<String>,
    order: Option<Order>,
    since: String,
    zone: String,
    weight: u32,
    share: f64,
    misses: u32,
    last_probe_ms: Option<f64>,
    url: String,
    admin_url: String,
    url_fault: Option<UrlFault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UrlFault {
    found: String,
    remedy: String,
}

impl Edge {
    /// Why clients would not reach it, in a line.
    fn url_fault(&self) -> Option<String> {
        let UrlFault { found, remedy } = self.url_fault.as_ref()?;
        Some(format!("edge '{}' at {}, where clients are sent: {found}; {remedy}", self.id, self.url))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Order {
    edge: String,
    drain: bool,
    weight: Option<u32>,
}

impl Order {
    /// Without spaces, for a cell.
    fn in_words(&self) -> String {
        match (self.drain, self.weight) {
            (true, Some(weight)) => format!("drain,weight={weight}"),
            (true, None) => "drain".to_owned(),
            (false, Some(weight)) => format!("weight={weight}"),
            (false, None) => String::new(),
        }
    }
}

fn table(edges: Vec<Edge>) -> String {
    let mut table = Table::new([
        "ID",
        "STATE",
        "ORDER",
        "SINCE",
        "ZONE",
        "WEIGHT",
        "SHARE",
        "MISSES",
        "PROBE MS",
        "URL",
        "ADMIN URL",
    ]);
    for edge in edges {
        table.push([
            edge.id,
            match edge.reason {
                Some(reason) => format!("{}: {reason}", edge.state),
                None => edge.state,
            },
            edge.order.map(|order| order.in_words()).unwrap_or_default(),
            edge.since,
            edge.zone,
            edge.weight.to_string(),
            format!("{:.1}%", edge.share * 100.0),
            edge.misses.to_string(),
            edge.last_probe_ms.map(|millis| format!("{millis:.1}")).unwrap_or_default(),
            edge.url,
            edge.admin_url,
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_is_none_is_told_with_what_to_do() {
        assert_eq!([weight("1"), weight("10000")], [Ok(Weight::Of(1)), Ok(Weight::Of(10_000))]);
        assert_eq!(weight("own"), Ok(Weight::Own));
        for text in ["0", "-1", "-9000"] {
            assert!(weight(text).unwrap_err().contains("edges drain"), "{text}");
        }
        for text in ["10001", "1.5", "", "half", "1e3"] {
            assert!(weight(text).unwrap_err().contains("from 1 to 10000"), "{text}");
        }
    }
}
