//! Workers' lives: a thread each, which end with the process.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use sluice_shared::handover::Listener;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::WorkerMetrics;
use crate::resolve::{File, Files, Resolver};
use crate::store::Store;
use crate::uring::{self, RingError};
use crate::worker::{Process, Worker};

/// What one worker is made of, on its way to the worker's thread.
pub(super) struct WorkerParts {
    pub(super) process: Process,
    pub(super) connections_max: usize,
    pub(super) store_threads: u32,
    /// What to accept from, once it may.
    pub(super) listeners: oneshot::Receiver<Vec<Listener>>,
    pub(super) files: Arc<Files>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) forgetting: mpsc::UnboundedReceiver<Arc<File>>,
    pub(super) for_all: Option<ForAll>,
    /// Told once the worker can accept connections, or why it cannot.
    pub(super) began: std::sync::mpsc::Sender<Result<(), RingError>>,
}

/// What one worker's ring does for all.
pub(super) struct ForAll {
    /// Descriptors to close.
    pub(super) closing: mpsc::UnboundedReceiver<OwnedFd>,
    /// To be watched.
    pub(super) store: Arc<Store>,
}

/// A worker's life, which ends with the process: a ring is never dropped with operations in flight.
pub(super) fn run(parts: WorkerParts) {
    // Nobody listens for this any more only where the start has failed already.
    let runtime = match uring::runtime(parts.store_threads) {
        Ok(runtime) => runtime,
        Err(error) => return drop(parts.began.send(Err(error))),
    };
    runtime.block_on(async move {
        let files = Arc::clone(&parts.files);
        let resolver = Resolver::new(parts.files);
        let worker = Rc::new(Worker::new(parts.process, parts.connections_max, resolver, parts.metrics));
        if let Some(for_all) = parts.for_all {
            tokio_uring::spawn(uring::close_all(for_all.closing));
            tokio_uring::spawn(for_all.store.watch());
            tokio_uring::spawn(files.ask_after_unused());
        }
        tokio_uring::spawn(Rc::clone(&worker).sweep());
        let forgetting_worker = Rc::clone(&worker);
        tokio_uring::spawn(async move {
            forgetting_worker.resolver.follow_forgotten(parts.forgetting).await;
        });
        let _ = parts.began.send(Ok(()));
        drop(parts.began);
        // None come where another worker could not start: then the process ends.
        for listener in parts.listeners.await.unwrap_or_default() {
            tokio_uring::spawn(Rc::clone(&worker).accept(listener));
        }
        std::future::pending::<()>().await;
    });
}
