//! The process: configuration → workers, admin port, end. Everything is made here once and handed down.

mod confine;
mod content;
mod descriptors;
mod findings;
mod keys;
mod serving;
mod sockets;
mod upkeep;
mod workers;

use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use sluice_shared::confinement::Confined;
use sluice_shared::etcd::Etcd;
use sluice_shared::handover::{self, Identity, Inherited, Listener};
use sluice_shared::keys::KeyFile;
use sluice_shared::revocations::{EtcdMarks, RevocationBook};
use sluice_shared::serve::Handshakes;
use sluice_shared::telemetry::metric::describe;
use sluice_shared::telemetry::{self, PrometheusHandle};
use sluice_shared::tls::{CertificateError, ServerTls, TlsSettings};
use sluice_shared::token::random_id;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::admin::Status;
use crate::cache::Backing;
use crate::config::{Config, KeySource};
use crate::drain::Phase;
use crate::limits::{Addresses, Tokens};
use crate::logs::{AccessLog, UsageRecord};
use crate::metrics::{self, WorkerMetrics};
use crate::tls::{KernelTls, PROTOCOLS, Tls};
use crate::uring;
use crate::worker::Process;
use content::Content;
use keys::FollowedKeys;
use serving::Serving;
use sockets::Sockets;
use workers::{ForAll, WorkerParts};

/// What is still to be written when the process ends has so long.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// For a process that is to exit at once.
const HURRIED_FLUSH_WITHIN: Duration = Duration::from_millis(250);

/// Validates the configuration and what it names, without listening; and says how far an edge would be confined.
///
/// # Errors
/// The first fault.
pub fn check(path: &Path) -> anyhow::Result<Confined> {
    let config = Config::load(path)?;
    if let KeySource::File(path) = &config.keys {
        KeyFile::load(path)?;
    }
    load_tls(&config, ServerTls::load)?;
    RevocationBook::open(config.revocations_file.as_deref())?;
    Backing::open(config.cache_dir.as_deref(), config.cache_size)?;
    if let Some(path) = &config.control_socket {
        handover::check_place(path)?;
    }
    uring::check()?;
    Ok(confine::try_out(&config))
}

pub use findings::findings;

/// Runs an edge, on what was `inherited` or on its own listeners; returns only where it cannot start.
///
/// # Errors
/// What keeps it from starting, with the remedy.
pub fn run(path: &Path, inherited: Inherited) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    // A mount of the edge's own can be allowed once it is there, and made no more once the edge is bound.
    let backing = Backing::open(config.cache_dir.as_deref(), config.cache_size)?;
    // Before there are threads, of which those that are there already would not be bound.
    let confined = confine::bind(&config, &backing)?;
    let log_guard = telemetry::start_logs(&config.logs.filter)?;
    confined.log();
    let base = Base::open(&config)?;
    let content = Content::open(&config, backing)?;
    let who = Identity { program: "edge", id: config.id.as_str() };
    let mut sockets = Sockets::open(&config, who, inherited)?;
    let records = start_records(&config)?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let process = base.process(&config, &content, &records, phases.clone());
    let workers: Vec<_> = (0..config.threads).map(|_| Arc::new(WorkerMetrics::default())).collect();
    let (files, window_bytes) = (Arc::clone(&content.files), content.window_bytes);
    let (cache, store) = (Arc::clone(&content.cache), Arc::clone(&content.store));
    let given = start_workers(&process, content, &workers)?;
    let marks = base.follow_marks();
    base.wait_for_keys();
    sockets.take_over(config.threads)?;
    let instance = random_id();
    announce(&config, &instance, &sockets, window_bytes)?;
    let for_successor = sockets.for_successor()?;
    let (admin_listener, hands) = sockets.deal(config.threads)?;
    for (give, hand) in given.into_iter().zip(hands) {
        // A worker that has gone has taken the process with it.
        let _ = give.send(hand);
    }
    let (note_standing, standing) = watch::channel(None);
    let status = Arc::new(Status {
        instance,
        phase: phases.clone(),
        workers,
        cache,
        store,
        access_log: records.0.clone(),
        tls: base.tls.clone(),
        started: Instant::now(),
        standing,
        revocations: Arc::clone(&base.revocations),
        marks,
        ring: Arc::clone(&base.keys.0),
        keys: base.keys.1.clone(),
    });
    let Base { exporter, runtime, etcd, tls, revocations, .. } = base;
    let serving = Serving {
        config: &config,
        who,
        exporter,
        etcd,
        tls,
        revocations,
        status,
        note_standing,
        files,
        records: records.clone(),
        phase,
        phases,
        admin_listener,
        for_successor,
    };
    let flush_within = match runtime.block_on(serving.until_drained()) {
        Ok(true) => HURRIED_FLUSH_WITHIN,
        Ok(false) => FLUSH_WITHIN,
        Err(error) => {
            tracing::error!(%error, "the edge stops");
            drop(log_guard);
            exit(1);
        }
    };
    let (access_log, usage) = records;
    access_log.inspect(|log| log.flush(flush_within));
    usage.inspect(|record| record.flush(flush_within));
    tracing::info!("stopped");
    drop(log_guard);
    exit(0);
}

