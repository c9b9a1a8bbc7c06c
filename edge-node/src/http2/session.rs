//! What the streams of one connection share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{STREAMS_MAX, UNSENT_BYTES_MAX};
use crate::limits::{AddressPlace, Pace};
use crate::worker::Worker;

/// Streams that a client may reset before their answers are whole, in each span. Browsers reset a few as pages are left,
/// and players as they seek; each costs the edge a request.
const RESETS_MAX: u32 = 200;
const RESETS_SPAN: Duration = Duration::from_secs(10);

pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) place: AddressPlace,
    /// What the connection has had of its rate.
    pub(super) pace: Cell<Pace>,
    /// Room for copies that the socket has yet to take, in bytes.
    pub(super) room: Arc<Semaphore>,
    open: Cell<usize>,
    had_request: Cell<bool>,
    resets: Cell<u32>,
    resets_since: Cell<Instant>,
    waker: RefCell<Option<Waker>>,
}

impl Session {
    pub(super) fn new(worker: Rc<Worker>, place: AddressPlace) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            worker,
            place,
            pace: Cell::new(Pace::new(now)),
            room: Arc::new(Semaphore::new(UNSENT_BYTES_MAX as usize)),
            open: Cell::new(0),
            had_request: Cell::new(false),
            resets: Cell::new(0),
            resets_since: Cell::new(now),
            waker: RefCell::default(),
        })
    }

    pub(super) fn open_stream(&self) {
        self.had_request.set(true);
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn close_stream(&self) {
        self.open.set(self.open.get() - 1);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn has_open_streams(&self) -> bool {
        self.open.get() > 0
    }

    /// Those that a client has reset count until their tasks have ended.
    pub(super) fn is_full(&self) -> bool {
        self.open.get() >= STREAMS_MAX as usize
    }

    /// Bytes of copies that the socket has yet to take.
    pub(super) fn unsent_bytes(&self) -> u64 {
        (UNSENT_BYTES_MAX as usize - self.room.available_permits()) as u64
    }

    pub(super) fn had_request(&self) -> bool {
        self.had_request.get()
    }

    /// The client is told to ask for nothing more once it has asked again: as over HTTP/1.
    pub(super) fn is_closing(&self) -> bool {
        self.had_request.get() && self.worker.is_draining()
    }

    /// Notes that the client has taken a request back.
    pub(super) fn note_reset(&self) {
        let now = Instant::now();
        if now - self.resets_since.get() > RESETS_SPAN {
            self.resets_since.set(now);
            self.resets.set(0);
        }
        self.resets.set(self.resets.get() + 1);
    }

    pub(super) fn is_abused(&self) -> bool {
        self.resets.get() > RESETS_MAX
    }

    /// Notes the connection's task, to wake as streams end.
    pub(super) fn belongs_to(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}
