//! Range requests (RFC 9110 §14). One range is answered; a list of several is ignored, as §14.2 allows.

use std::ops::Range;

/// What a `Range` field comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Another unit, not the syntax of §14.1.1, or several ranges: as if it were not there.
    Ignored,
    /// Nothing of it lies within the file.
    Unsatisfiable,
    /// Bytes of the file, at least one.
    One(Range<u64>),
}

/// Holds a `Range` field against a file of `size` bytes.
pub fn parse(field: &[u8], size: u64) -> RangeOutcome {
    match parse_spec(field) {
        None => RangeOutcome::Ignored,
        Some(spec) => spec.resolve(size),
    }
}

enum Spec {
    From(u64),
    FromTo(u64, u64),
    Suffix(u64),
}

impl Spec {
    fn resolve(self, size: u64) -> RangeOutcome {
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

fn parse_spec(field: &[u8]) -> Option<Spec> {
    let field = field.trim_ascii();
    let (unit, set) = field.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    // A list may have empty elements (§5.6.1.2).
    let mut elements =
        set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (elements.next(), elements.next()) else {
        return None;
    };
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    match (&spec[..dash], &spec[dash + 1..]) {
        ([], suffix) => number(suffix).map(Spec::Suffix),
        (first, []) => number(first).map(Spec::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::FromTo(first, last))
        }
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
            ("bytes=-", 10, Ignored),
            ("bytes=a-b", 10, Ignored),
            ("bytes=1", 10, Ignored),
            ("bytes=+1-2", 10, Ignored),
            ("bytes=1 - 2", 10, Ignored),
            ("bytes=1-2-3", 10, Ignored),
            ("bytes=0-1,3-4", 10, Ignored),
            ("bytes 0-1", 10, Ignored),
            ("lines=0-1", 10, Ignored),
            ("", 10, Ignored),
        ];
        for (field, size, expected) in table {
            assert_eq!(parse(field.as_bytes(), *size), *expected, "{field} of {size}");
        }
    }

    /// The definition, byte by byte: which bytes of the file does the range name?
    fn model(first: Option<u64>, last: Option<u64>, size: u64) -> RangeOutcome {
        let named: Vec<u64> = (0..size)
            .filter(|at| match (first, last) {
                (Some(first), last) => *at >= first && last.is_none_or(|last| *at <= last),
                (None, Some(suffix)) => at + suffix >= size,
                (None, None) => false,
            })
            .collect();
        match (first, last) {
            (None, None) => Ignored,
            (Some(first), Some(last)) if first > last => Ignored,
            (None, Some(1..)) if size == 0 => Ignored,
            _ => match (named.first(), named.last()) {
                (Some(first), Some(last)) => One(*first..last + 1),
                _ => Unsatisfiable,
            },
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            first in proptest::option::of(0u64..40),
            last in proptest::option::of(0u64..40),
            size in 0u64..30,
        ) {
            let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            let field = format!("bytes={}-{}", text(first), text(last));
            prop_assert_eq!(parse(field.as_bytes(), size), model(first, last, size), "{}", field);
        }

        #[test]
        fn takes_any_bytes(field in proptest::collection::vec(any::<u8>(), 0..40), size in any::<u64>()) {
            if let One(range) = parse(&field, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
