//! What `/readyz` says over time.

use crate::edge::Edge;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One answer of `/readyz`.
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) is_ready: bool,
}

/// Looks until told to stop. Whenever the edge is not ready, it is for being degraded.
pub(crate) fn watch(edge: &Edge, stop: &AtomicBool) -> anyhow::Result<Vec<Look>> {
    let mut looks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        looks.push(look(edge)?);
        thread::sleep(LOOK_EVERY);
    }
    Ok(looks)
}

pub(crate) fn look(edge: &Edge) -> anyhow::Result<Look> {
    let answer = edge.admin("/readyz").context("the admin port does not answer")?;
    let is_ready = answer.status() == 200;
    ensure!(is_ready || answer.text().contains("degraded"), "not ready, but: {}", answer.text());
    Ok(Look { at: Instant::now(), is_ready })
}
