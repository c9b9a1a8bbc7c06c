//! One moment of the cluster, as the page shows it: put together from what is known anyway. Its size has a bound, whatever
//! the number of edges; names that others chose are cut.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sluice_shared::admin::Probed;
use sluice_shared::cluster::announcement::Announcement;
use sluice_shared::cluster::{EdgeId, Registry};
use sluice_shared::etcd::Etcd;
use sluice_shared::findings::Finding;
use tokio::time::timeout;

use super::findings;
use super::watchers::{Source, TICK};
use crate::admin_keys;
use crate::admin_status::{EtcdView, StateView};
use crate::error::Refusals;
use crate::keys::Keys;
use crate::membership::{Ailment, EdgeStatus, Membership, State as EdgeState, UrlFaultView};
use crate::orders::{Order, OrderList, Orders, heed};
use crate::peers::{self, CoordinatorRecord};
use crate::popular::Popular;
use crate::routing::hot::HotFiles;
use crate::state::State;

/// Edges that are shown each for itself. Of more, those that ail come first, then those with the most to do; the others are
/// in the sums.
const EDGES_SHOWN_MAX: usize = 200;
const COORDINATORS_SHOWN_MAX: usize = 32;
const KEYS_SHOWN_MAX: usize = 32;
const HOT_FILES_SHOWN: usize = 8;
/// Of a text that an edge or a coordinator says of itself.
const TEXT_CHARS_MAX: usize = 80;

/// How often etcd is asked who the coordinators are, while somebody watches.
const LIST_EVERY: Duration = Duration::from_secs(10);
const LIST_WITHIN: Duration = Duration::from_secs(3);

/// What is looked at.
pub(crate) struct Sources {
    pub(crate) id: String,
    pub(crate) started: Instant,
    pub(crate) probed: Arc<dyn Probed>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) orders: Option<Arc<Orders>>,
    pub(crate) etcd: Option<Etcd>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) hot: Arc<HotFiles>,
    pub(crate) popular: Arc<Popular>,
    pub(crate) refusals: Arc<Refusals>,
}

/// Makes snapshots of it.
pub(super) struct Observatory(Arc<Looking>);

struct Looking {
    sources: Sources,
    peers: Mutex<KnownPeers>,
}

/// The coordinators, as etcd told last.
#[derive(Default)]
struct KnownPeers {
    asked: Option<Instant>,
    /// `None` before there was an answer, and where the last question had none.
    told: Option<Vec<CoordinatorRecord>>,
}

impl Observatory {
    pub(super) fn new(sources: Sources) -> Self {
        Self(Arc::new(Looking { sources, peers: Mutex::default() }))
    }
}

impl Source for Observatory {
    /// No thread that serves calls is held up by it: with thousands of edges it takes milliseconds.
    async fn snapshot(&self) -> Vec<u8> {
        self.0.refresh_peers();
        let looking = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || looking.look());
        made.await.expect("looking does not panic, and the runtime is not ending")
    }
}

