//! `hot`: the files that are asked for most, by name; the status page has their tags alone.

use serde::Deserialize;

use crate::fault::Fault;
use crate::plain::plain_json;
use crate::table::Table;
use crate::{Format, Session, output};

#[derive(clap::Args)]
pub(crate) struct Hot {}

#[derive(Deserialize)]
struct Told {
    files: Vec<File>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    tag: String,
    file_id: String,
    rate: f64,
    edges: u32,
}

impl Hot {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let answer = session.coordinator.get("/admin/v1/hot-files")?;
        let text = match session.format {
            Format::Json => plain_json(answer.json()),
            Format::Table => table(answer.read::<Told>()?.files),
        };
        output::print(&text).map_err(Fault::Output)
    }
}

fn table(files: Vec<File>) -> String {
    let mut table = Table::new(["TAG", "A SECOND", "EDGES", "FILE"]);
    for File { tag, file_id, rate, edges } in files {
        table.push([tag, format!("{rate:.1}"), edges.to_string(), file_id]);
    }
    table.to_string()
}
