//! The program put together: from a [`Config`] to two listeners, and to their end. It wires; it decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use sluice_shared::admin::{self, Probed};
use sluice_shared::bearer::{AdminTokenError, AdminTokens};
use sluice_shared::client_source::ClientSource;
use sluice_shared::keys::{KeyFile, KeyFileError};
use sluice_shared::serve::{Answers, BindError, ServeLimits, bind, serve};
use sluice_shared::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::admin_clients::ClientsAdmin;
use crate::api::Api;
use crate::audit::Audit;
use crate::authenticate::{AppJwt, Authenticator, Failures, KnownClients, Open, Scheme, Signature};
use crate::clients::{ClientsFile, ClientsFileError};
use crate::config::{Access, Config, SchemeName};
use crate::membership::Membership;
use crate::mint::Minter;
use crate::observe::Observed;
use crate::state::{self, State, StateStartError};
use crate::{admin_api, metrics, openapi};

/// Between `/readyz` saying "draining" and the end of accepting: for load balancers that ask each second to hear it.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Why the program cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error(
        "keys.path and keys.ticket_path have a key in common; tickets need keys that no edge has: remove {0}"
    )]
    SharedKey(PathBuf),
    #[error(transparent)]
    AdminTokens(#[from] AdminTokenError),
    #[error(transparent)]
    Clients(#[from] ClientsFileError),
    #[error(transparent)]
    State(#[from] StateStartError),
    #[error("cannot write `log.audit_file`: {0}")]
    Audit(io::Error),
    #[error(
        "cannot use a listener, signals or a thread: {0}; raise the limits on open files and processes (ulimit -n, -u)"
    )]
    Descriptors(#[from] io::Error),
}

/// Checks the files that a configuration names, as far as they exist. Makes nothing.
///
/// # Errors
/// A file that [`run`] would refuse.
pub fn check(config: &Config) -> Result<(), StartError> {
    // What cannot even be looked for is reported by the attempt to read it.
    let is_there = |path: &Path| !matches!(path.try_exists(), Ok(false));
    for file in [&config.key_file, &config.ticket_file] {
        if is_there(file) {
            KeyFile::load(file)?;
        }
    }
    ClientsFile::load(&config.access.clients_file)?;
    if is_there(&config.admin_token_file) {
        AdminTokens::load_or_create(&config.admin_token_file)?;
    }
    Ok(())
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.
///
/// # Errors
/// A listener, key or token file that cannot be used; all before anything is served.
pub async fn run(config: Config, metrics: PrometheusHandle) -> Result<(), StartError> {
    // Listeners first: who only chose a wrong port should find no files made.
    let api_listener = listener(bind(config.listen, "listen")?)?;
    let admin_listener = listener(bind(config.admin_listen, "admin_listen")?)?;
    let mut signals = Signals::new()?;
    let keys = KeyFile::load_or_create(&config.key_file)?;
    let tickets = KeyFile::load_or_create(&config.ticket_file)?;
    if keys.ring().load().shares_a_key_with(&tickets.ring().load()) {
        return Err(StartError::SharedKey(config.ticket_file));
    }
    let tokens = AdminTokens::load_or_create(&config.admin_token_file)?;
    let clients = ClientsFile::load(&config.access.clients_file)?;
    let state = state::start(&config.state, config.access.nonces_max)?;
    metrics::describe();
    let membership = Membership::start(&config.registry);
    tokio::spawn(Arc::clone(&keys).follow());
    tokio::spawn(Arc::clone(&tickets).follow());
    tokio::spawn(Arc::clone(&clients).follow());
    tokio::spawn(telemetry::upkeep(metrics.clone()));

    let readiness = Arc::new(Readiness {
        membership: Arc::clone(&membership),
        state: Arc::clone(&state),
        draining: AtomicBool::new(false),
    });
    let clients_admin = Arc::new(ClientsAdmin {
        clients: Arc::clone(&clients),
        audit: Audit::open(config.audit_file.as_deref()).map_err(StartError::Audit)?,
        timed: config.access.timed.as_ref().map(|timed| timed.signer.clone()),
        public_url: config.public_url.clone(),
    });
    let pages = admin_api::pages(Arc::clone(&membership), clients_admin, Arc::new(tokens));
    let admin =
        admin::router(Arc::clone(&readiness) as Arc<dyn Probed>, metrics, config.admin_hosts.clone(), pages);
    announce(&config, &api_listener, &admin_listener)?;
    let document = openapi::Offered::by(&config).document();
    let api = Observed::new(Arc::new(Api {
        document,
        authenticator: Authenticator::new(schemes(&config.access, &clients, &state), config.public_prefixes),
        clients,
        membership,
        minter: Minter {
            keys,
            issuer: config.public_url.clone(),
            token_ttl: config.links.token_ttl,
            minted: metrics::tokens_minted(),
        },
        state,
        tickets,
        public_url: config.public_url,
        links: config.links,
        sealed: config.access.sealed,
        timed: config.access.timed,
    }))?;
    let api = Serving::start(api_listener, api, config.clients);
    let admin = Serving::start(admin_listener, admin, ClientSource::Connection);

    signals.next().await;
    tracing::info!("draining");
    readiness.draining.store(true, Ordering::Release);
    tokio::select! {
        () = async {
            tokio::time::sleep(DRAIN_GRACE).await;
            api.stop().await;
            // Last, so that probes and metrics tell of the draining to its end.
            admin.stop().await;
        } => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped by a second signal"),
    }
    Ok(())
}

/// The schemes that go by headers; sealed calls have a path of their own.
fn schemes(access: &Access, file: &Arc<ClientsFile>, state: &Arc<dyn State>) -> Vec<Box<dyn Scheme>> {
    let clients = KnownClients {
        file: Arc::clone(file),
        state: Arc::clone(state),
        failures: Arc::new(Failures::default()),
    };
    let scheme = |name: &SchemeName| -> Option<Box<dyn Scheme>> {
        let clients = clients.clone();
        Some(match name {
            SchemeName::Signature => Box::new(Signature { clients, max_age: access.max_age }),
            SchemeName::AppJwt => Box::new(AppJwt { clients, max_exp: access.app_jwt_max_exp }),
            SchemeName::Open => Box::new(Open),
            SchemeName::Sealed => return None,
        })
    };
    access.schemes.iter().filter_map(scheme).collect()
}

fn listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

fn announce(config: &Config, api: &TcpListener, admin: &TcpListener) -> io::Result<()> {
    if config.access.schemes.contains(&SchemeName::Open) {
        tracing::warn!(
            "authentication is off (auth.schemes = [\"open\"]): any caller gets links to any file"
        );
    }
    tracing::info!(
        id = config.id,
        version = env!("CARGO_PKG_VERSION"),
        listen = %api.local_addr()?,
        admin_listen = %admin.local_addr()?,
        "listening"
    );
    Ok(())
}

/// A listener being served, and how to end it.
struct Serving {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    fn start(listener: TcpListener, answers: impl Answers, clients: ClientSource) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, answers, ServeLimits::default(), clients, shutdown));
        Self { stop, task }
    }

    /// Accepts no more, and lets calls under way finish.
    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What `/readyz` and `/metrics` ask.
struct Readiness {
    membership: Arc<Membership>,
    state: Arc<dyn State>,
    draining: AtomicBool,
}

impl Probed for Readiness {
    fn unready(&self) -> Vec<&'static str> {
        let reasons = [
            (self.draining.load(Ordering::Acquire), "draining"),
            (!self.membership.is_settled(), "first probes not done"),
            (self.membership.snapshot().edges().is_empty(), "no live edge"),
            (!self.state.is_well(), "state is away"),
        ];
        let applies = |(applies, reason): (bool, &'static str)| applies.then_some(reason);
        reasons.into_iter().filter_map(applies).collect()
    }

    fn gather(&self) {
        metrics::gather(&self.membership.statuses(), self.state.is_well());
    }
}
