//! The registry in etcd: edges that name themselves under `edges/`, beside those of the configuration.
//!
//! A record that is gone proves nothing by itself: etcd may have lost it, or its lease, while the edge serves on. So an
//! edge that did not say that it leaves stays on the list for a while, and its health, which every coordinator asks by
//! itself, decides. One that says so is off it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::announcement::Announcement;
use super::url_pattern::UrlPattern;
use super::{EdgeList, EdgeRecord, Freshness, Registry, SkippedRecord};
use crate::etcd::{Contents, Etcd, Mirror, MirrorRules};

mod census;

use census::Census;

/// Where edges' records are.
pub const EDGES: &str = "edges/";
/// How long a record outlives its edge. Renewed at a third of it.
pub const RECORD_TTL: Duration = Duration::from_secs(15);
/// How long an edge stays on the list whose record vanished: two lives of a record, in which an edge that lives has put
/// it back, and one that does not is known to be down.
const VANISHED_GRACE: Duration = Duration::from_secs(30);
/// Records are a few hundred bytes.
const RECORD_BYTES_MAX: usize = 4 << 10;
const EDGES_MAX: usize = 20_000;

/// What a coordinator takes from edges that name themselves.
#[derive(Debug, Clone)]
pub struct EtcdRegistryRules {
    /// An edge's URL has to match one of them. None: none.
    pub allow_urls: Vec<UrlPattern>,
    /// All weights together, those of the configuration included.
    pub weight_sum_max: u32,
}

/// Edges as they name themselves in etcd.
#[derive(Debug)]
pub struct EtcdRegistry {
    mirror: Arc<Mirror>,
    lists: watch::Receiver<EdgeList>,
    announced: watch::Receiver<Arc<[Announcement]>>,
    skipped: watch::Receiver<Arc<[SkippedRecord]>>,
    task: AbortHandle,
}

impl EtcdRegistry {
    /// Follows etcd's records from now on. `fixed` are the edges of the configuration, ids distinct: they are always on
    /// the list, whatever etcd says of them. Within a runtime.
    pub fn start(etcd: Etcd, fixed: &[EdgeRecord], rules: EtcdRegistryRules) -> Self {
        let mirror_rules = MirrorRules { keys_max: EDGES_MAX, value_bytes_max: RECORD_BYTES_MAX };
        let mirror = Arc::new(Mirror::start(etcd, EDGES, mirror_rules));
        let census = Census::new(fixed, rules, VANISHED_GRACE);
        let (list, lists) = watch::channel(EdgeList::from(fixed));
        let (announce, announced) = watch::channel(Arc::default());
        let (skip, skipped) = watch::channel(Arc::default());
        let contents = mirror.watch();
        let task = tokio::spawn(keep(contents, census, Published { list, announce, skip })).abort_handle();
        Self { mirror, lists, announced, skipped, task }
    }
}

impl Registry for EtcdRegistry {
    fn watch(&self) -> watch::Receiver<EdgeList> {
        self.lists.clone()
    }

    fn announced(&self) -> Arc<[Announcement]> {
        self.announced.borrow().clone()
    }

    fn skipped(&self) -> Arc<[SkippedRecord]> {
        self.skipped.borrow().clone()
    }

    fn freshness(&self) -> Option<Freshness> {
        Some(self.mirror.freshness())
    }
}

impl Drop for EtcdRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Published {
    list: watch::Sender<EdgeList>,
    announce: watch::Sender<Arc<[Announcement]>>,
    skip: watch::Sender<Arc<[SkippedRecord]>>,
}

/// Takes a census at every change, and when the time of one that vanished is over.
async fn keep(mut contents: watch::Receiver<Arc<Contents>>, mut census: Census, published: Published) {
    loop {
        let now = Instant::now();
        let current = contents.borrow_and_update().clone();
        let result = census.take(&current, now);
        // Loads change all the time, the list seldom: who follows the list is left in peace.
        published.list.send_if_modified(|list| {
            let is_news = **list != *result.edges;
            if is_news {
                *list = result.edges.into();
            }
            is_news
        });
        published.announce.send_replace(result.announced.into());
        published.skip.send_replace(result.skipped.into());
        let changed = match result.next {
            None => contents.changed().await,
            Some(at) => tokio::select! {
                changed = contents.changed() => changed,
                () = tokio::time::sleep(at.saturating_duration_since(now)) => Ok(()),
            },
        };
        // The mirror is gone, and this registry with it.
        if changed.is_err() {
            return;
        }
    }
}
