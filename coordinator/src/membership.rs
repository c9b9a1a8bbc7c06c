//! Who is in the cluster and how they are: the registry's list, what operators order, and each edge asked by ourselves,
//! become the [`Snapshot`] that routing picks from.
//!
//! Requests only load the snapshot: no lock, no waiting. Everything that builds one happens in tasks of this module.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use rand::RngExt;
use sluice_shared::blocking;
use sluice_shared::cluster::{EdgeId, EdgeRecord, Registry, Weight};
use sluice_shared::keys::KeyRing;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::edge_trust::EdgeTrust;
use crate::metrics::{self, MembershipMetrics};
use crate::orders::{Heeded, OrderList};
use crate::routing::load::LoadReport;
use crate::routing::standing::{News, Trust};
use crate::routing::{Edge, Member, Rings, Snapshot};

mod clock;
mod entrance;
mod health;
mod probe;
mod sources;
mod visits;

pub(crate) use clock::Skew;
use entrance::{Entrance, Visitor};
pub(crate) use entrance::{UrlFault, UrlFaultView};
pub(crate) use health::{Ailment, Answer, Health, State};
use probe::Prober;
use sources::Sources;

/// From one probe of an edge to the next, on the mean; a tenth more or less, so that probes of many coordinators
/// don't fall into step.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_JITTER: std::ops::Range<f64> = 0.9..1.1;

/// From one probe of an edge to the next while callers bring evidence against it, and it answers.
const SUSPECT_EVERY: Duration = Duration::from_millis(100);
/// Evidence that waits to be looked at. What is beyond is dropped: more would follow from an edge that is gone.
const SUSPECTS_MAX: usize = 64;

/// How often loads are added up anew, and it is seen whether what was not believed of the news is old by now.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// The edges, kept up to date.
pub(crate) struct Membership {
    /// What routing's times are counted from.
    start: Instant,
    snapshot: ArcSwap<Snapshot>,
    /// Every edge of the registry. Locked for moments only, and never by a request to the API.
    board: Mutex<BTreeMap<EdgeId, Watched>>,
    /// An edge's state changed.
    news: Notify,
    /// Edges that callers say are gone.
    suspects: mpsc::Sender<EdgeId>,
    /// Every edge of the first list was heard or missed, and the snapshot knows it.
    settled: AtomicBool,
    prober: Prober,
    visitor: Visitor,
    /// What tokens are minted with.
    keys: Arc<ArcSwap<KeyRing>>,
    metrics: MembershipMetrics,
}

/// An edge of the registry, and what its probes came to.
struct Watched {
    edge: Arc<Edge>,
    own_weight: Weight,
    /// By an operator's order.
    is_drained: bool,
    health: Health,
    news: News,
    /// It came with an empty cache then.
    fresh_since: Option<Duration>,
    last_probe: Option<Duration>,
    /// What it said last of itself.
    said: Option<Said>,
    /// Where clients are sent.
    entrance: Entrance,
    /// By the last answer that told.
    skew: Option<Skew>,
    /// Somebody brought evidence against it.
    suspected: Arc<Notify>,
    probes: AbortHandle,
}

/// What an edge said of itself, and when.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) load: probe::Load,
    /// Bytes of bodies a second, between this and what it said before; `None` for the first time of a process.
    pub(crate) rate: Option<f64>,
    at: Instant,
}

#[cfg(test)]
impl Said {
    /// What `/load` would have said, as JSON.
    pub(crate) fn for_test(load: &str, rate: Option<f64>) -> Self {
        let load = serde_json::from_str(load).expect("a load");
        Self { load, rate, at: Instant::now() }
    }
}

