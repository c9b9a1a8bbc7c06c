//! An order as it stands in etcd, in a form that coordinators of other versions read too.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_shared::cluster::{EdgeId, Weight};
use sluice_shared::revocations::Instant;

use super::OrderChange;

/// What the members of an order mean. A change that older programs would misread has another number; new members have
/// not, for whoever does not know them keeps them as they are.
const FORMAT: u32 = 1;
const NAME_BYTES_MAX: usize = 128;

/// What is ordered of an edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Order {
    format: u32,
    /// The key's; there for whoever reads orders without their keys.
    pub(crate) edge: EdgeId,
    /// When it was given: of two orders the later stands.
    pub(crate) set: Instant,
    /// The name of the token that it was given with.
    pub(crate) by: String,
    /// Nobody is sent there.
    pub(crate) drain: bool,
    /// In place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<Weight>,
    /// Of newer programs; written again with every change.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Why a record is no order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderFault {
    #[error("the key is no edge id: 1 to 63 of A-Z a-z 0-9 . _ -")]
    Key,
    #[error("it is no order about an edge: {0}")]
    Content(#[from] serde_json::Error),
    #[error("it is of format {0}, and this program reads format {FORMAT}")]
    Format(u32),
    #[error("it says that it is about '{0}'")]
    Edge(EdgeId),
    #[error(
        "its weight of {0} is none: a weight is a whole number from 1 to 10000; `sluicectl edges weight` mends it, and \
         `edges drain` sends nobody there"
    )]
    Weight(i64),
    #[error("its `by` is no name")]
    By,
}

impl Order {
    /// Of an edge of which nothing was ever ordered.
    pub(super) fn none(edge: EdgeId) -> Self {
        let by = String::new();
        Self { format: FORMAT, edge, set: Instant(0), by, drain: false, weight: None, unknown: Map::new() }
    }

    /// Whether anything is ordered.
    pub(crate) fn says_something(&self) -> bool {
        self.drain || self.weight.is_some()
    }

    pub(super) fn changed(&self, change: OrderChange, by: &str, set: Instant) -> Self {
        let mut changed = Self { set, by: by.to_owned(), ..self.clone() };
        match change {
            OrderChange::Drain(drain) => changed.drain = drain,
            OrderChange::Weight(weight) => changed.weight = weight,
        }
        changed
    }

    pub(super) fn parse(key: &str, value: &[u8]) -> Result<Self, OrderFault> {
        let id = EdgeId::parse(key).ok_or(OrderFault::Key)?;
        // The format first: of another one, nothing else is known.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(value)?;
        if head.format != FORMAT {
            return Err(OrderFault::Format(head.format));
        }
        #[derive(Deserialize)]
        struct Written {
            format: u32,
            edge: EdgeId,
            set: Instant,
            #[serde(default)]
            by: String,
            #[serde(default)]
            drain: bool,
            weight: Option<i64>,
            #[serde(flatten)]
            unknown: Map<String, Value>,
        }
        let Written { format, edge, set, by, drain, weight, unknown } = serde_json::from_slice(value)?;
        if edge != id {
            return Err(OrderFault::Edge(edge));
        }
        if by.len() > NAME_BYTES_MAX || by.contains(char::is_control) {
            return Err(OrderFault::By);
        }
        let as_weight =
            |weight| u16::try_from(weight).ok().and_then(Weight::new).ok_or(OrderFault::Weight(weight));
        let weight = weight.map(as_weight).transpose()?;
        Ok(Self { format, edge, set, by, drain, weight, unknown })
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"format":1,"edge":"edge-1","set":"2026-11-26T10:00:00.000Z","by":"ann","drain":true,
        "weight":50,"colour":{"of":"blue"}}"#;

    fn edge() -> EdgeId {
        EdgeId::parse("edge-1").unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_each_part_is_changed_by_itself() {
        let weight = Weight::new(50);
        let order = Order::none(edge()).changed(OrderChange::Drain(true), "ann", Instant(5)).changed(
            OrderChange::Weight(weight),
            "bob",
            Instant(6),
        );
        assert_eq!(Order::parse("edge-1", &order.to_json()).unwrap(), order);
        assert_eq!(
            (order.drain, order.weight, order.by.as_str(), order.set),
            (true, weight, "bob", Instant(6))
        );
        let order = order.changed(OrderChange::Drain(false), "ann", Instant(7));
        assert!(order.says_something());
        let order = order.changed(OrderChange::Weight(None), "ann", Instant(8));
        assert!(!order.says_something());
        assert_eq!(Order::parse("edge-1", &order.to_json()).unwrap(), order);
    }

    #[test]
    fn what_newer_programs_say_is_kept_by_every_change() {
        let order = Order::parse("edge-1", WHOLE.as_bytes()).unwrap();
        let changed = order.changed(OrderChange::Drain(false), "ann", Instant(9)).to_json();
        let changed: Value = serde_json::from_slice(&changed).unwrap();
        assert_eq!(changed["colour"]["of"], "blue");
    }

    #[test]
    fn hostile_orders_are_refused_by_their_fault() {
        let with = |from: &str, to: &str| {
            assert!(WHOLE.contains(from), "{from}");
            WHOLE.replace(from, to)
        };
        let table = [
            (String::new(), "no order"),
            ("null".into(), "no order"),
            ("[".repeat(50_000), "no order"),
            (with("\"format\":1", "\"format\":2"), "format 2"),
            ("{\"format\":2}".into(), "format 2"),
            (with("\"format\":1,", ""), "no order"),
            (with("\"edge-1\"", "\"edge-2\""), "about 'edge-2'"),
            (with("\"edge-1\"", "\"../x\""), "no order"),
            (with("2026-11-26T10:00:00.000Z", "soon"), "no order"),
            (with("true", "1"), "no order"),
            (with("50", "0"), "weight of 0 is none: a weight is a whole number from 1 to 10000"),
            (with("50", "-1"), "weight of -1"),
            (with("50", "10001"), "weight of 10001"),
            (with("50", "1e9"), "no order"),
            (with("50", "50,\"weight\":60"), "duplicate"),
            (with("ann", "a\\u001bn"), "`by`"),
        ];
        for (value, expected) in table {
            let fault = Order::parse("edge-1", value.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{expected:?} in {fault:?}");
        }
        assert!(matches!(Order::parse("a b", WHOLE.as_bytes()), Err(OrderFault::Key)));
    }
}
