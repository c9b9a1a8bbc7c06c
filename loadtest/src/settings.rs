//! What the programs of a cluster are told: their TOML files, and the changes that a test makes to them.

use std::path::Path;

use anyhow::Context;
use toml::{Table, Value, toml};

use crate::hosts::Host;
use crate::ports::Port;

/// Names of the files in a cluster's folder.
pub(crate) const KEYS: &str = "keys.jwks.json";
pub(crate) const ADMIN_TOKENS: &str = "admin.tokens";
pub(crate) const TICKETS: &str = "tickets.jwks.json";
/// As a coordinator calls it where nobody names another.
pub(crate) const CLIENTS: &str = "clients.toml";
pub(crate) const ROOT: &str = "files";

/// Changes to a program's usual configuration; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    lines: Vec<String>,
}

/// Puts something into a root that is empty: an edge takes an empty one for a mount that is missing.
///
/// # Errors
/// It cannot be listed or written.
pub fn mark_store(root: &Path) -> std::io::Result<()> {
    if std::fs::read_dir(root)?.next().is_none() {
        std::fs::write(root.join(".store"), "")?;
    }
    Ok(())
}

impl Settings {
    /// TOML that is laid over what is there: its keys replace or join those of the same section.
    pub fn toml(mut self, text: &str) -> Self {
        self.lines.push(text.to_owned());
        self
    }

    /// Size of an edge's content cache, as in `"1MiB"`.
    pub fn cache(self, size: &str) -> Self {
        self.toml(&format!("cache.size = {size:?}"))
    }

    /// An edge's worker threads.
    pub fn threads(self, threads: usize) -> Self {
        self.toml(&format!("threads = {threads}"))
    }

    /// Several changes, one after the other.
    pub(crate) fn together(changes: impl IntoIterator<Item = Self>) -> Self {
        Self { lines: changes.into_iter().flat_map(|change| change.lines).collect() }
    }

    /// Lays the changes over a configuration and writes it.
    pub(crate) fn write(&self, mut config: Table, path: &Path) -> anyhow::Result<()> {
        for text in &self.lines {
            let changes: Table =
                text.parse().with_context(|| format!("these settings are no TOML: {text}"))?;
            lay_over(&mut config, changes);
        }
        std::fs::write(path, toml::to_string(&config)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The addresses of one program.
#[derive(Debug)]
pub struct Addresses {
    pub(crate) public: Port,
    pub(crate) admin: Port,
}

impl Addresses {
    pub(crate) fn take() -> anyhow::Result<Self> {
        Self::take_on(&Host::local())
    }

    pub(crate) fn take_on(host: &Host) -> anyhow::Result<Self> {
        Ok(Self { public: Port::take_on(host)?, admin: Port::take_on(host)? })
    }
}

/// The usual configuration of an edge that sends clients back to these coordinators.
pub(crate) fn edge<'a>(
    id: &str,
    own: &Addresses,
    coordinators: impl IntoIterator<Item = &'a Addresses>,
) -> Table {
    let (listen, admin_listen, url) = (own.public.address(), own.admin.address(), own.public.url());
    let coordinators = coordinators.into_iter().map(|addresses| Value::String(addresses.public.url()));
    let coordinators = Value::Array(coordinators.collect());
    // One folder is all programs' of a cluster; what a program remembers is its own.
    let revocations = format!("{id}.revocations.json");
    toml! {
        id = id
        listen = listen
        admin_listen = admin_listen
        advertise_url = url
        root = ROOT
        zone = "a"
        threads = 1
        coordinator_urls = coordinators
        revocations_file = revocations
        [cache]
        size = "64MiB"
        [keys]
        source = "file"
        path = KEYS
        [registry]
        source = "static"
    }
}

/// The usual configuration of a coordinator over these edges.
pub(crate) fn coordinator<'a>(
    id: &str,
    own: &Addresses,
    edges: impl Iterator<Item = (&'a str, &'a Addresses)>,
) -> Table {
    let (listen, admin_listen, public_url) = (own.public.address(), own.admin.address(), own.public.url());
    let edges = edges.map(|(id, addresses)| {
        let (url, admin_url) = (addresses.public.url(), addresses.admin.url());
        Value::Table(toml! {
            id = id
            url = url
            admin_url = admin_url
            weight = 100
            zone = "a"
        })
    });
    let edges = Value::Array(edges.collect());
    // One folder is all programs' of a cluster; what a program remembers is its own.
    let (state, revocations) = (format!("{id}.redb"), format!("{id}.revocations.json"));
    toml! {
        id = id
        listen = listen
        admin_listen = admin_listen
        public_url = public_url
        admin_token_file = ADMIN_TOKENS
        revocations_file = revocations
        [keys]
        source = "file"
        path = KEYS
        ticket_path = TICKETS
        [registry]
        source = "static"
        edges = edges
        [state]
        path = state
        [auth]
        schemes = ["open"]
        [links]
        token_ttl = "15m"
    }
}

fn lay_over(config: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (config.get_mut(&key), change) {
            (Some(Value::Table(section)), Value::Table(changes)) => lay_over(section, changes),
            (_, change) => {
                config.insert(key, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_join_and_replace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.toml");
        let config = toml! { threads = 1
        [cache]
        size = "64MiB"
        revalidate = "1s" };
        let settings = Settings::default().cache("1MiB").threads(2).toml("[log]\nfilter = \"debug\"");
        settings.write(config, &path).unwrap();
        let written: Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(written["threads"].as_integer(), Some(2));
        assert_eq!(written["cache"]["size"].as_str(), Some("1MiB"));
        assert_eq!(written["cache"]["revalidate"].as_str(), Some("1s"));
        assert_eq!(written["log"]["filter"].as_str(), Some("debug"));
    }
}
