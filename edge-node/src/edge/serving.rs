//! The edge's own thread, while workers serve: admin port, registration, upkeep, and the way out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sluice_shared::admin;
use sluice_shared::client_source::ClientSource;
use sluice_shared::etcd::Etcd;
use sluice_shared::followed::Asking;
use sluice_shared::handover::{Identity, Listener};
use sluice_shared::revocations::RevocationBook;
use sluice_shared::serve::{ServeLimits, serve};
use sluice_shared::service_manager::ServiceManager;
use sluice_shared::telemetry::{self, PrometheusHandle};
use sluice_shared::tls::ServerTls;
use tokio::sync::{oneshot, watch};

use super::{Records, upkeep};
use crate::admin::{Status, pages};
use crate::config::Config;
use crate::drain::{Phase, drain};
use crate::limits::SWEEP_EVERY;
use crate::register::{Register, StandingNote};
use crate::resolve::Files;

/// Requests of the admin port that are under way at the end have so long.
const ADMIN_ENDS_WITHIN: Duration = Duration::from_millis(500);

pub(super) struct Serving<'e> {
    pub(super) config: &'e Config,
    pub(super) who: Identity<'e>,
    pub(super) exporter: PrometheusHandle,
    pub(super) etcd: Option<Etcd>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) revocations: Arc<RevocationBook>,
    pub(super) status: Arc<Status>,
    pub(super) note_standing: StandingNote,
    pub(super) files: Arc<Files>,
    pub(super) records: Records,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) admin_listener: Listener,
    pub(super) for_successor: Vec<Listener>,
}

impl Serving<'_> {
    /// Serves until the process may exit; says whether that is to be at once.
    ///
    /// # Errors
    /// Signals cannot be listened to, or the admin port's listener not be used.
    pub(super) async fn until_drained(self) -> io::Result<bool> {
        let config = self.config;
        let router = admin::router(
            Arc::clone(&self.status) as _,
            self.exporter.clone(),
            config.admin_hosts.clone(),
            pages(Arc::clone(&self.status)),
        );
        tokio::spawn(telemetry::upkeep(self.exporter));
        tokio::spawn(Arc::clone(&self.revocations).keep_saved());
        tokio::spawn(upkeep::drop_barred(Arc::clone(&self.files), self.revocations));
        tokio::spawn(upkeep::drop_all_once_handed_over(self.files, self.phases.clone()));
        let (certificates, asked) = Asking::new();
        let manager = ServiceManager::from_environment();
        tokio::spawn(manager.clone().keep_posted());
        tokio::spawn(upkeep::heed_hangups(self.records, certificates, manager.clone())?);
        if let Some(tls) = self.tls {
            tokio::spawn(tls.follow(asked));
        }
        let register = config.advertised.clone().zip(self.etcd).map(|(advertised, etcd)| Register {
            id: config.id.clone(),
            instance: self.status.instance.clone(),
            advertised,
            etcd,
            status: Arc::clone(&self.status),
            phase: self.phases.clone(),
            standing: self.note_standing,
        });
        let registered = register.map(|register| tokio::spawn(register.keep()));
        let admin_listener = tokio::net::TcpListener::from_std(self.admin_listener.socket)?;
        let limits = ServeLimits {
            connections_max: 256,
            shutdown_timeout: ADMIN_ENDS_WITHIN,
            ..ServeLimits::default()
        };
        let (end, ended) = oneshot::channel::<()>();
        let handed_over = self.phases;
        let ended = async {
            tokio::select! {
                _ = ended => {}
                () = upkeep::until_handed_over(handed_over) => {}
            }
        };
        let serving = serve(admin_listener, router, limits, ClientSource::Connection, None, ended);
        let serving = tokio::spawn(serving);
        let successor = upkeep::successor(config.control_socket.as_deref(), self.who, self.for_successor);
        manager.ready();
        let connections = || self.status.load().connections;
        let mut drained = drain(self.phase, config.limits, connections, successor, &manager).await;
        if let (Some(registered), Ok(signals)) = (registered, &mut drained) {
            // It began to leave when draining began, and takes five seconds at most.
            tokio::select! {
                _ = registered => {}
                () = signals.hurry() => {}
            }
        }
        drop(end);
        let _ = serving.await;
        // Workers hand over what they have at their next sweep.
        tokio::time::sleep(SWEEP_EVERY * 2).await;
        drained.map(|signals| signals.is_hurried())
    }
}
