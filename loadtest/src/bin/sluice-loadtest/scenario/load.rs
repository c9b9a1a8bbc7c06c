//! How much is asked, and who decides when: a schedule (open loop), or clients that wait for their answers (closed).

use std::time::Duration;

use sluice_shared::config::ConfigError;
use toml::Spanned;

use super::raw::{Model, RawLoad, Times};
use super::{Curve, Overrides, Source, at_least_one, span};
use crate::number::whole;

const CLIENTS: u32 = 16;
const RATE: f64 = 100.0;
/// As many connections as a usual machine has ports for one server, with room for others.
const IN_FLIGHT_MAX: u32 = 20_000;
/// Nothing on this side of a switch asks more often.
const RATE_MAX: f64 = 10_000_000.0;
const CLIENTS_MAX: f64 = 1_000_000.0;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Load {
    /// Downloads begin when their time has come, whatever became of those before: what happens where clients do not
    /// know of each other.
    Open {
        /// Downloads a second.
        rate: Curve,
        arrivals: Times,
        /// Where so many are under way, those whose time has come wait; their waiting counts.
        in_flight_max: u32,
    },
    /// So many clients, each of which begins its next download when the last one has ended.
    Closed { clients: Curve, think: Duration, think_times: Times },
}

impl Load {
    pub(super) fn of(source: &Source, raw: RawLoad, overrides: &Overrides) -> Result<Self, ConfigError> {
        let stages =
            raw.stages.iter().map(|stage| (stage.r#for.get_ref().0.as_secs_f64(), *stage.to.get_ref()));
        let most = |most: f64| {
            let wrong = raw.stages.iter().find(|stage| !(0.0..=most).contains(stage.to.get_ref()));
            let fault = format!("has to be from 0 to {most}");
            wrong.map_or(Ok(()), |stage| Err(source.fault(&stage.to, fault)))
        };
        let model = match (overrides.rate, overrides.clients, &raw.model) {
            (Some(_), _, _) => Model::Open,
            (None, Some(_), _) => Model::Closed,
            (None, None, model) => model.as_ref().map_or(Model::Closed, |model| *model.get_ref()),
        };
        // What the command line says holds all the time.
        let stages: Vec<(f64, f64)> = match (overrides.rate, overrides.clients) {
            (None, None) => stages.collect(),
            _ => Vec::new(),
        };
        match model {
            Model::Open => {
                most(RATE_MAX)?;
                let rate = level(source, overrides.rate, raw.rate.as_ref(), RATE, RATE_MAX)?;
                let arrivals = raw.arrivals.map_or(Times::Poisson, Spanned::into_inner);
                let in_flight_max = at_least_one(source, raw.in_flight_max.as_ref(), IN_FLIGHT_MAX)?;
                Ok(Self::Open { rate: Curve::new(rate, stages), arrivals, in_flight_max })
            }
            Model::Closed => {
                most(CLIENTS_MAX)?;
                let clients = match (overrides.clients, &raw.clients) {
                    (Some(clients), _) => clients,
                    (None, key) => at_least_one(source, key.as_ref(), CLIENTS)?,
                };
                let think = span(source, raw.think.as_ref(), sluice_shared::units::Span::from_secs(0))?;
                let think_times = raw.think_times.map_or(Times::Constant, Spanned::into_inner);
                Ok(Self::Closed { clients: Curve::new(f64::from(clients), stages), think, think_times })
            }
        }
    }

    /// The most downloads that are under way at a time.
    pub(crate) fn in_flight_max(&self) -> u64 {
        match self {
            Self::Open { in_flight_max, .. } => u64::from(*in_flight_max),
            Self::Closed { clients, .. } => whole(clients.highest().ceil()),
        }
    }
}

fn level(
    source: &Source,
    said: Option<f64>,
    key: Option<&Spanned<f64>>,
    usual: f64,
    most: f64,
) -> Result<f64, ConfigError> {
    let level = said.or(key.map(|key| *key.get_ref())).unwrap_or(usual);
    let fault = || format!("has to be more than 0 and at most {most}");
    match key {
        _ if level > 0.0 && level <= most => Ok(level),
        Some(key) if said.is_none() => Err(source.fault(key, fault())),
        _ => Err(ConfigError::key(&source.path, "rate", fault())),
    }
}
