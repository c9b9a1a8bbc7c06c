//! The operators' API, `/admin/v1/…` on the admin port: JSON, and always with a bearer token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sluice_shared::admin::problem;
use sluice_shared::bearer::AdminTokens;
use sluice_shared::cluster::EdgeRecord;

use crate::admin_clients::{self, ClientsAdmin};
use crate::membership::{EdgeStatus, Membership, State as EdgeState};

/// The name of the token that a call was made with; in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct AdminName(pub(crate) Arc<str>);

/// The pages; the admin router guards their `Host`.
pub(crate) fn pages(
    membership: Arc<Membership>,
    clients: Arc<ClientsAdmin>,
    tokens: Arc<AdminTokens>,
) -> Router {
    Router::new()
        .route("/admin/v1/edges", get(edges))
        .with_state(membership)
        .merge(admin_clients::routes(clients))
        .route_layer(middleware::from_fn_with_state(tokens, check_token))
}

async fn check_token(State(tokens): State<Arc<AdminTokens>>, mut request: Request, next: Next) -> Response {
    if let Some(name) = bearer(&tokens, request.headers()) {
        request.extensions_mut().insert(AdminName(name.into()));
        let mut response = next.run(request).await;
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        return response;
    }
    let mut response = problem(
        StatusCode::UNAUTHORIZED,
        "Send one of the tokens in admin_token_file as 'Authorization: Bearer TOKEN'",
    );
    let challenge = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// One field, one token: of two fields nobody can say which was meant.
fn bearer<'t>(tokens: &'t AdminTokens, headers: &HeaderMap) -> Option<&'t str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let only = fields.next().filter(|_| fields.next().is_none());
    tokens.authenticate(only?.to_str().ok()?)
}

#[derive(Serialize)]
struct Edges {
    edges: Vec<EdgeView>,
}

/// An edge as operators see it.
#[derive(Serialize)]
struct EdgeView {
    #[serde(flatten)]
    record: EdgeRecord,
    state: EdgeState,
    /// When the state began, RFC 3339 UTC.
    since: String,
    /// Probes missed in a row.
    misses: u32,
    /// How long the last probe took; null before there was one.
    last_probe_ms: Option<f64>,
    /// The part of all files that it is first candidate of, 0 to 1.
    share: f64,
}

impl From<EdgeStatus> for EdgeView {
    fn from(status: EdgeStatus) -> Self {
        let millis = |took: std::time::Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            record: status.edge.record.clone(),
            state: status.health.state(),
            since: humantime::format_rfc3339_millis(status.health.since()).to_string(),
            misses: status.health.misses(),
            last_probe_ms: status.last_probe.map(millis),
            share: status.share,
        }
    }
}

async fn edges(State(membership): State<Arc<Membership>>) -> Response {
    let edges = membership.statuses().into_iter().map(EdgeView::from).collect();
    Json(Edges { edges }).into_response()
}
