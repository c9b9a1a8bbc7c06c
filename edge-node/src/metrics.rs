//! What the edge counts. Each worker counts in memory of its own; a scrape adds them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use sluice_shared::token::TokenError;

use crate::cache::{Cache, Usage};
use crate::store::StoreHealth;
use histogram::Histogram;

mod histogram;

/// A number that grows, or a level that also falls.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// For a counter with one writer: no locked instruction.
    pub(crate) fn add_alone(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every status the edge answers with; a place each.
const STATUSES: [u16; 20] =
    [200, 204, 206, 302, 304, 400, 401, 403, 404, 405, 408, 412, 414, 416, 417, 429, 431, 500, 503, 505];

const TOKEN_ERRORS: [TokenError; 11] = [
    TokenError::TooLong,
    TokenError::Structure,
    TokenError::Encoding,
    TokenError::Header,
    TokenError::Length,
    TokenError::UnknownKey,
    TokenError::Authentication,
    TokenError::Claims,
    TokenError::FileId,
    TokenError::Expired,
    TokenError::NotYetValid,
];

/// One worker's counts, on cache lines of their own. Only the worker writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerMetrics {
    requests: [Counter; STATUSES.len()],
    token_failures: [Counter; TOKEN_ERRORS.len()],
    pub(crate) body_bytes: Counter,
    pub(crate) short_bodies: Counter,
    pub(crate) window_hits: Counter,
    pub(crate) window_misses: Counter,
    pub(crate) connections_total: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) refused_address: Counter,
    pub(crate) refused_proxy: Counter,
    pub(crate) renewals: Counter,
    pub(crate) sent_on: Counter,
    pub(crate) slow_clients: Counter,
    pub(crate) first_byte: Histogram,
    pub(crate) duration: Histogram,
    pub(crate) connections: Counter,
    pub(crate) transfers: Counter,
    /// Of bodies being sent, what is to come.
    pub(crate) in_flight_bytes: Counter,
}

impl WorkerMetrics {
    pub(crate) fn request(&self, status: u16) {
        if let Some(place) = STATUSES.iter().position(|known| *known == status) {
            self.requests[place].add_alone(1);
        }
    }

    fn answered(&self, status: u16) -> u64 {
        let place = STATUSES.iter().position(|known| *known == status);
        place.map_or(0, |place| self.requests[place].value())
    }

    pub(crate) fn token_failure(&self, error: TokenError) {
        if let Some(place) = TOKEN_ERRORS.iter().position(|known| *known == error) {
            self.token_failures[place].add_alone(1);
        }
    }
}

/// What the process holds now, for `/load` and the scrape.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Load {
    pub(crate) connections: u64,
    pub(crate) transfers: u64,
    /// Of bodies being sent, what is to come.
    pub(crate) in_flight_bytes: u64,
    /// Answers with a body and their bytes since the start: coordinators tell a mean body by them.
    pub(crate) bodies: u64,
    pub(crate) body_bytes: u64,
    /// Coordinators tell by it whether the cache can have been filled.
    pub(crate) uptime_seconds: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) cache_capacity_bytes: u64,
    /// Since the start: windows that were in the cache when a transfer came to them, and those it waited for.
    pub(crate) window_hits: u64,
    pub(crate) window_misses: u64,
    /// Operations in the store now, and those of them that are stuck.
    pub(crate) storage_operations: u64,
    pub(crate) storage_stuck: u64,
    /// What is not cached had better be asked of another edge.
    pub(crate) degraded: bool,
}

