//! `edges`: where they are, and how they are.

use serde::Deserialize;

use crate::fault::Fault;
use crate::table::Table;
use crate::{Format, Session, output, plain};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every edge with its state.
    List,
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let Self::List = self;
        let answer = session.coordinator.get("/admin/v1/edges")?;
        let text = match session.format {
            Format::Json => plain::plain_json(answer.json()),
            Format::Table => table(answer.read::<Edges>()?),
        };
        output::print(&text).map_err(Fault::Output)
    }
}

#[derive(Deserialize)]
struct Edges {
    edges: Vec<Edge>,
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Edge {
    id: String,
    state: String,
    since: String,
    zone: String,
    weight: u32,
    share: f64,
    misses: u32,
    last_probe_ms: Option<f64>,
    url: String,
    admin_url: String,
}

fn table(list: Edges) -> String {
    let mut table = Table::new([
        "ID",
        "STATE",
        "SINCE",
        "ZONE",
        "WEIGHT",
        "SHARE",
        "MISSES",
        "PROBE MS",
        "URL",
        "ADMIN URL",
    ]);
    for edge in list.edges {
        table.push([
            edge.id,
            edge.state,
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
