//! The process: configuration → workers, admin port, end. Everything is made here once and handed down.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sluice_shared::client_source::ClientSource;
use sluice_shared::keys::KeyFile;
use sluice_shared::serve::{ServeLimits, bind, serve};
use sluice_shared::{admin, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{Status, pages};
use crate::cache::{Backing, Cache};
use crate::config::Config;
use crate::drain::{Phase, drain};
use crate::limits::{Addresses, SWEEP_EVERY, Tokens};
use crate::listen::listeners;
use crate::logs::{AccessLog, UsageRecord};
use crate::metrics::{self, WorkerMetrics};
use crate::resolve::{File, Files, FilesConfig, Resolver};
use crate::store::{Store, StoreRules};
use crate::uring::{self, RingError};
use crate::worker::{Process, Worker};

/// Descriptors that are neither connections nor files: listeners, rings, logs, connections that are turned away.
const DESCRIPTORS_OTHER: usize = 512;
/// Requests of the admin port that are under way at the end have so long.
const ADMIN_ENDS_WITHIN: Duration = Duration::from_millis(500);
/// What is still to be written when the process ends has so long.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Validates the configuration and what it names, without listening.
///
/// # Errors
/// The first fault.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    KeyFile::load(&config.key_path)?;
    Backing::open(config.cache_dir.as_deref(), config.cache_size)?;
    uring::check()?;
    Ok(())
}

/// Runs an edge; returns only where it cannot start.
///
/// # Errors
/// What keeps it from starting, with the remedy.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let log_guard = telemetry::start_logs(&config.logs.filter)?;
    let exporter = telemetry::start_metrics()?;
    metrics::describe();
    uring::check()?;
    let key_file = KeyFile::load(&config.key_path)?;
    let (connections_max, windowed_max) = share_out_descriptors(config.limits.connections)?;
    let (closer, closing) = mpsc::unbounded_channel();
    let (threads, limits) = (config.threads, config.limits);
    let backing = Backing::open(config.cache_dir.as_deref(), config.cache_size)?;
    let window_bytes = backing.window_bytes_max();
    let reads_max = usize::try_from(limits.inflight_bytes / window_bytes).unwrap_or(usize::MAX).max(1);
    let store_rules = StoreRules {
        template: config.path_template.clone(),
        follow_symlinks: config.follow_symlinks,
        concurrency: limits.storage_concurrency.min(reads_max),
        patience: limits.storage_timeout,
    };
    let store_threads = store_rules.threads();
    let store = Store::new(&config.root, store_rules, closer);
    let store = Arc::new(store.with_context(|| format!("cannot open `root` {}", config.root.display()))?);
    let cache = Cache::new(config.cache_size, backing, Arc::clone(&store));
    let cache = Arc::new(cache.context("cannot set up the cache's memory")?);
    let (forgotten, forgetting): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::unbounded_channel()).unzip();
    let files_config = FilesConfig {
        revalidate: config.revalidate,
        stale_limit: config.stale_limit,
        storage_timeout: limits.storage_timeout,
        windowed_max,
        etag: config.etag,
    };
    let files = Arc::new(Files::new(files_config, Arc::clone(&store), Arc::clone(&cache), forgotten));
    let (phase, phases) = watch::channel(Phase::Serving);
    let admin_listener = bind(config.admin_listen, "admin_listen")?;
    let listeners = listeners(config.listen, threads)?;
    tracing::info!(
        edge = %config.id, listen = %listeners[0].local_addr()?, admin_listen = %admin_listener.local_addr()?,
        threads, cache_bytes = config.cache_size, window_bytes, "serving"
    );

    let (access_log, usage) = start_records(&config)?;
    let process = Process {
        id: config.id.clone(),
        limits,
        clients: config.clients.clone(),
        coordinators: config.coordinator_urls.clone(),
        key_file: Arc::clone(&key_file),
        cache: Arc::clone(&cache),
        phase: phases.clone(),
        addresses: Addresses::new(limits.connections_per_address),
        tokens: Tokens::new(limits.transfers_per_token),
        access_log: access_log.clone(),
        usage: usage.clone(),
    };
    let workers: Vec<_> = (0..threads).map(|_| Arc::new(WorkerMetrics::default())).collect();
    let mut for_all = Some(ForAll { closing, store: Arc::clone(&store) });
    let (began, all_began) = std::sync::mpsc::channel();
    for ((listener, forgetting), metrics) in listeners.into_iter().zip(forgetting).zip(&workers) {
        let parts = WorkerParts {
            process: process.clone(),
            connections_max: connections_max.div_ceil(threads),
            store_threads,
            listener,
            files: Arc::clone(&files),
            metrics: Arc::clone(metrics),
            forgetting,
            for_all: for_all.take(),
            began: began.clone(),
        };
        thread::Builder::new().name("worker".to_owned()).spawn(move || run_worker(parts))?;
    }
    drop(began);
    // Nobody is told that the edge is ready before all of it is.
    for _ in 0..threads {
        all_began.recv().context("a worker broke down at its start")?.context("a worker cannot start")?;
    }

    let status = Arc::new(Status { phase: phases, workers, cache, store, access_log: access_log.clone() });
    let router = admin::router(
        Arc::clone(&status) as _,
        exporter.clone(),
        config.admin_hosts,
        pages(Arc::clone(&status)),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let drained = runtime.block_on(async move {
        tokio::spawn(telemetry::upkeep(exporter));
        tokio::spawn(key_file.follow());
        tokio::spawn(reopen_on_hangup(access_log.clone(), usage.clone())?);
        let admin_listener = tokio::net::TcpListener::from_std(admin_listener)?;
        let limits_of_admin = ServeLimits {
            connections_max: 256,
            shutdown_timeout: ADMIN_ENDS_WITHIN,
            ..ServeLimits::default()
        };
        let (end, ended) = oneshot::channel::<()>();
        let ended = async {
            let _ = ended.await;
        };
        let clients = ClientSource::Connection;
        let serving = tokio::spawn(serve(admin_listener, router, limits_of_admin, clients, ended));
        let drained = drain(phase, limits, || status.load().connections).await;
        drop(end);
        let _ = serving.await;
        // Workers hand over what they have at their next sweep.
        tokio::time::sleep(SWEEP_EVERY * 2).await;
        drained.map(|()| (access_log, usage))
    });
    match drained {
        Ok((access_log, usage)) => {
            access_log.inspect(|log| log.flush(FLUSH_WITHIN));
            usage.inspect(|record| record.flush(FLUSH_WITHIN));
        }
        Err(error) => {
            tracing::error!(%error, "the edge stops");
            drop(log_guard);
            exit(1);
        }
    }
    tracing::info!("stopped");
    drop(log_guard);
    exit(0);
}

