//! Range requests (RFC 9110 §14): which bytes of the file a `Range` field asks for.
//!
//! Several ranges that overlap, or lie so close that another part's head would cost more than what is between them,
//! become one (§15.3.7.2). So an answer is never larger than the file and its part heads, whatever was asked.

use std::ops::Range;

/// What a `Range` field comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Another unit, not the syntax of §14.1.1, or more ranges than are answered: as if it were not there (§14.2).
    Ignored,
    /// Nothing of it lies within the file.
    Unsatisfiable,
    /// Bytes of the file, at least one.
    One(Range<u64>),
    /// Two and more, apart from each other, in the order they were asked for.
    Several(Vec<Range<u64>>),
}

/// What decides how several ranges are answered.
#[derive(Debug, Clone, Copy)]
pub struct RangeRules {
    /// Ranges that one request may ask for.
    pub ranges_max: usize,
    /// Ranges with a smaller gap become one, in bytes: what another part would add to the answer.
    pub part_head_bytes: u64,
}

/// Holds a `Range` field against a file of `size` bytes.
pub fn parse(field: &[u8], size: u64, rules: RangeRules) -> RangeOutcome {
    let Some(mut specs) = specs(field) else { return RangeOutcome::Ignored };
    let (Some(first), second) = (specs.next(), specs.next()) else { return RangeOutcome::Ignored };
    let Some(second) = second else {
        return Spec::parse(first).map_or(RangeOutcome::Ignored, |spec| spec.hold(size));
    };
    several([first, second].into_iter().chain(specs), size, rules)
}

/// The elements of a set of byte ranges. A list may have empty ones (§5.6.1.2).
fn specs(field: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (unit, set) = field.trim_ascii().split_at_checked(6)?;
    let elements = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    unit.eq_ignore_ascii_case(b"bytes=").then_some(elements)
}

/// What a list of two ranges and more comes to. One element that is no range spoils all of it.
fn several<'f>(specs: impl Iterator<Item = &'f [u8]>, size: u64, rules: RangeRules) -> RangeOutcome {
    let mut wanted = Vec::new();
    for (place, spec) in specs.enumerate() {
        let held = match Spec::parse(spec) {
            Some(spec) if place < rules.ranges_max => spec.hold(size),
            _ => return RangeOutcome::Ignored,
        };
        match held {
            RangeOutcome::One(range) => wanted.push((place, range)),
            RangeOutcome::Unsatisfiable => {}
            ignored => return ignored,
        }
    }
    let mut apart = coalesce(wanted, rules.part_head_bytes);
    match apart.len() {
        0 => RangeOutcome::Unsatisfiable,
        1 => RangeOutcome::One(apart.swap_remove(0)),
        _ => RangeOutcome::Several(apart),
    }
}

/// Joins ranges that overlap or have a gap of less than `gap_min` bytes. What was joined stands where the first of it
/// was asked for.
fn coalesce(mut wanted: Vec<(usize, Range<u64>)>, gap_min: u64) -> Vec<Range<u64>> {
    wanted.sort_unstable_by_key(|(_, range)| range.start);
    let mut joined: Vec<(usize, Range<u64>)> = Vec::with_capacity(wanted.len());
    for (place, range) in wanted {
        match joined.last_mut() {
            Some((first, last)) if range.start < last.end.saturating_add(gap_min.max(1)) => {
                *first = place.min(*first);
                last.end = range.end.max(last.end);
            }
            _ => joined.push((place, range)),
        }
    }
    joined.sort_unstable_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, range)| range).collect()
}

enum Spec {
    From(u64),
    FromTo(u64, u64),
    Suffix(u64),
}

