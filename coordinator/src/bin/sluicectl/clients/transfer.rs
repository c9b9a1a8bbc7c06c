//! `clients import` and `clients reseal`: many clients at once. No secret is ever printed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sluice_coordinator::clients_to_import;

use super::path;
use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::{Format, Session, consent, output};

/// Others may be changing clients; not for ever.
const ROUNDS_MAX: usize = 200;

#[derive(clap::Args)]
pub(crate) struct Import {
    /// As a coordinator's clients_file is: TOML, readable by you only.
    file: PathBuf,
    /// Put the file's clients in the place of those that exist; asks first.
    #[arg(long)]
    replace: bool,
}

/// What came of it: the names of clients.
#[derive(Default, Serialize)]
struct Imported {
    added: Vec<String>,
    replaced: Vec<String>,
    /// They exist.
    kept: Vec<String>,
}

impl Import {
    pub(super) fn run(self, session: &Session) -> Result<(), Fault> {
        let clients = clients_to_import(&self.file).map_err(Fault::ClientsFile)?;
        if self.replace {
            let question =
                format!("Put the {} clients of the file in the place of those that exist?", clients.len());
            consent::ask(&question, session.yes)?;
        }
        let query = if self.replace { "?replace=true" } else { "" };
        let mut came = Imported::default();
        let mut ended = Ok(());
        for client in clients {
            let name = client.access_key.clone();
            match session.coordinator.put(&path(&name, query), client.json.to_string()) {
                Ok(answer) if answer.read::<One>().is_ok_and(|one| one.replaced) => came.replaced.push(name),
                Ok(_) => came.added.push(name),
                Err(Fault::Conflict { detail }) if !self.replace && detail.contains("already") => {
                    came.kept.push(name);
                }
                Err(fault) => {
                    output::tell(&format!("client '{name}' is not imported, nor are those after it"));
                    ended = Err(fault);
                    break;
                }
            }
        }
        output::print(&came.shown(session.format)).map_err(Fault::Output)?;
        ended
    }
}

#[derive(Deserialize)]
struct One {
    replaced: bool,
}

impl Imported {
    fn shown(&self, format: Format) -> String {
        if format == Format::Json {
            return plain_json(&serde_json::to_string(self).expect("names serialize"));
        }
        let line = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("{what:<9}  {}\n", plain(&names.join(" "))),
        };
        let lines = [line("added", &self.added), line("replaced", &self.replaced), line("kept", &self.kept)];
        let text = lines.concat();
        if text.is_empty() { "the file has no clients\n".to_owned() } else { text }
    }
}

/// As the API tells it.
#[derive(Default, Serialize, Deserialize)]
struct SealedAnew {
    sealed: usize,
    left: usize,
    good: usize,
    unreadable: Vec<String>,
}

/// Calls `path` until nothing is left that is sealed with another key than the first of `setting`.
pub(crate) fn reseal(session: &Session, path: &str, setting: &str) -> Result<(), Fault> {
    let mut all = SealedAnew::default();
    for _ in 0..ROUNDS_MAX {
        let round: SealedAnew = session.coordinator.post(path, String::new())?.read()?;
        all = SealedAnew { sealed: all.sealed + round.sealed, ..round };
        if all.left == 0 {
            break;
        }
    }
    let text = match session.format {
        Format::Json => plain_json(&serde_json::to_string(&all).expect("numbers and names serialize")),
        Format::Table => format!("sealed anew  {}\nleft         {}", all.sealed, all.left),
    };
    output::print(&text).map_err(Fault::Output)?;
    for name in &all.unreadable {
        output::tell(&format!("{name} opens with no {setting} of the coordinator, and is as it was"));
    }
    if all.left == 0 && all.unreadable.is_empty() {
        return Ok(());
    }
    Err(Fault::Left(format!("not all is sealed anew; leave the old {setting} in its place")))
}
