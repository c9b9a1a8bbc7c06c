//! The edge's admin port: probes, metrics and `/load`. Read-only.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use sluice_shared::admin::Probed;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::drain::Phase;
use crate::logs::AccessLog;
use crate::metrics::{self, Load, WorkerMetrics};
use crate::store::Store;

/// What the admin port tells of.
pub(crate) struct Status {
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) store: Arc<Store>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
}

impl Status {
    pub(crate) fn load(&self) -> Load {
        metrics::load(&self.workers, self.cache.usage(), self.store.health())
    }
}

impl Probed for Status {
    fn unready(&self) -> Vec<&'static str> {
        match *self.phase.borrow() {
            Phase::Serving if self.store.health().is_degraded => vec!["degraded"],
            Phase::Serving => vec![],
            Phase::Leaving | Phase::Refusing | Phase::Over => vec!["draining"],
        }
    }

    fn gather(&self) {
        let lost_lines = self.access_log.as_ref().map_or(0, |log| log.lost_lines.value());
        metrics::export(&self.workers, &self.cache, self.store.health(), lost_lines);
    }

    fn more_metrics(&self) -> String {
        metrics::histograms(&self.workers)
    }
}

/// The pages beside probes and metrics.
pub(crate) fn pages(status: Arc<Status>) -> Router {
    Router::new().route("/load", get(move || async move { Json(status.load()) }))
}
