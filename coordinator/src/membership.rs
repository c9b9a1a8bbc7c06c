//! Who is in the cluster and who of them gets requests: the registry's list, and each edge asked by ourselves, become
//! the [`Snapshot`] that routing picks from.
//!
//! Requests only load the snapshot: no lock, no waiting. Everything that builds one happens in tasks of this module.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use rand::RngExt;
use sluice_shared::cluster::{EdgeId, EdgeList, EdgeRecord, Registry};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::metrics::{self, MembershipMetrics};
use crate::routing::ring::Ring;
use crate::routing::{Edge, Snapshot};

mod health;
mod probe;

pub(crate) use health::{Answer, Health, State};
use probe::Prober;

/// From one probe of an edge to the next, on the mean; a tenth more or less, so that probes of many coordinators
/// don't fall into step.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_JITTER: std::ops::Range<f64> = 0.9..1.1;

/// The live edges, kept up to date.
pub(crate) struct Membership {
    snapshot: ArcSwap<Snapshot>,
    /// Every edge of the registry. Locked for moments only, and never by a request to the API.
    board: Mutex<BTreeMap<EdgeId, Watched>>,
    /// An edge's state changed.
    news: Notify,
    /// Every edge of the first list was heard or missed, and the snapshot knows it.
    settled: AtomicBool,
    prober: Prober,
    metrics: MembershipMetrics,
}

/// An edge of the registry, and what its probes came to.
struct Watched {
    edge: Arc<Edge>,
    health: Health,
    last_probe: Option<Duration>,
    probes: AbortHandle,
}

/// What the admin page says of an edge.
pub(crate) struct EdgeStatus {
    pub(crate) edge: Arc<Edge>,
    pub(crate) health: Health,
    /// How long the last probe took, answered or not.
    pub(crate) last_probe: Option<Duration>,
    /// The part of all files that the edge is first candidate of, 0 to 1.
    pub(crate) share: f64,
}

impl Membership {
    /// Follows the registry for as long as the runtime lives.
    pub(crate) fn start(registry: &dyn Registry) -> Arc<Self> {
        let membership = Arc::new(Self {
            snapshot: ArcSwap::default(),
            board: Mutex::default(),
            news: Notify::new(),
            settled: AtomicBool::new(false),
            prober: Prober::new(),
            metrics: MembershipMetrics::new(),
        });
        tokio::spawn(Arc::clone(&membership).follow(registry.watch()));
        membership
    }

    /// The live edges now. Hold it for one request, not longer.
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Whether the snapshot is more than the emptiness of the first moment.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Every edge of the registry, ordered by id.
    pub(crate) fn statuses(&self) -> Vec<EdgeStatus> {
        let snapshot = self.snapshot();
        let board = self.board();
        let status = |watched: &Watched| EdgeStatus {
            edge: Arc::clone(&watched.edge),
            health: watched.health.clone(),
            last_probe: watched.last_probe,
            share: snapshot.share(&watched.edge.record.id),
        };
        board.values().map(status).collect()
    }

    fn board(&self) -> MutexGuard<'_, BTreeMap<EdgeId, Watched>> {
        self.board.lock().expect("nobody panics while holding the board")
    }

    async fn follow(self: Arc<Self>, mut registry: watch::Receiver<EdgeList>) {
        let mut ring = Ring::default();
        let first = registry.borrow_and_update().clone();
        self.relist(&first);
        let mut has_registry = true;
        loop {
            tokio::select! {
                changed = registry.changed(), if has_registry => match changed {
                    Ok(()) => {
                        let list = registry.borrow_and_update().clone();
                        self.relist(&list);
                    }
                    // The last list known stands.
                    Err(_) => has_registry = false,
                },
                () = self.news.notified() => {}
            }
            ring = self.rebuild(ring).await;
        }
    }

    /// Brings the board to the registry's list. An edge keeps its health for as long as its admin port is the same.
    fn relist(self: &Arc<Self>, list: &[EdgeRecord]) {
        let mut board = self.board();
        board.retain(|id, watched| {
            let listed = list
                .iter()
                .any(|record| record.id == *id && record.admin_url == watched.edge.record.admin_url);
            if !listed {
                watched.probes.abort();
            }
            listed
        });
        for record in list {
            let known = board.get_mut(&record.id);
            if known.as_ref().is_some_and(|known| known.edge.record == *record) {
                continue;
            }
            let edge = Arc::new(Edge { record: record.clone(), picks: metrics::picks(&record.id) });
            if let Some(known) = known {
                known.edge = edge;
                continue;
            }
            let probes = tokio::spawn(Arc::clone(self).probe(record.clone()));
            let watched = Watched {
                edge,
                health: Health::new(SystemTime::now()),
                last_probe: None,
                probes: probes.abort_handle(),
            };
            board.insert(record.id.clone(), watched);
        }
    }

    /// Asks one edge, for ever.
    async fn probe(self: Arc<Self>, record: EdgeRecord) {
        let question = probe::question(&record.admin_url);
        loop {
            let begun = Instant::now();
            let answer = self.prober.ask(&question).await;
            let took = begun.elapsed();
            self.metrics.probed(answer, took);
            self.observe(&record.id, answer, took);
            let pause = PROBE_EVERY.mul_f64(rand::rng().random_range(PROBE_JITTER));
            tokio::time::sleep(pause.saturating_sub(took)).await;
        }
    }

    fn observe(&self, id: &EdgeId, answer: Answer, took: Duration) {
        let mut board = self.board();
        let Some(watched) = board.get_mut(id) else {
            return;
        };
        watched.last_probe = Some(took);
        let ended = watched.health.observe(answer, SystemTime::now());
        let (state, misses) = (watched.health.state(), watched.health.misses());
        drop(board);
        if let Some(ended) = ended {
            let (from, to) = (ended.name(), state.name());
            if state == State::Up {
                tracing::info!(edge = %id, from, to, "edge gets requests");
            } else {
                tracing::warn!(edge = %id, from, to, misses, "edge gets no requests");
            }
            self.news.notify_one();
        }
    }

    /// Takes a new snapshot where the live edges are others than the last one's, on a thread that may be long.
    async fn rebuild(&self, ring: Ring) -> Ring {
        let (live, all_judged) = {
            let board = self.board();
            let in_state = |state| {
                let edges = board.values().filter(move |watched| watched.health.state() == state);
                edges.map(|watched| Arc::clone(&watched.edge)).collect::<Vec<_>>()
            };
            // Where the store is gone for all of them, what they have cached is still there to be had.
            let up = in_state(State::Up);
            let live = if up.is_empty() { in_state(State::Degraded) } else { up };
            let judged = |watched: &Watched| watched.health.state() != State::Unknown;
            (live, board.values().all(judged))
        };
        let mut ring = ring;
        if !is_same(&live, self.snapshot().edges()) {
            let begun = Instant::now();
            let built = tokio::task::spawn_blocking(move || {
                let snapshot = Snapshot::build(&mut ring, live);
                (ring, snapshot)
            });
            let snapshot;
            (ring, snapshot) = built.await.expect("building a ring does not panic");
            tracing::info!(edges = snapshot.edges().len(), "live edges changed");
            self.snapshot.store(Arc::new(snapshot));
            self.metrics.rebuilt(begun.elapsed());
        }
        if all_judged {
            self.settled.store(true, Ordering::Release);
        }
        ring
    }
}

/// Both ordered by id.
fn is_same(live: &[Arc<Edge>], known: &[Arc<Edge>]) -> bool {
    live.len() == known.len() && live.iter().zip(known).all(|(a, b)| Arc::ptr_eq(a, b))
}
