//! A pick in words: notes that are taken along the very walk that picks.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use sluice_shared::cluster::EdgeId;
use sluice_shared::file_id::FileId;

use super::hot::HotFiles;
use super::pick::{By, Finding, Notes};
use super::standing::Trust;
use super::{CANDIDATES_MAX, Question, Seat, Snapshot, Zone, place_of};

/// Why a file's request goes where it goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub file_id: String,
    pub client: IpAddr,
    /// What the news about edges are taken for.
    pub trust: Trust,
    /// Requests a second for the file in its zone that this coordinator answered; never too low.
    pub rate: f64,
    /// How many edges share the file for it.
    pub fan_out: u32,
    /// What was met on the way, in turn.
    pub steps: Vec<Step>,
    /// The edges, best first.
    pub candidates: Vec<EdgeId>,
}

/// Something met on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub zone: String,
    pub edge: Option<EdgeId>,
    /// For programs: zone, spread, chosen, out, excluded, fresh, full, ahead, last-resort.
    pub finding: &'static str,
    /// For people: a sentence without an end.
    pub text: String,
}

impl Snapshot {
    /// Why a request is sent where it would be sent now. Counts nothing, and changes nothing.
    pub fn explain(&self, file: &FileId<'_>, client: IpAddr, hot: &HotFiles, now: Duration) -> Explanation {
        let start = self.start(place_of(file), client);
        let fan_out = hot.fan_out(start.key(), now);
        let question = Question { start, now, not: None, fan_out, wanted: CANDIDATES_MAX };
        let mut notes = Writer { client, zone: String::new(), steps: Vec::new() };
        let candidates = self.walk(&question, &mut notes);
        Explanation {
            file_id: file.as_str().to_owned(),
            client,
            trust: self.trust(),
            rate: hot.rate(start.key(), now),
            fan_out,
            steps: notes.steps,
            candidates: candidates.iter().map(|candidate| candidate.edge().record.id.clone()).collect(),
        }
    }
}

struct Writer {
    client: IpAddr,
    zone: String,
    steps: Vec<Step>,
}

impl Writer {
    fn write(&mut self, edge: Option<&EdgeId>, finding: &'static str, text: String) {
        let step = Step { zone: self.zone.clone(), edge: edge.cloned(), finding, text };
        // A walk meets those that it steps over again and again.
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }
}

impl Notes for Writer {
    fn start(&mut self, zone: &Zone, by: By) {
        zone.name.as_ref().clone_into(&mut self.zone);
        let text = match by {
            By::Client => format!("{} is a client of this zone", self.client),
            By::File => {
                format!("{} is in no zone's networks; for such clients this is the file's zone", self.client)
            }
        };
        self.write(None, "zone", text);
    }

    fn zone(&mut self, zone: &Zone) {
        zone.name.as_ref().clone_into(&mut self.zone);
        let (open, all) = (zone.open.len(), zone.seats.len());
        self.write(None, "zone", format!("{open} of its {all} edges get requests"));
    }

    fn spread(&mut self, owners: usize, start: usize) {
        let text = format!(
            "the file is hot: {owners} edges share it, and this client starts at number {}",
            start + 1
        );
        self.write(None, "spread", text);
    }

    fn found(&mut self, seat: &Seat, finding: Finding) {
        let percent = |part: f64| (part * 100.0).round();
        let (name, text) = match finding {
            Finding::Chosen(weighed) => {
                let (load, bound) = (weighed.load, weighed.bound);
                ("chosen", format!("is taken: its load is {load:.1} bodies, its bound {bound:.0}"))
            }
            Finding::Out(state) => ("out", format!("is passed over: it is {}", state.name())),
            Finding::Excluded => ("excluded", "is passed over: the request says so".to_owned()),
            Finding::Fresh(share, turn) => {
                let (share, turn) = (percent(share), percent(turn));
                (
                    "fresh",
                    format!(
                        "is passed over: it is new and has {share} % of its files, this one comes at {turn} %"
                    ),
                )
            }
            Finding::Full(weighed) => {
                let (load, bound) = (weighed.load, weighed.bound);
                (
                    "full",
                    format!(
                        "is passed over: its load is {load:.1} bodies, and one more is over its bound, {bound:.0}"
                    ),
                )
            }
            Finding::Ahead(weighed) => {
                let (assigned, pace) = (weighed.assigned, weighed.pace);
                let text = format!(
                    "is passed over: {assigned:.1} bodies in the last second, and its part is {pace:.0}"
                );
                ("ahead", text)
            }
            Finding::LastResort => ("last-resort", "is taken after all: there is nobody else".to_owned()),
        };
        self.write(Some(&seat.edge.record.id), name, text);
    }
}
