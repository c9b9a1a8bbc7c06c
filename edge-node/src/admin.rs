//! The edge's admin port: probes, metrics and `/load`. Read-only.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use sluice_shared::admin::Probed;
use sluice_shared::etcd::Standing;
use sluice_shared::keys::{EtcdKeys, KeyRing, TokenKey};
use sluice_shared::revocations::{EtcdMarks, RevocationBook};
use sluice_shared::tls::ServerTls;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::drain::Phase;
use crate::logs::AccessLog;
use crate::metrics::{self, Load, WorkerMetrics};
use crate::store::Store;

/// What the admin port tells of.
pub(crate) struct Status {
    /// A random name of this process: its successor at the same addresses has another.
    pub(crate) instance: String,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) store: Arc<Store>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// What TLS is spoken with.
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) started: Instant,
    /// How this edge's record in etcd stands, where it has one.
    pub(crate) standing: watch::Receiver<Option<Standing>>,
    pub(crate) revocations: Arc<RevocationBook>,
    /// What tokens are opened with.
    pub(crate) ring: Arc<ArcSwap<KeyRing>>,
    /// Where keys come from, where that is etcd.
    pub(crate) keys: Option<Arc<EtcdKeys>>,
    /// Where revocations come from, where that is etcd.
    pub(crate) marks: Option<EtcdMarks>,
}

impl Status {
    pub(crate) fn load(&self) -> Load {
        metrics::load(&self.workers, self.cache.usage(), self.store.health(), self.started.elapsed())
    }

    fn told(&self) -> Told<'_> {
        let keys = self.ring.load().newest_first().map(TokenKey::fingerprint).collect();
        Told { instance: &self.instance, version: env!("CARGO_PKG_VERSION"), keys, load: self.load() }
    }

    /// Neither a list of this start nor the file of an earlier one says what is not served any more.
    fn knows_no_revocations(&self) -> bool {
        self.marks.as_ref().is_some_and(|marks| !marks.is_known()) && !self.revocations.was_there()
    }
}

impl Probed for Status {
    fn instance(&self) -> &str {
        &self.instance
    }

    fn unready(&self) -> Vec<&'static str> {
        let phase = *self.phase.borrow();
        // Whoever still asks where a successor serves means that one, which answers at the same address.
        let is_serving = matches!(phase, Phase::Serving | Phase::HandedOver);
        let reasons = [
            (!is_serving, "draining"),
            (phase == Phase::Serving && self.store.health().is_degraded, "degraded"),
            (self.knows_no_revocations(), "revocations not known"),
        ];
        let reasons = reasons.into_iter().filter_map(|(applies, reason)| applies.then_some(reason));
        reasons.chain(self.keys.as_ref().and_then(|keys| keys.missing())).collect()
    }

    fn notes(&self) -> Vec<&'static str> {
        let record = match &*self.standing.borrow() {
            Some(Standing::Taken { .. }) => Some("another edge has this id in etcd"),
            Some(standing) if !standing.is_held() => Some("not in etcd"),
            _ => None,
        };
        let marks = self.marks.as_ref().map(EtcdMarks::freshness);
        let is_away = marks.is_some_and(|marks| !marks.is_reached).then_some("etcd is away");
        let is_forbidden = marks.is_some_and(|marks| marks.is_forbidden);
        let is_forbidden = is_forbidden.then_some("etcd does not let all be read");
        let is_absent = self.store.health().is_absent;
        let no_store = is_absent.then_some("root is empty or lacks root_marker: is the store mounted?");
        [record, is_away, is_forbidden, no_store].into_iter().flatten().collect()
    }

    fn gather(&self) {
        metrics::registered(self.standing.borrow().as_ref().map(Standing::is_held));
        let lost_lines = self.access_log.as_ref().map_or(0, |log| log.lost_lines.value());
        if let Some(tls) = &self.tls {
            metrics::certificate(tls.expires());
        }
        if let Some(marks) = &self.marks {
            metrics::etcd(marks.freshness());
        }
        metrics::export(&self.workers, &self.cache, self.store.health(), lost_lines, self.started.elapsed());
    }

    fn more_metrics(&self) -> String {
        metrics::histograms(&self.workers)
    }
}

/// The pages beside probes and metrics.
pub(crate) fn pages(status: Arc<Status>) -> Router {
    Router::new().route("/load", get(move || async move { Json(status.told()).into_response() }))
}

/// What `/load` says.
#[derive(Serialize)]
struct Told<'a> {
    instance: &'a str,
    version: &'static str,
    /// Fingerprints: coordinators tell by them whether it opens what they mint.
    keys: Vec<String>,
    #[serde(flatten)]
    load: Load,
}
