//! Every metric of the coordinator: names, help texts, and handles that are made once and kept (a look-up by name
//! costs 60 to 300 ns, a kept handle 4). No label has values that callers choose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use sluice_shared::cluster::{EdgeId, Freshness};

use crate::error::Reason;
use crate::membership::{Answer, EdgeStatus, State, UrlFault};
use crate::orders::{Order, OrderList};

const REQUESTS: &str = "sluice_coordinator_requests_total";
const REQUEST_DURATION: &str = "sluice_request_duration_seconds";
const REFUSALS: &str = "sluice_coordinator_refusals_total";
const PICKS: &str = "sluice_picks_total";
const TOKENS_MINTED: &str = "sluice_tokens_minted_total";
const KEY_AGE: &str = "sluice_key_age_seconds";
const TOKENS_PER_KEY: &str = "sluice_tokens_per_key";
const EDGES: &str = "sluice_edges";
const RING_SHARE: &str = "sluice_ring_share";
const EDGE_CLOCK_SKEW: &str = "sluice_edge_clock_skew_seconds";
const EDGE_URL_FAULTS: &str = "sluice_edge_url_faults";
const RING_BUILD_DURATION: &str = "sluice_ring_build_duration_seconds";
const STATE_UP: &str = "sluice_state_up";
const ETCD_UP: &str = "sluice_etcd_up";
const REGISTRY_STALE: &str = "sluice_registry_stale_seconds";
const CLIENTS_STALE: &str = "sluice_clients_stale_seconds";
const EDGE_ORDERS: &str = "sluice_edge_orders";
const LOG_LINES_LOST: &str = "sluice_coordinator_log_lines_lost_total";
const PROBES: &str = "sluice_probes_total";
const PROBE_DURATION: &str = "sluice_probe_duration_seconds";
const CERTIFICATE_EXPIRES: &str = "sluice_certificate_expires_seconds";
const TLS_HANDSHAKE_FAILURES: &str = "sluice_tls_handshake_failures_total";

/// Gives every metric its help text; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Calls of the API by endpoint and status; status \"other\" stands for rare ones."
    );
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "From a call's head to the answer's, by endpoint.");
    describe_counter!(
        REFUSALS,
        Unit::Count,
        "Calls refused by reason: throttles and blocks, replays, failed proofs, links and tokens that are not good."
    );
    describe_counter!(PICKS, Unit::Count, "Clients sent to an edge as their first candidate.");
    describe_counter!(TOKENS_MINTED, Unit::Count, "Download tokens minted.");
    describe_gauge!(
        KEY_AGE,
        Unit::Seconds,
        "Since the current key of tokens began to mint; with keys in etcd."
    );
    describe_gauge!(
        TOKENS_PER_KEY,
        Unit::Count,
        "Tokens that this coordinator minted with the current key; with keys in etcd."
    );
    describe_gauge!(EDGES, Unit::Count, "Edges of the registry by state; those that are up get requests.");
    describe_gauge!(RING_SHARE, "The part of its zone's files that an edge is first candidate of, 0 to 1.");
    describe_gauge!(
        EDGE_CLOCK_SKEW,
        Unit::Seconds,
        "An edge's clock less this coordinator's, by its last answer and to a second; beyond 5 the edge is degraded."
    );
    describe_gauge!(
        EDGE_URL_FAULTS,
        Unit::Count,
        "Edges that serve and do not answer where clients are sent, by what is wrong there."
    );
    describe_histogram!(
        RING_BUILD_DURATION,
        Unit::Seconds,
        "From a change of the edges to the new rings in use."
    );
    describe_gauge!(STATE_UP, "1 while counts, links and nonces can be asked for, else 0.");
    describe_gauge!(ETCD_UP, "1 while etcd answers and the edges in it are followed, else 0.");
    describe_gauge!(
        REGISTRY_STALE,
        Unit::Seconds,
        "Since etcd confirmed the list of edges last; infinite where it never did."
    );
    describe_gauge!(
        CLIENTS_STALE,
        Unit::Seconds,
        "Since etcd confirmed the clients last; infinite where it never did. With clients in etcd."
    );
    describe_gauge!(
        EDGE_ORDERS,
        Unit::Count,
        "Orders of operators that stand, by what they order; with edges in etcd."
    );
    describe_counter!(
        LOG_LINES_LOST,
        Unit::Count,
        "Lines about calls that nobody could write to standard error."
    );
    describe_counter!(PROBES, Unit::Count, "Probes of edges by what they came to.");
    describe_histogram!(PROBE_DURATION, Unit::Seconds, "How long probes of edges took.");
    describe_gauge!(
        CERTIFICATE_EXPIRES,
        Unit::Seconds,
        "When the certificate that is served expires, as Unix time; there with TLS only."
    );
    describe_counter!(
        TLS_HANDSHAKE_FAILURES,
        Unit::Count,
        "Clients that began a TLS handshake and did not end it, or began none in time."
    );
}

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
            let requests = |status: &'static str| counter!(REQUESTS, "endpoint" => name, "status" => status);
            EndpointMetrics {
                by_status: STATUSES.map(|(_, status)| requests(status)),
                other: requests("other"),
                duration: histogram!(REQUEST_DURATION, "endpoint" => name),
            }
        };
        let refusals = |at: usize| counter!(REFUSALS, "reason" => Reason::ALL[at].name());
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
        let probes = |result: &'static str| counter!(PROBES, "result" => result);
        Self {
            good: probes("good"),
            draining: probes("draining"),
            degraded: probes("degraded"),
            miss: probes("miss"),
            probe: histogram!(PROBE_DURATION),
            build: histogram!(RING_BUILD_DURATION),
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
    counter!(PICKS, "edge" => edge.to_string())
}