type Records = (Option<Arc<AccessLog>>, Option<Arc<UsageRecord>>);

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

/// SIGHUP: what was rotated away is opened anew.
fn reopen_on_hangup(
    access_log: Option<Arc<AccessLog>>,
    usage: Option<Arc<UsageRecord>>,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            if let Some(log) = &access_log {
                log.reopen();
            }
            if let Some(record) = &usage {
                record.reopen();
            }
            tracing::info!("SIGHUP: logs are opened anew; all else needs a restart");
        }
    })
}

/// What one worker is made of, on its way to the worker's thread.
struct WorkerParts {
    process: Process,
    connections_max: usize,
    store_threads: u32,
    listener: std::net::TcpListener,
    files: Arc<Files>,
    metrics: Arc<WorkerMetrics>,
    forgetting: mpsc::UnboundedReceiver<Arc<File>>,
    for_all: Option<ForAll>,
    /// Told once the worker accepts connections, or why it cannot.
    began: std::sync::mpsc::Sender<Result<(), RingError>>,
}

/// What one worker's ring does for all.
struct ForAll {
    /// Descriptors to close.
    closing: mpsc::UnboundedReceiver<OwnedFd>,
    /// To be watched.
    store: Arc<Store>,
}

/// A worker's life, which ends with the process: a ring is never dropped with operations in flight.
fn run_worker(parts: WorkerParts) {
    // Nobody listens for this any more only where the start has failed already.
    let runtime = match uring::runtime(parts.store_threads) {
        Ok(runtime) => runtime,
        Err(error) => return drop(parts.began.send(Err(error))),
    };
    runtime.block_on(async move {
        let listener =
            tokio::net::TcpListener::from_std(parts.listener).expect("a listener fits the reactor");
        let resolver = Resolver::new(parts.files);
        let worker = Rc::new(Worker::new(parts.process, parts.connections_max, resolver, parts.metrics));
        if let Some(for_all) = parts.for_all {
            tokio_uring::spawn(uring::close_all(for_all.closing));
            tokio_uring::spawn(for_all.store.watch());
        }
        tokio_uring::spawn(Rc::clone(&worker).sweep());
        let forgetting_worker = Rc::clone(&worker);
        tokio_uring::spawn(async move {
            forgetting_worker.resolver.follow_forgotten(parts.forgetting).await;
        });
        tokio_uring::spawn(worker.accept(listener));
        let _ = parts.began.send(Ok(()));
        drop(parts.began);
        std::future::pending::<()>().await;
    });
}

/// Raises the limit on descriptors as far as it goes, and shares it out: connections, and large files kept open, two
/// descriptors each (the store's and the memory's). Fewer connections than configured are allowed with a warning.
///
/// # Errors
/// The limit is too low for anything.
fn share_out_descriptors(connections: usize) -> anyhow::Result<(usize, usize)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let usable = limit.saturating_sub(DESCRIPTORS_OTHER);
    if usable < 512 {
        anyhow::bail!(
            "the limit on open files is {limit}; raise it (LimitNOFILE, ulimit -n), best to 200000"
        );
    }
    let allowed = connections.min(usable / 4 * 3);
    if allowed < connections {
        tracing::warn!(
            allowed,
            configured = connections,
            "the limit on open files ({limit}) allows fewer connections; raise it (LimitNOFILE, ulimit -n)"
        );
    }
    Ok((allowed, ((usable - allowed) / 2).min(100_000)))
}
