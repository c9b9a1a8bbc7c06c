//! A worker: one thread, one runtime, one listener, and what its connections share. Nothing of it is shared with
//! another worker but what is read.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::Guard;
use sluice_shared::client_net;
use sluice_shared::client_source::ClientSource;
use sluice_shared::cluster::EdgeId;
use sluice_shared::keys::{KeyFile, KeyRing};
use sluice_shared::token::Scratch;
use sluice_shared::units::BaseUrl;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::config::Limits;
use crate::connection::Connection;
use crate::drain::Phase;
use crate::head::DateCache;
use crate::head::Persistence;
use crate::limits::{AddressPlace, Addresses, Deadlines, SWEEP_EVERY, Tokens, Waiting};
use crate::logs::{AccessLog, Meters, UsageRecord, WorkerLog};
use crate::metrics::WorkerMetrics;
use crate::reject::Reject;
use crate::request::HEAD_BYTES_MAX;
use crate::resolve::Resolver;

/// Received bytes: a head, and what came with it.
const BUFFER_BYTES: usize = HEAD_BYTES_MAX + 4096;
/// Idle buffers kept, of each kind.
const POOL_MAX: usize = 256;
/// Connections that are turned away at a time and told so in peace; more are closed at once.
const TURNED_AWAY_MAX: usize = 64;
/// While nothing in the cache can be evicted, a client that takes nothing for so long is cut.
const STALLED_WHEN_SHORT: Duration = Duration::from_secs(2);

/// What all workers are given.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) id: EdgeId,
    pub(crate) limits: Limits,
    pub(crate) clients: ClientSource,
    pub(crate) coordinators: Vec<BaseUrl>,
    pub(crate) key_file: Arc<KeyFile>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    pub(crate) usage: Option<Arc<UsageRecord>>,
}

/// What a worker's connections share.
pub(crate) struct Worker {
    pub(crate) process: Process,
    pub(crate) resolver: Resolver,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) date: RefCell<DateCache>,
    pub(crate) buffers: Pool<ReceiveBuffer>,
    pub(crate) outs: Pool<Vec<u8>>,
    pub(crate) scratches: Pool<Scratch>,
    pub(crate) access_log: Option<WorkerLog>,
    pub(crate) meters: Option<Meters>,
    /// This worker's even share of the process's limit.
    connections_max: u64,
    /// Connections that are being turned away, and not counted among those.
    turned_away: Cell<usize>,
    /// The phase as of the last turn of the sweep.
    seen_phase: Cell<Phase>,
}

impl Deref for Worker {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Worker {
    pub(crate) fn new(
        process: Process,
        connections_max: usize,
        resolver: Resolver,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        let access_log = process.access_log.clone();
        let usage = process.usage.clone();
        Self {
            resolver,
            metrics,
            deadlines: Rc::default(),
            date: RefCell::new(DateCache::new()),
            buffers: Pool::default(),
            outs: Pool::default(),
            scratches: Pool::default(),
            access_log: access_log.map(|log| WorkerLog::new(log, process.id.as_str())),
            meters: usage.map(Meters::new),
            connections_max: connections_max as u64,
            turned_away: Cell::new(0),
            seen_phase: Cell::new(Phase::Serving),
            process,
        }
    }

    pub(crate) fn keys(&self) -> Guard<Arc<KeyRing>> {
        self.key_file.ring().load()
    }

    /// Connections are no longer kept.
    pub(crate) fn is_draining(&self) -> bool {
        self.seen_phase.get() != Phase::Serving
    }

    /// New requests are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.seen_phase.get() >= Phase::Refusing
    }

    /// Connections are cut.
    pub(crate) fn is_over(&self) -> bool {
        self.seen_phase.get() == Phase::Over
    }

