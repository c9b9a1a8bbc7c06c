//! What the edge counts. Each worker counts in memory of its own; a scrape adds them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use sluice_shared::cluster::Freshness;
use sluice_shared::telemetry::metric::Metric;
use sluice_shared::token::TokenError;

use crate::cache::{Cache, Usage};
use crate::store::StoreHealth;
use described::{
    ACCESS_LOG_LOST_LINES, ANSWER, BODY_BYTES, CACHE_BYTES, CACHE_CAPACITY_BYTES, CACHE_EVICTIONS,
    CACHE_FILL_FAILURES, CACHE_FILLS, CERTIFICATE_EXPIRES, CONNECTIONS, CONNECTIONS_ACCEPTED, DEGRADED,
    ETCD_UP, FIRST_BYTE, IN_FLIGHT_BYTES, KERNEL_TLS_CONNECTIONS, REFUSED_CONNECTIONS, REGISTERED, RENEWALS,
    REQUESTS, REVOCATIONS_STALE, ROOT_ABSENT, SENT_ON, SHORT_BODIES, SLOW_CLIENTS, STORAGE_OPERATIONS,
    STORAGE_STUCK_OPERATIONS, STORAGE_WAITING_OPERATIONS, TLS_HANDSHAKE_FAILURES, TOKEN_FAILURES, TRANSFERS,
    WINDOW_HITS, WINDOW_MISSES,
};
use histogram::Histogram;

mod described;
mod histogram;

pub use described::ALL;

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

type CountOf = fn(&WorkerMetrics) -> &Counter;

/// Why connections are refused, and where that is counted.
const REFUSALS: [(&str, CountOf); 3] = [
    ("full", |worker| &worker.refused_full),
    ("address", |worker| &worker.refused_address),
    ("proxy", |worker| &worker.refused_proxy),
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
    /// Of those, the ones whose TLS is the kernel's.
    pub(crate) kernel_tls: Counter,
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
    let sum = |count: CountOf| workers.iter().map(|worker| count(worker).value()).sum::<u64>();
    for (place, status) in STATUSES.iter().enumerate() {
        let total = workers.iter().map(|worker| worker.requests[place].value()).sum();
        counter!(REQUESTS.name, "status" => status.to_string()).absolute(total);
    }
    for (place, error) in TOKEN_ERRORS.iter().enumerate() {
        let total = workers.iter().map(|worker| worker.token_failures[place].value()).sum();
        counter!(TOKEN_FAILURES.name, "reason" => error.reason()).absolute(total);
    }
    counter!(BODY_BYTES.name).absolute(sum(|worker| &worker.body_bytes));
    counter!(SHORT_BODIES.name).absolute(sum(|worker| &worker.short_bodies));
    counter!(CONNECTIONS_ACCEPTED.name).absolute(sum(|worker| &worker.connections_total));
    counter!(KERNEL_TLS_CONNECTIONS.name).absolute(sum(|worker| &worker.kernel_tls));
    for (reason, count) in REFUSALS {
        counter!(REFUSED_CONNECTIONS.name, "reason" => reason).absolute(sum(count));
    }
    counter!(RENEWALS.name).absolute(sum(|worker| &worker.renewals));
    counter!(SENT_ON.name).absolute(sum(|worker| &worker.sent_on));
    counter!(SLOW_CLIENTS.name).absolute(sum(|worker| &worker.slow_clients));
    counter!(WINDOW_HITS.name).absolute(sum(|worker| &worker.window_hits));
    counter!(WINDOW_MISSES.name).absolute(sum(|worker| &worker.window_misses));
    counter!(ACCESS_LOG_LOST_LINES.name).absolute(lost_lines);
    let usage = cache.usage();
    counter!(CACHE_FILLS.name).absolute(cache.counters.fills.value());
    counter!(CACHE_FILL_FAILURES.name).absolute(cache.counters.fill_failures.value());
    counter!(CACHE_EVICTIONS.name).absolute(usage.evictions);
    let load = load(workers, usage, store, uptime);
    set_gauge(&CONNECTIONS, load.connections);
    set_gauge(&TRANSFERS, load.transfers);
    set_gauge(&IN_FLIGHT_BYTES, load.in_flight_bytes);
    set_gauge(&CACHE_BYTES, load.cache_bytes);
    set_gauge(&CACHE_CAPACITY_BYTES, load.cache_capacity_bytes);
    set_gauge(&STORAGE_OPERATIONS, load.storage_operations);
    set_gauge(&STORAGE_STUCK_OPERATIONS, load.storage_stuck);
    set_gauge(&STORAGE_WAITING_OPERATIONS, store.waiting);
    set_gauge(&DEGRADED, u64::from(load.degraded));
    set_gauge(&ROOT_ABSENT, u64::from(store.is_absent));
}

/// The histograms, as text to go with what is exported.
pub(crate) fn histograms(workers: &[Arc<WorkerMetrics>]) -> String {
    let mut text = String::new();
    let sum = |of: fn(&WorkerMetrics) -> &Histogram| histogram::sum(workers.iter().map(|worker| of(worker)));
    sum(|worker| &worker.first_byte).write(&FIRST_BYTE, &mut text);
    sum(|worker| &worker.duration).write(&ANSWER, &mut text);
    text
}

/// Whether the edge's record is in etcd, where it should be.
pub(crate) fn registered(is_registered: Option<bool>) {
    if let Some(is_registered) = is_registered {
        set_gauge(&REGISTERED, u64::from(is_registered));
    }
}

/// Whether etcd answers, and since when it has not confirmed what is revoked; there where the edge uses one.
pub(crate) fn etcd(marks: Freshness) {
    set_gauge(&ETCD_UP, u64::from(marks.is_reached));
    let stale = marks.staleness.map_or(f64::INFINITY, |stale| stale.as_secs_f64());
    gauge!(REVOCATIONS_STALE.name).set(stale);
}

/// Until when the certificate is valid that is served, the first of several to end.
pub(crate) fn certificate(expires: SystemTime) {
    let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(CERTIFICATE_EXPIRES.name).set(since.as_secs_f64());
}

/// Clients that began TLS and got no further.
pub(crate) fn tls_handshake_failures() -> metrics::Counter {
    counter!(TLS_HANDSHAKE_FAILURES.name)
}

/// Bytes of bodies that were sent, ever.
pub(crate) fn body_bytes(workers: &[Arc<WorkerMetrics>]) -> u64 {
    workers.iter().map(|worker| worker.body_bytes.value()).sum()
}

fn set_gauge(metric: &Metric, value: u64) {
    gauge!(metric.name).set(value as f64);
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