/// What the admin page says of an edge.
pub(crate) struct EdgeStatus {
    /// With the weight that is ordered, where one is.
    pub(crate) edge: Arc<Edge>,
    pub(crate) own_weight: Weight,
    pub(crate) health: Health,
    /// How long the last probe took, answered or not.
    pub(crate) last_probe: Option<Duration>,
    /// What it said last of itself.
    pub(crate) said: Option<Said>,
    /// Why clients would not reach it, where that is known.
    pub(crate) url_fault: Option<UrlFault>,
    /// How far its clock is off, by the last answer that told.
    pub(crate) skew: Option<Skew>,
    /// The part of its zone's files that the edge is first candidate of, 0 to 1.
    pub(crate) share: f64,
}

impl Membership {
    /// Follows the registry, and what is ordered of its edges, for as long as the runtime lives.
    pub(crate) fn start(
        registry: &dyn Registry,
        orders: watch::Receiver<OrderList>,
        mut rings: Rings,
        keys: Arc<ArcSwap<KeyRing>>,
        trust: EdgeTrust,
    ) -> Arc<Self> {
        let (suspects, suspected) = mpsc::channel(SUSPECTS_MAX);
        let membership = Arc::new(Self {
            start: Instant::now(),
            snapshot: ArcSwap::from_pointee(rings.snapshot(Vec::new(), Duration::ZERO)),
            board: Mutex::default(),
            news: Notify::new(),
            suspects,
            settled: AtomicBool::new(false),
            prober: Prober::new(),
            visitor: Visitor::new(trust),
            keys,
            metrics: MembershipMetrics::new(),
        });
        let sources = Sources { registry: registry.watch(), orders, suspected };
        tokio::spawn(Arc::clone(&membership).follow(sources, rings));
        tokio::spawn(Arc::clone(&membership).visit_entrances());
        membership
    }