pub(crate) fn tokens_minted() -> Counter {
    counter!(TOKENS_MINTED)
}

pub(crate) fn log_lines_lost() -> Counter {
    counter!(LOG_LINES_LOST)
}

pub(crate) fn tls_handshake_failures() -> Counter {
    counter!(TLS_HANDSHAKE_FAILURES)
}

/// How long the current key has been minting, and how much.
pub(crate) fn keys(age: Duration, tokens: u64) {
    gauge!(KEY_AGE).set(age.as_secs_f64());
    gauge!(TOKENS_PER_KEY).set(tokens as f64);
}

/// Sets the gauges that follow from the board; before a scrape, not at every probe.
pub(crate) fn gather(
    edges: &[EdgeStatus],
    is_state_well: bool,
    certificate_expires: Option<SystemTime>,
    registry: Option<Freshness>,
) {
    if let Some(freshness) = registry {
        gauge!(ETCD_UP).set(f64::from(u8::from(freshness.is_reached)));
        gauge!(REGISTRY_STALE).set(stale_seconds(freshness));
    }
    gauge!(STATE_UP).set(f64::from(u8::from(is_state_well)));
    if let Some(expires) = certificate_expires {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(CERTIFICATE_EXPIRES).set(expires.as_secs_f64());
    }
    for state in State::ALL {
        let count = edges.iter().filter(|edge| edge.health.state() == state).count();
        gauge!(EDGES, "state" => state.name()).set(count as f64);
    }
    for kind in UrlFault::KINDS {
        let is_so = |edge: &&EdgeStatus| edge.url_fault.as_ref().is_some_and(|fault| fault.kind() == kind);
        gauge!(EDGE_URL_FAULTS, "fault" => kind).set(edges.iter().filter(is_so).count() as f64);
    }
    for edge in edges {
        gauge!(RING_SHARE, "edge" => edge.edge.record.id.to_string()).set(edge.share);
        if let Some(skew) = edge.skew {
            gauge!(EDGE_CLOCK_SKEW, "edge" => edge.edge.record.id.to_string()).set(skew.seconds());
        }
    }
}

/// How old the clients are, where they are in etcd.
pub(crate) fn clients(freshness: Option<Freshness>) {
    if let Some(freshness) = freshness {
        gauge!(CLIENTS_STALE).set(stale_seconds(freshness));
    }
}

/// What operators order.
pub(crate) fn orders(orders: &OrderList) {
    let count = |is_wanted: fn(&Order) -> bool| orders.values().filter(|order| is_wanted(order)).count();
    gauge!(EDGE_ORDERS, "order" => "drain").set(count(|order| order.drain) as f64);
    gauge!(EDGE_ORDERS, "order" => "weight").set(count(|order| order.weight.is_some()) as f64);
}

fn stale_seconds(freshness: Freshness) -> f64 {
    freshness.staleness.map_or(f64::INFINITY, |stale| stale.as_secs_f64())
}
