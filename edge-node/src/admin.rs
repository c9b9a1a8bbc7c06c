//! The edge's admin port: probes, metrics and `/load`. Read-only.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use sluice_shared::admin::Probed;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::drain::Phase;
use crate::metrics::{self, Load, WorkerMetrics};

/// What the admin port tells of.
pub(crate) struct Status {
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) cache: Arc<Cache>,
}

impl Status {
    pub(crate) fn load(&self) -> Load {
        metrics::load(&self.workers, self.cache.usage())
    }
}

impl Probed for Status {
    fn unready(&self) -> Vec<&'static str> {
        match *self.phase.borrow() {
            Phase::Serving => vec![],
            Phase::Leaving | Phase::Refusing => vec!["draining"],
        }
    }

    fn gather(&self) {
        metrics::export(&self.workers, &self.cache);
    }
}

/// The pages beside probes and metrics.
pub(crate) fn pages(status: Arc<Status>) -> Router {
    Router::new().route("/load", get(move || async move { Json(status.load()) }))
}
