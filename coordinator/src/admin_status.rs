//! `/admin/v1/status`: how this coordinator is, which others there are, and how what they share is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Extracted;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use sluice_shared::admin::Probed;
use sluice_shared::cluster::Registry;
use sluice_shared::etcd::Etcd;
use sluice_shared::findings::Finding;
use tokio::time::timeout;

use crate::membership::Membership;
use crate::peers::{self, CoordinatorRecord};
use crate::state::State;
use crate::status::findings;

/// For etcd to list coordinators; whoever asks waits for it.
const LIST_WITHIN: Duration = Duration::from_secs(3);

/// What the page tells of.
pub(crate) struct StatusAdmin {
    pub(crate) id: String,
    pub(crate) started: Instant,
    pub(crate) probed: Arc<dyn Probed>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) registry: Arc<dyn Registry>,
    /// There where something is in etcd.
    pub(crate) etcd: Option<Etcd>,
    pub(crate) state: Arc<dyn State>,
}

pub(crate) fn routes(admin: Arc<StatusAdmin>) -> Router {
    Router::new().route("/admin/v1/status", get(status)).with_state(admin)
}

#[derive(Serialize)]
struct Told<'a> {
    coordinator: Coordinator<'a>,
    /// All that name themselves in etcd, this one too; null without an etcd, and while it is away.
    coordinators: Option<Vec<CoordinatorRecord>>,
    /// Null where nothing is in etcd.
    etcd: Option<EtcdView>,
    state: StateView,
    /// What to look at, the worst first.
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Coordinator<'a> {
    id: &'a str,
    version: &'static str,
    instance: &'a str,
    uptime_seconds: u64,
    ready: bool,
    /// Why it is not ready.
    reasons: Vec<&'static str>,
    /// What does not work while the rest does.
    notes: Vec<&'static str>,
}

#[derive(Serialize)]
pub(crate) struct EtcdView {
    pub(crate) reached: bool,
    /// Since it confirmed the list of edges last; null where edges are not in it, and before the first time.
    pub(crate) stale_seconds: Option<f64>,
}

#[derive(Serialize)]
pub(crate) struct StateView {
    /// `embedded` or `redis`.
    pub(crate) kind: &'static str,
    /// Whether it answers.
    pub(crate) well: bool,
}

async fn status(Extracted(admin): Extracted<Arc<StatusAdmin>>) -> Response {
    let coordinators = match &admin.etcd {
        Some(etcd) => timeout(LIST_WITHIN, peers::list(etcd)).await.ok().and_then(Result::ok),
        None => None,
    };
    let freshness = admin.registry.freshness();
    let etcd = admin.etcd.as_ref().map(|_| EtcdView {
        reached: coordinators.is_some(),
        stale_seconds: freshness
            .and_then(|fresh| fresh.staleness)
            .map(|stale| stale.as_millis() as f64 / 1e3),
    });
    let (reasons, notes) = (admin.probed.unready(), admin.probed.notes());
    let skipped = admin.registry.skipped().len();
    let findings = findings::of_cluster(&reasons, &notes, &admin.membership.statuses(), skipped);
    let told = Told {
        coordinator: Coordinator {
            id: &admin.id,
            version: env!("CARGO_PKG_VERSION"),
            instance: admin.probed.instance(),
            uptime_seconds: admin.started.elapsed().as_secs(),
            ready: reasons.is_empty(),
            reasons,
            notes,
        },
        coordinators,
        etcd,
        state: StateView {
            kind: if admin.state.own_id().is_some() { "embedded" } else { "redis" },
            well: admin.state.is_well(),
        },
        findings,
    };
    Json(told).into_response()
}
