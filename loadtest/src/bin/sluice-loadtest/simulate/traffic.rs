//! Requests by Zipf's law from clients of all zones, and what becomes of them: bodies that edges have in flight, and
//! report.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use sluice_coordinator::routing::load::LoadReport;
use sluice_coordinator::routing::ring;
use sluice_coordinator::routing::zones::mixed;

use super::cluster::Cluster;
use super::report::Phase;
use crate::arguments::Simulate;

/// A body; where they differ, their mean.
const BODY_BYTES: f64 = 1_048_576.0;
/// Clients take what is in flight so that e⁻¹ of it is left after these seconds.
const SECONDS_IN_FLIGHT: f64 = 2.0;
/// Each edge reports once a second, at a moment of its own.
const SLICES: u32 = 10;
/// Late reports are of then.
const SECONDS_LATE: usize = 5;
/// Before that, loads are still growing: then a report of a second ago says too little of an edge, and more so of one than
/// of another. Three times what is in flight.
const SECONDS_TO_SETTLE: u32 = 6;

/// What coordinators hear of loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reports {
    Fresh,
    Late,
    None,
}

/// How large bodies are, which coordinators do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// All the same, as of ranges of large files.
    Equal,
    /// By the file, exponential.
    ByFile,
}

pub(super) struct Request {
    pub(super) place: u64,
    pub(super) client: IpAddr,
}

