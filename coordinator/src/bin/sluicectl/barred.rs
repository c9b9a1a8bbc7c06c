//! `revoke` and `block`: what is not given any more though links and tokens say so.

use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::plain::plain_json;
use crate::table::Table;
use crate::{Format, Session, consent, output};

const REVOCATIONS: &str = "/admin/v1/revocations";
const BLOCKS: &str = "/admin/v1/blocks";

#[derive(Subcommand)]
pub(crate) enum Revoke {
    /// Everything that is revoked, or was.
    List,
    /// A durable link, by its id: nobody opens or renews it, and its tokens are good no more.
    Link(Revoked),
    /// A user, as callers name it.
    User(Revoked),
    /// An API client, by its access key; its calls are refused too.
    Client(Revoked),
    /// A file, by its id.
    File(Revoked),
    /// A key of tokens that others may have, by its id: whatever was sealed with it is refused.
    Key(Revoked),
}

#[derive(clap::Args)]
pub(crate) struct Revoked {
    value: String,
    #[command(flatten)]
    terms: Terms,
}

/// All files under a prefix.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Block {
    /// Files whose ids begin so, on '/' boundaries; '' is all files.
    #[arg(long, value_name = "P", group = "which")]
    prefix: Option<String>,
    /// Everything that is blocked, or was.
    #[arg(long, group = "which", conflicts_with_all = ["until", "cut", "lift"])]
    list: bool,
    #[command(flatten)]
    terms: Terms,
}

#[derive(clap::Args)]
struct Terms {
    /// Until when, as in 2027-01-01T00:00:00Z; without it for good.
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// End downloads under way, too.
    #[arg(long)]
    cut: bool,
    /// Let it be given again.
    #[arg(long, conflicts_with_all = ["until", "cut"])]
    lift: bool,
}

#[derive(Serialize)]
struct New<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<&'a str>,
    cut: bool,
}

impl Revoke {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let (what, Revoked { value, terms }) = match self {
            Self::List => return list(session, REVOCATIONS),
            Self::Link(revoked) => ("link", revoked),
            Self::User(revoked) => ("user", revoked),
            Self::Client(revoked) => ("client", revoked),
            Self::File(revoked) => ("file", revoked),
            Self::Key(revoked) => ("key", revoked),
        };
        let shown = format!("{what} '{value}'");
        if terms.lift {
            let query = format!("what={what}&value={}", utf8_percent_encode(&value, NON_ALPHANUMERIC));
            session.coordinator.delete(&format!("{REVOCATIONS}?{query}"))?;
            return output::confirm(session.format, "", &format!("{shown} is revoked no more"));
        }
        if what == "key" {
            let question = format!("Refuse for good whatever is sealed with key '{value}'?");
            consent::ask(&question, session.yes)?;
        } else if terms.cut {
            consent::ask(&format!("End downloads under way of {shown}, too?"), session.yes)?;
        }
        let until = terms.until.as_deref();
        let new = New { what: Some(what), value: Some(&value), prefix: None, until, cut: terms.cut };
        set(session, REVOCATIONS, &new, &format!("{shown} is revoked"))
    }
}

impl Block {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        let Some(prefix) = self.prefix.filter(|_| !self.list) else { return list(session, BLOCKS) };
        let shown = format!("what is under '{prefix}'");
        if self.terms.lift {
            let query = utf8_percent_encode(&prefix, NON_ALPHANUMERIC);
            session.coordinator.delete(&format!("{BLOCKS}?prefix={query}"))?;
            return output::confirm(session.format, "", &format!("{shown} is given again"));
        }
        if self.terms.cut {
            consent::ask(&format!("End downloads under way of {shown}, too?"), session.yes)?;
        }
        let until = self.terms.until.as_deref();
        let new = New { what: None, value: None, prefix: Some(&prefix), until, cut: self.terms.cut };
        set(session, BLOCKS, &new, &format!("{shown} is blocked"))
    }
}

fn set(session: &Session, path: &str, new: &New<'_>, sentence: &str) -> Result<(), Fault> {
    let body = serde_json::to_string(new).expect("texts serialize");
    let answer = session.coordinator.post(path, body)?;
    output::confirm(session.format, answer.json(), sentence)
}

fn list(session: &Session, path: &str) -> Result<(), Fault> {
    let answer = session.coordinator.get(path)?;
    let text = match session.format {
        Format::Json => plain_json(answer.json()),
        Format::Table => table(answer.read::<Marks>()?),
    };
    output::print(&text).map_err(Fault::Output)
}

#[derive(Deserialize)]
struct Marks {
    #[serde(alias = "blocks")]
    revocations: Vec<Mark>,
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mark {
    what: String,
    value: String,
    set: String,
    until: String,
    cut: bool,
    in_force: bool,
}

fn table(marks: Marks) -> String {
    let mut table = Table::new(["WHAT", "IN FORCE", "SET", "UNTIL", "CUT", "VALUE"]);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for mark in marks.revocations {
        table.push([
            mark.what,
            yes(mark.in_force),
            mark.set,
            mark.until,
            yes(mark.cut),
            format!("'{}'", mark.value),
        ]);
    }
    table.to_string()
}
