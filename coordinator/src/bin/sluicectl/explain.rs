//! `explain`: a request's way to its edge, in words.

use std::fmt::Write;
use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::fault::Fault;
use crate::plain::plain;
use crate::table::Table;
use crate::{Format, Session, output, plain as json};

#[derive(clap::Args)]
pub(crate) struct Command {
    /// The file, as it is asked for.
    file: String,
    /// The address that it is asked for from.
    #[arg(long, value_name = "ADDRESS")]
    client: IpAddr,
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let file = utf8_percent_encode(&self.file, NON_ALPHANUMERIC);
        let client = self.client.to_string();
        let client = utf8_percent_encode(&client, NON_ALPHANUMERIC);
        let answer = session.coordinator.get(&format!("/admin/v1/explain?file_id={file}&client={client}"))?;
        let text = match session.format {
            Format::Json => json::plain_json(answer.json()),
            Format::Table => told(answer.read::<Explanation>()?),
        };
        output::print(&text).map_err(Fault::Output)
    }
}

/// As the API tells it.
#[derive(Deserialize)]
struct Explanation {
    trust: String,
    rate: f64,
    fan_out: u32,
    steps: Vec<Step>,
    candidates: Vec<String>,
}

#[derive(Deserialize)]
struct Step {
    zone: String,
    edge: Option<String>,
    text: String,
}

fn told(explanation: Explanation) -> String {
    let Explanation { trust, rate, fan_out, steps, candidates } = explanation;
    let mut table = Table::new(["ZONE", "EDGE", "WHAT"]);
    for step in steps {
        table.push([step.zone, step.edge.unwrap_or_default(), step.text]);
    }
    let mut text = table.to_string();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {}", plain(value));
    };
    line("candidates", &candidates.join(" "));
    line("requests/s", &format!("{rate:.1}, so {fan_out} of the zone's edges have the file"));
    line("trust", trust_in_words(&trust));
    text
}

fn trust_in_words(trust: &str) -> &str {
    match trust {
        "news" => "edges that are up get requests",
        "sudden-silence" => "most edges fell silent at once, which is not believed: they get requests too",
        "only-degraded" => "no edge is up; those whose storage hangs serve what they have cached",
        "nobody-up" => "no edge is known to serve; all that do not drain get requests",
        "only-draining" => "all edges drain, and get requests to the end",
        other => other,
    }
}
