//! What the coordinator counts: handles that are made once and kept (a look-up by name costs 60 to 300 ns, a kept handle
//! 4). No label has values that callers choose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use sluice_shared::cluster::{EdgeId, Freshness};
use sluice_shared::revocations::{Kind, Revocations};

use crate::error::Reason;
use crate::membership::{Answer, EdgeStatus, State, UrlFault};
use crate::orders::{Order, OrderList};
use described::{
    CERTIFICATE_EXPIRES, CLIENTS_STALE, EDGE_CLOCK_SKEW, EDGE_ORDERS, EDGE_URL_FAULTS, EDGES, ETCD_UP,
    KEY_AGE, LOG_LINES_LOST, PICKS, PROBE_DURATION, PROBES, REFUSALS, REGISTRY_STALE, REQUEST_DURATION,
    REQUESTS, REVOCATIONS, RING_BUILD_DURATION, RING_SHARE, STATE_UP, TLS_HANDSHAKE_FAILURES, TOKENS_MINTED,
    TOKENS_PER_KEY,
};

mod described;

pub use described::ALL;

/// What calls are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    RequestDownload,
    Download,
    Links,
    Redeem,
    Renew,
    Timed,
    Sealed,
    Document,
    /// No path of ours.
    Unknown,
}

impl Endpoint {
    const ALL: [Self; 9] = [
        Self::RequestDownload,
        Self::Download,
        Self::Links,
        Self::Redeem,
        Self::Renew,
        Self::Timed,
        Self::Sealed,
        Self::Document,
        Self::Unknown,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RequestDownload => "request-download",
            Self::Download => "download",
            Self::Links => "links",
            Self::Redeem => "redeem",
            Self::Renew => "renew",
            Self::Timed => "timed",
            Self::Sealed => "sealed",
            Self::Document => "document",
            Self::Unknown => "unknown",
        }
    }
}

/// The statuses that have a series of their own.
const STATUSES: [(u16, &str); 12] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (302, "302"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (410, "410"),
    (429, "429"),
    (503, "503"),
];

/// Stands for all others.
const OTHER_STATUS: &str = "other";

/// Handles for calls, by endpoint.
pub(crate) struct CallMetrics {
    endpoints: [EndpointMetrics; Endpoint::ALL.len()],
    refusals: [Counter; Reason::ALL.len()],
}

struct EndpointMetrics {
    by_status: [Counter; STATUSES.len()],
    other: Counter,
    duration: Histogram,
}

impl CallMetrics {
    pub(crate) fn new() -> Self {
        let endpoint = |endpoint: Endpoint| {
            let name = endpoint.name();
            let requests =
                |status: &'static str| counter!(REQUESTS.name, "endpoint" => name, "status" => status);
            EndpointMetrics {
                by_status: STATUSES.map(|(_, status)| requests(status)),
                other: requests(OTHER_STATUS),
                duration: histogram!(REQUEST_DURATION.name, "endpoint" => name),
            }
        };
        let refusals = |at: usize| counter!(REFUSALS.name, "reason" => Reason::ALL[at].name());
        Self { endpoints: Endpoint::ALL.map(endpoint), refusals: std::array::from_fn(refusals) }
    }

    pub(crate) fn answered(&self, endpoint: Endpoint, status: StatusCode, took: Duration) {
        let handles = &self.endpoints[endpoint as usize];
        let known = STATUSES.iter().position(|(known, _)| *known == status.as_u16());
        known.map_or(&handles.other, |at| &handles.by_status[at]).increment(1);
        handles.duration.record(took);
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.refusals[reason as usize].increment(1);
    }
}

/// What probes come to.
const RESULTS: [&str; 4] = ["good", "draining", "degraded", "miss"];

/// Handles for probes and rings.
pub(crate) struct MembershipMetrics {
    good: Counter,
    draining: Counter,
    degraded: Counter,
    miss: Counter,
    probe: Histogram,
    build: Histogram,
}

impl MembershipMetrics {
    pub(crate) fn new() -> Self {
        let [good, draining, degraded, miss] =
            RESULTS.map(|result| counter!(PROBES.name, "result" => result));
        Self {
            good,
            draining,
            degraded,
            miss,
            probe: histogram!(PROBE_DURATION.name),
            build: histogram!(RING_BUILD_DURATION.name),
        }
    }

