//! Conditions of a request, and the answer that they come to (RFC 9110 §13).

use std::borrow::Cow;

use sluice_edge_node::plan::conditional::{Precondition, evaluate, if_range_holds};
use sluice_edge_node::plan::{Plan, Representation, plan};
use sluice_edge_node::request::{Conditions, Method};

const NOW: u64 = 1_800_000_000;

/// Fields come apart by line ends, in a fixed order; one that is empty is not there.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let conditions = Conditions {
        if_match: next().map(Cow::Borrowed),
        if_none_match: next().map(Cow::Borrowed),
        if_modified_since: next(),
        if_unmodified_since: next(),
        if_range: next(),
        range: next(),
    };
    let file = Representation {
        size: 1000,
        etag: "\"1f-65.0-3e8\"",
        modified_secs: 784_111_777,
        part_head_bytes: 90,
    };
    let precondition = evaluate(&conditions, &file);
    let is_any = |list: &Option<Cow<'_, [u8]>>| list.as_deref().is_some_and(|list| list.trim_ascii() == b"*");
    if is_any(&conditions.if_match) {
        assert_ne!(precondition, Precondition::Failed, "there is such a file");
    } else if is_any(&conditions.if_none_match) {
        assert_ne!(precondition, Precondition::Holds, "there is such a file");
    }
    for method in [Method::Get, Method::Head] {
        let planned = plan(method, &conditions, &file, NOW, 32);
        match precondition {
            Precondition::Failed => assert_eq!(planned, Plan::PreconditionFailed),
            Precondition::NotModified => assert_eq!(planned, Plan::NotModified),
            Precondition::Holds => {
                let has_ranges = method == Method::Get
                    && conditions.range.is_some()
                    && conditions.if_range.is_none_or(|validator| if_range_holds(validator, &file, NOW));
                assert!(has_ranges || planned == Plan::Full, "{planned:?}");
            }
        }
    }
}
