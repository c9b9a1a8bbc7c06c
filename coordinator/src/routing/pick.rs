//! The walk to a request's edges. It is the one there is: what explains a pick walks it too, and takes notes.

use std::net::IpAddr;
use std::time::Duration;

use sluice_shared::client_net::normalise;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::hot::FAN_OUT_MAX;
use super::load::{Scale, Weighed};
use super::zones::{mixed, zone_of_file};
use super::{Edge, Seat, Snapshot, State, Zone, slow_start};

/// The edge that a client is sent to, and up to three others for when that one fails.
pub const CANDIDATES_MAX: usize = 4;

/// How far a ring is walked for an edge that gets requests. One in a hundred is found within it but for three times in
/// a hundred thousand; behind it those that do are taken by their number.
const RANGES_WALKED_MAX: usize = 1024;
/// How many are tried then.
const OPEN_TRIED_MAX: usize = 64;

/// Where the way of a file's request begins; good for the snapshot that gave it.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    place: u64,
    client: IpAddr,
    /// None where there are no edges at all.
    zone: Option<(usize, By)>,
    key: u64,
}

impl Start {
    /// What [`HotFiles`](super::hot::HotFiles) know the file by: it is another one in each zone, which has owners and
    /// a rate of its own.
    pub fn key(&self) -> u64 {
        self.key
    }
}

/// A request, as far as routing goes.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    pub start: Start,
    pub now: Duration,
    /// The id of an edge that is no answer.
    pub not: Option<&'q str>,
    /// How many owners the file has now, by [`HotFiles`](super::hot::HotFiles); at least 1.
    pub fan_out: u32,
    /// How many candidates are of use, up to [`CANDIDATES_MAX`].
    pub wanted: usize,
}

/// An edge that a request may be sent to.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'s> {
    zone: &'s Zone,
    seat: &'s Seat,
}

impl<'s> Candidate<'s> {
    pub fn edge(&self) -> &'s Edge {
        &self.seat.edge
    }

    /// The client is sent there: it counts as the edge's load from now on.
    pub fn assign(&self, now: Duration) {
        self.seat.edge.picks.increment(1);
        self.zone.load.assign(&self.seat.edge.load, now);
    }
}

/// The edges for one request, best first, distinct: none only where there is no edge but one that is no answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidates<'s> {
    list: [Option<Candidate<'s>>; CANDIDATES_MAX],
    count: usize,
}

impl<'s> Candidates<'s> {
    pub fn first(&self) -> Option<Candidate<'s>> {
        self.list[0]
    }

    pub fn iter(&self) -> impl Iterator<Item = Candidate<'s>> {
        self.list.into_iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Of those that do not fit, the list keeps none.
    fn push(&mut self, candidate: Candidate<'s>) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = Some(candidate);
            self.count += 1;
        }
    }

    fn has(&self, seat: &Seat) -> bool {
        self.list[..self.count].iter().flatten().any(|known| std::ptr::eq(known.seat, seat))
    }
}

/// What came of an edge that the walk met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finding {
    Chosen(Weighed),
    /// It gets no requests.
    Out(State),
    /// The request says that it is no answer.
    Excluded,
    /// It is new, and the file's turn has not come: the share that has, and the file's turn, 0 to 1.
    Fresh(f64, f64),
    Full(Weighed),
    /// It was given more than its part of the last second's work.
    Ahead(Weighed),
    /// It was passed over, and there is nobody else.
    LastResort,
}

/// How the first zone was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Client,
    File,
}

/// Who watches a walk.
pub(super) trait Notes {
    fn start(&mut self, _zone: &Zone, _by: By) {}
    /// The zone is walked, or has nobody to walk to.
    fn zone(&mut self, _zone: &Zone) {}
    /// A hot file's owners: how many, and at which of them its client starts.
    fn spread(&mut self, _owners: usize, _start: usize) {}
    fn found(&mut self, _seat: &Seat, _finding: Finding) {}
}

/// Nobody.
struct Unwatched;

impl Notes for Unwatched {}

impl Snapshot {
    /// Where a request begins for the file at `place`, by [`place_of`](super::place_of). Neither locks nor allocates.
    pub fn start(&self, place: u64, client: IpAddr) -> Start {
        let zone = match self.plan.zone_of(client) {
            Some(at) => Some((at, By::Client)),
            None if self.zones.len() == 1 => Some((0, By::File)),
            None => zone_of_file(place, &self.contenders).map(|at| (at, By::File)),
        };
        let key = zone.map_or(place, |(at, _)| mixed(place ^ self.contenders[at].hash));
        Start { place, client, zone, key }
    }

