//! Every metric of the coordinator: names, help texts, and handles that are made once and kept (a look-up by name
//! costs 60 to 300 ns, a kept handle 4). No label has values that callers choose.

use std::time::Duration;

use http::StatusCode;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use sluice_shared::cluster::EdgeId;

use crate::membership::{Answer, EdgeStatus, State};

const REQUESTS: &str = "sluice_coordinator_requests_total";
const REQUEST_DURATION: &str = "sluice_request_duration_seconds";
const PICKS: &str = "sluice_picks_total";
const TOKENS_MINTED: &str = "sluice_tokens_minted_total";
const EDGES: &str = "sluice_edges";
const RING_SHARE: &str = "sluice_ring_share";
const RING_BUILD_DURATION: &str = "sluice_ring_build_duration_seconds";
const STATE_UP: &str = "sluice_state_up";
const LOG_LINES_LOST: &str = "sluice_coordinator_log_lines_lost_total";
const PROBES: &str = "sluice_probes_total";
const PROBE_DURATION: &str = "sluice_probe_duration_seconds";

/// Gives every metric its help text; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Calls of the API by endpoint and status; status \"other\" stands for rare ones."
    );
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "From a call's head to the answer's, by endpoint.");
    describe_counter!(PICKS, Unit::Count, "Clients sent to an edge as their first candidate.");
    describe_counter!(TOKENS_MINTED, Unit::Count, "Download tokens minted.");
    describe_gauge!(
        EDGES,
        Unit::Count,
        "Edges of the registry by state; only those that are up get requests."
    );
    describe_gauge!(RING_SHARE, "The part of all files that an edge is first candidate of, 0 to 1.");
    describe_histogram!(
        RING_BUILD_DURATION,
        Unit::Seconds,
        "From a change of the live edges to the new ring in use."
    );
    describe_gauge!(STATE_UP, "1 while counts, links and nonces can be asked for, else 0.");
    describe_counter!(
        LOG_LINES_LOST,
        Unit::Count,
        "Lines about calls that nobody could write to standard error."
    );
    describe_counter!(PROBES, Unit::Count, "Probes of edges by what they came to.");
    describe_histogram!(PROBE_DURATION, Unit::Seconds, "How long probes of edges took.");
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
pub(crate) struct CallMetrics([EndpointMetrics; Endpoint::ALL.len()]);

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
        Self(Endpoint::ALL.map(endpoint))
    }

    pub(crate) fn answered(&self, endpoint: Endpoint, status: StatusCode, took: Duration) {
        let handles = &self.0[endpoint as usize];
        let known = STATUSES.iter().position(|(known, _)| *known == status.as_u16());
        known.map_or(&handles.other, |at| &handles.by_status[at]).increment(1);
        handles.duration.record(took);
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
            Answer::Degraded => &self.degraded,
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

/// Sets the gauges that follow from the board; before a scrape, not at every probe.
pub(crate) fn gather(edges: &[EdgeStatus], is_state_well: bool) {
    gauge!(STATE_UP).set(f64::from(u8::from(is_state_well)));
    for state in State::ALL {
        let count = edges.iter().filter(|edge| edge.health.state() == state).count();
        gauge!(EDGES, "state" => state.name()).set(count as f64);
    }
    for edge in edges {
        gauge!(RING_SHARE, "edge" => edge.edge.record.id.to_string()).set(edge.share);
    }
}
