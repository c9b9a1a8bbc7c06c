//! Filling windows: single-flight per (version, window). A fill belongs to the cache: whoever asked first may go, the
//! fill goes on, and a failure goes to all who wait and is not kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Cache;
use super::index::Reservation;
use super::object::{FillPin, Object, Pin, Windowed};
use crate::store::{Purpose, Slot, Ticket, Verdict};
use crate::uring::statx;

/// How a fill ended, once it has. A watch keeps the window that it brought pinned.
type FillWatch = watch::Receiver<Option<Result<Arc<FillPin>, FillError>>>;

/// A fill under way, or waiting for its place among the store's operations.
pub(super) struct Fill {
    watch: FillWatch,
    ticket: Ticket,
}

/// Why a window is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FillError {
    #[error("the store has another version of the file")]
    Superseded,
    #[error("the store failed: {}", io::Error::from_raw_os_error(*.0))]
    Storage(i32),
    #[error("the store did not answer in time")]
    Timeout,
}

impl Cache {
    /// Begins to fill a window that is absent, on the requester's account; says whether it was.
    pub(crate) fn prefetch(self: &Arc<Self>, object: &Arc<Object>, window: u32, requester: u64) -> bool {
        !object.windowed().window(window).is_present() && self.join_fill(object, window, requester).is_some()
    }

    /// Pins a window, filling it if need be, on the requester's account. The flag says whether it was there already.
    ///
    /// # Errors
    /// The fill failed, or did not end within `patience`.
    pub(crate) async fn window<'o>(
        self: &Arc<Self>,
        object: &'o Arc<Object>,
        window: u32,
        requester: u64,
        patience: Duration,
    ) -> Result<(Pin<'o>, bool), FillError> {
        if let Some(pin) = object.pin(window) {
            return Ok((pin, true));
        }
        let waiting = async {
            loop {
                if let Some(mut watch) = self.join_fill(object, window, requester) {
                    // Ends without a value only if the fill's task is gone: a worker is ending.
                    let ended = watch.wait_for(Option::is_some).await.map_err(|_| FillError::Timeout)?;
                    if let Some(Err(error)) = *ended {
                        return Err(error);
                    }
                    return Ok(object.pin(window).expect("pinned by the watch, so it is there"));
                }
                if let Some(pin) = object.pin(window) {
                    return Ok(pin);
                }
                // Being evicted this instant.
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(pinned) => pinned.map(|pin| (pin, false)),
            Err(_) => Err(FillError::Timeout),
        }
    }

    /// The fill under way, or a new one; `None` where the window is present or being evicted.
    fn join_fill(self: &Arc<Self>, object: &Arc<Object>, window: u32, requester: u64) -> Option<FillWatch> {
        let windowed = object.windowed();
        let mut fills = windowed.fills();
        if let Some(fill) = fills.get(&window) {
            fill.ticket.join(requester);
            return Some(fill.watch.clone());
        }
        if !windowed.window(window).begin_fill() {
            return None;
        }
        let slot = self.store.ask_to_fetch(Purpose { file: object.file_hash(), requester });
        let (done, watch) = watch::channel(None);
        fills.insert(window, Fill { watch: watch.clone(), ticket: slot.ticket() });
        drop(fills);
        let (cache, object) = (Arc::clone(self), Arc::clone(object));
        tokio_uring::spawn(async move {
            let ended = cache.fill(&object, window, slot).await;
            // Nobody may be waiting any more; then the window's pin is dropped with the message.
            let _ = done.send(Some(ended));
        });
        Some(watch)
    }

    async fn fill(&self, object: &Arc<Object>, window: u32, slot: Slot) -> Result<Arc<FillPin>, FillError> {
        let fetched = self.fetch(object, window, slot).await;
        let windowed = object.windowed();
        let ended = match fetched {
            Ok(reservation) => {
                windowed.window(window).publish();
                let pin = Arc::new(FillPin::new(object, window));
                reservation.commit(object, Some(window), object.fingerprint(Some(window)));
                self.counters.fills.add(1);
                Ok(pin)
            }
            Err(error) => {
                windowed.memory.punch(window);
                windowed.window(window).abandon();
                self.counters.fill_failures.add(1);
                Err(error)
            }
        };
        windowed.fills().remove(&window);
        ended
    }

    /// Reads one window into its memory. It counts only if the file is still the version it was opened as: that
    /// version was asked of the store before, on this descriptor, and is asked again after.
    async fn fetch(
        &self,
        object: &Arc<Object>,
        window: u32,
        mut slot: Slot,
    ) -> Result<Reservation, FillError> {
        // Not for ever: by then whoever waited has been answered, and asking for nobody lengthens the queue.
        let granted = tokio::time::timeout(self.store.patience(), slot.granted()).await;
        granted.map_err(|_| FillError::Timeout)?;
        if object.is_superseded() {
            return Err(FillError::Superseded);
        }
        let Windowed { memory, store, .. } = object.windowed();
        let reservation = self.index.reserve(memory.held_bytes(window)).await;
        let offset = memory.offset(window);
        let wanted = usize::try_from(memory.content_bytes(window)).expect("a window fits memory");
        let mapping = memory.map(window).map_err(|error| storage_error(&error))?;
        slot.begin();
        let (read, mapping) = self.store.read(store, mapping, offset, wanted).await;
        drop(mapping);
        let after = statx(Arc::clone(store)).await;
        match Verdict::of(object.version(), wanted, &read, &after) {
            Verdict::Same => Ok(reservation),
            Verdict::Another => {
                object.supersede();
                Err(FillError::Superseded)
            }
            Verdict::Failed(errno) => Err(FillError::Storage(errno)),
        }
    }
}

fn storage_error(error: &io::Error) -> FillError {
    FillError::Storage(error.raw_os_error().unwrap_or(libc::EIO))
}
