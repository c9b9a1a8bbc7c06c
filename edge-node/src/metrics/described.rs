//! Every metric of the edge, by name, unit, labels and meaning.

use sluice_shared::telemetry::metric::{Label, Metric, Unit};

use super::{STATUSES, TOKEN_ERRORS};

const STATUS: Label = Label::listed("status", || STATUSES.iter().map(u16::to_string).collect());
const TOKEN_FAILURE: Label =
    Label::listed("reason", || TOKEN_ERRORS.iter().map(|error| error.reason().to_owned()).collect());
const REFUSAL: Label =
    Label::listed("reason", || super::REFUSALS.iter().map(|(reason, _)| (*reason).to_owned()).collect());

pub(super) const REQUESTS: Metric =
    Metric::counter("sluice_edge_requests_total", Unit::Number, "Requests answered, by status.")
        .by(&[STATUS]);
pub(super) const FIRST_BYTE: Metric = Metric::histogram(
    "sluice_edge_first_byte_seconds",
    Unit::Seconds,
    "From a request's head to its answer's first byte.",
);
pub(super) const ANSWER: Metric = Metric::histogram(
    "sluice_edge_answer_seconds",
    Unit::Seconds,
    "From a request's head until its answer was handed to the kernel.",
);
pub(super) const TOKEN_FAILURES: Metric =
    Metric::counter("sluice_edge_token_failures_total", Unit::Number, "Tokens refused, by reason.")
        .by(&[TOKEN_FAILURE]);
pub(super) const BODY_BYTES: Metric =
    Metric::counter("sluice_edge_body_bytes_total", Unit::Bytes, "Bytes of files sent.");
pub(super) const SHORT_BODIES: Metric = Metric::counter(
    "sluice_edge_short_bodies_total",
    Unit::Number,
    "Bodies that ended short of their Content-Length.",
);
pub(super) const CONNECTIONS_ACCEPTED: Metric =
    Metric::counter("sluice_edge_connections_total", Unit::Number, "Connections accepted.");
pub(super) const KERNEL_TLS_CONNECTIONS: Metric = Metric::counter(
    "sluice_edge_kernel_tls_connections_total",
    Unit::Number,
    "Connections whose TLS the kernel goes on with behind the handshake; with TLS.",
);
pub(super) const REFUSED_CONNECTIONS: Metric = Metric::counter("sluice_edge_refused_connections_total", Unit::Number, "Connections turned away: the edge is full, the address has as many as it may, or no trusted proxy says whose they are.").by(&[REFUSAL]);
pub(super) const RENEWALS: Metric = Metric::counter(
    "sluice_edge_renewals_total",
    Unit::Number,
    "Requests with an expired token of a living link, sent back to the coordinator.",
);
pub(super) const SENT_ON: Metric = Metric::counter(
    "sluice_edge_sent_on_total",
    Unit::Number,
    "Requests that this edge could not serve, sent by way of the coordinator to another.",
);
pub(super) const SLOW_CLIENTS: Metric = Metric::counter(
    "sluice_edge_slow_clients_total",
    Unit::Number,
    "Answers cut because the client took too little.",
);
pub(super) const ACCESS_LOG_LOST_LINES: Metric = Metric::counter(
    "sluice_edge_access_log_lost_lines_total",
    Unit::Number,
    "Lines that the access log could not take.",
);
pub(super) const WINDOW_HITS: Metric = Metric::counter(
    "sluice_edge_window_hits_total",
    Unit::Number,
    "Windows that were in the cache when a transfer came to them.",
);
pub(super) const WINDOW_MISSES: Metric =
    Metric::counter("sluice_edge_window_misses_total", Unit::Number, "Windows that a transfer waited for.");
pub(super) const CACHE_FILLS: Metric = Metric::counter(
    "sluice_edge_cache_fills_total",
    Unit::Number,
    "Small files and windows read from the store.",
);
pub(super) const CACHE_FILL_FAILURES: Metric = Metric::counter(
    "sluice_edge_cache_fill_failures_total",
    Unit::Number,
    "Windows whose read failed or was of another version.",
);
pub(super) const CACHE_EVICTIONS: Metric =
    Metric::counter("sluice_edge_cache_evictions_total", Unit::Number, "Small files and windows evicted.");
