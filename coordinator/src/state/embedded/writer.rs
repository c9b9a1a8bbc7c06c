//! The one thread that writes the file. What has gathered while the last commit was under way goes into the next one
//! together, so that a thousand at once cost a few waits for the disk; each is answered after its commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::store::{EmbeddedError, Store};
use super::tables::Tables;
use super::{Memory, millis};
use crate::state::StateError;

/// Changes that wait, at most; more than that are refused: the disk is seconds behind.
const WAITING_MAX: usize = 16_384;
/// Changes in one commit, so that the first does not wait for ever.
const BATCH_MAX: usize = 4096;
/// From one sweep to the next, and how many entries it takes in one commit.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const SWEEP_MAX: usize = 1000;
/// After a failure, from one attempt to open the file to the next.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

type Answer = Box<dyn FnOnce() + Send>;
/// A change to the tables. It gives what is to be done once the change is durable; dropped instead, whoever asked is
/// told that the state is away.
type Change = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Answer, redb::Error> + Send>;

/// The way to the thread, which ends with this.
pub(super) struct Writer {
    /// `None` only while dropped.
    queue: Option<SyncSender<Change>>,
    is_well: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<Store>, memory: Arc<Memory>) -> Result<Self, EmbeddedError> {
        let (queue, changes) = sync_channel(WAITING_MAX);
        let is_well = Arc::new(AtomicBool::new(true));
        let work = Work { store, memory, changes, is_well: Arc::clone(&is_well) };
        let thread = thread::Builder::new().name("state-writer".to_owned()).spawn(move || work.run());
        let thread = Some(thread.map_err(EmbeddedError::Thread)?);
        Ok(Self { queue: Some(queue), is_well, thread })
    }

    /// Makes a change, and gives its answer once it is durable. A change that is queued is made even where nobody waits
    /// for its answer any more.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |tables| {
            let outcome = change(tables)?;
            Ok(Box::new(move || {
                let _ = answer.send(outcome);
            }))
        });
        let queue = self.queue.as_ref().ok_or(StateError::Away)?;
        queue.try_send(change).map_err(|_| StateError::Away)?;
        answered.await.map_err(|_| StateError::Away)
    }

    pub(super) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    /// Waits for the last commit.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Work {
    store: Arc<Store>,
    memory: Arc<Memory>,
    changes: Receiver<Change>,
    is_well: Arc<AtomicBool>,
}

impl Work {
    fn run(self) {
        let mut sweep_at = Instant::now();
        loop {
            let first = match self.changes.recv_timeout(sweep_at.saturating_duration_since(Instant::now())) {
                Ok(change) => Some(change),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(first) = first {
                self.commit(first);
            }
            if Instant::now() >= sweep_at && !self.sweep() {
                self.memory.forget(SystemTime::now());
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
        }
    }

    /// Commits a change with those that wait behind it.
    fn commit(&self, first: Change) {
        let written = self.store.write(|tables| {
            let batch = std::iter::once(first).chain(self.changes.try_iter()).take(BATCH_MAX);
            batch.map(|change| change(tables)).collect::<Result<Vec<Answer>, _>>()
        });
        match written {
            Ok(answers) => answers.into_iter().for_each(|answer| answer()),
            Err(error) => self.recover(&error),
        }
    }

    /// Sweeps a little; whether there is more to do at once.
    fn sweep(&self) -> bool {
        let mut forgotten = Vec::new();
        let now_ms = millis(SystemTime::now());
        match self.store.write(|tables| tables.sweep(now_ms, SWEEP_MAX, &mut forgotten)) {
            Ok(more) => {
                self.memory.forget_revoked(&forgotten);
                more
            }
            Err(error) => {
                self.recover(&error);
                false
            }
        }
    }

    /// Opens the file anew until that succeeds, and refuses everything meanwhile; one that was closed for good is left
    /// alone.
    fn recover(&self, error: &redb::Error) {
        if self.store.is_closed() {
            return;
        }
        self.is_well.store(false, Ordering::Relaxed);
        tracing::error!(%error, "cannot write the state file; links are refused until it can be");
        while let Err(error) = self.store.reopen() {
            tracing::error!(%error, "cannot open the state file again");
            if !self.refuse_for(REOPEN_EVERY) {
                return;
            }
        }
        self.is_well.store(true, Ordering::Relaxed);
        tracing::info!("the state file is open again");
    }

    /// Whether anybody may still ask.
    fn refuse_for(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            match self.changes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(change) => drop(change),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::embedded::{Embedded, Redemption};
    use crate::state::{LinkRecord, Redeemed, Revocation, State};

    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_failure_the_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = Embedded::open(&folder.path().join("state.redb"), 1).unwrap();
        let visit =
            Redemption { who: 1, downloads_max: 1, now_ms: 0, open_until_ms: 1, keep_until_ms: u64::MAX };
        assert_eq!(
            state.writer.write(move |tables| tables.redeem("kept", visit)).await,
            Ok(Redeemed::Opened)
        );
        let broken = state.writer.write::<Redeemed>(move |tables| {
            tables.redeem("lost", visit)?;
            Err(redb::Error::PreviousIo)
        });
        assert_eq!(broken.await, Err(StateError::Away));
        for (link, expected) in [("kept", Redeemed::Exhausted), ("lost", Redeemed::Opened)] {
            let visit = Redemption { now_ms: 1, ..visit };
            assert_eq!(
                state.writer.write(move |tables| tables.redeem(link, visit)).await,
                Ok(expected),
                "{link}"
            );
        }
        assert!(state.is_well());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_file_cannot_be_opened_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let state = Embedded::open(&path, 1).unwrap();
        std::fs::rename(&path, folder.path().join("hidden")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let broken = state.writer.write::<()>(|_| Err(redb::Error::PreviousIo));
        assert_eq!(broken.await, Err(StateError::Away));
        let expires_at = SystemTime::now() + Duration::from_secs(60);
        let link = LinkRecord { id: "l".to_owned(), owner: None, expires_at };
        assert_eq!(state.create_link(&link).await, Err(StateError::Away));
        assert!(!state.is_well());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(folder.path().join("hidden"), &path).unwrap();
        while state.create_link(&link).await.is_err() {}
        assert_eq!(state.revoke_link("l", None, SystemTime::now()).await, Ok(Revocation::Revoked));
    }
}