    /// Routing's time.
    pub(crate) fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    /// Routing's time at an instant.
    pub(crate) fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start)
    }

    /// An edge says how loaded it is.
    pub(crate) fn report_load(&self, id: &EdgeId, report: &LoadReport) {
        self.snapshot().report(id, report, self.now());
    }

    /// Somebody could not be served by an edge. That proves nothing, and has it probed at once.
    pub(crate) fn suspect(&self, edge: &str) {
        if let Some(id) = EdgeId::parse(edge) {
            // Full: others said so already, of this one or of many.
            let _ = self.suspects.try_send(id);
        }
    }

    /// The edges now. Hold it for one request, not longer.
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Whether the snapshot is more than the emptiness of the first moment.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Whether an edge is known to serve.
    pub(crate) fn has_live_edge(&self) -> bool {
        !matches!(self.snapshot().trust(), Trust::NobodyUp | Trust::OnlyDraining)
    }

    /// Every edge of the registry, ordered by id.
    pub(crate) fn statuses(&self) -> Vec<EdgeStatus> {
        let snapshot = self.snapshot();
        let shares: BTreeMap<&EdgeId, f64> = snapshot.shares().collect();
        let board = self.board();
        let status = |watched: &Watched| EdgeStatus {
            edge: Arc::clone(&watched.edge),
            own_weight: watched.own_weight,
            health: watched.health.clone(),
            last_probe: watched.last_probe,
            said: watched.said.clone(),
            url_fault: watched.entrance.fault().cloned(),
            skew: watched.skew,
            share: shares.get(&watched.edge.record.id).copied().unwrap_or_default(),
        };
        board.values().map(status).collect()
    }

    fn board(&self) -> MutexGuard<'_, BTreeMap<EdgeId, Watched>> {
        self.board.lock().expect("nobody panics while holding the board")
    }

    async fn follow(self: Arc<Self>, mut sources: Sources, mut rings: Rings) {
        self.relist(&sources.list());
        let (mut has_registry, mut has_orders) = (true, true);
        let mut settle = tokio::time::interval(SETTLE_EVERY);
        settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = sources.registry.changed(), if has_registry => match changed {
                    Ok(()) => self.relist(&sources.list()),
                    // The last list known stands.
                    Err(_) => has_registry = false,
                },
                changed = sources.orders.changed(), if has_orders => match changed {
                    Ok(()) => self.relist(&sources.list()),
                    // There are none to come.
                    Err(_) => has_orders = false,
                },
                () = self.news.notified() => {}
                Some(id) = sources.suspected.recv() => {
                    if let Some(watched) = self.board().get(&id) {
                        watched.suspected.notify_one();
                    }
                    continue;
                }
                _ = settle.tick() => {
                    self.snapshot().settle(self.now());
                    // Only what is not believed of the news changes by time alone.
                    if self.snapshot().trust() != Trust::SuddenSilence {
                        continue;
                    }
                }
            }
            rings = self.rebuild(rings).await;
        }
    }

    /// Brings the board to the list. An edge keeps its health for as long as its admin port is the same.
    fn relist(self: &Arc<Self>, list: &[Heeded]) {
        let mut board = self.board();
        board.retain(|id, watched| {
            let is_it =
                |record: &EdgeRecord| record.id == *id && record.admin_url == watched.edge.record.admin_url;
            let listed = list.iter().any(|listed| is_it(&listed.record));
            if !listed {
                watched.probes.abort();
            }
            listed
        });
        for Heeded { record, own_weight, is_drained } in list {
            let (own_weight, is_drained) = (*own_weight, *is_drained);
            let mut known = board.get_mut(&record.id);
            if let Some(known) = &mut known {
                if known.is_drained != is_drained {
                    tracing::warn!(edge = %record.id, is_drained, "an operator's order about an edge is heeded");
                }
                (known.own_weight, known.is_drained) = (own_weight, is_drained);
                if known.edge.record == *record {
                    continue;
                }
            }
            let load = known.as_ref().map(|known| Arc::clone(&known.edge.load)).unwrap_or_default();
            let edge = Arc::new(Edge { record: record.clone(), picks: metrics::picks(&record.id), load });
            if let Some(known) = known {
                if known.edge.record.url != record.url {
                    known.entrance = Entrance::new(Instant::now());
                }
                known.edge = edge;
                continue;
            }
            let suspected = Arc::<Notify>::default();
            let probes = tokio::spawn(Arc::clone(self).probe(record.clone(), Arc::clone(&suspected)));
            let watched = Watched {
                edge,
                own_weight,
                is_drained,
                health: Health::new(SystemTime::now()),
                news: News { state: State::Unknown, since: self.now(), was_up: false },
                fresh_since: None,
                last_probe: None,
                said: None,
                entrance: Entrance::new(Instant::now()),
                skew: None,
                suspected,
                probes: probes.abort_handle(),
            };
            board.insert(record.id.clone(), watched);
        }
    }

    /// Asks one edge, for ever.
    async fn probe(self: Arc<Self>, record: EdgeRecord, suspected: Arc<Notify>) {
        let questions = probe::Questions::of(&record.admin_url);
        loop {
            let begun = Instant::now();
            let (answer, skew) = self.prober.ask(&questions.ready).await;
            let took = begun.elapsed();
            self.metrics.probed(answer, took);
            let load =
                if answer == Answer::Good { self.prober.load(&questions.load, begun).await } else { None };
            let lacks_key = load.as_ref().is_some_and(|load| load.lacks(&self.keys.load()));
            let judged = if lacks_key { Answer::Degraded(Ailment::Keys) } else { answer };
            self.observe(&record.id, judged, took, skew, load.as_ref().and_then(probe::Load::uptime));
            if let Some(load) = load {
                self.report_load(&record.id, &load.report);
                self.note_load(&record.id, load);
            }
            let pause = PROBE_EVERY.mul_f64(rand::rng().random_range(PROBE_JITTER));
            let rest = pause.saturating_sub(begun.elapsed());
            // Evidence has an edge asked at once. Once it did not answer, it is asked again as often as any other: three
            // misses in a third of a second would be one hiccup of the network, and callers' word would have ejected it.
            let hears_evidence = answer != Answer::Miss;
            if hears_evidence && tokio::time::timeout(rest, suspected.notified()).await.is_ok() {
                tokio::time::sleep(SUSPECT_EVERY.saturating_sub(begun.elapsed())).await;
            } else if !hears_evidence {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// Keeps what an edge said of itself, for operators.
    fn note_load(&self, id: &EdgeId, load: probe::Load) {
        let at = Instant::now();
        if let Some(watched) = self.board().get_mut(id) {
            let rate = watched.said.as_ref().and_then(|before| {
                // Totals that fall are another process's.
                let sent = load.report.body_bytes.checked_sub(before.load.report.body_bytes)?;
                let took = at.saturating_duration_since(before.at).as_secs_f64();
                (took > 0.0).then(|| sent as f64 / took)
            });
            watched.said = Some(Said { load, rate, at });
        }
    }

    /// Takes in an answer; `uptime` is how long the edge says it has been running.
    fn observe(
        &self,
        id: &EdgeId,
        answer: Answer,
        took: Duration,
        skew: Option<Skew>,
        uptime: Option<Duration>,
    ) {
        let mut board = self.board();
        let Some(watched) = board.get_mut(id) else {
            return;
        };
        watched.last_probe = Some(took);
        watched.skew = skew.or(watched.skew);
        let ended = watched.health.observe(answer, SystemTime::now());
        let (state, misses) = (watched.health.state(), watched.health.misses());
        let reason = watched.health.ailment();
        if let Some(ended) = ended {
            watched.turn(ended, self.now(), uptime, self.is_settled());
        }
        drop(board);
        if let Some(ended) = ended {
            let (from, to) = (ended.name(), state.name());
            if state == State::Up {
                tracing::info!(edge = %id, from, to, "edge gets requests");
            } else {
                let remedy = reason.map(Ailment::remedy);
                tracing::warn!(edge = %id, from, to, misses, ?reason, remedy, "edge gets no requests");
            }
            self.news.notify_one();
        }
    }

    /// Takes a new snapshot, on a thread that may be long.
    async fn rebuild(&self, mut rings: Rings) -> Rings {
        let (members, all_judged) = {
            let board = self.board();
            let members: Vec<_> = board.values().map(Watched::member).collect();
            let all_judged = board.values().all(|watched| watched.news.state != State::Unknown);
            (members, all_judged)
        };
        let (begun, now) = (Instant::now(), self.now());
        let build = move || {
            let snapshot = rings.snapshot(members, now);
            (rings, snapshot)
        };
        let (rings, snapshot) = blocking::run(build).await;
        let (open, trust) = (snapshot.open(), snapshot.trust());
        let before = self.snapshot.swap(Arc::new(snapshot));
        self.metrics.rebuilt(begun.elapsed());
        if before.trust() != trust {
            tracing::info!(?trust, "what is believed of the edges' states changed");
        }
        if before.open() != open {
            tracing::info!(edges = open, "live edges changed");
        }
        if all_judged {
            self.settled.store(true, Ordering::Release);
        }
        rings
    }
}

impl Watched {
    /// What is ordered of an edge counts like its own word: whoever drains all of them does not mean nobody.
    fn member(&self) -> Member {
        let state = if self.is_drained { State::Draining } else { self.news.state };
        let news = News { state, ..self.news };
        Member { edge: Arc::clone(&self.edge), news, fresh_since: self.fresh_since }
    }

    /// Its state has changed. One that comes up has an empty cache where it was started since it was last up, or does
    /// not say; those that were there before this coordinator are taken to have full ones.
    fn turn(&mut self, ended: State, now: Duration, uptime: Option<Duration>, is_settled: bool) {
        let state = self.health.state();
        if state == State::Up {
            let away = now.saturating_sub(self.news.since);
            let is_new = ended != State::Degraded && uptime.is_none_or(|uptime| uptime <= away + PROBE_EVERY);
            self.fresh_since = (is_settled && is_new).then_some(now);
        }
        self.news = News { state, since: now, was_up: ended == State::Up };
    }
}
