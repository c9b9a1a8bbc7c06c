//! `keys`: what tokens and tickets are sealed with. No key is ever shown, only its fingerprint.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::clients::transfer::reseal;
use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::table::Table;
use crate::{Format, Session, consent, output};

const KEYS: &str = "/admin/v1/keys";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every key with its state.
    List,
    /// Mint with other keys from now on; what was sealed with the old ones is good as before. For keys in etcd.
    Rotate,
    /// Seal keys in etcd anew, after cluster_key or coordinator_key was exchanged. For keys in etcd.
    Reseal,
    /// Refuse what a key sealed that mints no more, before its time. For keys in etcd.
    Retire(Named),
    /// Refuse whatever is sealed with a key that others may have; another takes its place.
    Revoke(Named),
}

#[derive(clap::Args)]
pub(crate) struct Named {
    kid: String,
}

#[derive(Deserialize)]
struct Rotated {
    token: String,
    ticket: String,
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let coordinator = &session.coordinator;
        match self {
            Self::List => {
                let answer = coordinator.get(KEYS)?;
                let text = match session.format {
                    Format::Json => plain_json(answer.json()),
                    Format::Table => table(answer.read::<Keys>()?),
                };
                output::print(&text).map_err(Fault::Output)
            }
            Self::Rotate => {
                let answer = coordinator.post(&format!("{KEYS}/rotate"), String::new())?;
                let text = match session.format {
                    Format::Json => plain_json(answer.json()),
                    Format::Table => {
                        let Rotated { token, ticket } = answer.read()?;
                        plain(&format!("tokens are sealed with '{token}' now, tickets with '{ticket}'"))
                    }
                };
                output::print(&text).map_err(Fault::Output)
            }
            Self::Reseal => reseal(session, &format!("{KEYS}/reseal"), "cluster_key or coordinator_key"),
            Self::Retire(Named { kid }) => {
                consent::ask(&format!("Refuse now what key '{kid}' sealed?"), session.yes)?;
                coordinator.post(&path(&kid, "retire"), String::new())?;
                output::confirm(session.format, "", &format!("key '{kid}' is retired"))
            }
            Self::Revoke(Named { kid }) => {
                consent::ask(&format!("Refuse for good whatever is sealed with key '{kid}'?"), session.yes)?;
                coordinator.post(&path(&kid, "revoke"), String::new())?;
                output::confirm(session.format, "", &format!("key '{kid}' is revoked"))
            }
        }
    }
}

fn path(kid: &str, change: &str) -> String {
    format!("{KEYS}/{}/{change}", utf8_percent_encode(kid, NON_ALPHANUMERIC))
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Key {
    kid: String,
    kind: String,
    state: String,
    fingerprint: String,
    created: Option<String>,
    current_since: Option<String>,
    retire_at: Option<String>,
}

fn table(list: Keys) -> String {
    let mut table =
        Table::new(["KID", "KIND", "STATE", "FINGERPRINT", "CREATED", "CURRENT SINCE", "RETIRE AT"]);
    for key in list.keys {
        table.push([
            key.kid,
            key.kind,
            key.state,
            key.fingerprint,
            key.created.unwrap_or_default(),
            key.current_since.unwrap_or_default(),
            key.retire_at.unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_one_segment_of_a_path() {
        assert_eq!(path("2026-11/..", "revoke"), "/admin/v1/keys/2026%2D11%2F%2E%2E/revoke");
    }
}
