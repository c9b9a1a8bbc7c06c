//! RFC 9110 §13 and §14 for a file server, slowly: a file is a row of places, a range marks places, and what is sent is
//! what is marked. It shares no code and no text with the edge: it judges what a request *means*, which the generator
//! knows before it writes it down.

#![allow(unreachable_pub, reason = "a module of one test")]

/// A list of entity tags as meant.
#[derive(Debug, Clone)]
pub enum Tags {
    Any,
    /// Each weak or not, and whether it is the file's own.
    List(Vec<(bool, bool)>),
    /// No list at all.
    Broken,
}

/// A date as meant: seconds after the file's own, or no date.
pub type Date = Option<i64>;

#[derive(Debug, Clone)]
pub enum IfRange {
    Tag { is_weak: bool, is_own: bool },
    Date(Date),
}

#[derive(Debug, Clone, Copy)]
pub enum Spec {
    FromTo(u64, u64),
    From(u64),
    Suffix(u64),
    Broken,
}

/// A request as meant.
#[derive(Debug, Clone, Default)]
pub struct Meant {
    pub is_head: bool,
    pub if_match: Option<Tags>,
    pub if_none_match: Option<Tags>,
    pub if_modified_since: Option<Date>,
    pub if_unmodified_since: Option<Date>,
    pub if_range: Option<IfRange>,
    /// `None`: of another unit, or given twice.
    pub range: Option<Option<Vec<Spec>>>,
}

/// What has to come.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Whole,
    /// These places, first and last, each run a part, in this order.
    Runs(Vec<(u64, u64)>),
    NotModified,
    PreconditionFailed,
    RangeNotSatisfiable,
}

pub struct Rules {
    pub ranges_max: usize,
    /// Runs with fewer places between them are one.
    pub gap_min: u64,
}

/// §13.2.2, step by step, then §14.2.
pub fn expected(meant: &Meant, size: u64, rules: &Rules) -> Expected {
    // 1, 2
    let holds = match (&meant.if_match, meant.if_unmodified_since) {
        (Some(Tags::Any), _) => true,
        (Some(Tags::List(tags)), _) => tags.iter().any(|(is_weak, is_own)| *is_own && !is_weak),
        (Some(Tags::Broken), _) => false,
        (None, Some(Some(after))) => after >= 0,
        (None, Some(None) | None) => true,
    };
    if !holds {
        return Expected::PreconditionFailed;
    }
    // 3, 4
    let is_fresh = match (&meant.if_none_match, meant.if_modified_since) {
        (Some(Tags::Any), _) => true,
        (Some(Tags::List(tags)), _) => tags.iter().any(|(_, is_own)| *is_own),
        (Some(Tags::Broken), _) => false,
        (None, Some(Some(after))) => after >= 0,
        (None, Some(None) | None) => false,
    };
    if is_fresh {
        return Expected::NotModified;
    }
    // 5
    let Some(range) = meant.range.as_ref().filter(|_| !meant.is_head) else { return Expected::Whole };
    let is_same = match &meant.if_range {
        None => true,
        Some(IfRange::Tag { is_weak, is_own }) => *is_own && !is_weak,
        Some(IfRange::Date(date)) => *date == Some(0),
    };
    match range {
        Some(specs) if is_same => marked(specs, size, rules),
        _ => Expected::Whole,
    }
}

fn marked(specs: &[Spec], size: u64, rules: &Rules) -> Expected {
    let is_well_formed = |spec: &Spec| match spec {
        Spec::FromTo(first, last) => first <= last,
        Spec::From(_) => true,
        // Nothing says "the last bytes of nothing".
        Spec::Suffix(length) => size > 0 || *length == 0,
        Spec::Broken => false,
    };
    if specs.is_empty() || specs.len() > rules.ranges_max.max(1) || !specs.iter().all(is_well_formed) {
        return Expected::Whole;
    }
    let is_within = |spec: &Spec, place: u64| match *spec {
        Spec::FromTo(first, last) => first <= place && place <= last,
        Spec::From(first) => first <= place,
        Spec::Suffix(length) => size - place <= length,
        Spec::Broken => false,
    };
    // Each place has the first range that asks for it.
    let mut asked: Vec<Option<usize>> =
        (0..size).map(|place| specs.iter().position(|spec| is_within(spec, place))).collect();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for place in (0..size).filter(|place| asked[*place as usize].is_some()) {
        match runs.last_mut() {
            Some((_, last)) if place - *last - 1 < rules.gap_min => *last = place,
            _ => runs.push((place, place)),
        }
    }
    let mut first_asked = |(first, last): &(u64, u64)| {
        asked[*first as usize..=*last as usize].iter_mut().filter_map(|by| *by).min()
    };
    runs.sort_by_key(|run| first_asked(run));
    if runs.is_empty() { Expected::RangeNotSatisfiable } else { Expected::Runs(runs) }
}