impl Looking {
    /// Has etcd asked, where that was long ago; nobody waits for its answer.
    fn refresh_peers(self: &Arc<Self>) {
        let Some(etcd) = self.sources.etcd.clone() else { return };
        let now = Instant::now();
        let mut peers = self.peers();
        if peers.asked.is_some_and(|asked| now - asked < LIST_EVERY) {
            return;
        }
        peers.asked = Some(now);
        drop(peers);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let told = timeout(LIST_WITHIN, peers::list(&etcd)).await.ok().and_then(Result::ok);
            this.peers().told = told;
        });
    }

    fn peers(&self) -> MutexGuard<'_, KnownPeers> {
        self.peers.lock().expect("nobody panics while holding peers")
    }

    fn look(&self) -> Vec<u8> {
        let sources = &self.sources;
        let now = sources.membership.now();
        sources.popular.look(now);
        let statuses = sources.membership.statuses();
        let announced = sources.registry.announced();
        let orders = sources.orders.as_ref().map(|orders| orders.list()).unwrap_or_default();
        let (unready, notes) = (sources.probed.unready(), sources.probed.notes());
        let (edges, totals) = edges(&statuses, &announced, &orders);
        let coordinators = self.peers().told.as_deref().map(coordinators);
        let snapshot = Snapshot {
            at: unix_millis(SystemTime::now()),
            tick_ms: u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX),
            findings: findings::of_cluster(&unready, &notes, &statuses, self.skipped(&orders)),
            coordinator: Coordinator {
                id: &sources.id,
                version: env!("CARGO_PKG_VERSION"),
                instance: sources.probed.instance(),
                uptime_seconds: sources.started.elapsed().as_secs(),
                ready: unready.is_empty(),
            },
            coordinators,
            etcd: sources.etcd.as_ref().map(|_| self.etcd()),
            state: StateView {
                kind: if sources.state.own_id().is_some() { "embedded" } else { "redis" },
                well: sources.state.is_well(),
            },
            keys: self.keys(),
            totals,
            edges,
            refusals: sources.refusals.counted().collect(),
            hot: self.hot_files(now),
        };
        serde_json::to_vec(&snapshot).expect("texts and numbers are JSON")
    }

    fn skipped(&self, orders: &OrderList) -> usize {
        let of_orders = self.sources.orders.as_ref().map_or(0, |orders| orders.skipped().len());
        let not_heeded = heed(&self.sources.registry.watch().borrow(), orders).1.len();
        self.sources.registry.skipped().len() + of_orders + not_heeded
    }

    fn etcd(&self) -> EtcdView {
        let freshness = self.sources.registry.freshness();
        let has_told = self.peers().told.is_some();
        EtcdView {
            reached: freshness.map_or(has_told, |fresh| fresh.is_reached),
            stale_seconds: freshness
                .and_then(|fresh| fresh.staleness)
                .map(|stale| (stale.as_secs_f64() * 10.0).round() / 10.0),
        }
    }

    fn keys(&self) -> Vec<KeyView> {
        let told = admin_keys::listed(&self.sources.keys).into_iter().take(KEYS_SHOWN_MAX);
        let millis = |at: Option<sluice_shared::revocations::Instant>| at.map(|at| at.0);
        told.map(|key| KeyView {
            kid: shortened(&key.kid),
            kind: key.kind,
            state: key.state,
            created: millis(key.created),
            current_since: millis(key.current_since),
        })
        .collect()
    }

    fn hot_files(&self, now: Duration) -> Vec<HotFile> {
        let files = self.sources.popular.list(HOT_FILES_SHOWN, &self.sources.hot, now);
        let shown = |file: crate::popular::PopularFile| HotFile {
            tag: file.tag,
            rate: (file.rate * 10.0).round() / 10.0,
            edges: file.edges,
        };
        files.into_iter().map(shown).collect()
    }
}

#[derive(Serialize)]
struct Snapshot<'a> {
    /// Of this coordinator's clock, in milliseconds since 1970, as all times here.
    at: u64,
    tick_ms: u64,
    findings: Vec<Finding>,
    coordinator: Coordinator<'a>,
    /// Null without an etcd, while it is away, and before it has answered.
    coordinators: Option<Vec<CoordinatorView>>,
    etcd: Option<EtcdView>,
    state: StateView,
    keys: Vec<KeyView>,
    totals: Totals,
    edges: Vec<EdgeView>,
    /// Calls that were refused since the start, by reason.
    refusals: BTreeMap<&'static str, u64>,
    hot: Vec<HotFile>,
}

#[derive(Serialize)]
struct Coordinator<'a> {
    id: &'a str,
    version: &'static str,
    instance: &'a str,
    uptime_seconds: u64,
    ready: bool,
}

#[derive(Serialize)]
struct CoordinatorView {
    id: String,
    url: String,
    state: String,
    version: String,
}

fn coordinators(records: &[CoordinatorRecord]) -> Vec<CoordinatorView> {
    let view = |record: &CoordinatorRecord| CoordinatorView {
        id: shortened(&record.id),
        url: shortened(&record.url),
        state: shortened(&record.state),
        version: shortened(&record.version),
    };
    records.iter().take(COORDINATORS_SHOWN_MAX).map(view).collect()
}

#[derive(Serialize)]
struct KeyView {
    kid: String,
    kind: &'static str,
    state: &'static str,
    /// There where keys are in etcd.
    created: Option<u64>,
    current_since: Option<u64>,
}

/// A file by its tag: who may see the page need not know what files there are.
#[derive(Serialize)]
struct HotFile {
    tag: String,
    rate: f64,
    edges: u32,
}

/// Of all edges, shown or not.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Totals {
    edges: usize,
    states: BTreeMap<&'static str, usize>,
    /// Clients that were sent to them, since each is known.
    picks: u64,
    transfers: u64,
    connections: u64,
    /// Bytes a second.
    rate: f64,
    hits: u64,
    misses: u64,
    stuck: u64,
}