/// What does not depend on where content is and who listens.
struct Base {
    exporter: PrometheusHandle,
    /// Not a worker's: of the admin port, and of all that has time.
    runtime: Runtime,
    etcd: Option<Etcd>,
    keys: FollowedKeys,
    tls: Option<Arc<ServerTls>>,
    kernel_tls: Option<KernelTls>,
    revocations: Arc<RevocationBook>,
}

impl Base {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let exporter = telemetry::start_metrics()?;
        describe(metrics::ALL);
        uring::check()?;
        let kernel_tls = ask_kernel_for_tls(config);
        let load = if kernel_tls.is_some() { ServerTls::load_giving_keys } else { ServerTls::load };
        let tls = load_tls(config, load)?;
        let revocations = RevocationBook::open(config.revocations_file.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let etcd = config.etcd.as_ref().map(Etcd::new);
        let keys = {
            let _within = runtime.enter();
            keys::follow_keys(&config.keys, etcd.as_ref(), &revocations)?
        };
        Ok(Self { exporter, runtime, etcd, keys, tls, kernel_tls, revocations })
    }

    fn process(
        &self,
        config: &Config,
        content: &Content,
        records: &Records,
        phase: watch::Receiver<Phase>,
    ) -> Process {
        let limits = config.limits;
        Process {
            id: config.id.clone(),
            limits,
            clients: config.clients.clone(),
            coordinators: config.coordinator_urls.clone(),
            cors: config.cors.clone(),
            tls: self.tls.as_ref().map(|tls| Tls {
                handshakes: self.handshakes(tls),
                role: Sockets::tls_role(config),
                kernel: self.kernel_tls,
            }),
            keys: Arc::clone(&self.keys.0),
            revocations: Arc::clone(&self.revocations),
            cache: Arc::clone(&content.cache),
            phase,
            addresses: Addresses::new(limits.connections_per_address),
            tokens: Tokens::new(limits.transfers_per_token),
            access_log: records.0.clone(),
            usage: records.1.clone(),
        }
    }

    fn handshakes(&self, tls: &Arc<ServerTls>) -> Handshakes {
        let handshakes = Handshakes::new(Arc::clone(tls), metrics::tls_handshake_failures());
        match self.kernel_tls {
            Some(kernel) => handshakes.by_record(kernel.updates()),
            None => handshakes,
        }
    }

    fn follow_marks(&self) -> Option<EtcdMarks> {
        let _within = self.runtime.enter();
        self.etcd.as_ref().map(|etcd| EtcdMarks::follow(etcd, Arc::clone(&self.revocations)))
    }

    fn wait_for_keys(&self) {
        if let Some(keys) = &self.keys.1 {
            self.runtime.block_on(keys::until_known(keys));
        }
    }
}

