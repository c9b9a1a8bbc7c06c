//! Many people who ask for one thing at the same time, each from an address of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;

use crate::client::{Connection, Request};

/// Number of a person, from 0.
pub type Person = u32;

/// The address that a person comes from, as a trusted proxy names it.
pub fn address_of(person: Person) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + person).into()
}

/// A GET of one person, whose answer is taken as it is.
pub fn request_of(person: Person, url: &str) -> Request {
    Request::new("GET", url).field("X-Forwarded-For", &address_of(person).to_string())
}

/// People whose requests are all on their way.
#[derive(Debug)]
pub struct Crowd(Vec<(Person, Option<Connection>)>);

impl Crowd {
    /// Connects everybody first, each to the next of the servers; then everybody asks for the target.
    ///
    /// # Errors
    /// A server does not listen.
    pub fn ask(
        people: impl IntoIterator<Item = Person>,
        servers: &[String],
        target: &str,
    ) -> anyhow::Result<Self> {
        let mut connected = Vec::new();
        for (person, server) in people.into_iter().zip(servers.iter().cycle()) {
            connected.push((person, server, Connection::open(server)?));
        }
        let ask = |(person, server, mut connection): (Person, &String, Connection)| {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nX-Forwarded-For: {}\r\n\r\n",
                address_of(person)
            );
            // Where the server is gone, that is this person's answer.
            let is_sent = connection.send(request.as_bytes()).is_ok();
            (person, is_sent.then_some(connection))
        };
        Ok(Self(connected.into_iter().map(ask).collect()))
    }

    /// The status that each got; none where the server went away first.
    pub fn statuses(self) -> BTreeMap<Person, Option<u16>> {
        self.0.into_iter().map(status).collect()
    }

    /// The same, with something that happens once the first so many have their answers and the others may or may not.
    ///
    /// # Errors
    /// What happens fails.
    pub fn statuses_while(
        mut self,
        first: usize,
        happens: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<BTreeMap<Person, Option<u16>>> {
        let others = self.0.split_off(first);
        let mut statuses = self.statuses();
        happens()?;
        statuses.extend(Self(others).statuses());
        Ok(statuses)
    }
}

fn status((person, connection): (Person, Option<Connection>)) -> (Person, Option<u16>) {
    let answer = connection.and_then(|mut connection| connection.read_answer("GET").ok());
    (person, answer.map(|answer| answer.status()))
}

/// `http://host:port/target` → `/target`.
///
/// # Errors
/// There is no target.
pub fn target_of(url: &str) -> anyhow::Result<&str> {
    let rest = url.strip_prefix("http://").with_context(|| format!("not an http URL: {url}"))?;
    let at = rest.find('/').with_context(|| format!("no path in {url}"))?;
    Ok(&rest[at..])
}