/// Adds up all workers and brings the exported metrics up to date.
pub(crate) fn export(
    workers: &[Arc<WorkerMetrics>],
    cache: &Cache,
    store: StoreHealth,
    lost_lines: u64,
    uptime: Duration,
) {
    let sum = |count: fn(&WorkerMetrics) -> &Counter| {
        workers.iter().map(|worker| count(worker).value()).sum::<u64>()
    };
    for (place, status) in STATUSES.iter().enumerate() {
        let total = workers.iter().map(|worker| worker.requests[place].value()).sum();
        counter!("sluice_edge_requests_total", "status" => status.to_string()).absolute(total);
    }
    for (place, error) in TOKEN_ERRORS.iter().enumerate() {
        let total = workers.iter().map(|worker| worker.token_failures[place].value()).sum();
        counter!("sluice_edge_token_failures_total", "reason" => error.reason()).absolute(total);
    }
    counter!("sluice_edge_body_bytes_total").absolute(sum(|worker| &worker.body_bytes));
    counter!("sluice_edge_short_bodies_total").absolute(sum(|worker| &worker.short_bodies));
    counter!("sluice_edge_connections_total").absolute(sum(|worker| &worker.connections_total));
    counter!("sluice_edge_refused_connections_total", "reason" => "full")
        .absolute(sum(|worker| &worker.refused_full));
    counter!("sluice_edge_refused_connections_total", "reason" => "address")
        .absolute(sum(|worker| &worker.refused_address));
    counter!("sluice_edge_refused_connections_total", "reason" => "proxy")
        .absolute(sum(|worker| &worker.refused_proxy));
    counter!("sluice_edge_renewals_total").absolute(sum(|worker| &worker.renewals));
    counter!("sluice_edge_sent_on_total").absolute(sum(|worker| &worker.sent_on));
    counter!("sluice_edge_slow_clients_total").absolute(sum(|worker| &worker.slow_clients));
    counter!("sluice_edge_window_hits_total").absolute(sum(|worker| &worker.window_hits));
    counter!("sluice_edge_window_misses_total").absolute(sum(|worker| &worker.window_misses));
    counter!("sluice_edge_access_log_lost_lines_total").absolute(lost_lines);
    let usage = cache.usage();
    counter!("sluice_edge_cache_fills_total").absolute(cache.counters.fills.value());
    counter!("sluice_edge_cache_fill_failures_total").absolute(cache.counters.fill_failures.value());
    counter!("sluice_edge_cache_evictions_total").absolute(usage.evictions);
    let load = load(workers, usage, store, uptime);
    set_gauge("sluice_edge_connections", load.connections);
    set_gauge("sluice_edge_transfers", load.transfers);
    set_gauge("sluice_edge_in_flight_bytes", load.in_flight_bytes);
    set_gauge("sluice_edge_cache_bytes", load.cache_bytes);
    set_gauge("sluice_edge_cache_capacity_bytes", load.cache_capacity_bytes);
    set_gauge("sluice_edge_storage_operations", load.storage_operations);
    set_gauge("sluice_edge_storage_stuck_operations", load.storage_stuck);
    set_gauge("sluice_edge_storage_waiting_operations", store.waiting);
    set_gauge("sluice_edge_degraded", u64::from(load.degraded));
    set_gauge("sluice_edge_root_absent", u64::from(store.is_absent));
}

/// The histograms, as text to go with what is exported.
pub(crate) fn histograms(workers: &[Arc<WorkerMetrics>]) -> String {
    let mut text = String::new();
    let sum = |of: fn(&WorkerMetrics) -> &Histogram| histogram::sum(workers.iter().map(|worker| of(worker)));
    sum(|worker| &worker.first_byte).write(
        "sluice_edge_first_byte_seconds",
        "From a request's head to its answer's first byte",
        &mut text,
    );
    sum(|worker| &worker.duration).write(
        "sluice_edge_answer_seconds",
        "From a request's head until its answer was handed to the kernel",
        &mut text,
    );
    text
}

/// Whether the edge's record is in etcd, where it should be.
pub(crate) fn registered(is_registered: Option<bool>) {
    if let Some(is_registered) = is_registered {
        set_gauge("sluice_edge_registered", u64::from(is_registered));
    }
}

/// Whether etcd answers, and since when it has not confirmed what is revoked; there where the edge uses one.
pub(crate) fn etcd(is_reached: bool, staleness: Option<Duration>) {
    set_gauge("sluice_etcd_up", u64::from(is_reached));
    let stale = staleness.map_or(f64::INFINITY, |stale| stale.as_secs_f64());
    gauge!("sluice_revocations_stale_seconds").set(stale);
}

/// Until when the certificate is valid that is served, the first of several to end.
pub(crate) fn certificate(expires: SystemTime) {
    let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("sluice_certificate_expires_seconds").set(since.as_secs_f64());
}

/// Clients that began TLS and got no further.
pub(crate) fn tls_handshake_failures() -> metrics::Counter {
    counter!("sluice_tls_handshake_failures_total")
}

/// Bytes of bodies that were sent, ever.
pub(crate) fn body_bytes(workers: &[Arc<WorkerMetrics>]) -> u64 {
    workers.iter().map(|worker| worker.body_bytes.value()).sum()
}

