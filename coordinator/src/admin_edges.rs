//! `/admin/v1/edges`: how the edges are, and what operators order of them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_shared::cluster::{EdgeId, EdgeRecord, Registry, SkippedRecord, Weight};

use crate::admin_api::AdminName;
use crate::admin_error::AdminError;
use crate::audit::Audit;
use crate::membership::{Ailment, EdgeStatus, Membership, State as EdgeState, UrlFaultView};
use crate::orders::{Order, OrderChange, OrderError, Orders, heed};

/// What the handlers work with.
pub(crate) struct EdgesAdmin {
    pub(crate) membership: Arc<Membership>,
    pub(crate) registry: Arc<dyn Registry>,
    /// There where the registry is in etcd.
    pub(crate) orders: Option<Arc<Orders>>,
    pub(crate) audit: Arc<Audit>,
}

pub(crate) fn routes(admin: Arc<EdgesAdmin>) -> Router {
    Router::new()
        .route("/admin/v1/edges", get(list))
        .route("/admin/v1/edges/{id}/weight", post(set_weight))
        .route("/admin/v1/edges/{id}/weight", delete(own_weight))
        .route("/admin/v1/edges/{id}/{change}", post(change))
        .with_state(admin)
}

#[derive(Serialize)]
struct Edges {
    edges: Vec<EdgeView>,
    /// What is ordered of edges that are not there now.
    absent: Vec<Order>,
    /// Records and orders in etcd that are not taken, and why.
    skipped: Vec<SkippedRecord>,
}

/// An edge as operators see it.
#[derive(Serialize)]
struct EdgeView {
    /// With the weight that is ordered, where one is.
    #[serde(flatten)]
    record: EdgeRecord,
    own_weight: Weight,
    /// What is ordered of it; null where nothing is.
    order: Option<Order>,
    state: EdgeState,
    /// Why it is degraded; null where it is not.
    reason: Option<Ailment>,
    /// When the state began, RFC 3339 UTC.
    since: String,
    /// Probes missed in a row.
    misses: u32,
    /// How long the last probe took; null before there was one.
    last_probe_ms: Option<f64>,
    /// Its clock less this coordinator's; null before it told.
    clock_skew_seconds: Option<f64>,
    /// Connections and downloads under way, bytes of them still to be sent, and its program's version, as it said last;
    /// null where it did not.
    connections: Option<u64>,
    transfers: Option<u64>,
    in_flight_bytes: Option<u64>,
    version: Option<String>,
    /// Why clients would not reach it where they are sent, by this coordinator's own question there; null where they would,
    /// or nobody asked yet.
    url_fault: Option<UrlFaultView>,
    /// The part of its zone's files that it is first candidate of, 0 to 1.
    share: f64,
}

impl EdgeView {
    fn of(status: &EdgeStatus, order: Option<Order>) -> Self {
        let millis = |took: std::time::Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        let said = status.said.as_ref().map(|said| &said.load);
        Self {
            record: status.edge.record.clone(),
            own_weight: status.own_weight,
            order,
            state: status.health.state(),
            reason: status.health.ailment(),
            since: humantime::format_rfc3339_millis(status.health.since()).to_string(),
            misses: status.health.misses(),
            last_probe_ms: status.last_probe.map(millis),
            clock_skew_seconds: status.skew.map(|skew| (skew.seconds() * 10.0).round() / 10.0),
            connections: said.and_then(|said| said.connections),
            transfers: said.and_then(|said| said.transfers),
            in_flight_bytes: said.map(|said| said.report.in_flight_bytes),
            version: said.and_then(|said| said.version.clone()),
            url_fault: status.url_fault.as_ref().map(UrlFaultView::from),
            share: status.share,
        }
    }
}

async fn list(State(admin): State<Arc<EdgesAdmin>>) -> Response {
    let orders = admin.orders.as_ref().map(|orders| orders.list()).unwrap_or_default();
    let standing = |id: &EdgeId| orders.get(id).filter(|order| order.says_something()).cloned();
    let statuses = admin.membership.statuses();
    let is_listed = |id: &EdgeId| statuses.iter().any(|status| status.edge.record.id == *id);
    let absent = orders.keys().filter(|id| !is_listed(id)).filter_map(standing).collect();
    let edges =
        statuses.iter().map(|status| EdgeView::of(status, standing(&status.edge.record.id))).collect();
    let mut skipped = admin.registry.skipped().to_vec();
    if let Some(orders) = &admin.orders {
        skipped.extend(orders.skipped());
    }
    skipped.extend(heed(&admin.registry.watch().borrow(), &orders).1);
    Json(Edges { edges, absent, skipped }).into_response()
}

/// `POST /admin/v1/edges/{id}/drain` and `/undrain`: nobody is sent there from now on, or somebody again.
async fn change(
    State(admin): State<Arc<EdgesAdmin>>,
    Extension(name): Extension<AdminName>,
    Path((id, change)): Path<(String, String)>,
) -> Result<StatusCode, AdminError> {
    match change.as_str() {
        "drain" => give(&admin, name, "edges.drain", &id, OrderChange::Drain(true)).await,
        "undrain" => give(&admin, name, "edges.undrain", &id, OrderChange::Drain(false)).await,
        _ => Err(AdminError::EdgeChange),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWeight {
    weight: i64,
}

async fn set_weight(
    State(admin): State<Arc<EdgesAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<StatusCode, AdminError> {
    let NewWeight { weight } =
        serde_json::from_slice(&body).map_err(|fault| AdminError::Body(fault.to_string()))?;
    let asked = u16::try_from(weight).ok().and_then(Weight::new).ok_or(OrderError::Weight(weight))?;
    give(&admin, name, "edges.weight", &id, OrderChange::Weight(Some(asked))).await
}

/// `DELETE /admin/v1/edges/{id}/weight`: that of the edge itself.
async fn own_weight(
    State(admin): State<Arc<EdgesAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    give(&admin, name, "edges.weight", &id, OrderChange::Weight(None)).await
}

/// Gives an order about an edge that is there, or of which something was ordered, between two notes in the audit log.
async fn give(
    admin: &EdgesAdmin,
    name: AdminName,
    action: &'static str,
    id: &str,
    change: OrderChange,
) -> Result<StatusCode, AdminError> {
    let orders = Arc::clone(admin.orders.as_ref().ok_or(AdminError::OrdersNeedEtcd)?);
    let no_such_edge = || AdminError::NoSuchEdge(id.to_owned());
    let edge = EdgeId::parse(id).ok_or_else(no_such_edge)?;
    let is_there = admin.registry.watch().borrow().iter().any(|record| record.id == edge);
    if !is_there && !orders.list().contains_key(&edge) {
        return Err(no_such_edge());
    }
    let subject = match change {
        OrderChange::Drain(_) => id.to_owned(),
        OrderChange::Weight(Some(weight)) => format!("{id} {}", weight.value()),
        OrderChange::Weight(None) => format!("{id} own"),
    };
    let by = Arc::clone(&name.0);
    let order = Box::pin(async move { Ok::<_, AdminError>(orders.give(&edge, change, &by).await?) });
    admin.audit.around(name, action, subject, order).await?;
    Ok(StatusCode::NO_CONTENT)
}
