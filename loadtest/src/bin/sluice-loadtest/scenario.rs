//! What a run is to do: how much load, by what kind of clients, for which files. Read from TOML once; what is here is
//! proven, and says nothing of addresses or machines.

mod caller;
mod curve;
mod files;
mod fractions;
mod load;
mod raw;
mod requests;
mod trust;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use sluice_shared::config::{self, ConfigError};
use sluice_shared::units::Span;
use toml::Spanned;

pub(crate) use caller::Credentials;
pub(crate) use curve::Curve;
pub(crate) use files::{Checked, FileNumber, Files};
pub(crate) use load::Load;
pub(crate) use raw::{Kind, Times, Via};
pub(crate) use requests::{Requests, Wanted};
pub(crate) use trust::Trust;

use raw::RawScenario;

/// What runs without a scenario of their own.
const USUAL: &str = include_str!("../../../../deploy/samples/scenario.toml");
const USUAL_NAME: &str = "scenario.toml";
/// Of any time in a scenario. What lasts longer is no measurement.
const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Equal seeds plan equal downloads.
    pub(crate) seed: u64,
    /// What is measured, after `warm_up`.
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    /// What is under way at the end has so long to end.
    pub(crate) drain: Duration,
    pub(crate) load: Load,
    pub(crate) client: Client,
    pub(crate) credentials: Credentials,
    pub(crate) files: Files,
    pub(crate) requests: Requests,
}

/// Manners of all clients.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) via: Via,
    /// As who clients ask, in turn: `user-0`, `user-1`, …
    pub(crate) users: u32,
    /// Connections are kept for who comes next; otherwise each download has its own.
    pub(crate) keep_alive: bool,
    /// Times that a download is begun or gone on with before it has failed.
    pub(crate) tries: u32,
    /// Between two of them, and after a failure.
    pub(crate) pause: Duration,
    pub(crate) connect_timeout: Duration,
    /// A server that says nothing for so long is left.
    pub(crate) silence_max: Duration,
    /// How long an edge's URL is used for further downloads of its file.
    pub(crate) reuse: Duration,
    pub(crate) trust: Trust,
}

/// What the command line says in place of the scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Overrides {
    pub(crate) duration: Option<Duration>,
    /// Downloads a second: an open loop.
    pub(crate) rate: Option<f64>,
    /// A closed loop.
    pub(crate) clients: Option<u32>,
    pub(crate) seed: Option<u64>,
}

/// A scenario's text and the folder that its paths start from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// The file's, or the usual one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self { path: USUAL_NAME.into(), text: USUAL.to_owned() });
        };
        let failed = |source: io::Error| ConfigError::Read { path: path.to_owned(), source };
        Ok(Self { path: path.to_owned(), text: fs::read_to_string(path).map_err(failed)? })
    }

    /// A fault of a key, or where it is missing, of the place where it should be.
    pub(super) fn fault<T>(&self, key: &Spanned<T>, fault: impl ToString) -> ConfigError {
        ConfigError::at(&self.path, &self.text, key.span().start, fault)
    }
}

impl Scenario {
    /// Proves a scenario.
    ///
    /// # Errors
    /// What is wrong, with its line and key.
    pub(crate) fn of(source: &Source, overrides: &Overrides) -> Result<Self, ConfigError> {
        let raw: RawScenario = config::parse(&source.path, &source.text)?;
        let duration = match overrides.duration {
            Some(duration) => duration,
            None => span(source, raw.duration.as_ref(), Span::from_secs(30))?,
        };
        if duration.is_zero() || duration > DURATION_MAX {
            let fault = "has to be more than nothing and at most a week";
            return Err(match &raw.duration {
                Some(key) => source.fault(key, fault),
                None => ConfigError::key(&source.path, "duration", fault),
            });
        }
        let client = client(source, &raw)?;
        let requests = Requests::of(source, &raw.requests)?;
        Ok(Self {
            seed: overrides.seed.or(raw.seed).unwrap_or(1),
            duration,
            warm_up: span(source, raw.warm_up.as_ref(), Span::from_secs(2))?,
            drain: span(source, raw.drain.as_ref(), Span::from_secs(5))?,
            load: Load::of(source, raw.load, overrides)?,
            credentials: Credentials::of(source, &raw.caller, client.via)?,
            client,
            files: Files::of(source, &raw.files)?,
            requests,
        })
    }
}

fn client(source: &Source, raw: &RawScenario) -> Result<Client, ConfigError> {
    let raw = &raw.client;
    let usual = Client {
        via: raw.via.as_ref().map_or(Via::Redirect, |via| *via.get_ref()),
        users: at_least_one(source, raw.users.as_ref(), 100)?,
        keep_alive: raw.keep_alive.unwrap_or(true),
        tries: at_least_one(source, raw.tries.as_ref(), 1)?,
        pause: span(source, raw.pause.as_ref(), Span(Duration::from_millis(100)))?,
        connect_timeout: span(source, raw.connect_timeout.as_ref(), Span::from_secs(5))?,
        silence_max: span(source, raw.silence_max.as_ref(), Span::from_secs(30))?,
        reuse: span(source, raw.reuse.as_ref(), Span::from_secs(0))?,
        trust: Trust::of(source, raw.ca_file.as_ref())?,
    };
    for key in [&raw.connect_timeout, &raw.silence_max].into_iter().flatten() {
        if key.get_ref().0.is_zero() {
            return Err(source.fault(key, "has to be more than nothing"));
        }
    }
    Ok(usual)
}

fn span(source: &Source, key: Option<&Spanned<Span>>, usual: Span) -> Result<Duration, ConfigError> {
    let Some(key) = key else { return Ok(usual.0) };
    if key.get_ref().0 > DURATION_MAX {
        return Err(source.fault(key, "has to be a week at most"));
    }
    Ok(key.get_ref().0)
}

fn at_least_one(source: &Source, key: Option<&Spanned<u32>>, usual: u32) -> Result<u32, ConfigError> {
    match key {
        None => Ok(usual),
        Some(key) if *key.get_ref() == 0 => Err(source.fault(key, "has to be 1 at least")),
        Some(key) => Ok(*key.get_ref()),
    }
}

#[cfg(test)]
mod tests;
