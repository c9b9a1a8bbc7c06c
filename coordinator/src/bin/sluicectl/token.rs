//! `token`: what a token or a ticket says, and whether it holds. By key files alone: nobody is asked, so that what was
//! revoked since is not known here. No key is ever shown.

use std::borrow::Cow;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};
use sluice_shared::keys::{KeyFile, KeyRing};
use sluice_shared::token::{
    Claims, NumericDate, Scratch, TOKEN_BYTES_MAX, Ticket, TokenError, open_authentic,
};

use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::{Format, output};

mod header;
mod judge;

use header::Header;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// What a token or ticket says, be it expired or not.
    Open(Sealed),
    /// Whether a token or ticket holds now, and if not, why; exit code 1 where it does not.
    Verify(Verified),
}

#[derive(clap::Args)]
pub(crate) struct Sealed {
    /// The token or ticket, or a URL with it; `-`, or nothing, reads it from standard input, where no list of processes
    /// shows it.
    #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
    text: String,
    /// A key file (JWK set), readable by you only; may be repeated. Tickets have key files of their own.
    #[arg(long = "key-file", value_name = "F", required = true)]
    key_files: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Verified {
    #[command(flatten)]
    sealed: Sealed,
    /// The edge that it is shown to.
    #[arg(long, value_name = "ID")]
    edge: Option<String>,
    /// The address that it comes from.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The request's method.
    #[arg(long, value_name = "METHOD", default_value = "GET", value_parser = ["GET", "HEAD"])]
    method: String,
}

/// What is told.
#[derive(Serialize)]
struct Told {
    /// `token` or `ticket`; null where it cannot be said.
    kind: Option<&'static str>,
    /// The key that its header names.
    kid: Option<String>,
    /// Whether it was sealed with one of the keys, and nothing of it changed since.
    authentic: bool,
    /// Whether it holds now. Of what was only opened: not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
    /// Why it does not hold.
    faults: Vec<String>,
    /// What else is good to know.
    notes: Vec<String>,
    /// As they are written; null where it is not authentic.
    claims: Option<Map<String, Value>>,
}

/// Opened, whichever it is.
enum Opened<'s> {
    Token(Claims<'s>),
    Ticket(Ticket<'s>),
}

impl Command {
    pub(crate) fn run(self, format: Format) -> Result<(), Fault> {
        let (sealed, terms) = match self {
            Self::Open(sealed) => (sealed, None),
            Self::Verify(Verified { sealed, edge, client, method }) => {
                (sealed, Some(judge::Terms { edge, client, is_head: method == "HEAD" }))
            }
        };
        let text = sealed.read()?;
        let rings = sealed.rings()?;
        let header = Header::read(&text);
        let mut scratch = Scratch::default();
        let now = NumericDate::from_system_time(SystemTime::now());
        let told = match open(&text, header.is_ticket, &rings, &mut scratch) {
            Ok(opened) => tell(&opened, &header, terms.as_ref(), now),
            Err(error) => refuse(error, &header, &rings, terms.is_some()),
        };
        output::print(&told.shown(format)).map_err(Fault::Output)?;
        if told.faults.is_empty() { Ok(()) } else { Err(Fault::TokenNotGood(told.faults.join("; "))) }
    }
}

impl Sealed {
    /// The text between whatever a URL has around it.
    fn read(&self) -> Result<String, Fault> {
        let mut text = String::new();
        if self.text == "-" {
            // A URL around it may be longer than a token is.
            let most = u64::try_from(4 * TOKEN_BYTES_MAX).unwrap_or(u64::MAX);
            io::stdin().take(most).read_to_string(&mut text).map_err(Fault::Input)?;
        } else {
            text.clone_from(&self.text);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(Fault::NoToken);
        }
        Ok(without_url(text).to_owned())
    }

    fn rings(&self) -> Result<Vec<KeyRing>, Fault> {
        let load = |path: &PathBuf| {
            let file = KeyFile::load(path).map_err(Fault::KeyFile)?;
            Ok(file.ring().load().without(|_| false))
        };
        self.key_files.iter().map(load).collect()
    }
}

fn without_url(text: &str) -> &str {
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return text;
    }
    match text.split_once("token=") {
        Some((_, token)) => token.split(['&', '#']).next().unwrap_or(token),
        None => {
            let path = text.split(['?', '#']).next().unwrap_or(text);
            path.rsplit('/').next().unwrap_or(path)
        }
    }
}

/// With whichever ring opens it; else the fault that says most.
fn open<'s>(
    text: &str,
    is_ticket: bool,
    rings: &[KeyRing],
    scratch: &'s mut Scratch,
) -> Result<Opened<'s>, TokenError> {
    let try_one = |ring: &KeyRing, scratch: &mut Scratch| {
        if is_ticket {
            Ticket::open(text.as_bytes(), ring, scratch).map(drop)
        } else {
            open_authentic(text.as_bytes(), ring, scratch).map(drop)
        }
    };
    let mut worst = TokenError::UnknownKey;
    for ring in rings {
        match try_one(ring, scratch) {
            Ok(()) => {
                return if is_ticket {
                    Ticket::open(text.as_bytes(), ring, scratch).map(Opened::Ticket)
                } else {
                    open_authentic(text.as_bytes(), ring, scratch).map(Opened::Token)
                };
            }
            Err(TokenError::UnknownKey) => {}
            Err(error) => worst = error,
        }
    }
    Err(worst)
}

