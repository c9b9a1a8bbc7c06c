//! `clients`: who may call, for which files, how often. A secret is printed once, by the command that makes it.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sluice_shared::secret::SecretText;
use sluice_shared::units::{Rate, Span};

use crate::coordinator::Answer;
use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::table::Table;
use crate::{Format, Session, consent, output};

pub(crate) mod transfer;

use transfer::Import;

const SEALS: &str = "/admin/v1/client-seals";
const CLIENTS: &str = "/admin/v1/clients";
/// An etcd that is there confirms what it has every few seconds.
const STALE_SECONDS: f64 = 15.0;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Every client, without its secret.
    List,
    /// Add a client; its new secret is printed once.
    Add(NewClient),
    /// Let a client call again.
    Enable(Named),
    /// Refuse a client's calls until it is enabled again.
    Disable(Named),
    /// Give a client a new secret, which is printed once; the old one is good no more.
    Rotate(Named),
    /// Give a coordinator the clients of a file, with the secrets that they have; what exists is kept and named.
    Import(Import),
    /// Seal clients in etcd anew, after coordinator_key was exchanged; then its old line is of no more use.
    Reseal,
    /// Remove a client for good.
    Remove(Named),
}

#[derive(Args)]
pub(crate) struct Named {
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    access_key: String,
}

/// A client as the API takes it.
#[derive(Args, Serialize)]
pub(crate) struct NewClient {
    /// Its name: access key or app key, visible ASCII.
    access_key: String,
    /// How it proves who it is.
    #[arg(long, value_enum)]
    scheme: Scheme,
    /// Under which it may ask for files; may be repeated; '' is all files. Without any it may ask for none.
    #[arg(long = "prefix", value_name = "P")]
    prefixes: Vec<String>,
    /// When it ends, as in 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "T", value_parser = time)]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// The longest life of what it is given, as in 60s or 10m.
    #[arg(long, value_name = "D", value_parser = Span::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ttl: Option<Span>,
    /// How often it may call, as in 100/s, 30/m or 500/h.
    #[arg(long, value_name = "R", value_parser = Rate::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    /// How many calls may come at once; without it as many as come in a second.
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    /// For whoever reads the list.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Add it, and let it call only once it is enabled.
    #[arg(long = "disabled", action = ArgAction::SetFalse)]
    enabled: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scheme {
    Signature,
    AppJwt,
}

fn time(text: &str) -> Result<String, String> {
    match humantime::parse_rfc3339(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write a time as in 2027-01-01T00:00:00Z".to_owned()),
    }
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Fault> {
        match self {
            Self::List => list(session),
            Self::Add(client) => add(session, &client),
            Self::Enable(Named { access_key }) => set(session, &access_key, "enable"),
            Self::Disable(Named { access_key }) => set(session, &access_key, "disable"),
            Self::Import(import) => import.run(session),
            Self::Reseal => transfer::reseal(session, SEALS, "coordinator_key"),
            Self::Rotate(Named { access_key }) => {
                let question =
                    format!("Give client '{access_key}' a new secret? The old one is refused at once.");
                consent::ask(&question, session.yes)?;
                let answer = session.coordinator.post(&path(&access_key, "/rotate"), String::new())?;
                print_secret(session, &access_key, &answer)
            }
            Self::Remove(Named { access_key }) => {
                let question = format!("Remove client '{access_key}'? Its calls are refused at once.");
                consent::ask(&question, session.yes)?;
                session.coordinator.delete(&path(&access_key, ""))?;
                output::confirm(session.format, "", &format!("client '{access_key}' is removed"))
            }
        }
    }
}

fn path(access_key: &str, change: &str) -> String {
    format!("{CLIENTS}/{}{change}", utf8_percent_encode(access_key, NON_ALPHANUMERIC))
}

fn list(session: &Session) -> Result<(), Fault> {
    let answer = session.coordinator.get(CLIENTS)?;
    if session.format == Format::Json {
        return output::print(&plain_json(answer.json())).map_err(Fault::Output);
    }
    let Clients { clients, skipped, stale_seconds } = answer.read()?;
    output::print(&table(clients)).map_err(Fault::Output)?;
    output::tell_skipped(skipped);
    if let Some(seconds) = stale_seconds.filter(|seconds| *seconds > STALE_SECONDS) {
        output::tell(&format!("etcd has not confirmed this for {seconds:.0} s; it is what was last known"));
    }
    Ok(())
}

fn add(session: &Session, client: &NewClient) -> Result<(), Fault> {
    let body = serde_json::to_string(client).expect("texts and numbers serialize");
    let answer = session.coordinator.post(CLIENTS, body)?;
    print_secret(session, &client.access_key, &answer)?;
    if client.prefixes.is_empty() {
        output::tell("without --prefix, the client may ask for no file");
    }
    Ok(())
}

fn set(session: &Session, access_key: &str, change: &str) -> Result<(), Fault> {
    session.coordinator.post(&path(access_key, &format!("/{change}")), String::new())?;
    output::confirm(session.format, "", &format!("client '{access_key}' is {change}d"))
}

#[derive(Deserialize)]
struct NewSecret {
    secret: SecretText,
}

fn print_secret(session: &Session, access_key: &str, answer: &Answer) -> Result<(), Fault> {
    let text = match session.format {
        Format::Json => plain_json(answer.json()),
        Format::Table => {
            let secret = answer.read::<NewSecret>()?.secret;
            format!("access_key  {}\nsecret      {}", plain(access_key), plain(secret.reveal()))
        }
    };
    output::print(&text).map_err(|source| Fault::SecretLost { access_key: access_key.to_owned(), source })?;
    output::tell("keep the secret now; it will not be shown again");
    Ok(())
}

#[derive(Deserialize)]
struct Clients {
    clients: Vec<Client>,
    #[serde(default)]
    skipped: Vec<output::Skipped>,
    #[serde(default)]
    stale_seconds: Option<f64>,
}

/// As the API tells it; what a coordinator of another version leaves out is not shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Client {
    access_key: String,
    scheme: String,
    enabled: bool,
    expires_at: Option<String>,
    prefixes: Vec<String>,
    max_ttl: Option<u64>,
    rate: Option<f64>,
    burst: Option<u32>,
    note: String,
}