impl Spec {
    fn parse(spec: &[u8]) -> Option<Self> {
        let dash = spec.iter().position(|byte| *byte == b'-')?;
        match (&spec[..dash], &spec[dash + 1..]) {
            ([], suffix) => number(suffix).map(Self::Suffix),
            (first, []) => number(first).map(Self::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    fn hold(self, size: u64) -> RangeOutcome {
        let range = match self {
            Self::From(first) => first..size,
            Self::FromTo(first, last) => first..last.saturating_add(1).min(size),
            // A suffix of an empty file is satisfiable (§14.1.2), and has no `Content-Range` to say it with.
            Self::Suffix(1..) if size == 0 => return RangeOutcome::Ignored,
            Self::Suffix(length) => size.saturating_sub(length)..size,
        };
        if range.is_empty() { RangeOutcome::Unsatisfiable } else { RangeOutcome::One(range) }
    }
}

/// Digits, at least one; what does not fit 64 bits is beyond any file.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RangeOutcome::*;
    use super::*;

    const RULES: RangeRules = RangeRules { ranges_max: 4, part_head_bytes: 3 };

    #[test]
    fn fields_are_held_against_the_size() {
        let table: &[(&str, u64, RangeOutcome)] = &[
            ("bytes=0-0", 10, One(0..1)),
            ("bytes=0-", 10, One(0..10)),
            ("bytes=3-5", 10, One(3..6)),
            ("bytes=3-99", 10, One(3..10)),
            ("bytes=9-", 10, One(9..10)),
            ("bytes=-1", 10, One(9..10)),
            ("bytes=-99", 10, One(0..10)),
            ("BYTES=1-2", 10, One(1..3)),
            ("bytes= 1-2 ", 10, One(1..3)),
            ("bytes=,1-2,", 10, One(1..3)),
            ("bytes=0-18446744073709551615", 10, One(0..10)),
            ("bytes=0-99999999999999999999999", 10, One(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Ignored),
            ("bytes=5-3", 10, Ignored),
            ("bytes=", 10, Ignored),
            ("bytes=,", 10, Ignored),
            ("bytes=-", 10, Ignored),
            ("bytes=a-b", 10, Ignored),
            ("bytes=1", 10, Ignored),
            ("bytes=+1-2", 10, Ignored),
            ("bytes=1 - 2", 10, Ignored),
            ("bytes=1-2-3", 10, Ignored),
            ("bytes 0-1", 10, Ignored),
            ("lines=0-1", 10, Ignored),
            ("", 10, Ignored),
        ];
        for (field, size, expected) in table {
            assert_eq!(parse(field.as_bytes(), *size, RULES), *expected, "{field} of {size}");
        }
    }

    #[test]
    fn several_ranges_come_apart_and_in_their_order() {
        let table: &[(&str, u64, RangeOutcome)] = &[
            ("bytes=0-1,10-11", 20, Several(vec![0..2, 10..12])),
            ("bytes=10-11 , 0-1", 20, Several(vec![10..12, 0..2])),
            ("bytes=-2,0-1", 20, Several(vec![18..20, 0..2])),
            ("bytes=0-1,30-40", 20, One(0..2)),
            ("bytes=30-,40-", 20, Unsatisfiable),
            ("bytes=0-,-1", 0, Ignored),
            ("bytes=0-1,5-2", 20, Ignored),
            ("bytes=0-1,x", 20, Ignored),
            // They overlap, touch, or have less between them than another part's head takes.
            ("bytes=0-5,3-9", 20, One(0..10)),
            ("bytes=3-9,0-5", 20, One(0..10)),
            ("bytes=0-4,5-9", 20, One(0..10)),
            ("bytes=0-4,7-9", 20, One(0..10)),
            ("bytes=0-4,8-9", 20, Several(vec![0..5, 8..10])),
            ("bytes=0-,0-,0-,0-", 20, One(0..20)),
            // The second joins the first with the third, at the first's place.
            ("bytes=12-13,0-1,13-16", 20, Several(vec![12..17, 0..2])),
            ("bytes=0-1,15-16,8-9,14-15", 20, Several(vec![0..2, 14..17, 8..10])),
            ("bytes=0-0,5-5,10-10,15-15", 20, Several(vec![0..1, 5..6, 10..11, 15..16])),
            ("bytes=0-0,5-5,10-10,15-15,19-19", 20, Ignored),
        ];
        for (field, size, expected) in table {
            assert_eq!(parse(field.as_bytes(), *size, RULES), *expected, "{field} of {size}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_bytes(field in proptest::collection::vec(any::<u8>(), 0..40), size in any::<u64>()) {
            if let One(range) = parse(&field, size, RULES) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn no_byte_is_sent_twice(
            spans in proptest::collection::vec((0u64..200, 0u64..50), 2..5), size in 1u64..220
        ) {
            let specs: Vec<_> = spans.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let field = format!("bytes={}", specs.join(","));
            if let Several(ranges) = parse(field.as_bytes(), size, RULES) {
                prop_assert!(ranges.iter().map(|range| range.end - range.start).sum::<u64>() <= size);
            }
        }
    }
}
