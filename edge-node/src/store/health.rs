//! Whether the store answers: operations that are stuck in it, and a question to its root once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Store;
use super::slots::SlotUse;
use crate::uring::statx_root;

/// How often slots are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// An answer from the root that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What was last seen.
#[derive(Default)]
pub(super) struct Health {
    root_is_silent: AtomicBool,
    stuck: AtomicU64,
    under_way: AtomicU64,
    waiting: AtomicU64,
    is_degraded: AtomicBool,
}

/// The store's operations now, and what they say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreHealth {
    pub(crate) under_way: u64,
    /// 2 s old or older.
    pub(crate) stuck: u64,
    pub(crate) waiting: u64,
    /// Half the slots of a kind are stuck, or the root does not answer: what is not cached had better be asked of another
    /// edge.
    pub(crate) is_degraded: bool,
    /// There is no store where it should be mounted; then it is degraded, too.
    pub(crate) is_absent: bool,
}

impl Store {
    pub(crate) fn health(&self) -> StoreHealth {
        let health = &self.health;
        StoreHealth {
            under_way: health.under_way.load(Ordering::Relaxed),
            stuck: health.stuck.load(Ordering::Relaxed),
            waiting: health.waiting.load(Ordering::Relaxed),
            is_degraded: health.is_degraded.load(Ordering::Relaxed) || self.presence.is_absent(),
            is_absent: self.presence.is_absent(),
        }
    }

    /// Watches the store, for ever; on one worker's ring.
    pub(crate) async fn watch(self: Arc<Self>) {
        tokio_uring::spawn(Arc::clone(&self).ask_root());
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        let health = &self.health;
        let mut sum = SlotUse::default();
        let mut is_degraded = health.root_is_silent.load(Ordering::Relaxed);
        for slots in [&self.fetches, &self.checks] {
            slots.look(now);
            let usage = slots.usage(now);
            // Each kind by itself: where there are few places to fetch in, those to check in would hide that all are
            // stuck.
            is_degraded |= usage.stuck * 2 >= slots.rules().total;
            sum.under_way += usage.under_way;
            sum.stuck += usage.stuck;
            sum.waiting += usage.waiting;
        }
        health.stuck.store(sum.stuck as u64, Ordering::Relaxed);
        health.under_way.store(sum.under_way as u64, Ordering::Relaxed);
        health.waiting.store(sum.waiting as u64, Ordering::Relaxed);
        if health.is_degraded.swap(is_degraded, Ordering::Relaxed) != is_degraded {
            if is_degraded {
                tracing::warn!(
                    stuck = sum.stuck,
                    "the store does not answer: degraded; what is cached is served on"
                );
            } else {
                tracing::info!("the store answers again");
            }
        }
    }

    /// Asks the root's attributes once a second, one question at a time.
    async fn ask_root(self: Arc<Self>) {
        let silent = &self.health.root_is_silent;
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let root = self.presence.root();
            let mut asking = std::pin::pin!(statx_root(&root));
            let answer = loop {
                match tokio::time::timeout(ANSWER_WITHIN, asking.as_mut()).await {
                    Ok(answer) => break answer,
                    Err(_) => silent.store(true, Ordering::Relaxed),
                }
                // Another root is there by now: that one is asked, whatever becomes of this one.
                if !self.presence.root().is_same(&root) {
                    break Ok(());
                }
            };
            if answer.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ESTALE)) {
                self.presence.suspect();
            }
            silent.store(answer.is_err(), Ordering::Relaxed);
        }
    }
}
