//! The program put together: from a [`Config`] to two listeners, and to their end. It wires; it decides nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use metrics_exporter_prometheus::PrometheusHandle;
use sluice_shared::admin::{self, Probed};
use sluice_shared::bearer::{AdminTokenError, AdminTokens};
use sluice_shared::client_source::ClientSource;
use sluice_shared::followed::Asking;
use sluice_shared::handover::{self, HandoverError, Identity, Inherited, ListenError, Predecessor, Role};
use sluice_shared::revocations::{BookError, RevocationBook};
use sluice_shared::serve::Handshakes;
use sluice_shared::service_manager::ServiceManager;
use sluice_shared::telemetry;
use sluice_shared::telemetry::metric::describe;
use sluice_shared::tls::{CertificateError, HTTP_1_1, ServerTls};
use sluice_shared::token::random_id;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin_api::{self, Pages};
use crate::admin_clients::ClientsAdmin;
use crate::admin_edges::EdgesAdmin;
use crate::admin_keys::KeysAdmin;
use crate::admin_revocations::RevocationsAdmin;
use crate::admin_status::StatusAdmin;
use crate::api::Api;
use crate::audit::Audit;
use crate::authenticate::{AppJwt, Authenticator, Failures, KnownClients, Open, Scheme, Signature};
use crate::clients::{Clients, ClientsFileError};
use crate::config::{Access, Config, SchemeName};
use crate::edge_trust::{EdgeTrust, EdgeTrustError};
use crate::error::Refusals;
use crate::keys::{self, KeysError};
use crate::metalink::{Asker, Facts};
use crate::mint::Minter;
use crate::observe::Observed;
use crate::peers::{PeerError, Peers};
use crate::state::{self, State, StateStartError};
use crate::status::{self, StatusPage};
use crate::succession::{self, Parting};
use crate::{metrics, openapi};

pub mod confine;
mod ending;
mod findings;
mod readiness;
mod serving;
mod sources;

use ending::Service;
pub use findings::findings;
use readiness::Readiness;
use serving::{Serving, Signals};
pub(crate) use sources::Sources;

