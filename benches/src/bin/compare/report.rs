//! What was measured: every round, medians, ratios; as JSON and as a Markdown table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::Arguments;
use crate::machine::Machine;
use crate::wrk::Seen;

/// A file size, and how it is asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    pub(crate) connections: u32,
}

/// One server, measured once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measurement {
    pub(crate) requests_per_second: f64,
    pub(crate) gb_per_second: f64,
    pub(crate) p99_ms: f64,
    /// Processor seconds of the server, in all.
    pub(crate) cpu_seconds: f64,
    /// The part of the time that the server was busy, 0 to 1: far below 1, requests/s is wrk's limit.
    pub(crate) busy: f64,
    pub(crate) cpu_seconds_per_100k_requests: f64,
    /// Per 10^9 bytes.
    pub(crate) cpu_seconds_per_gb: f64,
}

impl Measurement {
    pub(crate) fn new(seen: &Seen, cpu_seconds: f64) -> Self {
        Self {
            requests_per_second: seen.requests / seen.seconds,
            gb_per_second: seen.bytes / seen.seconds / 1e9,
            p99_ms: seen.p99_ms,
            cpu_seconds,
            busy: cpu_seconds / seen.seconds,
            cpu_seconds_per_100k_requests: cpu_seconds / seen.requests * 1e5,
            cpu_seconds_per_gb: cpu_seconds / seen.bytes * 1e9,
        }
    }

    /// Field by field, over several measurements.
    fn combine(all: &[Self], combine: impl Fn(Vec<f64>) -> f64) -> Self {
        let field = |of: fn(&Self) -> f64| combine(all.iter().map(of).collect());
        Self {
            requests_per_second: field(|one| one.requests_per_second),
            gb_per_second: field(|one| one.gb_per_second),
            p99_ms: field(|one| one.p99_ms),
            cpu_seconds: field(|one| one.cpu_seconds),
            busy: field(|one| one.busy),
            cpu_seconds_per_100k_requests: field(|one| one.cpu_seconds_per_100k_requests),
            cpu_seconds_per_gb: field(|one| one.cpu_seconds_per_gb),
        }
    }
}

/// The edge's measurement divided by another server's of the same round; medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Ratios {
    /// Above 1: more requests a second than that server.
    pub(crate) requests_per_second: f64,
    /// Below 1: less processor time for a byte than that server. By bytes, because wrk counts whole answers only.
    pub(crate) cpu_per_byte: f64,
}

/// One server at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) size: Size,
    pub(crate) server: &'static str,
    pub(crate) rounds: Vec<Measurement>,
    pub(crate) median: Option<Measurement>,
    /// The edge against this server; absent for the edge itself.
    pub(crate) edge_ratios: Option<Ratios>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    /// The last one is the edge.
    pub(crate) servers: [&'static str; 3],
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(machine: Machine, arguments: &Arguments, servers: [&'static str; 3]) -> Self {
        Self { machine, rounds: arguments.rounds, seconds: arguments.seconds, servers, rows: Vec::new() }
    }

    /// Takes a measurement; every server's come in the order of rounds.
    pub(crate) fn add(&mut self, size: Size, server: &'static str, round: usize, measured: Measurement) {
        let known = self.rows.iter().position(|row| row.size.name == size.name && row.server == server);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row { size, server, rounds: Vec::new(), median: None, edge_ratios: None });
            self.rows.len() - 1
        });
        debug_assert_eq!(self.rows[at].rounds.len(), round);
        self.rows[at].rounds.push(measured);
    }

    /// Works out medians and ratios, when everything is measured.
    pub(crate) fn conclude(&mut self) {
        let edge = self.servers[2];
        let edge_rounds = |rows: &[Row], size: &str| {
            let row = rows.iter().find(|row| row.size.name == size && row.server == edge);
            row.map(|row| row.rounds.clone()).unwrap_or_default()
        };
        for at in 0..self.rows.len() {
            let edge_rounds = edge_rounds(&self.rows, self.rows[at].size.name);
            let row = &mut self.rows[at];
            row.median = Some(Measurement::combine(&row.rounds, median));
            if row.server != edge {
                let ratios = |of: fn(&Measurement) -> f64| {
                    let rounds = edge_rounds.iter().zip(&row.rounds);
                    median(rounds.map(|(edge, other)| of(edge) / of(other)).collect())
                };
                row.edge_ratios = Some(Ratios {
                    requests_per_second: ratios(|one| one.requests_per_second),
                    cpu_per_byte: ratios(|one| one.cpu_seconds_per_gb),
                });
            }
        }
        // Sizes in their order, servers in theirs; rotation has mixed them.
        let servers = self.servers;
        let place = |server: &str| servers.iter().position(|known| *known == server);
        self.rows.sort_by_key(|row| (row.size.bytes, place(row.server)));
    }

    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}; {} ({} cores), Linux {}; {}; {}; {}; medians of {} rounds of {} s, one core each for server and wrk\n\n",
            machine.date,
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.edge,
            machine.nginx,
            machine.wrk,
            self.rounds,
            self.seconds
        );
        text.push_str("| file | server | requests/s | GB/s | p99 ms | core busy | CPU s / 100k requests | CPU s / GB | edge: requests/s × | edge: CPU × |\n");
        text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for row in &self.rows {
            let Some(median) = row.median else { continue };
            let (rate, cpu) = match &row.edge_ratios {
                Some(ratios) => {
                    (format!("{:.2}", ratios.requests_per_second), format!("{:.2}", ratios.cpu_per_byte))
                }
                None => Default::default(),
            };
            // Whole requests of a large file are too few for a number without a fraction.
            let decimals = if median.requests_per_second < 1000.0 { 1 } else { 0 };
            let _ = writeln!(
                text,
                "| {} | {} | {:.decimals$} | {:.2} | {:.1} | {:.0} % | {:.2} | {:.3} | {rate} | {cpu} |",
                row.size.name,
                row.server,
                median.requests_per_second,
                median.gb_per_second,
                median.p99_ms,
                median.busy * 100.0,
                median.cpu_seconds_per_100k_requests,
                median.cpu_seconds_per_gb,
            );
        }
        text
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert!(median(vec![]).is_nan());
    }
}
