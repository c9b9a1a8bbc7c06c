//! Listeners being served, and the signals that end it.

use std::io;

use sluice_shared::client_source::ClientSource;
use sluice_shared::handover::Listener;
use sluice_shared::serve::{Answers, Handshakes, ServeLimits, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// A listener being served, and how to end it.
pub(super) struct Serving {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    pub(super) fn start(
        listener: Listener,
        answers: impl Answers,
        clients: ClientSource,
        tls: Option<Handshakes>,
    ) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener.socket)?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, answers, ServeLimits::default(), clients, tls, shutdown));
        Ok(Self { stop, task })
    }

    /// Accepts no more, and lets calls under way finish.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// SIGTERM and SIGINT, which mean the same.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