impl Request {
    fn bytes(&self, sizes: Sizes) -> f64 {
        match sizes {
            Sizes::Equal => BODY_BYTES,
            Sizes::ByFile => {
                let unit = ((mixed(self.place) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                -unit.ln() * BODY_BYTES
            }
        }
    }
}

/// Where requests come from: a sequence that follows from the seed.
pub(super) struct Traffic {
    state: u64,
    files: f64,
    zones: u32,
    rate: u32,
    seconds: u32,
    now: Duration,
}

/// An edge's work.
#[derive(Debug, Clone, Default)]
struct Work {
    in_flight: f64,
    assigned: f64,
    bodies: u64,
    bytes: f64,
    /// In flight at each second's end.
    past: Vec<f64>,
}

impl Traffic {
    pub(super) fn new(arguments: &Simulate) -> Self {
        Self {
            state: arguments.seed,
            files: arguments.files as f64,
            zones: arguments.zones,
            rate: arguments.rate,
            seconds: arguments.seconds,
            now: Duration::from_secs(10),
        }
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    /// 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end.max(1) as u64).unwrap_or_default()
    }

    /// A request for the file of a rank by Zipf's law with exponent 1, by the inverse of its continuous form.
    pub(super) fn request(&mut self) -> Request {
        let rank = (self.files + 1.0).powf(self.unit());
        self.request_for(rank)
    }

    /// A request for any file, each as likely as any other.
    pub(super) fn uniform_request(&mut self) -> Request {
        let rank = 1.0 + self.unit() * self.files;
        self.request_for(rank)
    }

    fn request_for(&mut self, rank: f64) -> Request {
        // The floor: ranks begin with 1.
        let place = ring::place(&rank.floor().to_bits().to_le_bytes());
        let bits = self.bits();
        let zone = u32::try_from(bits % u64::from(self.zones)).expect("a zone's number");
        let host = u16::try_from(bits >> 48).expect("sixteen bits");
        Request { place, client: Cluster::client(zone, host) }
    }

    pub(super) fn run(&mut self, cluster: &mut Cluster, name: &str, reports: Reports, sizes: Sizes) -> Phase {
        let is_settled = (reports, sizes) == (Reports::Fresh, Sizes::Equal);
        Phase { is_settled, ..self.run_with(cluster, name, (reports, sizes), |_, _| {}) }
    }

    /// Edges that go and come back each second.
    pub(super) fn run_flapping(&mut self, cluster: &mut Cluster, edges: &[usize]) -> Phase {
        self.run_with(
            cluster,
            "the same edges flapping",
            (Reports::Fresh, Sizes::Equal),
            |cluster, second| {
                let (half, others) = edges.split_at(edges.len() / 2);
                cluster.set_all_up(half, second.is_multiple_of(2));
                cluster.set_all_up(others, !second.is_multiple_of(2));
            },
        )
    }

    fn run_with(
        &mut self,
        cluster: &mut Cluster,
        name: &str,
        (reports, sizes): (Reports, Sizes),
        mut each_second: impl FnMut(&mut Cluster, u32),
    ) -> Phase {
        let numbers: HashMap<u32, usize> =
            (0..cluster.len()).map(|edge| (cluster.number(edge), edge)).collect();
        let mut work = vec![Work::default(); cluster.len()];
        let mut ratios = Vec::new();
        let mut requests = 0;
        let per_slice = cluster.weights() / 100.0 * f64::from(self.rate) / f64::from(SLICES);
        // What the phase before left has faded, in counts and in reports.
        self.now += Duration::from_secs(60);
        for second in 0..self.seconds {
            each_second(cluster, second);
            work.iter_mut().for_each(|work| work.assigned = 0.0);
            for slice in 0..SLICES {
                requests += self.slice(cluster, &numbers, &mut work, (per_slice, sizes));
                let reporting = (0..cluster.len()).filter(|edge| edge % SLICES as usize == slice as usize);
                for edge in reporting.filter(|edge| cluster.is_up(*edge)) {
                    if let Some(report) = report(&work[edge], reports) {
                        cluster.report(edge, &report, self.now);
                    }
                }
            }
            cluster.settle(self.now);
            work.iter_mut().for_each(|work| work.past.push(work.in_flight));
            if second >= SECONDS_TO_SETTLE || second + 1 == self.seconds {
                ratios.push(max_over_mean(cluster, &work));
            }
        }
        Phase::new(name, requests, ratios, loads(cluster, &work))
    }

    /// A slice of a second: requests one after the other, then what clients took meanwhile. Gives their number.
    fn slice(
        &mut self,
        cluster: &Cluster,
        numbers: &HashMap<u32, usize>,
        work: &mut [Work],
        (count, sizes): (f64, Sizes),
    ) -> u64 {
        let begun = self.now;
        let slice = 1.0 / f64::from(SLICES);
        let mut done = 0;
        while (done as f64) < count {
            self.now = begun + Duration::from_secs_f64(slice * done as f64 / count);
            let request = self.request();
            let edge = &mut work[numbers[&cluster.assign(&request, self.now)]];
            let bytes = request.bytes(sizes);
            edge.in_flight += bytes;
            edge.assigned += 1.0;
            edge.bodies += 1;
            edge.bytes += bytes;
            done += 1;
        }
        self.now = begun + Duration::from_secs_f64(slice);
        let left = (-slice / SECONDS_IN_FLIGHT).exp();
        work.iter_mut().for_each(|work| work.in_flight *= left);
        done
    }
}

fn report(work: &Work, reports: Reports) -> Option<LoadReport> {
    let in_flight = match reports {
        Reports::Fresh => work.in_flight,
        Reports::Late => *work.past.get(work.past.len().checked_sub(SECONDS_LATE)?)?,
        Reports::None => return None,
    };
    // Whole bytes.
    let whole = |bytes: f64| Duration::from_secs_f64(bytes / 1e6).as_micros().try_into().unwrap_or(u64::MAX);
    Some(LoadReport {
        in_flight_bytes: whole(in_flight),
        bodies: work.bodies,
        body_bytes: whole(work.bytes),
        ..LoadReport::default()
    })
}

/// Each edge's work for its weight, as a multiple of its zone's mean, over those that are up: in flight, in bodies, and
/// what was assigned in the last second.
fn loads(cluster: &Cluster, work: &[Work]) -> Vec<f64> {
    let load = |edge: usize| work[edge].in_flight / BODY_BYTES + work[edge].assigned;
    let mut zones: HashMap<u32, (f64, f64)> = HashMap::new();
    let up = || (0..cluster.len()).filter(|edge| cluster.is_up(*edge));
    for edge in up() {
        let (loads, weights) = zones.entry(cluster.zone_of(edge)).or_default();
        *loads += load(edge);
        *weights += cluster.weight(edge);
    }
    let of_mean = |edge: usize| {
        let (loads, weights) = zones[&cluster.zone_of(edge)];
        load(edge) / cluster.weight(edge) / (loads / weights)
    };
    up().map(of_mean).collect()
}

fn max_over_mean(cluster: &Cluster, work: &[Work]) -> f64 {
    loads(cluster, work).into_iter().fold(0.0, f64::max)
}