pub(super) const CONNECTIONS: Metric =
    Metric::gauge("sluice_edge_connections", Unit::Number, "Connections open now.");
pub(super) const TRANSFERS: Metric =
    Metric::gauge("sluice_edge_transfers", Unit::Number, "Bodies being sent now.");
pub(super) const IN_FLIGHT_BYTES: Metric =
    Metric::gauge("sluice_edge_in_flight_bytes", Unit::Bytes, "Of those, the bytes that are to come.");
pub(super) const CACHE_BYTES: Metric =
    Metric::gauge("sluice_edge_cache_bytes", Unit::Bytes, "Bytes the cache holds now.");
pub(super) const CACHE_CAPACITY_BYTES: Metric =
    Metric::gauge("sluice_edge_cache_capacity_bytes", Unit::Bytes, "Bytes the cache may hold.");
pub(super) const STORAGE_OPERATIONS: Metric =
    Metric::gauge("sluice_edge_storage_operations", Unit::Number, "Operations in the store now.");
pub(super) const STORAGE_STUCK_OPERATIONS: Metric = Metric::gauge(
    "sluice_edge_storage_stuck_operations",
    Unit::Number,
    "Of those, the ones that are 2 s old or older.",
);
pub(super) const STORAGE_WAITING_OPERATIONS: Metric = Metric::gauge(
    "sluice_edge_storage_waiting_operations",
    Unit::Number,
    "Operations that wait for a place.",
);
pub(super) const REGISTERED: Metric = Metric::gauge(
    "sluice_edge_registered",
    Unit::Truth,
    "Whether the edge's own record is in etcd, where it should be; with edges in etcd.",
);
pub(super) const ETCD_UP: Metric = Metric::gauge(
    "sluice_etcd_up",
    Unit::Truth,
    "Whether etcd answers who asks it for revocations, be it that they are not to be read; with etcd.",
);
pub(super) const REVOCATIONS_STALE: Metric = Metric::gauge(
    "sluice_revocations_stale_seconds",
    Unit::Seconds,
    "Since etcd confirmed last what is revoked; infinite where it never did. With etcd.",
);
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
pub(super) const DEGRADED: Metric =
    Metric::gauge("sluice_edge_degraded", Unit::Truth, "Whether the store does not answer, or is not there.");
pub(super) const ROOT_ABSENT: Metric =
    Metric::gauge("sluice_edge_root_absent", Unit::Truth, "Whether the root is empty, or lacks root_marker.");

/// All of them, in the order in which they are listed.
pub const ALL: &[Metric] = &[
    REQUESTS,
    FIRST_BYTE,
    ANSWER,
    TOKEN_FAILURES,
    BODY_BYTES,
    SHORT_BODIES,
    CONNECTIONS_ACCEPTED,
    KERNEL_TLS_CONNECTIONS,
    REFUSED_CONNECTIONS,
    RENEWALS,
    SENT_ON,
    SLOW_CLIENTS,
    ACCESS_LOG_LOST_LINES,
    WINDOW_HITS,
    WINDOW_MISSES,
    CACHE_FILLS,
    CACHE_FILL_FAILURES,
    CACHE_EVICTIONS,
    CONNECTIONS,
    TRANSFERS,
    IN_FLIGHT_BYTES,
    CACHE_BYTES,
    CACHE_CAPACITY_BYTES,
    STORAGE_OPERATIONS,
    STORAGE_STUCK_OPERATIONS,
    STORAGE_WAITING_OPERATIONS,
    REGISTERED,
    ETCD_UP,
    REVOCATIONS_STALE,
    CERTIFICATE_EXPIRES,
    TLS_HANDSHAKE_FAILURES,
    DEGRADED,
    ROOT_ABSENT,
];
