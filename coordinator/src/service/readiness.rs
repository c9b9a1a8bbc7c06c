//! What `/readyz` says of this coordinator, and what is gathered for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_shared::admin::Probed;
use sluice_shared::tls::ServerTls;

use super::sources::Sources;
use crate::metrics;
use crate::state::State;

/// What `/readyz` and `/metrics` ask.
pub(super) struct Readiness {
    pub(super) instance: String,
    pub(super) sources: Arc<Sources>,
    /// Whether another coordinator's state contradicts ours; there where they know each other.
    pub(super) has_rival: Option<Arc<AtomicBool>>,
    pub(super) state: Arc<dyn State>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) draining: AtomicBool,
}

impl Probed for Readiness {
    fn instance(&self) -> &str {
        &self.instance
    }

    fn unready(&self) -> Vec<&'static str> {
        let reasons = [
            (self.draining.load(Ordering::Acquire), "draining"),
            (!self.sources.membership.is_settled(), "first probes not done"),
            (!self.sources.membership.has_live_edge(), "no live edge"),
            (
                self.has_rival.as_ref().is_some_and(|rival| rival.load(Ordering::Acquire)),
                "another coordinator keeps state of its own",
            ),
        ];
        let applies = |(applies, reason): (bool, &'static str)| applies.then_some(reason);
        let sources = [self.sources.keys.missing(), self.sources.clients.missing()];
        reasons.into_iter().filter_map(applies).chain(sources.into_iter().flatten()).collect()
    }

    /// Without its state a coordinator refuses what needs it and gives the rest, and without etcd it goes on with what
    /// it knows: a balancer that turned from all coordinators at once would end that, too.
    fn notes(&self) -> Vec<&'static str> {
        let notes = [
            (!self.state.is_well(), "state is away"),
            (self.sources.is_etcd_away(), "etcd is away"),
            (self.sources.is_etcd_forbidden(), "etcd does not let all be read"),
        ];
        notes.into_iter().filter_map(|(applies, note)| applies.then_some(note)).collect()
    }

    fn gather(&self) {
        let (sources, expires) = (&self.sources, self.tls.as_ref().map(|tls| tls.expires()));
        sources.keys.gather();
        metrics::gather(
            &sources.membership.statuses(),
            self.state.is_well(),
            expires,
            sources.registry.freshness(),
        );
        metrics::revocations(&sources.revocations.load());
        if sources.etcd.is_some() {
            metrics::etcd(!sources.is_etcd_away());
        }
        metrics::clients(sources.clients.freshness());
        if let Some(orders) = &sources.orders {
            metrics::orders(&orders.list());
        }
    }
}
