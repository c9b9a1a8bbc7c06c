//! (request, file, now) → Plan: which answer RFC 9110 asks for. Pure; it knows no socket, no cache and no header text.

pub mod conditional;
pub mod disposition;
pub mod range;

use std::ops::Range;

use crate::request::{Conditions, Method};
use conditional::Precondition;
use range::{RangeOutcome, RangeRules};

/// What there is to know of the file for planning an answer.
#[derive(Debug, Clone, Copy)]
pub struct Representation<'f> {
    /// Bytes.
    pub size: u64,
    /// A strong entity tag, quotes included.
    pub etag: &'f str,
    /// `Last-Modified`, in seconds since 1970.
    pub modified_secs: u64,
    /// What one part more adds to an answer of several ranges, in bytes.
    pub part_head_bytes: u64,
}

/// The answer to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// 200 with everything.
    Full,
    /// 206 with these bytes, never empty.
    Partial(Range<u64>),
    /// 206 with two parts or more, each some bytes of the file.
    Parts(Vec<Range<u64>>),
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
    /// 416
    RangeNotSatisfiable,
}

/// Decides, in the order of RFC 9110 §13.2.2. `now` in seconds since 1970; of more than `ranges_max` ranges none is
/// heard, and the whole file is the answer.
pub fn plan(
    method: Method,
    conditions: &Conditions<'_>,
    file: &Representation<'_>,
    now: u64,
    ranges_max: usize,
) -> Plan {
    match conditional::evaluate(conditions, file) {
        Precondition::Failed => return Plan::PreconditionFailed,
        Precondition::NotModified => return Plan::NotModified,
        Precondition::Holds => {}
    }
    // §14.2: Range is for GET alone.
    let (Method::Get, Some(asked)) = (method, conditions.range) else {
        return Plan::Full;
    };
    if conditions.if_range.is_some_and(|validator| !conditional::if_range_holds(validator, file, now)) {
        return Plan::Full;
    }
    let rules = RangeRules { ranges_max, part_head_bytes: file.part_head_bytes };
    match range::parse(asked, file.size, rules) {
        RangeOutcome::Ignored => Plan::Full,
        RangeOutcome::Unsatisfiable => Plan::RangeNotSatisfiable,
        RangeOutcome::One(range) => Plan::Partial(range),
        RangeOutcome::Several(ranges) => Plan::Parts(ranges),
    }
}