fn set_gauge(name: &'static str, value: u64) {
    gauge!(name).set(value as f64);
}

pub(crate) fn load(
    workers: &[Arc<WorkerMetrics>],
    usage: Usage,
    store: StoreHealth,
    uptime: Duration,
) -> Load {
    let sum = |count: fn(&WorkerMetrics) -> u64| workers.iter().map(|worker| count(worker)).sum();
    Load {
        connections: sum(|worker| worker.connections.value()),
        transfers: sum(|worker| worker.transfers.value()),
        in_flight_bytes: sum(|worker| worker.in_flight_bytes.value()),
        bodies: sum(|worker| worker.answered(200) + worker.answered(206)),
        body_bytes: sum(|worker| worker.body_bytes.value()),
        uptime_seconds: uptime.as_secs(),
        cache_bytes: usage.held_bytes,
        cache_capacity_bytes: usage.capacity_bytes,
        window_hits: sum(|worker| worker.window_hits.value()),
        window_misses: sum(|worker| worker.window_misses.value()),
        storage_operations: store.under_way,
        storage_stuck: store.stuck,
        degraded: store.is_degraded,
    }
}

/// Tells the exporter what each metric means.
pub(crate) fn describe() {
    describe_counter!("sluice_edge_requests_total", "Requests answered, by status");
    describe_counter!("sluice_edge_token_failures_total", "Tokens refused, by reason");
    describe_counter!("sluice_edge_body_bytes_total", "Bytes of files sent");
    describe_counter!("sluice_edge_short_bodies_total", "Bodies that ended short of their Content-Length");
    describe_counter!("sluice_edge_connections_total", "Connections accepted");
    describe_counter!(
        "sluice_edge_refused_connections_total",
        "Connections turned away: the edge is full, the address has as many as it may, or no trusted proxy says whose \
         they are"
    );
    describe_counter!(
        "sluice_edge_renewals_total",
        "Requests with an expired token of a living link, sent back to the coordinator"
    );
    describe_counter!(
        "sluice_edge_sent_on_total",
        "Requests that this edge could not serve, sent by way of the coordinator to another"
    );
    describe_counter!("sluice_edge_slow_clients_total", "Answers cut because the client took too little");
    describe_counter!("sluice_edge_access_log_lost_lines_total", "Lines that the access log could not take");
    describe_counter!(
        "sluice_edge_window_hits_total",
        "Windows that were in the cache when a transfer came to them"
    );
    describe_counter!("sluice_edge_window_misses_total", "Windows that a transfer waited for");
    describe_counter!("sluice_edge_cache_fills_total", "Small files and windows read from the store");
    describe_counter!(
        "sluice_edge_cache_fill_failures_total",
        "Windows whose read failed or was of another version"
    );
    describe_counter!("sluice_edge_cache_evictions_total", "Small files and windows evicted");
    describe_gauge!("sluice_edge_connections", "Connections open now");
    describe_gauge!("sluice_edge_transfers", "Bodies being sent now");
    describe_gauge!("sluice_edge_in_flight_bytes", "Of those, the bytes that are to come");
    describe_gauge!("sluice_edge_cache_bytes", "Bytes the cache holds now");
    describe_gauge!("sluice_edge_cache_capacity_bytes", "Bytes the cache may hold");
    describe_gauge!("sluice_edge_storage_operations", "Operations in the store now");
    describe_gauge!("sluice_edge_storage_stuck_operations", "Of those, the ones that are 2 s old or older");
    describe_gauge!("sluice_edge_storage_waiting_operations", "Operations that wait for a place");
    describe_gauge!("sluice_edge_registered", "1 while the edge's own record is in etcd, where it should be");
    describe_gauge!("sluice_etcd_up", "1 while etcd answers and the revocations in it are followed, else 0");
    describe_gauge!(
        "sluice_revocations_stale_seconds",
        "Since etcd confirmed last what is revoked; infinite where it never did"
    );
    describe_gauge!(
        "sluice_certificate_expires_seconds",
        "When the certificate in use expires, the first of several, as Unix time; there with [tls]"
    );
    describe_counter!(
        "sluice_tls_handshake_failures_total",
        "Clients that began a TLS handshake and did not end it, or began none in time"
    );
    describe_gauge!("sluice_edge_degraded", "1 while the store does not answer, or is not there");
    describe_gauge!("sluice_edge_root_absent", "1 while the root is empty, or lacks root_marker");
}
