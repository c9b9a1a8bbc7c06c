//! The way out: the first signal drains, the second exits at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Limits;

/// How far the edge is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Not ready any more, and saying so; requests are still answered, connections no longer kept.
    Leaving,
    /// New requests are refused; downloads under way go on.
    Refusing,
}

/// How often the end of the last download is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits for SIGTERM or SIGINT, then drains; returns when the process may exit.
///
/// # Errors
/// Signals cannot be listened to.
pub(crate) async fn drain(
    phase: watch::Sender<Phase>,
    limits: Limits,
    connections: impl Fn() -> u64,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    either(&mut terminate, &mut interrupt).await;
    tracing::info!(grace = ?limits.drain_grace, timeout = ?limits.drain_timeout, "draining");
    phase.send_replace(Phase::Leaving);
    let leaving = async {
        tokio::time::sleep(limits.drain_grace).await;
        phase.send_replace(Phase::Refusing);
        // Workers take a turn to see it and to take in what is queued.
        tokio::time::sleep(crate::limits::SWEEP_EVERY * 2).await;
        let finishing = async {
            while connections() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(limits.drain_timeout, finishing).await.is_err() {
            tracing::warn!(left = connections(), "drain_timeout is over; the rest is cut");
        }
    };
    tokio::select! {
        () = leaving => {}
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("second signal: exiting at once"),
    }
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
