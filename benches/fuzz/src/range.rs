//! `Range`, and the plan of an answer of several parts (RFC 9110 §14, §15.3.7).

use sluice_edge_node::multipart::{Boundary, Multipart, part_head_bytes};
use sluice_edge_node::plan::range::{RangeOutcome, RangeRules, parse};

const MEDIA_TYPE: &str = "application/pdf";

/// An answer lies within the file and is not longer than it and its part heads, whatever was asked. The first bytes say
/// how large the file is, and how many ranges are heard.
pub(crate) fn run(data: &[u8]) {
    let Some((shape, field)) = data.split_at_checked(10) else { return };
    let mut size = [0; 8];
    size.copy_from_slice(&shape[..8]);
    // Of all magnitudes: as random numbers, nearly all are enormous.
    let size = u64::from_le_bytes(size) >> (shape[8] % 64);
    let ranges_max = usize::from(shape[9] % 64) + 1;
    let rules = RangeRules { ranges_max, part_head_bytes: part_head_bytes(MEDIA_TYPE, size) };
    match parse(field, size, rules) {
        RangeOutcome::Ignored | RangeOutcome::Unsatisfiable => {}
        RangeOutcome::One(range) => assert!(range.start < range.end && range.end <= size),
        RangeOutcome::Several(ranges) => {
            assert!((2..=ranges_max).contains(&ranges.len()));
            assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size));
            let mut ordered = ranges.clone();
            ordered.sort_by_key(|range| range.start);
            let gaps = ordered.windows(2).map(|pair| pair[1].start.checked_sub(pair[0].end));
            assert!(
                gaps.clone().all(|gap| gap.is_some_and(|gap| gap >= rules.part_head_bytes)),
                "another part costs no more than what lies between"
            );
            let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let count = ranges.len() as u64;
            let body = Multipart::new(Boundary(7), ranges, MEDIA_TYPE, size);
            let texts: usize = body.parts.iter().map(|part| part.head.len()).sum();
            assert_eq!(body.bytes, wanted + (texts + body.closing.len()) as u64);
            assert!(texts as u64 <= count * rules.part_head_bytes);
            assert!(body.bytes <= size.saturating_add(rules.part_head_bytes + body.closing.len() as u64));
        }
    }
}