fn table(clients: Vec<Client>) -> String {
    let mut table = Table::new([
        "ACCESS KEY",
        "SCHEME",
        "ENABLED",
        "EXPIRES AT",
        "MAX TTL",
        "RATE",
        "BURST",
        "PREFIXES",
        "NOTE",
    ]);
    for client in clients {
        let span = |secs| humantime::format_duration(Duration::from_secs(secs)).to_string().replace(' ', "");
        table.push([
            client.access_key,
            client.scheme,
            if client.enabled { "yes" } else { "no" }.to_owned(),
            client.expires_at.unwrap_or_default(),
            client.max_ttl.map(span).unwrap_or_default(),
            client.rate.map(rate).unwrap_or_default(),
            client.burst.map(|burst| burst.to_string()).unwrap_or_default(),
            client.prefixes.iter().map(|prefix| word(prefix)).collect::<Vec<_>>().join(" "),
            client.note,
        ]);
    }
    table.to_string()
}

/// In the unit that it is a whole number in: 1/m, not 0.016666666666666666/s.
fn rate(per_second: f64) -> String {
    for (secs, unit) in [(1.0, "s"), (60.0, "m"), (3600.0, "h")] {
        let count = per_second * secs;
        if count >= 0.5 && (count - count.round()).abs() < 1e-6 {
            return format!("{count:.0}/{unit}");
        }
    }
    format!("{per_second}/s")
}

/// In quotes where it would not be seen as one word.
fn word(text: &str) -> String {
    let is_word = !text.is_empty() && !text.contains(|char: char| char.is_whitespace() || char == '"');
    if is_word { text.to_owned() } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_as_they_were_written() {
        for text in ["100/s", "1/s", "1/m", "90/m", "500/h", "7/h"] {
            let shown = rate(Rate::parse(text).unwrap().per_second());
            assert_eq!(shown, text);
        }
        assert_eq!(rate(Rate::parse("120/m").unwrap().per_second()), "2/s");
        assert_eq!(rate(0.00001), "0.00001/s");
    }

    #[test]
    fn every_prefix_is_seen() {
        assert_eq!(["", "a/", "b c/"].map(word), ["\"\"", "a/", "\"b c/\""]);
    }

    #[test]
    fn an_access_key_is_one_segment_of_a_path() {
        assert_eq!(path("a/../b?c#d%", "/rotate"), "/admin/v1/clients/a%2F%2E%2E%2Fb%3Fc%23d%25/rotate");
    }

    #[test]
    fn a_list_of_another_version_is_shown_as_far_as_it_goes() {
        let json =
            r#"{"clients":[{"access_key":"AK1","scheme":"new","enabled":true,"more":[1]}],"next":null}"#;
        let text = table(serde_json::from_str::<Clients>(json).unwrap().clients);
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["AK1", "new", "yes", "-", "-", "-", "-", "-", "-"]);
    }
}
