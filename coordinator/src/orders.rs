//! What operators order of edges: that nobody is sent there, or that one has another weight. In etcd, under `orders/`,
//! for all coordinators, and for as long as no other order comes: an edge's record is the edge's own, and goes with it.
//!
//! Coordinators heed them, and edges do not know of them: whoever has a token is served to the end, and an edge to which
//! nobody is sent any more has nothing else to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_shared::cluster::{EdgeId, Freshness, SkippedRecord, Weight};
use sluice_shared::etcd::{Etcd, MirrorRules};
use sluice_shared::ledger::{Found, Ledger, LedgerError, LedgerForm};
use sluice_shared::revocations::Instant;
use tokio::sync::watch;

mod heed;
mod record;

pub(crate) use heed::{Heeded, heed};
pub(crate) use record::{Order, OrderFault};

/// The orders of one moment, those that order nothing any more included.
pub(crate) type OrderList = Arc<BTreeMap<EdgeId, Order>>;

/// Why an order is not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("{0} is no weight: write a whole number from 1 to 10000, or drain the edge to send nobody there")]
    Weight(i64),
    #[error("a newer program has given an order of format {0} about this edge; use one like it")]
    Newer(u32),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is changed of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderChange {
    Drain(bool),
    /// None for the edge's own.
    Weight(Option<Weight>),
}

/// The orders in etcd, as they are known now.
pub(crate) struct Orders(Ledger<InTheOpen>);

impl Orders {
    /// Follows them from now on. Within a runtime.
    pub(crate) fn follow(etcd: &Etcd) -> Self {
        Self(Ledger::follow(etcd, InTheOpen(watch::Sender::default())))
    }

    /// The orders now, and every later list.
    pub(crate) fn watch(&self) -> watch::Receiver<OrderList> {
        self.0.form().0.subscribe()
    }

    pub(crate) fn list(&self) -> OrderList {
        self.0.form().0.borrow().clone()
    }

    /// What etcd has there and is no order, and why.
    pub(crate) fn skipped(&self) -> Vec<SkippedRecord> {
        self.0.skipped()
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.0.freshness()
    }

    /// Changes what is ordered of an edge; what else is ordered of it stays.
    ///
    /// # Errors
    /// etcd does not answer, somebody else was faster, or a newer program has ordered what is not understood here.
    pub(crate) async fn give(&self, edge: &EdgeId, change: OrderChange, by: &str) -> Result<(), OrderError> {
        let edit = |found: Found<'_, InTheOpen>, set| match found {
            Found::Record(order) => Ok(order.changed(change, by, set)),
            Found::Unreadable(OrderFault::Format(format)) => Err(OrderError::Newer(format)),
            // Whoever wrote that meant something; this is what is meant now.
            Found::Unreadable(_) | Found::Nothing => Ok(Order::none(edge.clone()).changed(change, by, set)),
        };
        self.0.change(edge.as_str(), edit).await
    }
}

/// Orders are no secret, and readable by whoever looks into etcd.
struct InTheOpen(watch::Sender<OrderList>);

impl LedgerForm for InTheOpen {
    type Record = Order;
    type Fault = OrderFault;

    const PREFIX: &'static str = "orders/";
    /// As many as there may be edges; an order is two hundred bytes.
    const RULES: MirrorRules = MirrorRules { keys_max: 20_000, value_bytes_max: 4 << 10 };

    fn read(&self, name: &str, _: &str, value: &[u8]) -> Result<Order, OrderFault> {
        Order::parse(name, value)
    }

    fn write(&self, _: &str, order: &Order) -> Vec<u8> {
        order.to_json()
    }

    fn set(order: &Order) -> Instant {
        order.set
    }

    fn is_void(order: &Order) -> bool {
        !order.drain && order.weight.is_none()
    }

    fn take(&self, known: &BTreeMap<Arc<str>, Order>) {
        let list = known.values().map(|order| (order.edge.clone(), order.clone()));
        self.0.send_replace(Arc::new(list.collect()));
    }
}