fn tell(opened: &Opened<'_>, header: &Header, terms: Option<&judge::Terms>, now: NumericDate) -> Told {
    let (claims, judged) = match opened {
        Opened::Token(claims) => (serde_json::to_value(claims), terms.map(|terms| terms.judge(claims, now))),
        Opened::Ticket(ticket) => {
            (serde_json::to_value(ticket), terms.map(|_| judge::judge_ticket(ticket, now)))
        }
    };
    let claims = claims.expect("claims are written as JSON");
    let (faults, notes) = judged.map_or_else(Default::default, |judged| (judged.faults, judged.notes));
    Told {
        kind: Some(if matches!(opened, Opened::Ticket(_)) { "ticket" } else { "token" }),
        kid: header.kid.clone(),
        authentic: true,
        holds: terms.map(|_| faults.is_empty()),
        faults,
        notes,
        claims: claims.as_object().cloned(),
    }
}

fn refuse(error: TokenError, header: &Header, rings: &[KeyRing], is_asked: bool) -> Told {
    Told {
        kind: header.kind(),
        kid: header.kid.clone(),
        authentic: false,
        holds: is_asked.then_some(false),
        faults: vec![judge::in_words(error, header, rings)],
        notes: Vec::new(),
        claims: None,
    }
}

impl Told {
    fn shown(&self, format: Format) -> String {
        match format {
            Format::Json => plain_json(&serde_json::to_string(self).expect("texts and numbers serialize")),
            Format::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let mut rows = vec![
            ("kind", self.kind.unwrap_or("-").to_owned()),
            ("kid", self.kid.clone().unwrap_or_else(|| "-".to_owned())),
            ("authentic", yes(self.authentic)),
        ];
        rows.extend(self.holds.map(|holds| ("holds now", yes(holds))));
        for (name, value) in self.claims.iter().flatten() {
            rows.push((name, in_a_cell(name, value).into_owned()));
        }
        rows.extend(self.notes.iter().map(|note| ("note", note.clone())));
        let lines = rows.iter().map(|(name, value)| format!("{name:<10}  {}\n", plain(value)));
        lines.collect()
    }
}

/// Times for people, too.
fn in_a_cell<'v>(name: &str, value: &'v Value) -> Cow<'v, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Number(number) if ["exp", "iat", "nbf", "lxp"].contains(&name) => {
            let date = number.as_f64().and_then(NumericDate::from_secs_f64);
            Cow::Owned(date.map_or_else(|| number.to_string(), judge::moment))
        }
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_the_url_that_it_came_in() {
        let table = [
            ("a.b.c", "a.b.c"),
            ("http://e:1/download?token=a.b.c", "a.b.c"),
            ("https://e/download/x?token=a.b.c&not=e", "a.b.c"),
            ("https://c/d/a..b.c#top", "a..b.c"),
            ("https://c/d/a..b.c?x=1", "a..b.c"),
        ];
        for (text, expected) in table {
            assert_eq!(without_url(text), expected, "{text}");
        }
    }
}
