//! The sections that say where requests go: `[[zones]]`, `[routing]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::client_net::ClientNet;
use sluice_shared::config::ConfigError;
use sluice_shared::units::{Rate, Span};

use crate::routing::Policy;
use crate::routing::load::Slack;
use crate::routing::zones::{ZonePlan, ZoneRule};

/// How much more than its part an edge may have (Mirrokni et al. show what smaller and larger ones cost).
const LOAD_BOUND_DEFAULT: f64 = 1.25;
const SLOW_START_DEFAULT: Duration = Duration::from_secs(30);
const SLOW_START_MAX: Duration = Duration::from_secs(3600);
/// Requests a second that one edge takes of one file. An edge answers many more; that many bodies of a megabyte fill
/// a link of ten gigabits.
const HOT_RATE_DEFAULT: f64 = 1000.0;

/// How requests are routed.
#[derive(Debug)]
pub struct Routing {
    pub policy: Policy,
    pub zones: Arc<ZonePlan>,
    /// Requests a second for one file that one edge takes before others share it.
    pub hot_rate: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRouting {
    load_bound: Option<f64>,
    slow_start: Option<Span>,
    hot_rate: Option<Rate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawZone {
    name: String,
    #[serde(default)]
    clients: Vec<ClientNet>,
    #[serde(default)]
    fallback: Vec<String>,
}

pub(super) fn settle(path: &Path, raw: &RawRouting, zones: Vec<RawZone>) -> Result<Routing, ConfigError> {
    let bound = raw.load_bound.unwrap_or(LOAD_BOUND_DEFAULT);
    if !(1.05..=10.0).contains(&bound) {
        let fault = format!("is {bound}; it is from 1.05 to 10, and 1.25 is usual");
        return Err(ConfigError::key(path, "routing.load_bound", fault));
    }
    let slow_start = raw.slow_start.map_or(SLOW_START_DEFAULT, |span| span.0);
    if slow_start > SLOW_START_MAX {
        let fault = format!("is {}; it is from 0s (off) to 1h", humantime::format_duration(slow_start));
        return Err(ConfigError::key(path, "routing.slow_start", fault));
    }
    let rule = |zone: RawZone| ZoneRule { name: zone.name, clients: zone.clients, fallback: zone.fallback };
    let zones = ZonePlan::new(zones.into_iter().map(rule).collect());
    Ok(Routing {
        policy: Policy { slack: Slack::new(bound), slow_start },
        zones: Arc::new(zones.map_err(|fault| ConfigError::key(path, "zones", fault))?),
        hot_rate: raw.hot_rate.map_or(HOT_RATE_DEFAULT, Rate::per_second),
    })
}
