//! A worker: one thread, one runtime, its listeners, and what its connections share. Nothing of it is shared with
//! another worker but what is read.

mod pool;
mod receive_buffer;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use sluice_shared::client_net;
use sluice_shared::client_source::ClientSource;
use sluice_shared::cluster::EdgeId;
use sluice_shared::handover::Listener;
use sluice_shared::keys::KeyRing;
use sluice_shared::revocations::{self, RevocationBook};
use sluice_shared::serve::Handshakes;
use sluice_shared::token::Scratch;
use sluice_shared::units::BaseUrl;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::config::Limits;
use crate::connection::Connection;
use crate::cors::Cors;
use crate::drain::Phase;
use crate::head::{DateCache, Envelope, Persistence};
use crate::limits::{AddressPlace, Addresses, Deadlines, SWEEP_EVERY, Tokens, Waiting};
use crate::logs::{AccessLog, Meters, UsageRecord, WorkerLog};
use crate::metrics::WorkerMetrics;
use crate::reject::Reject;
use crate::resolve::Resolver;
use crate::send::Bundles;
use crate::tls::{Arrival, Tls};
use crate::transfers::Transfers;
pub(crate) use pool::{Lent, Pool, Reusable};
pub(crate) use receive_buffer::Buffer;
use receive_buffer::ReceiveBuffer;

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
    pub(crate) cors: Cors,
    pub(crate) tls: Option<Tls>,
    pub(crate) keys: Arc<ArcSwap<KeyRing>>,
    pub(crate) revocations: Arc<RevocationBook>,
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
    pub(crate) transfers: Rc<Transfers>,
    pub(crate) date: RefCell<DateCache>,
    pub(crate) buffers: Pool<ReceiveBuffer>,
    pub(crate) outs: Pool<Vec<u8>>,
    pub(crate) bundles: Bundles,
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
            transfers: Rc::default(),
            date: RefCell::new(DateCache::new()),
            buffers: Pool::default(),
            outs: Pool::default(),
            bundles: Bundles::default(),
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
        self.keys.load()
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

    /// Accepts until the edge refuses requests, or a successor accepts; then closes the listener. What is queued on it is
    /// taken first where nobody else has the socket.
    pub(crate) async fn accept(self: Rc<Self>, listener: Listener) {
        let is_kept = listener.is_kept;
        let handshakes = self.tls.as_ref().filter(|tls| tls.role == listener.role);
        let handshakes = handshakes.map(|tls| tls.handshakes.clone());
        let listener = TcpListener::from_std(listener.socket).expect("a listener fits the reactor");
        let mut phase = self.phase.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = phase.wait_for(|phase| phase.is_past_accepting()) => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, handshakes.as_ref()),
                Err(error) => {
                    // A connection that was reset in the queue, or no descriptor left: others end and free some.
                    tracing::warn!(edge = %self.id, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        self.seen_phase.set(*self.phase.borrow());
        if is_kept || self.seen_phase.get() == Phase::HandedOver {
            return;
        }
        // Straight from the kernel: the runtime's view of the listener may lag behind it.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.admit(stream, peer, handshakes.as_ref());
            }
        }
    }

    /// Takes a connection in, or turns it away. It begins with a handshake where it is to be TLS.
    fn admit(self: &Rc<Self>, stream: TcpStream, address: SocketAddr, handshakes: Option<&Handshakes>) {
        let peer = client_net::normalise(address.ip());
        let arriving = Arriving { stream, address, handshakes };
        if let ClientSource::ProxyProtocol(proxies) = &self.clients
            && !proxies.contains(peer)
        {
            self.metrics.refused_proxy.add_alone(1);
            tracing::info!(edge = %self.id, %peer, reason = "not from one of `trusted_proxies`", "connection refused");
            return;
        }
        let _ = arriving.stream.set_nodelay(true);
        if self.metrics.connections.value() >= self.connections_max {
            self.metrics.refused_full.add_alone(1);
            return self.turn_away(arriving, peer, Reject::Full);
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
                    return self.turn_away(arriving, peer, Reject::FullForAddress);
                }
            },
        };
        self.metrics.connections_total.add_alone(1);
        self.metrics.connections.add(1);
        match arriving.begin(place, self) {
            Begun::Plain(connection) => drop(tokio_uring::spawn(connection.serve())),
            Begun::Tls(arrival) => drop(tokio_uring::spawn(arrival.serve())),
        }
    }

    /// A word to a client that has no place; as many as may be have theirs once their request is known.
    fn turn_away(self: &Rc<Self>, arriving: Arriving<'_>, client: IpAddr, reject: Reject) {
        if self.turned_away.get() >= TURNED_AWAY_MAX {
            if arriving.handshakes.is_none() {
                self.refuse_place(&arriving.stream, reject);
            }
            return;
        }
        self.turned_away.set(self.turned_away.get() + 1);
        let worker = Rc::clone(self);
        let is_told = match (&worker.clients, arriving.handshakes) {
            // Before the request there is a header, and no telling whether its client has a place.
            (ClientSource::ProxyProtocol(_), None) => worker.refuse_place(&arriving.stream, reject),
            _ => false,
        };
        let begun = arriving.begin(AddressPlace::uncounted(client), self);
        tokio_uring::spawn(async move {
            match begun {
                Begun::Plain(connection) if is_told => connection.see_off().await,
                Begun::Plain(connection) => connection.turn_away(reject).await,
                // Whose connection it is would have to be read first.
                Begun::Tls(_) if matches!(worker.clients, ClientSource::ProxyProtocol(_)) => {}
                Begun::Tls(arrival) => arrival.turn_away(reject).await,
            }
            worker.turned_away.set(worker.turned_away.get() - 1);
        });
    }

    /// Tells a client why it has no place; says whether all of that was sent.
    pub(crate) fn refuse_place(&self, stream: &TcpStream, reject: Reject) -> bool {
        let mut out = self.outs.take();
        let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        let (date, cors) = (date.at(secs), self.cors.fields(None));
        reject.write(&self.id, &Envelope { date, persistence: Persistence::Close, cors }, true, &mut out);
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
            let (is_leaving, is_short) = (self.seen_phase.get() >= Phase::Leaving, self.cache.is_short());
            self.deadlines.sweep(Instant::now(), |waiting, waited| match waiting {
                Waiting::Idle => is_leaving,
                // What a client does not take stays in memory; where that is short, the slowest have to go.
                Waiting::Send => is_short && waited >= STALLED_WHEN_SHORT,
                Waiting::First | Waiting::Head | Waiting::Room | Waiting::Linger => false,
            });
            if self.is_over() {
                self.deadlines.wake_all();
                // Those that are cut are logged yet.
                tokio::task::yield_now().await;
            }
            let changes = self.revocations.change_count();
            self.transfers.end_barred(changes, &self.revocations.load(), revocations::Instant::now());
            if let Some(log) = &self.access_log {
                log.hand_over();
            }
            if let Some(meters) = &self.meters {
                meters.hand_over(SystemTime::now());
            }
        }
    }
}

/// A connection that has just been accepted.
struct Arriving<'w> {
    stream: TcpStream,
    address: SocketAddr,
    handshakes: Option<&'w Handshakes>,
}

/// A connection that has been given its place.
enum Begun {
    Plain(Box<Connection<TcpStream>>),
    Tls(Box<Arrival>),
}

impl Arriving<'_> {
    fn begin(self, place: AddressPlace, worker: &Rc<Worker>) -> Begun {
        let Self { stream, address: peer, handshakes } = self;
        let worker = Rc::clone(worker);
        match handshakes.cloned() {
            None => Begun::Plain(Connection::new(stream, place, worker)),
            Some(handshakes) => Begun::Tls(Box::new(Arrival { stream, peer, place, worker, handshakes })),
        }
    }
}
