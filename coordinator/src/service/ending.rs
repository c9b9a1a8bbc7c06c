//! How this process ends: by a signal, after it has drained, or when a successor takes over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_shared::handover::{Control, Departure, Identity, Listener};

use super::readiness::Readiness;
use super::serving::{Serving, Signals};
use crate::peers::Peers;
use crate::status::StatusPage;
use crate::succession::{self, PARTING, Parting};

/// Between `/readyz` saying "draining" and the end of accepting: for load balancers that ask each second to hear it.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// What is served, and what others know of this coordinator.
pub(super) struct Service {
    pub(super) api: Serving,
    pub(super) admin: Serving,
    pub(super) readiness: Arc<Readiness>,
    pub(super) peers: Option<Peers>,
    /// Whose streams would keep the admin port from ending.
    pub(super) page: StatusPage,
}

impl Service {
    /// Lets calls under way finish, and the successor begin; a signal ends it at once.
    pub(super) async fn hand_over(self, successor: Departure, signals: &mut Signals) {
        let Self { api, admin, readiness, peers, page } = self;
        page.end();
        // The successor puts a record of its own there, and stands for the office.
        let leave = leave(&readiness, peers);
        let served = async {
            tokio::join!(api.stop(), admin.stop(), leave);
        };
        let handed_over = succession::hand_over(served, readiness.state.as_ref(), successor);
        tokio::select! {
            () = handed_over => tracing::info!("handed over; stopped"),
            () = signals.next() => tracing::warn!("stopped by a signal"),
        }
    }

    /// Says that it is not ready, then accepts no more, and lets calls under way finish; a second signal ends it at once.
    pub(super) async fn drain(self, signals: &mut Signals) {
        let Self { api, admin, readiness, peers, page } = self;
        tracing::info!("draining");
        page.end();
        readiness.draining.store(true, Ordering::Release);
        let draining = async {
            tokio::time::sleep(DRAIN_GRACE).await;
            api.stop().await;
            // Last, so that probes and metrics tell of the draining to its end.
            admin.stop().await;
            leave(&readiness, peers).await;
        };
        tokio::select! {
            () = draining => tracing::info!("stopped"),
            () = signals.next() => tracing::warn!("stopped by a second signal"),
        }
    }
}

/// Takes back what this coordinator has in etcd.
async fn leave(readiness: &Readiness, peers: Option<Peers>) {
    readiness.sources.keys.leave().await;
    if let Some(peers) = peers {
        peers.leave().await;
    }
}

/// The socket that a successor comes to, where there is one.
pub(super) fn control(path: Option<&Path>, who: Identity<'_>, listeners: Vec<Listener>) -> Option<Control> {
    let bound = Control::bind(path?, who, listeners);
    // Callers are served all the same.
    bound
        .inspect_err(
            |error| tracing::error!(%error, "no successor can take over; an upgrade needs a restart"),
        )
        .ok()
}

/// Waits for what ends this process: a signal, or the successor that is given. From then on nobody else can take over.
pub(super) async fn end(
    signals: &mut Signals,
    mut control: Option<Control>,
    parting: &Parting,
) -> Option<Departure> {
    loop {
        let coming = async {
            match &mut control {
                Some(control) => control.successor().await,
                None => std::future::pending().await,
            }
        };
        let successor = tokio::select! {
            successor = coming => successor,
            () = signals.next() => return None,
        };
        tracing::info!("a successor is ready");
        parting.set(true);
        tokio::select! {
            () = tokio::time::sleep(PARTING) => {}
            () = signals.next() => return None,
        }
        if successor.is_awaited() {
            return Some(successor);
        }
        tracing::warn!("the successor went away; this process goes on");
        parting.set(false);
    }
}