    pub(crate) fn probed(&self, answer: Answer, took: Duration) {
        let counter = match answer {
            Answer::Good => &self.good,
            Answer::Draining => &self.draining,
            Answer::Degraded(_) => &self.degraded,
            Answer::Miss => &self.miss,
        };
        counter.increment(1);
        self.probe.record(took);
    }

    pub(crate) fn rebuilt(&self, took: Duration) {
        self.build.record(took);
    }
}

/// The handle that counts picks of an edge.
pub(crate) fn picks(edge: &EdgeId) -> Counter {
    counter!(PICKS.name, "edge" => edge.to_string())
}

pub(crate) fn tokens_minted() -> Counter {
    counter!(TOKENS_MINTED.name)
}

pub(crate) fn log_lines_lost() -> Counter {
    counter!(LOG_LINES_LOST.name)
}

pub(crate) fn tls_handshake_failures() -> Counter {
    counter!(TLS_HANDSHAKE_FAILURES.name)
}

/// How long the current key has been minting, and how much.
pub(crate) fn keys(age: Duration, tokens: u64) {
    gauge!(KEY_AGE.name).set(age.as_secs_f64());
    gauge!(TOKENS_PER_KEY.name).set(tokens as f64);
}

/// Sets the gauges that follow from the board; before a scrape, not at every probe.
pub(crate) fn gather(
    edges: &[EdgeStatus],
    is_state_well: bool,
    certificate_expires: Option<SystemTime>,
    registry: Option<Freshness>,
) {
    if let Some(freshness) = registry {
        gauge!(REGISTRY_STALE.name).set(stale_seconds(freshness));
    }
    gauge!(STATE_UP.name).set(f64::from(u8::from(is_state_well)));
    if let Some(expires) = certificate_expires {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(CERTIFICATE_EXPIRES.name).set(expires.as_secs_f64());
    }
    for state in State::ALL {
        let count = edges.iter().filter(|edge| edge.health.state() == state).count();
        gauge!(EDGES.name, "state" => state.name()).set(count as f64);
    }
    for kind in UrlFault::KINDS {
        let is_so = |edge: &&EdgeStatus| edge.url_fault.as_ref().is_some_and(|fault| fault.kind() == kind);
        gauge!(EDGE_URL_FAULTS.name, "fault" => kind).set(edges.iter().filter(is_so).count() as f64);
    }
    for edge in edges {
        gauge!(RING_SHARE.name, "edge" => edge.edge.record.id.to_string()).set(edge.share);
        if let Some(skew) = edge.skew {
            gauge!(EDGE_CLOCK_SKEW.name, "edge" => edge.edge.record.id.to_string()).set(skew.seconds());
        }
    }
}

/// Whether etcd answers, where it is used.
pub(crate) fn etcd(is_up: bool) {
    gauge!(ETCD_UP.name).set(f64::from(u8::from(is_up)));
}

/// What is revoked or blocked, or was.
pub(crate) fn revocations(revocations: &Revocations) {
    for kind in Kind::ALL {
        gauge!(REVOCATIONS.name, "what" => kind.name()).set(revocations.count(kind) as f64);
    }
}

/// How old the clients are, where they are in etcd.
pub(crate) fn clients(freshness: Option<Freshness>) {
    if let Some(freshness) = freshness {
        gauge!(CLIENTS_STALE.name).set(stale_seconds(freshness));
    }
}

/// What can be ordered of an edge.
const ORDERS: [&str; 2] = ["drain", "weight"];

/// What operators order.
pub(crate) fn orders(orders: &OrderList) {
    let wanted: [fn(&Order) -> bool; ORDERS.len()] = [|order| order.drain, |order| order.weight.is_some()];
    for (name, is_wanted) in ORDERS.into_iter().zip(wanted) {
        let count = orders.values().filter(|order| is_wanted(order)).count();
        gauge!(EDGE_ORDERS.name, "order" => name).set(count as f64);
    }
}

fn stale_seconds(freshness: Freshness) -> f64 {
    freshness.staleness.map_or(f64::INFINITY, |stale| stale.as_secs_f64())
}
