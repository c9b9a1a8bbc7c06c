//! The way out: the first signal drains, the second exits at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Limits;

/// How far the edge is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Not ready any more, and saying so; requests are still answered, connections no longer kept.
    Leaving,
    /// New requests are refused; downloads under way go on.
    Refusing,
    /// All is cut. A process whose reads are stuck dies when the store lets it: until then its clients must not wait for
    /// it, nor its successor for its ports.
    Over,
}

/// How often the end of the last download is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Workers cut what is left at their next sweep.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// Waits for SIGTERM or SIGINT, then drains; returns when the process may exit, with nothing open that anybody waits for.
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
        if !end_within(limits.drain_timeout, &connections).await {
            tracing::warn!(left = connections(), "drain_timeout is over; the rest is cut");
        }
    };
    tokio::select! {
        () = leaving => {}
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("second signal: exiting at once"),
    }
    phase.send_replace(Phase::Over);
    if !end_within(CUT_WITHIN, &connections).await {
        tracing::warn!(left = connections(), "some connections are still open");
    }
    Ok(())
}

/// Waits for the last connection's end; says whether it came.
async fn end_within(patience: Duration, connections: impl Fn() -> u64) -> bool {
    let ending = async {
        while connections() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(patience, ending).await.is_ok()
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
