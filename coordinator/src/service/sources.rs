//! What a coordinator goes by: keys, clients, edges and what is ordered of them, revocations; from files, or from etcd.

use std::sync::Arc;

use sluice_shared::cluster::etcd::{EtcdRegistry, EtcdRegistryRules};
use sluice_shared::cluster::{Freshness, Registry};
use sluice_shared::etcd::Etcd;
use sluice_shared::followed::Asked;
use sluice_shared::revocations::{EtcdMarks, RevocationBook};
use tokio::sync::watch;

use super::StartError;
use crate::clients::Clients;
use crate::config::{Config, EdgeSource, WEIGHT_SUM_MAX};
use crate::edge_trust::EdgeTrust;
use crate::keys::Keys;
use crate::membership::Membership;
use crate::orders::{OrderList, Orders};
use crate::popular::Popular;
use crate::routing::Rings;
use crate::routing::hot::HotFiles;

/// All of them, each kept up to date by tasks of its own.
pub(crate) struct Sources {
    pub(super) etcd: Option<Etcd>,
    pub(super) revocations: Arc<RevocationBook>,
    /// Revocations in etcd, where there is one.
    marks: Option<EtcdMarks>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clients: Arc<Clients>,
    pub(super) registry: Arc<dyn Registry>,
    /// There where the registry is in etcd.
    pub(super) orders: Option<Arc<Orders>>,
    pub(super) hot: Arc<HotFiles>,
    pub(super) popular: Arc<Popular>,
    pub(crate) membership: Arc<Membership>,
}

impl Sources {
    /// Within a runtime.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn start(config: &Config, trust: EdgeTrust) -> Result<Self, StartError> {
        let revocations = RevocationBook::open(Some(&config.revocations_file))?;
        let etcd = config.etcd.as_ref().map(Etcd::new);
        let outlives = config.links.max_ttl.max(config.links.token_ttl);
        let keys = Keys::start(&config.keys, etcd.as_ref(), &config.id, outlives, &revocations)?;
        let clients = Clients::start(&config.access.clients, etcd.as_ref())?;
        let marks = etcd.as_ref().map(|etcd| EtcdMarks::share(etcd, Arc::clone(&revocations)));
        tokio::spawn(Arc::clone(&revocations).keep_saved());
        let (registry, orders) = edges(&config.registry, etcd.as_ref());
        let rings = Rings::new(config.routing.policy, Arc::clone(&config.routing.zones));
        let ordered = orders.as_ref().map_or_else(nothing_ordered, |orders| orders.watch());
        let membership = Membership::start(&*registry, ordered, rings, Arc::clone(&keys.tokens), trust);
        Ok(Self {
            etcd,
            revocations,
            marks,
            keys: Arc::new(keys),
            clients: Arc::new(clients),
            registry,
            orders,
            hot: Arc::new(HotFiles::new(config.routing.hot_rate)),
            popular: Arc::default(),
            membership,
        })
    }

    /// Whether edges hear of what is revoked.
    pub(super) fn are_marks_shared(&self) -> bool {
        self.marks.is_some()
    }

    /// How what is followed in etcd stands, each by itself.
    fn followed(&self) -> impl Iterator<Item = Freshness> {
        let orders = self.orders.as_ref().map(|orders| orders.freshness());
        let marks = self.marks.as_ref().map(EtcdMarks::freshness);
        let lists = [self.registry.freshness(), self.clients.freshness(), orders, marks];
        lists.into_iter().flatten().chain(self.keys.freshness())
    }

    /// Whether etcd is used for something and does not answer.
    pub(super) fn is_etcd_away(&self) -> bool {
        self.followed().any(|freshness| !freshness.is_reached)
    }

    /// Whether etcd answers that something is not to be read.
    pub(super) fn is_etcd_forbidden(&self) -> bool {
        self.followed().any(|freshness| freshness.is_forbidden)
    }

    /// Rereads files of keys and clients when they change, and when asked.
    pub(super) fn follow_files(&self, asked: &Asked) {
        self.keys.follow_files(asked);
        self.clients.follow_file(asked);
    }
}

/// The edges; and what is ordered of them, where that can be.
fn edges(source: &EdgeSource, etcd: Option<&Etcd>) -> (Arc<dyn Registry>, Option<Arc<Orders>>) {
    match source {
        EdgeSource::Static(list) => (Arc::clone(list) as _, None),
        EdgeSource::Etcd { fixed, allow_urls } => {
            let etcd = etcd.expect("a configuration with edges in etcd has etcd's settings");
            let rules = EtcdRegistryRules { allow_urls: allow_urls.clone(), weight_sum_max: WEIGHT_SUM_MAX };
            let registry = EtcdRegistry::start(etcd.clone(), fixed, rules);
            (Arc::new(registry), Some(Arc::new(Orders::follow(etcd))))
        }
    }
}

fn nothing_ordered() -> watch::Receiver<OrderList> {
    watch::channel(OrderList::default()).1
}