    /// The edges for a request. Neither locks nor allocates.
    pub fn pick(&self, question: &Question<'_>) -> Candidates<'_> {
        self.walk(question, &mut Unwatched)
    }

    pub(super) fn walk(&self, question: &Question<'_>, notes: &mut impl Notes) -> Candidates<'_> {
        let mut chosen = Candidates::default();
        let Some((first, by)) = question.start.zone else { return chosen };
        let first = &self.zones[first];
        notes.start(first, by);
        for turn in &first.turns {
            if chosen.len() >= question.wanted {
                break;
            }
            let zone = &self.zones[usize::from(*turn)];
            notes.zone(zone);
            if zone.open.is_empty() {
                continue;
            }
            let scale = zone.load.scale(self.policy.slack, &self.mean_body, question.now);
            let (slow_start, before) = (self.policy.slow_start, chosen.len());
            let (ahead, passed) = (Candidates::default(), Candidates::default());
            let mut walk =
                Walk { zone, question, scale, slow_start, before, chosen, ahead, passed, excluded: 0, notes };
            walk.run();
            chosen = walk.chosen;
        }
        chosen
    }
}

/// A walk along one zone's ring.
struct Walk<'s, 'w, N> {
    zone: &'s Zone,
    question: &'w Question<'w>,
    scale: Scale,
    slow_start: Duration,
    /// Candidates of zones before.
    before: usize,
    chosen: Candidates<'s>,
    /// Those that were given more than their part of the last second's work, and are not full.
    ahead: Candidates<'s>,
    /// Those that were passed over while they may get requests.
    passed: Candidates<'s>,
    /// Edges that may get requests, and are no answer.
    excluded: usize,
    notes: &'w mut N,
}

impl<N: Notes> Walk<'_, '_, N> {
    fn run(&mut self) {
        let zone = self.zone;
        if self.question.fan_out > 1 {
            self.start_among_owners();
        }
        for at in zone.table.walk(self.question.start.place).take(RANGES_WALKED_MAX) {
            if self.is_over() {
                break;
            }
            self.consider(at);
        }
        if !self.is_over() {
            self.try_by_number();
        }
        for candidate in self.ahead.iter().chain(self.passed.iter()) {
            if self.chosen.len() < self.question.wanted {
                self.notes.found(candidate.seat, Finding::LastResort);
                self.chosen.push(candidate);
            }
        }
    }

    /// Whether there are candidates enough, or none to come.
    fn is_over(&self) -> bool {
        let met = self.chosen.len() - self.before + self.ahead.len() + self.passed.len() + self.excluded;
        self.chosen.len() >= self.question.wanted || met >= self.zone.open.len()
    }

    fn consider(&mut self, at: u32) {
        let seat = &self.zone.seats[at as usize];
        if !seat.may {
            return self.notes.found(seat, Finding::Out(seat.state));
        }
        if self.chosen.has(seat) || self.ahead.has(seat) || self.passed.has(seat) {
            return;
        }
        let candidate = Candidate { zone: self.zone, seat };
        if self.is_excluded(seat) {
            self.excluded = 1;
            return self.notes.found(seat, Finding::Excluded);
        }
        if let Some((share, turn)) = self.to_come(seat) {
            self.passed.push(candidate);
            return self.notes.found(seat, Finding::Fresh(share, turn));
        }
        let weighed = self.scale.weigh(seat.member());
        if weighed.is_full() {
            self.passed.push(candidate);
            return self.notes.found(seat, Finding::Full(weighed));
        }
        if weighed.is_ahead() {
            self.ahead.push(candidate);
            return self.notes.found(seat, Finding::Ahead(weighed));
        }
        self.chosen.push(candidate);
        self.notes.found(seat, Finding::Chosen(weighed));
    }

    fn is_excluded(&self, seat: &Seat) -> bool {
        self.question.not.is_some_and(|not| not == seat.edge.record.id.as_str())
    }

    /// For a new edge whose turn to have the file is to come: the share whose turn has come, and the file's turn.
    fn to_come(&self, seat: &Seat) -> Option<(f64, f64)> {
        let age = self.question.now.saturating_sub(seat.fresh_since?);
        let share = slow_start::share(age, self.slow_start);
        let turn = slow_start::turn(self.question.start.place, seat.edge.record.id.as_str());
        (turn >= share).then_some((share, turn))
    }

    /// Begins at one of a hot file's owners: the client's, so that all its requests for the file meet one cache; where
    /// that is over its bound, at a second one of its own (two choices leave the fullest of many far less full than
    /// one; Mitzenmacher, 2001), then at the others.
    fn start_among_owners(&mut self) {
        let mut owners = [0; FAN_OUT_MAX as usize];
        let wanted = owners.len().min(self.question.fan_out as usize);
        let mut count = 0;
        for at in self.zone.table.walk(self.question.start.place).take(RANGES_WALKED_MAX) {
            let seat = &self.zone.seats[at as usize];
            let takes = seat.may && !self.is_excluded(seat) && self.to_come(seat).is_none();
            if takes && !owners[..count].contains(&at) {
                owners[count] = at;
                count += 1;
                if count == wanted {
                    break;
                }
            }
        }
        let owners = &owners[..count];
        if count < 2 {
            return;
        }
        let hash = client_hash(self.question);
        let nth = |hash: u64, of: usize| usize::try_from(hash % of as u64).unwrap_or_default();
        let first = nth(hash, count);
        let second = (first + 1 + nth(hash >> 32, count - 1)) % count;
        self.notes.spread(count, first);
        for at in [first, second].into_iter().chain(0..count) {
            if self.is_over() {
                break;
            }
            self.consider(owners[at]);
        }
    }

    /// Where those that get requests are so few that the walk met too few: in their order, from the file's own on.
    fn try_by_number(&mut self) {
        let open = &self.zone.open;
        let start = usize::try_from(self.question.start.place % open.len() as u64).unwrap_or_default();
        let (before, from) = open.split_at(start);
        for at in from.iter().chain(before).take(OPEN_TRIED_MAX) {
            if self.is_over() {
                break;
            }
            self.consider(*at);
        }
    }
}

/// The same for all requests of one subscriber for one file: an IPv6 client has its whole /64.
fn client_hash(question: &Question<'_>) -> u64 {
    let bits = match normalise(question.start.client) {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
    };
    xxh3_64_with_seed(&bits.to_le_bytes(), question.start.place)
}
