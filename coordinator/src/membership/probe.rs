//! Questions to an edge's admin port, and what the answers were. It bounds time and bytes; it decides nothing.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_shared::keys::KeyRing;
use sluice_shared::units::BaseUrl;
use tokio::time::{Instant, timeout_at};

use super::clock::Skew;
use super::health::{Ailment, Answer};
use crate::routing::load::LoadReport;

/// From the question to the answer's head, connecting included. Below the time between probes, so that an edge that
/// hangs is asked as often as one that refuses.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);
/// An edge's answer is a few hundred bytes. What is longer is not read, and its connection not used again.
const BODY_BYTES_MAX: usize = 16 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A kept connection waits for the next probe, not much longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The client for all probes; an edge's connection is kept from one to the next.
pub(crate) struct Prober(Client<HttpConnector, Empty<Bytes>>);

impl Prober {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PROBE_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Self(client)
    }

    /// Asks once whether an edge should get requests, and how its clock is, where it says so.
    pub(crate) async fn ask(&self, question: &Uri) -> (Answer, Option<Skew>) {
        let asked = SystemTime::now();
        let Some(reply) = self.get(question, Instant::now() + PROBE_TIMEOUT).await else {
            return (Answer::Miss, None);
        };
        let skew = reply.date.map(|date| Skew::read(date, asked, SystemTime::now()));
        let answer = match reply.status {
            StatusCode::OK if skew.is_some_and(Skew::is_too_much) => Answer::Degraded(Ailment::Clock),
            StatusCode::OK => Answer::Good,
            StatusCode::SERVICE_UNAVAILABLE if is_only_degraded(&reply.body) => {
                Answer::Degraded(Ailment::Storage)
            }
            StatusCode::SERVICE_UNAVAILABLE => Answer::Draining,
            _ => Answer::Miss,
        };
        (answer, skew)
    }

    /// Asks once how loaded it is, in what is left of the time of a probe that began then. An edge that does not say
    /// is none the worse for it.
    pub(crate) async fn load(&self, question: &Uri, begun: std::time::Instant) -> Option<Load> {
        let reply = self.get(question, Instant::from_std(begun) + PROBE_TIMEOUT).await?;
        (reply.status == StatusCode::OK).then(|| serde_json::from_slice(&reply.body).ok())?
    }

    /// None where there is no answer.
    async fn get(&self, question: &Uri, deadline: Instant) -> Option<Reply> {
        let response = match timeout_at(deadline, self.0.get(question.clone())).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::debug!(%question, error = &error as &dyn std::error::Error, "probe failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%question, "probe not answered in time");
                return None;
            }
        };
        let status = response.status();
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        // Read also where it says nothing more, so that the connection can be used again.
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
        let body = timeout_at(deadline, body).await.ok().and_then(Result::ok);
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Some(Reply { status, date, body })
    }
}

/// An answer, whatever it says.
struct Reply {
    status: StatusCode,
    date: Option<SystemTime>,
    /// Empty where it is too long or comes too late.
    body: Bytes,
}

/// Whether an edge that is not ready gives its storage as the one reason.
fn is_only_degraded(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Unready<'b> {
        #[serde(borrow)]
        reasons: Vec<std::borrow::Cow<'b, str>>,
    }
    serde_json::from_slice(body).is_ok_and(|unready: Unready<'_>| unready.reasons == ["degraded"])
}

/// What an edge is asked.
pub(crate) struct Questions {
    /// Whether it should get requests.
    pub(crate) ready: Uri,
    /// How loaded it is.
    pub(crate) load: Uri,
}

impl Questions {
    pub(crate) fn of(admin_url: &BaseUrl) -> Self {
        let question = |path| {
            let text = format!("{admin_url}{path}");
            text.parse().expect("a base URL and a plain path are a URI")
        };
        Self { ready: question("/readyz"), load: question("/load") }
    }
}

/// What an edge says of its load; an older one leaves fields out.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub(crate) struct Load {
    #[serde(flatten)]
    pub(crate) report: LoadReport,
    uptime_seconds: Option<u64>,
    #[serde(default)]
    pub(crate) connections: Option<u64>,
    #[serde(default)]
    pub(crate) transfers: Option<u64>,
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) window_hits: Option<u64>,
    #[serde(default)]
    pub(crate) window_misses: Option<u64>,
    #[serde(default)]
    pub(crate) storage_stuck: Option<u64>,
    /// Fingerprints of the keys that it opens tokens with.
    #[serde(default)]
    keys: Option<Vec<String>>,
}

impl Load {
    /// Whether it says which keys it has, and the one that tokens are minted with is none of them: it refuses them all.
    pub(crate) fn lacks(&self, keys: &KeyRing) -> bool {
        let (Some(known), Some(minting)) = (&self.keys, keys.minting()) else { return false };
        !known.contains(&minting.fingerprint())
    }

    /// How long its process has been running.
    pub(crate) fn uptime(&self) -> Option<Duration> {
        self.uptime_seconds.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_storage_as_the_only_reason_is_degraded() {
        let table = [
            (r#"{"ready":false,"reasons":["degraded"]}"#, true),
            (r#"{"ready":false,"reasons":["degraded","draining"]}"#, false),
            (r#"{"ready":false,"reasons":["draining"]}"#, false),
            (r#"{"ready":false,"reasons":[]}"#, false),
            ("degraded", false),
            ("", false),
        ];
        for (body, expected) in table {
            assert_eq!(is_only_degraded(body.as_bytes()), expected, "{body}");
        }
    }
}
