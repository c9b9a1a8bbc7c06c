//! The admin listener that both programs have: `/healthz`, `/readyz`, `/metrics`, and what the program adds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::problem::{self, Problem};

/// What the probes and `/metrics` ask of the program.
pub trait Probed: Send + Sync + 'static {
    /// A random name of this process: what answers at the same address after an upgrade has another.
    fn instance(&self) -> &str;
    /// Why the program should get no requests now; empty where it should.
    fn unready(&self) -> Vec<&'static str>;
    /// What is worth knowing and keeps no request away.
    fn notes(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Brings metrics up to date that are counted elsewhere; called before each scrape.
    fn gather(&self);
    /// Metrics in Prometheus' text format that the program renders itself.
    fn more_metrics(&self) -> String {
        String::new()
    }
}

#[derive(Clone)]
struct Admin {
    probed: Arc<dyn Probed>,
    metrics: PrometheusHandle,
}

/// The admin router. Probes and metrics answer under any `Host`; `pages` want one that cannot be a stranger's DNS
/// name (an IP literal, `localhost`, or one of `admin_hosts`), against DNS rebinding.
pub fn router(
    probed: Arc<dyn Probed>,
    metrics: PrometheusHandle,
    admin_hosts: Vec<String>,
    pages: Router,
) -> Router {
    let hosts: Arc<[String]> = admin_hosts.into();
    let pages = pages
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(hosts, check_host));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Admin { probed, metrics })
        .method_not_allowed_fallback(method_not_allowed)
        .merge(pages)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "No such page on the admin port") })
}

async fn method_not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "The method is not one of those in Allow")
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.probed.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let notes = admin.probed.notes();
    let (is_ready, instance) = (reasons.is_empty(), admin.probed.instance());
    let told = json!({ "ready": is_ready, "reasons": reasons, "notes": notes, "instance": instance });
    // Not left to the server, which keeps its own for as long as the clock is behind it: coordinators judge clocks by
    // it, also one that was just set back.
    let date = httpdate::fmt_http_date(SystemTime::now());
    (status, [(header::DATE, date)], Json(told)).into_response()
}

async fn scrape(State(admin): State<Admin>) -> Response {
    admin.probed.gather();
    let text = admin.metrics.render() + &admin.probed.more_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn check_host(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_allowed_host(host, &hosts) {
        next.run(request).await
    } else {
        problem(StatusCode::FORBIDDEN, "Host is neither an IP address, localhost nor listed in admin_hosts")
    }
}

fn is_allowed_host(host: &str, listed: &[String]) -> bool {
    // `host`, `host:port`, `[v6]`, `[v6]:port`
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || listed.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// An error answer of the admin port.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let body = Problem::new(status, detail).to_json();
    (status, [(header::CONTENT_TYPE, problem::CONTENT_TYPE)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_could_be_rebound_are_refused() {
        let listed = ["sluice.internal".to_owned()];
        let table = [
            ("127.0.0.1:8081", true),
            ("127.0.0.1", true),
            ("[::1]:8081", true),
            ("[::1]", true),
            ("localhost:8081", true),
            ("LOCALHOST", true),
            ("sluice.internal:8081", true),
            ("evil.example:8081", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            (":8081", false),
        ];
        for (host, expected) in table {
            assert_eq!(is_allowed_host(host, &listed), expected, "{host}");
        }
    }
}