    /// Accepts until the edge refuses requests, then closes the listener, having taken what was queued on it.
    pub(crate) async fn accept(self: Rc<Self>, listener: TcpListener) {
        let mut phase = self.phase.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = phase.wait_for(|phase| *phase >= Phase::Refusing) => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip()),
                Err(error) => {
                    // A connection that was reset in the queue, or no descriptor left: others end and free some.
                    tracing::warn!(edge = %self.id, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        self.seen_phase.set(Phase::Refusing);
        // Straight from the kernel: the runtime's view of the listener may lag behind it.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.admit(stream, peer.ip());
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: IpAddr) {
        let peer = client_net::normalise(peer);
        if let ClientSource::ProxyProtocol(proxies) = &self.clients
            && !proxies.contains(peer)
        {
            self.metrics.refused_proxy.add_alone(1);
            tracing::info!(edge = %self.id, %peer, reason = "not from one of `trusted_proxies`", "connection refused");
            return;
        }
        let _ = stream.set_nodelay(true);
        if self.metrics.connections.value() >= self.connections_max {
            self.metrics.refused_full.add_alone(1);
            return self.turn_away(stream, peer, Reject::Full);
        }
        let place = match &self.clients {
            // Counted once the proxy has said whom it is for.
            ClientSource::ProxyProtocol(_) => AddressPlace::uncounted(peer),
            // Of many clients, request by request.
            ClientSource::Forwarded(proxies) if proxies.contains(peer) => AddressPlace::uncounted(peer),
            ClientSource::Connection | ClientSource::Forwarded(_) => match self.addresses.admit(peer) {
                Some(place) => place,
                None => {
                    self.metrics.refused_address.add_alone(1);
                    return self.turn_away(stream, peer, Reject::FullForAddress);
                }
            },
        };
        self.metrics.connections_total.add_alone(1);
        self.metrics.connections.add(1);
        tokio_uring::spawn(Connection::new(stream, place, Rc::clone(self)).serve());
    }

    /// A word to a client that has no place, without waiting for its request.
    fn turn_away(self: &Rc<Self>, stream: TcpStream, client: IpAddr, reject: Reject) {
        let is_said = self.refuse_place(&stream, reject);
        // Closed at once, a request that is on its way would reset the connection before the client has read.
        if is_said && self.turned_away.get() < TURNED_AWAY_MAX {
            self.turned_away.set(self.turned_away.get() + 1);
            let (worker, place) = (Rc::clone(self), AddressPlace::uncounted(client));
            tokio_uring::spawn(async move {
                Connection::new(stream, place, Rc::clone(&worker)).see_off().await;
                worker.turned_away.set(worker.turned_away.get() - 1);
            });
        }
    }

    /// Tells a client why it has no place; says whether all of that was sent.
    pub(crate) fn refuse_place(&self, stream: &TcpStream, reject: Reject) -> bool {
        let mut out = self.outs.take();
        let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        reject.write(self.date.borrow_mut().at(secs), Persistence::Close, true, &mut out);
        self.metrics.request(reject.status().as_u16());
        stream.try_write(&out).is_ok_and(|count| count == out.len())
    }

    /// Ends late waits and hands logs over, for ever.
    pub(crate) async fn sweep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.seen_phase.set(*self.phase.borrow());
            let (is_draining, is_short) = (self.is_draining(), self.cache.is_short());
            self.deadlines.sweep(Instant::now(), |waiting, waited| match waiting {
                Waiting::Idle => is_draining,
                // What a client does not take stays in memory; where that is short, the slowest have to go.
                Waiting::Send => is_short && waited >= STALLED_WHEN_SHORT,
                Waiting::First | Waiting::Head | Waiting::Linger => false,
            });
            if self.is_over() {
                self.deadlines.wake_all();
                // Those that are cut are logged yet.
                tokio::task::yield_now().await;
            }
            if let Some(log) = &self.access_log {
                log.hand_over();
            }
            if let Some(meters) = &self.meters {
                meters.hand_over(SystemTime::now());
            }
        }
    }
}

/// What can be lent again: nothing of one use is left for the next.
pub(crate) trait Reusable: Default {
    fn reset(&mut self);
}

impl Reusable for Vec<u8> {
    fn reset(&mut self) {
        self.clear();
    }
}

impl Reusable for Scratch {
    /// Opening a token writes over all that it then reads.
    fn reset(&mut self) {}
}

/// Things that are lent and come back, so that a request allocates none.
pub(crate) struct Pool<T>(Rc<RefCell<Vec<T>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T: Reusable> Pool<T> {
    pub(crate) fn take(&self) -> Lent<T> {
        let thing = self.0.borrow_mut().pop().unwrap_or_default();
        Lent { thing: Some(thing), pool: Rc::clone(&self.0) }
    }
}

/// A lent thing; it goes back when dropped.
pub(crate) struct Lent<T: Reusable> {
    thing: Option<T>,
    pool: Rc<RefCell<Vec<T>>>,
}

impl<T: Reusable> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("there until dropped")
    }
}

impl<T: Reusable> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("there until dropped")
    }
}

impl<T: Reusable> Drop for Lent<T> {
    fn drop(&mut self) {
        let mut pool = self.pool.borrow_mut();
        if pool.len() < POOL_MAX
            && let Some(mut thing) = self.thing.take()
        {
            thing.reset();
            pool.push(thing);
        }
    }
}

/// Bytes as they were received. What is consumed at the front makes room when the buffer is next read into.
pub(crate) struct ReceiveBuffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A lent receive buffer; it comes empty.
pub(crate) type Buffer = Lent<ReceiveBuffer>;

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self { memory: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 }
    }
}

impl Reusable for ReceiveBuffer {
    fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
    }
}

impl ReceiveBuffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Room to read into.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.memory[self.end..]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.reset();
        }
    }

    /// RFC 9112 §2.2: empty lines before a request line are ignored.
    pub(crate) fn skip_empty_lines(&mut self) {
        while self.bytes().starts_with(b"\r\n") {
            self.consume(2);
        }
    }
}
