//! One question to an edge's admin port, and what the answer was. It bounds time and bytes; it decides nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_shared::units::BaseUrl;
use tokio::time::{Instant, timeout_at};

use super::health::Answer;

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

    /// Asks once.
    pub(crate) async fn ask(&self, question: &Uri) -> Answer {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let response = match timeout_at(deadline, self.0.get(question.clone())).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::debug!(%question, error = &error as &dyn std::error::Error, "probe failed");
                return Answer::Miss;
            }
            Err(_) => {
                tracing::debug!(%question, "probe not answered in time");
                return Answer::Miss;
            }
        };
        let status = response.status();
        // Read also where it says nothing more, so that the connection can be used again.
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
        let body = timeout_at(deadline, body).await.ok().and_then(Result::ok);
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        match status {
            StatusCode::OK => Answer::Good,
            StatusCode::SERVICE_UNAVAILABLE if is_only_degraded(&body) => Answer::Degraded,
            StatusCode::SERVICE_UNAVAILABLE => Answer::Draining,
            _ => Answer::Miss,
        }
    }
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

/// Where an edge says whether it should get requests.
pub(crate) fn question(admin_url: &BaseUrl) -> Uri {
    let text = format!("{admin_url}/readyz");
    text.parse().expect("a base URL and a plain path are a URI")
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