/// An edge. Null is what it does not say, or nobody knows.
#[derive(Debug, PartialEq, Serialize)]
struct EdgeView {
    id: String,
    url: String,
    zone: String,
    weight: u16,
    state: &'static str,
    reason: Option<Ailment>,
    /// Whether operators have it drained.
    drained: bool,
    since: u64,
    /// Why clients would not reach it.
    url_fault: Option<UrlFaultView>,
    /// The part of its zone's files that it is first candidate of, 0 to 1.
    share: f64,
    picks: u64,
    /// Who tells what follows: the edge itself when it was asked, or its record in etcd.
    told_by: Option<&'static str>,
    transfers: Option<u64>,
    connections: Option<u64>,
    /// Bytes a second.
    rate: Option<f64>,
    hits: Option<u64>,
    misses: Option<u64>,
    stuck: Option<u64>,
    version: Option<String>,
}

/// Those that are shown, ordered by id, and the sums of all.
fn edges(
    statuses: &[EdgeStatus],
    announced: &[Announcement],
    orders: &BTreeMap<EdgeId, Order>,
) -> (Vec<EdgeView>, Totals) {
    let record = |id: &EdgeId| {
        let at = announced.binary_search_by(|record| record.id.cmp(id)).ok()?;
        Some(&announced[at])
    };
    let mut totals = Totals { edges: statuses.len(), ..Totals::default() };
    totals.states = EdgeState::ALL.iter().map(|state| (state.name(), 0)).collect();
    let mut views: Vec<EdgeView> = Vec::with_capacity(statuses.len());
    for status in statuses {
        let id = &status.edge.record.id;
        let is_drained = orders.get(id).is_some_and(|order| order.drain);
        let view = EdgeView::of(status, record(id), is_drained);
        totals.add(&view);
        views.push(view);
    }
    if views.len() > EDGES_SHOWN_MAX {
        views.sort_by_key(|view| (Reverse(view.ails()), Reverse(view.work())));
        views.truncate(EDGES_SHOWN_MAX);
        views.sort_by(|a, b| a.id.cmp(&b.id));
    }
    (views, totals)
}

impl Totals {
    fn add(&mut self, edge: &EdgeView) {
        *self.states.entry(edge.state).or_default() += 1;
        self.picks += edge.picks;
        self.rate += edge.rate.unwrap_or_default();
        let add = |sum: &mut u64, part: Option<u64>| *sum = sum.saturating_add(part.unwrap_or_default());
        add(&mut self.transfers, edge.transfers);
        add(&mut self.connections, edge.connections);
        add(&mut self.hits, edge.hits);
        add(&mut self.misses, edge.misses);
        add(&mut self.stuck, edge.stuck);
    }
}

impl EdgeView {
    fn of(status: &EdgeStatus, record: Option<&Announcement>, is_drained: bool) -> Self {
        let edge = &status.edge.record;
        let (state, health) = (status.health.state(), &status.health);
        // What an edge said before it fell silent is over; its record may know better.
        let said = status.said.as_ref().filter(|_| state != EdgeState::Down);
        let (load, record) = (said.map(|said| &said.load), record.filter(|_| said.is_none()));
        let announced = record.map(|record| record.load);
        let version = load.and_then(|load| load.version.as_deref());
        let version = version.or(record.map(|record| record.version.as_str()));
        Self {
            id: edge.id.to_string(),
            url: shortened(edge.url.as_str()),
            zone: shortened(&edge.zone),
            weight: edge.weight.value(),
            state: state.name(),
            reason: health.ailment(),
            drained: is_drained,
            since: unix_millis(health.since()),
            url_fault: status.url_fault.as_ref().map(UrlFaultView::from),
            share: (status.share * 1e4).round() / 1e4,
            picks: status.edge.load.picked(),
            told_by: said.map(|_| "edge").or(record.map(|_| "record")),
            transfers: load.and_then(|load| load.transfers).or(announced.map(|load| load.transfers)),
            connections: load.and_then(|load| load.connections),
            rate: said.and_then(|said| said.rate).or(announced.map(|load| load.rate as f64)).map(f64::round),
            hits: load.and_then(|load| load.window_hits).or(announced.and_then(|load| load.hits)),
            misses: load.and_then(|load| load.window_misses).or(announced.and_then(|load| load.misses)),
            stuck: load.and_then(|load| load.storage_stuck).or(announced.and_then(|load| load.stuck)),
            version: version.filter(|version| !version.is_empty()).map(shortened),
        }
    }

    fn ails(&self) -> bool {
        self.state != EdgeState::Up.name()
            || self.url_fault.is_some()
            || self.stuck.is_some_and(|stuck| stuck > 0)
    }

    /// What it has to do, for an order among edges.
    fn work(&self) -> (u64, u64) {
        (self.transfers.unwrap_or_default(), self.picks)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