/// Starts the workers, which are ready when this returns; gives the ways to hand them their listeners.
fn start_workers(
    process: &Process,
    content: Content,
    metrics: &[Arc<WorkerMetrics>],
) -> anyhow::Result<Vec<oneshot::Sender<Vec<Listener>>>> {
    let mut for_all = Some(ForAll { closing: content.closing, store: content.store });
    let (began, all_began) = std::sync::mpsc::channel();
    let mut given = Vec::new();
    for (forgetting, own) in content.forgetting.into_iter().zip(metrics) {
        let (give, listeners) = oneshot::channel();
        given.push(give);
        let parts = WorkerParts {
            process: process.clone(),
            connections_max: content.connections_max.div_ceil(metrics.len()),
            store_threads: content.store_threads,
            listeners,
            files: Arc::clone(&content.files),
            metrics: Arc::clone(own),
            forgetting,
            for_all: for_all.take(),
            began: began.clone(),
        };
        thread::Builder::new().name("worker".to_owned()).spawn(move || workers::run(parts))?;
    }
    drop(began);
    // Nobody is told that the edge is ready before all of it is.
    for _ in metrics {
        all_began.recv().context("a worker broke down at its start")?.context("a worker cannot start")?;
    }
    Ok(given)
}

fn announce(config: &Config, instance: &str, sockets: &Sockets, window_bytes: u64) -> anyhow::Result<()> {
    let is_url_plain =
        config.advertised.as_ref().is_some_and(|advertised| advertised.url.as_str().starts_with("http://"));
    if is_url_plain && config.tls.as_ref().is_some_and(|tls| tls.listen.is_none()) {
        tracing::warn!(
            "`listen` speaks TLS and `advertise_url` begins with http://; unless a proxy answers there, no download \
             works: write https://"
        );
    }
    let is_url_tls =
        config.advertised.as_ref().is_some_and(|advertised| advertised.url.as_str().starts_with("https://"));
    if is_url_tls && config.tls.is_none() {
        tracing::warn!(
            "`advertise_url` begins with https:// and there is no [tls]; unless a proxy speaks TLS for this edge, no \
             download works: write http://, or give it [tls]"
        );
    }
    tracing::info!(
        edge = %config.id, instance, listen = %sockets.address(), tls = config.tls.is_some(),
        tls_listen = sockets.tls_address().map(tracing::field::display),
        admin_listen = %sockets.admin.socket.local_addr()?, threads = config.threads,
        cache_bytes = config.cache_size, window_bytes, "serving"
    );
    Ok(())
}

type Load = fn(&TlsSettings, &[&[u8]]) -> Result<Arc<ServerTls>, CertificateError>;

fn load_tls(config: &Config, load: Load) -> Result<Option<Arc<ServerTls>>, CertificateError> {
    config.tls.as_ref().map(|tls| load(&tls.settings, &PROTOCOLS)).transpose()
}

/// What the kernel takes of TLS, where it is to; says in the log how it is.
fn ask_kernel_for_tls(config: &Config) -> Option<KernelTls> {
    if config.tls.is_none() || config.kernel_tls == Some(false) {
        return None;
    }
    match KernelTls::ask() {
        Ok(kernel) => {
            tracing::info!(takes = %kernel, key_updates = kernel.updates(), "the kernel goes on with TLS behind the handshake");
            Some(kernel)
        }
        Err(reason) => {
            tracing::info!(%reason, "TLS stays in the process; it works, and costs more of the processor");
            None
        }
    }
}

pub(crate) type Records = (Option<Arc<AccessLog>>, Option<Arc<UsageRecord>>);

/// Opens the access log and the usage record, where they are wanted.
fn start_records(config: &Config) -> anyhow::Result<Records> {
    let logs = &config.logs;
    let access_log = logs.access_file.as_deref().map(|path| {
        let opened = AccessLog::start(path, logs.client_ip);
        opened.with_context(|| format!("cannot open `log.access_file` {}", path.display()))
    });
    let usage = logs.usage_file.as_deref().map(|path| {
        let opened = UsageRecord::start(path, config.id.as_str());
        opened.with_context(|| format!("cannot open `log.usage_file` {}", path.display()))
    });
    Ok((access_log.transpose()?, usage.transpose()?))
}
