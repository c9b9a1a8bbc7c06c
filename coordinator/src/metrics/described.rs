//! Every metric of the coordinator, by name, unit, labels and meaning.

use sluice_shared::revocations::Kind;
use sluice_shared::telemetry::metric::{EDGE, Label, Metric, Unit};

use super::{Endpoint, STATUSES};
use crate::error::Reason;
use crate::membership::{State, UrlFault};

const ENDPOINT: Label = Label::listed("endpoint", || texts(Endpoint::ALL.map(Endpoint::name)));
const STATUS: Label = Label::listed("status", || {
    texts(STATUSES.iter().map(|(_, status)| *status).chain([super::OTHER_STATUS]))
});
const REASON: Label = Label::listed("reason", || texts(Reason::ALL.iter().map(|reason| reason.name())));
const STATE: Label = Label::listed("state", || texts(State::ALL.map(State::name)));
const URL_FAULT: Label = Label::listed("fault", || texts(UrlFault::KINDS));
const ORDER: Label = Label::listed("order", || texts(super::ORDERS));
const WHAT: Label = Label::listed("what", || texts(Kind::ALL.map(Kind::name)));
const RESULT: Label = Label::listed("result", || texts(super::RESULTS));

fn texts(values: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    values.into_iter().map(str::to_owned).collect()
}

pub(super) const REQUESTS: Metric = Metric::counter(
    "sluice_coordinator_requests_total",
    Unit::Number,
    "Calls of the API by endpoint and status; status \"other\" stands for rare ones.",
)
.by(&[ENDPOINT, STATUS]);
pub(super) const REQUEST_DURATION: Metric = Metric::histogram(
    "sluice_request_duration_seconds",
    Unit::Seconds,
    "From a call's head to the answer's, by endpoint.",
)
.by(&[ENDPOINT]);
pub(super) const REFUSALS: Metric = Metric::counter(
    "sluice_coordinator_refusals_total",
    Unit::Number,
    "Calls refused by reason: throttles and blocks, replays, failed proofs, links and tokens that are not good.",
)
.by(&[REASON]);
pub(super) const PICKS: Metric =
    Metric::counter("sluice_picks_total", Unit::Number, "Clients sent to an edge as their first candidate.")
        .by(&[EDGE]);
pub(super) const TOKENS_MINTED: Metric =
    Metric::counter("sluice_tokens_minted_total", Unit::Number, "Download tokens minted.");
pub(super) const KEY_AGE: Metric = Metric::gauge(
    "sluice_key_age_seconds",
    Unit::Seconds,
    "Since the current key of tokens began to mint; with keys in etcd.",
);
pub(super) const TOKENS_PER_KEY: Metric = Metric::gauge(
    "sluice_tokens_per_key",
    Unit::Number,
    "Tokens that this coordinator minted with the current key; with keys in etcd.",
);
pub(super) const EDGES: Metric = Metric::gauge(
    "sluice_edges",
    Unit::Number,
    "Edges of the registry by state; those that are up get requests.",
)
.by(&[STATE]);
pub(super) const RING_SHARE: Metric = Metric::gauge(
    "sluice_ring_share_ratio",
    Unit::Ratio,
    "The part of its zone's files that an edge is first candidate of.",
)
.by(&[EDGE]);
pub(super) const EDGE_CLOCK_SKEW: Metric = Metric::gauge(
    "sluice_edge_clock_skew_seconds",
    Unit::Seconds,
    "An edge's clock less this coordinator's, by its last answer and to a second; beyond 5 the edge is degraded.",
)
.by(&[EDGE]);
pub(super) const EDGE_URL_FAULTS: Metric = Metric::gauge(
    "sluice_edge_url_faults",
    Unit::Number,
    "Edges that serve and do not answer where clients are sent, by what is wrong there.",
)
.by(&[URL_FAULT]);
pub(super) const RING_BUILD_DURATION: Metric = Metric::histogram(
    "sluice_ring_build_duration_seconds",
    Unit::Seconds,
    "From a change of the edges to the new rings in use.",
);
pub(super) const STATE_UP: Metric =
    Metric::gauge("sluice_state_up", Unit::Truth, "Whether counts, links and nonces can be asked for.");
pub(super) const ETCD_UP: Metric = Metric::gauge(
    "sluice_etcd_up",
    Unit::Truth,
    "Whether etcd answers all who ask it for something, be it that this is not to be read; with etcd.",
);
pub(super) const REGISTRY_STALE: Metric = Metric::gauge(
    "sluice_registry_stale_seconds",
    Unit::Seconds,
    "Since etcd confirmed the list of edges last; infinite where it never did. With edges in etcd.",
);
pub(super) const CLIENTS_STALE: Metric = Metric::gauge(
    "sluice_clients_stale_seconds",
    Unit::Seconds,
    "Since etcd confirmed the clients last; infinite where it never did. With clients in etcd.",
);
pub(super) const EDGE_ORDERS: Metric = Metric::gauge(
    "sluice_edge_orders",
    Unit::Number,
    "Orders of operators that stand, by what they order; with edges in etcd.",
)
.by(&[ORDER]);
pub(super) const REVOCATIONS: Metric = Metric::gauge(
    "sluice_revocations",
    Unit::Number,
    "Revocations and blocks that are remembered, in force, over or lifted, by what they are on; with etcd those of links \
     that their owners took back are among them, 90,000 at most.",
)
.by(&[WHAT]);
pub(super) const LOG_LINES_LOST: Metric = Metric::counter(
    "sluice_coordinator_log_lines_lost_total",
    Unit::Number,
    "Lines about calls that nobody could write to standard error.",
);
pub(super) const PROBES: Metric =
    Metric::counter("sluice_probes_total", Unit::Number, "Probes of edges by what they came to.")
        .by(&[RESULT]);
pub(super) const PROBE_DURATION: Metric =
    Metric::histogram("sluice_probe_duration_seconds", Unit::Seconds, "How long probes of edges took.");
pub(super) const CERTIFICATE_EXPIRES: Metric = Metric::gauge(
    "sluice_certificate_expires_seconds",
    Unit::UnixTime,
    "When the certificate that is served expires, the first of several; with TLS.",
);
pub(super) const TLS_HANDSHAKE_FAILURES: Metric = Metric::counter(
    "sluice_tls_handshake_failures_total",
    Unit::Number,
    "Clients that began a TLS handshake and did not end it, or began none in time; with TLS.",
);

/// All of them, in the order in which they are listed.
pub const ALL: &[Metric] = &[
    REQUESTS,
    REQUEST_DURATION,
    REFUSALS,
    TOKENS_MINTED,
    PICKS,
    RING_SHARE,
    RING_BUILD_DURATION,
    EDGES,
    EDGE_ORDERS,
    REVOCATIONS,
    EDGE_CLOCK_SKEW,
    EDGE_URL_FAULTS,
    PROBES,
    PROBE_DURATION,
    STATE_UP,
    ETCD_UP,
    REGISTRY_STALE,
    CLIENTS_STALE,
    KEY_AGE,
    TOKENS_PER_KEY,
    CERTIFICATE_EXPIRES,
    TLS_HANDSHAKE_FAILURES,
    LOG_LINES_LOST,
];
