//! The registry's list as operators want it. Pure.

use std::collections::BTreeMap;

use sluice_shared::cluster::{EdgeId, EdgeRecord, SkippedRecord, Weight};

use super::Order;
use crate::config::WEIGHT_SUM_MAX;

/// An edge with what is ordered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heeded {
    /// With the weight that is ordered, where one is.
    pub(crate) record: EdgeRecord,
    /// The edge's own.
    pub(crate) own_weight: Weight,
    /// Nobody is to be sent there.
    pub(crate) is_drained: bool,
}

/// Lays orders over a list; names the weights that would make a ring too large.
pub(crate) fn heed(
    list: &[EdgeRecord],
    orders: &BTreeMap<EdgeId, Order>,
) -> (Vec<Heeded>, Vec<SkippedRecord>) {
    let mut weights: BTreeMap<&str, u32> = BTreeMap::new();
    for edge in list {
        *weights.entry(&edge.zone).or_default() += u32::from(edge.weight.value());
    }
    let mut refused = Vec::new();
    let heeded = list.iter().map(|edge| {
        let order = orders.get(&edge.id);
        let mut heeded = Heeded {
            record: edge.clone(),
            own_weight: edge.weight,
            is_drained: order.is_some_and(|order| order.drain),
        };
        let Some(weight) = order.and_then(|order| order.weight) else { return heeded };
        let (own, ordered) = (u32::from(edge.weight.value()), u32::from(weight.value()));
        let zone = weights.entry(&edge.zone).or_default();
        let with = *zone - own + ordered;
        if ordered > own && with > WEIGHT_SUM_MAX {
            let fault = format!(
                "with a weight of {ordered} there would be more than {WEIGHT_SUM_MAX} in all in its zone, which no ring \
                 is built of in good time; the edge keeps its own"
            );
            refused.push(SkippedRecord { key: format!("orders/{}", edge.id), fault });
            return heeded;
        }
        *zone = with;
        heeded.record.weight = weight;
        heeded
    });
    (heeded.collect(), refused)
}

#[cfg(test)]
mod tests {
    use sluice_shared::revocations::Instant;
    use sluice_shared::units::BaseUrl;

    use super::*;
    use crate::orders::OrderChange;

    fn edge(id: &str, weight: u16, zone: &str) -> EdgeRecord {
        EdgeRecord {
            id: EdgeId::parse(id).unwrap(),
            url: BaseUrl::parse("http://127.0.0.1:1").unwrap(),
            admin_url: BaseUrl::parse("http://127.0.0.1:2").unwrap(),
            weight: Weight::new(weight).unwrap(),
            zone: zone.to_owned(),
        }
    }

    fn orders(changes: &[(&str, OrderChange)]) -> BTreeMap<EdgeId, Order> {
        let mut orders = BTreeMap::new();
        for (id, change) in changes {
            let id = EdgeId::parse(id).unwrap();
            let known = orders.entry(id.clone()).or_insert_with(|| Order::none(id));
            *known = known.changed(*change, "ann", Instant(1));
        }
        orders
    }

    fn weight(weight: u16) -> OrderChange {
        OrderChange::Weight(Weight::new(weight))
    }

    #[test]
    fn orders_change_what_they_say_and_nothing_else() {
        let list = [edge("a", 100, ""), edge("b", 100, ""), edge("c", 100, "")];
        let orders = orders(&[("a", weight(7)), ("b", OrderChange::Drain(true)), ("gone", weight(9))]);
        let (heeded, refused) = heed(&list, &orders);
        let shown: Vec<_> = heeded
            .iter()
            .map(|edge| {
                (
                    edge.record.id.as_str(),
                    edge.record.weight.value(),
                    edge.own_weight.value(),
                    edge.is_drained,
                )
            })
            .collect();
        assert_eq!(shown, [("a", 7, 100, false), ("b", 100, 100, true), ("c", 100, 100, false)]);
        assert!(refused.is_empty());
        assert_eq!(heeded[2].record, list[2]);
    }

    #[test]
    fn a_zone_s_weights_stay_within_what_a_ring_takes() {
        let mut list: Vec<_> = (0..9).map(|at| edge(&format!("e{at}"), 10_000, "full")).collect();
        list.extend([edge("x", 5000, "full"), edge("y", 5000, "full"), edge("z", 1, "other")]);
        let orders =
            orders(&[("e0", weight(9000)), ("x", weight(6000)), ("y", weight(6000)), ("z", weight(10_000))]);
        let (heeded, refused) = heed(&list, &orders);
        let of = |id: &str| {
            heeded.iter().find(|edge| edge.record.id.as_str() == id).unwrap().record.weight.value()
        };
        assert_eq!([of("e0"), of("x"), of("y"), of("z")], [9000, 6000, 5000, 10_000]);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].key == "orders/y" && refused[0].fault.contains("100000"), "{refused:?}");
    }
}
