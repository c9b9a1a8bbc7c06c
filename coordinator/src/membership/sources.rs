//! Where the board hears who is in the cluster, what is ordered of edges, and whom callers bring evidence against.

use sluice_shared::cluster::{EdgeId, EdgeList, SkippedRecord};
use tokio::sync::{mpsc, watch};

use crate::orders::{Heeded, OrderList, heed};

/// What the board follows.
pub(super) struct Sources {
    pub(super) registry: watch::Receiver<EdgeList>,
    pub(super) orders: watch::Receiver<OrderList>,
    pub(super) suspected: mpsc::Receiver<EdgeId>,
}

impl Sources {
    /// The edges now, as operators want them.
    pub(super) fn list(&mut self) -> Vec<Heeded> {
        let (list, orders) =
            (self.registry.borrow_and_update().clone(), self.orders.borrow_and_update().clone());
        let (heeded, refused) = heed(&list, &orders);
        for SkippedRecord { key, fault } in refused {
            tracing::warn!(key, fault, "an order about an edge is not heeded");
        }
        heeded
    }
}
