//! `[limits]`: as written → the bounds of one edge.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::config::ConfigError;
use sluice_shared::units::{ByteSize, Span};

/// The section as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    connections: Option<usize>,
    storage_timeout: Option<Span>,
    storage_concurrency: Option<usize>,
    head_timeout: Option<Span>,
    idle_timeout: Option<Span>,
    send_timeout: Option<Span>,
    drain_grace: Option<Span>,
    drain_timeout: Option<Span>,
    connections_per_address: Option<usize>,
    transfers_per_token: Option<usize>,
    ranges_max: Option<usize>,
    rate: Option<ByteSize>,
    send_rate_min: Option<ByteSize>,
    inflight: Option<ByteSize>,
}

/// The bounds of one edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All workers together.
    pub(crate) connections: usize,
    /// For what has to come from the store before an answer can begin, or go on.
    pub(crate) storage_timeout: Duration,
    /// Reads in the store at a time.
    pub(crate) storage_concurrency: usize,
    /// For a request head to arrive whole.
    pub(crate) head_timeout: Duration,
    /// For a kept connection to send its next request.
    pub(crate) idle_timeout: Duration,
    /// For a client to take anything at all of what it is sent; and the span that `send_rate_min` is judged over.
    pub(crate) send_timeout: Duration,
    /// Bytes per second that a client has to take; 0 for none.
    pub(crate) send_rate_min: u64,
    /// Bytes per second that one connection gets, at most.
    pub(crate) rate: Option<NonZeroU64>,
    /// Of one address: an IPv4 address, an IPv6 /64.
    pub(crate) connections_per_address: usize,
    /// Of large files, with one token.
    pub(crate) transfers_per_token: usize,
    /// Ranges that one request may ask for; who asks for more gets the whole file.
    pub(crate) ranges_max: usize,
    /// Bytes that reads of the store may be under way for.
    pub(crate) inflight_bytes: u64,
    /// Between the first sign of draining and refusing requests: for coordinators to notice.
    pub(crate) drain_grace: Duration,
    /// For downloads to finish after that.
    pub(crate) drain_timeout: Duration,
}

impl RawLimits {
    /// `config` is the configuration's path; `cache_size` in bytes.
    ///
    /// # Errors
    /// A bound is 0 that lets nothing through then.
    pub(super) fn settle(self, config: &Path, cache_size: u64) -> Result<Limits, ConfigError> {
        let span =
            |span: Option<Span>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
        let positive =
            |key: &'static str, value: Option<usize>, default: usize| match value.unwrap_or(default) {
                0 => Err(ConfigError::key(config, key, "must be at least 1")),
                value => Ok(value),
            };
        Ok(Limits {
            connections: positive("limits.connections", self.connections, 50_000)?,
            storage_timeout: span(self.storage_timeout, 30),
            storage_concurrency: positive("limits.storage_concurrency", self.storage_concurrency, 512)?,
            head_timeout: span(self.head_timeout, 15),
            idle_timeout: span(self.idle_timeout, 75),
            send_timeout: span(self.send_timeout, 60),
            drain_grace: span(self.drain_grace, 3),
            drain_timeout: span(self.drain_timeout, 300),
            send_rate_min: self.send_rate_min.map_or(512, |rate| rate.0),
            rate: self.rate.and_then(|rate| NonZeroU64::new(rate.0)),
            connections_per_address: positive(
                "limits.connections_per_address",
                self.connections_per_address,
                1000,
            )?,
            transfers_per_token: positive("limits.transfers_per_token", self.transfers_per_token, 100)?,
            ranges_max: positive("limits.ranges_max", self.ranges_max, 32)?,
            // An eighth of the cache: reads under way hold room, and as many stuck ones may; they must not empty it.
            inflight_bytes: self.inflight.map_or(u64::MAX, |bytes| bytes.0).min(cache_size / 8),
        })
    }
}