/// Why the program cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Handover(#[from] HandoverError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    AdminTokens(#[from] AdminTokenError),
    #[error(transparent)]
    Clients(#[from] ClientsFileError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Edges(#[from] EdgeTrustError),
    #[error(transparent)]
    Revocations(#[from] BookError),
    #[error(transparent)]
    State(#[from] StateStartError),
    #[error(transparent)]
    Peer(#[from] PeerError),
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
    keys::check(&config.keys)?;
    Clients::check(&config.access.clients)?;
    RevocationBook::open(Some(&config.revocations_file))?;
    load_tls(config)?;
    EdgeTrust::load(config.edges_ca_file.as_deref())?;
    if let Some(path) = &config.control_socket {
        handover::check_place(path)?;
    }
    if is_there(&config.admin_token_file) {
        AdminTokens::load_or_create(&config.admin_token_file)?;
    }
    Ok(())
}

/// Serves on what was `inherited`, or on its own listeners, until a successor takes over, or SIGTERM or SIGINT; then
/// drains. A second signal ends at once.
///
/// # Errors
/// A listener, key or token file that cannot be used; all before anything is served.
pub async fn run(
    config: Config,
    metrics: PrometheusHandle,
    mut inherited: Inherited,
) -> Result<(), StartError> {
    // Listeners first: who only chose a wrong port should find no files made.
    let (id, control_socket) = (config.id.clone(), config.control_socket.clone());
    let who = Identity { program: "coordinator", id: &id };
    let predecessor =
        control_socket.as_deref().map(|path| handover::inherit(path, who, &mut inherited)).transpose()?;
    let api_listener = inherited.take_or_bind(Role::Listen, config.listen)?;
    let admin_listener = inherited.take_or_bind(Role::Admin, config.admin_listen)?;
    let mut signals = Signals::new()?;
    let hangups = signal(SignalKind::hangup())?;
    let tls = load_tls(&config)?;
    let trust = EdgeTrust::load(config.edges_ca_file.as_deref())?;
    let facts = Facts::new(Asker::new(trust.clone()));
    let tokens = AdminTokens::load_or_create(&config.admin_token_file)?;
    describe(metrics::ALL);
    let sources = Arc::new(Sources::start(&config, trust)?);
    let state = take_state(predecessor.flatten(), &config, &sources).await?;
    // After a predecessor has taken its record back: two with one id are one too many.
    let peers = match sources.etcd.clone() {
        Some(etcd) => Some(Peers::join(etcd, &config.id, &config.public_url, state.own_id()).await?),
        None => None,
    };
    let manager = ServiceManager::from_environment();
    follow_files(hangups, &sources, tls.as_ref(), manager.clone());
    tokio::spawn(telemetry::upkeep(metrics.clone()));

    let readiness = Arc::new(Readiness {
        instance: random_id(),
        sources: Arc::clone(&sources),
        has_rival: peers.as_ref().map(Peers::rivalry),
        state: Arc::clone(&state),
        tls: tls.clone(),
        draining: AtomicBool::new(false),
    });
    let probed = Arc::clone(&readiness) as Arc<dyn Probed>;
    let status = told_of(&config, &sources, &probed, &state);
    let refusals = Arc::<Refusals>::default();
    let page = StatusPage::new(looked_at(&status, &sources, &refusals));
    let pages = admin_api::pages(pages(&config, &sources, status, page.clone())?, tokens);
    let admin = admin::router(probed, metrics, config.admin_hosts.clone(), pages);
    announce(&config, &readiness.instance, &api_listener.socket, &admin_listener.socket)?;
    let for_successor = vec![api_listener.try_clone()?, admin_listener.try_clone()?];
    let (clients, shown) = (config.clients.clone(), config.client_ip);
    let api = Observed::new(Arc::new(api(config, &sources, state, facts)), refusals, shown)?;
    let tls = tls.map(|tls| Handshakes::new(tls, metrics::tls_handshake_failures()));
    let parting = Parting::default();
    let service = Service {
        api: Serving::start(api_listener, parting.of(api), clients, tls)?,
        admin: Serving::start(admin_listener, parting.of(admin), ClientSource::Connection, None)?,
        readiness,
        peers,
        page,
    };
    let control = ending::control(control_socket.as_deref(), who, for_successor);
    tokio::spawn(manager.clone().keep_posted());
    manager.ready();
    let successor = ending::end(&mut signals, control, &parting).await;
    manager.stopping();
    match successor {
        Some(successor) => service.hand_over(successor, &mut signals).await,
        None => service.drain(&mut signals).await,
    }
    Ok(())
}

/// Opens the state, once a predecessor has let go of it.
async fn take_state(
    predecessor: Option<Predecessor>,
    config: &Config,
    sources: &Sources,
) -> Result<Arc<dyn State>, StartError> {
    let nonces_max = config.access.nonces_max;
    let state = match predecessor {
        None => state::start(&config.state, nonces_max)?,
        Some(predecessor) => succession::take_over(predecessor, sources, &config.state, nonces_max).await?,
    };
    // Calls bear whole seconds, and those of a second in which nonces were forgotten are refused: nobody is, where
    // the program begins with the next one.
    if let Some(since) = state.remembers_since().filter(|_| config.access.remembers_nonces()) {
        tokio::time::sleep(since.duration_since(SystemTime::now()).unwrap_or_default()).await;
    }
    Ok(state)
}

/// How this coordinator is.
fn told_of(
    config: &Config,
    sources: &Sources,
    probed: &Arc<dyn Probed>,
    state: &Arc<dyn State>,
) -> StatusAdmin {
    StatusAdmin {
        id: config.id.clone(),
        started: Instant::now(),
        probed: Arc::clone(probed),
        membership: Arc::clone(&sources.membership),
        registry: Arc::clone(&sources.registry),
        etcd: sources.etcd.clone(),
        state: Arc::clone(state),
    }
}

/// What the status page shows.
fn looked_at(status: &StatusAdmin, sources: &Sources, refusals: &Arc<Refusals>) -> status::Sources {
    status::Sources {
        id: status.id.clone(),
        started: status.started,
        probed: Arc::clone(&status.probed),
        membership: Arc::clone(&status.membership),
        registry: Arc::clone(&status.registry),
        orders: sources.orders.clone(),
        etcd: status.etcd.clone(),
        state: Arc::clone(&status.state),
        keys: Arc::clone(&sources.keys),
        hot: Arc::clone(&sources.hot),
        popular: Arc::clone(&sources.popular),
        refusals: Arc::clone(refusals),
    }
}

/// What operators' pages tell and change.
fn pages(
    config: &Config,
    sources: &Sources,
    status: StatusAdmin,
    page: StatusPage,
) -> Result<Pages, StartError> {
    let audit = Arc::new(Audit::open(config.audit_file.as_deref()).map_err(StartError::Audit)?);
    Ok(Pages {
        edges: EdgesAdmin {
            membership: Arc::clone(&sources.membership),
            registry: Arc::clone(&sources.registry),
            orders: sources.orders.clone(),
            audit: Arc::clone(&audit),
        },
        hot: Arc::clone(&sources.hot),
        popular: Arc::clone(&sources.popular),
        page,
        clients: ClientsAdmin {
            clients: Arc::clone(&sources.clients),
            audit: Arc::clone(&audit),
            timed: config.access.timed.as_ref().map(|timed| timed.signer.clone()),
            public_url: config.public_url.clone(),
        },
        revocations: RevocationsAdmin { book: Arc::clone(&sources.revocations), audit: Arc::clone(&audit) },
        status,
        keys: KeysAdmin { keys: Arc::clone(&sources.keys), book: Arc::clone(&sources.revocations), audit },
    })
}

/// What the API's handlers work with.
fn api(config: Config, sources: &Sources, state: Arc<dyn State>, facts: Facts) -> Api {
    let document = openapi::Offered::by(&config).document();
    let failures = Arc::new(Failures::default());
    let known = KnownClients {
        clients: Arc::clone(&sources.clients),
        state: Arc::clone(&state),
        failures: Arc::clone(&failures),
    };
    let schemes = schemes(&config.access, &known);
    Api {
        document,
        authenticator: Authenticator::new(schemes, config.public_prefixes),
        failures,
        revocations: Arc::clone(&sources.revocations),
        are_marks_shared: sources.are_marks_shared(),
        clients: Arc::clone(&sources.clients),
        membership: Arc::clone(&sources.membership),
        hot: Arc::clone(&sources.hot),
        popular: Arc::clone(&sources.popular),
        facts,
        minter: Minter {
            keys: Arc::clone(&sources.keys.tokens),
            count: Arc::clone(&sources.keys.minted),
            issuer: config.public_url.clone(),
            token_ttl: config.links.token_ttl,
            minted: metrics::tokens_minted(),
        },
        state,
        tickets: Arc::clone(&sources.keys.tickets),
        public_url: config.public_url,
        links: config.links,
        sealed: config.access.sealed,
        timed: config.access.timed,
    }
}

fn load_tls(config: &Config) -> Result<Option<Arc<ServerTls>>, CertificateError> {
    config.tls.as_ref().map(|tls| ServerTls::load(tls, &[HTTP_1_1])).transpose()
}

/// Rereads files when they change, and all of them at each SIGHUP.
fn follow_files(
    mut hangups: Signal,
    sources: &Sources,
    tls: Option<&Arc<ServerTls>>,
    manager: ServiceManager,
) {
    let (asking, asked) = Asking::new();
    sources.follow_files(&asked);
    if let Some(tls) = tls {
        tokio::spawn(Arc::clone(tls).follow(asked));
    }
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            manager.reloading();
            asking.ask();
            tracing::info!(
                "SIGHUP: certificate, keys and clients are read anew; the configuration itself is not, \
                 and changes of it need a restart"
            );
            manager.ready();
        }
    });
}

/// The schemes that go by headers; sealed calls have a path of their own.
fn schemes(access: &Access, clients: &KnownClients) -> Vec<Box<dyn Scheme>> {
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

fn announce(
    config: &Config,
    instance: &str,
    api: &std::net::TcpListener,
    admin: &std::net::TcpListener,
) -> io::Result<()> {
    if config.access.schemes.contains(&SchemeName::Open) {
        tracing::warn!(
            "authentication is off (auth.schemes = [\"open\"]): any caller gets links to any file"
        );
    }
    if config.tls.is_some() && config.public_url.as_str().starts_with("http://") {
        tracing::warn!(
            public_url = %config.public_url,
            "`listen` speaks TLS and `public_url` begins with http://; unless a proxy answers there, no link works: \
             write https://"
        );
    }
    tracing::info!(
        id = config.id,
        instance,
        version = env!("CARGO_PKG_VERSION"),
        listen = %api.local_addr()?,
        admin_listen = %admin.local_addr()?,
        tls = config.tls.is_some(),
        "listening"
    );
    Ok(())
}
