//! What goes on beside the workers for as long as the process runs, each by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_shared::followed::Asking;
use sluice_shared::handover::{Control, Departure, Identity, Listener};
use sluice_shared::revocations::{self, RevocationBook};
use sluice_shared::service_manager::ServiceManager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Records;
use crate::drain::Phase;
use crate::resolve::Files;

/// From one emptying of the cache to the next, of a process whose clients have a successor.
const LETS_GO_EVERY: Duration = Duration::from_secs(5);

/// Waits for a successor, for ever where there is no socket for it to come to.
pub(super) async fn successor(path: Option<&Path>, who: Identity<'_>, listeners: Vec<Listener>) -> Departure {
    match path.map(|path| Control::bind(path, who, listeners)) {
        Some(Ok(mut control)) => loop {
            let successor = control.successor().await;
            if successor.is_awaited() {
                return successor;
            }
        },
        // Clients are served all the same.
        Some(Err(error)) => tracing::error!(%error, "no successor can take over; an upgrade needs a restart"),
        None => {}
    }
    std::future::pending().await
}

pub(super) async fn until_handed_over(mut phase: watch::Receiver<Phase>) {
    // The other end is dropped only with the process.
    let _ = phase.wait_for(|phase| *phase == Phase::HandedOver).await;
}

/// Leaves the machine's memory to the successor's cache, once there is one; for ever, for what is still sent comes back.
pub(super) async fn drop_all_once_handed_over(files: Arc<Files>, phase: watch::Receiver<Phase>) {
    until_handed_over(phase).await;
    loop {
        files.evict_all(|_| true);
        tokio::time::sleep(LETS_GO_EVERY).await;
    }
}

/// Lets go of what is cached of files that are barred, as they come to be; for ever.
pub(super) async fn drop_barred(files: Arc<Files>, revocations: Arc<RevocationBook>) {
    let mut changes = revocations.changes();
    while changes.changed().await.is_ok() {
        let (now, barred) = (revocations::Instant::now(), revocations.load());
        let count = files.evict_all(|file_id| barred.is_file_barred(file_id, now));
        tracing::info!(marks = barred.len(), files_dropped = count, "revocations changed");
    }
}

/// SIGHUP: what was rotated away is opened anew, and certificates are read again.
pub(super) fn heed_hangups(
    (access_log, usage): Records,
    certificates: Asking,
    manager: ServiceManager,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            manager.reloading();
            if let Some(log) = &access_log {
                log.reopen();
            }
            if let Some(record) = &usage {
                record.reopen();
            }
            certificates.ask();
            tracing::info!("SIGHUP: logs are opened and certificates read anew; all else needs a restart");
            manager.ready();
        }
    })
}
