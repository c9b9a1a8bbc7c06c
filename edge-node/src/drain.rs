//! The way out: the first signal drains, the second exits at once; or a successor takes the listeners over.

use std::time::Duration;

use sluice_shared::handover::Departure;
use sluice_shared::service_manager::ServiceManager;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Limits;

/// How far the edge is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// A successor accepts in its place, and answers for it; connections that are there are kept until their next
    /// request, so that none is closed just when its client speaks.
    HandedOver,
    /// Not ready any more, and saying so; requests are still answered, connections no longer kept.
    Leaving,
    /// New requests are refused; downloads under way go on.
    Refusing,
    /// All is cut. A process whose reads are stuck dies when the store lets it: until then its clients must not wait for
    /// it, nor its successor for its ports.
    Over,
}

impl Phase {
    /// Whether listeners are to be closed.
    pub(crate) fn is_past_accepting(self) -> bool {
        match self {
            Self::Serving | Self::Leaving => false,
            Self::HandedOver | Self::Refusing | Self::Over => true,
        }
    }
}

/// How often the end of the last download is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Workers cut what is left at their next sweep.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// The signals that end the edge.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// One came that ends it at once.
    is_hurried: bool,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            is_hurried: false,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits until the process is to exit at once: for one signal more than the one that drains.
    pub(crate) async fn hurry(&mut self) {
        if !self.is_hurried {
            self.next().await;
            self.is_hurried = true;
            tracing::warn!("second signal: exiting at once");
        }
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.is_hurried
    }
}

/// Waits for SIGTERM, SIGINT or a successor, then drains; returns when the process may exit, with nothing open that
/// anybody waits for. Gives the signals, of which another may come.
///
/// # Errors
/// Signals cannot be listened to.
pub(crate) async fn drain(
    phase: watch::Sender<Phase>,
    limits: Limits,
    connections: impl Fn() -> u64,
    successor: impl Future<Output = Departure>,
    manager: &ServiceManager,
) -> std::io::Result<Signals> {
    let mut signals = Signals::new()?;
    let mut grace = limits.drain_grace;
    tokio::select! {
        () = signals.next() => {}
        departure = successor => {
            manager.stopping();
            tracing::info!(timeout = ?limits.drain_timeout, "handed over; what is connected is served to its end");
            phase.send_replace(Phase::HandedOver);
            departure.release().await;
            tokio::select! {
                () = last_ends(limits.drain_timeout, &connections) => {
                    cut(&phase, &connections).await;
                    return Ok(signals);
                }
                () = signals.next() => {}
            }
            // Nobody has to notice: nobody new comes.
            grace = Duration::ZERO;
        }
    }
    manager.stopping();
    tracing::info!(?grace, timeout = ?limits.drain_timeout, "draining");
    phase.send_replace(Phase::Leaving);
    let leaving = async {
        tokio::time::sleep(grace).await;
        phase.send_replace(Phase::Refusing);
        last_ends(limits.drain_timeout, &connections).await;
    };
    tokio::select! {
        () = leaving => {}
        () = signals.hurry() => {}
    }
    cut(&phase, &connections).await;
    Ok(signals)
}

/// Waits for the last connection's end, once the listeners are closed.
async fn last_ends(patience: Duration, connections: impl Fn() -> u64) {
    // Workers take a turn to see the phase and to take in what is queued.
    tokio::time::sleep(crate::limits::SWEEP_EVERY * 2).await;
    if !end_within(patience, &connections).await {
        tracing::warn!(left = connections(), "drain_timeout is over; the rest is cut");
    }
}

/// Cuts what is left.
async fn cut(phase: &watch::Sender<Phase>, connections: impl Fn() -> u64) {
    phase.send_replace(Phase::Over);
    if !end_within(CUT_WITHIN, &connections).await {
        tracing::warn!(left = connections(), "some connections are still open");
    }
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
