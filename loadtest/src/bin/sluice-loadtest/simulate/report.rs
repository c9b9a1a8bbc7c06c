//! The results: JSON for programs, a table for people.

use std::io::{self, Write};

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) edges: u32,
    pub(super) zones: u32,
    pub(super) files: u64,
    pub(super) seed: u64,
    pub(super) rate_per_edge: u32,
    /// The fullest edge for its weight, as a multiple of its zone's mean: the worst second of all settled phases.
    pub(super) max_over_mean_load: f64,
    pub(super) moved_fraction: f64,
    pub(super) ideal_moved_fraction: f64,
    pub(super) needlessly_moved_fraction: f64,
    pub(super) moved_by_flapping_fraction: f64,
    /// Real time, from here on; the whole of what routing does for a request.
    pub(super) pick_ns: f64,
    /// All rings from nothing.
    pub(super) build_ms: f64,
    /// The longest after an edge came or went, and after one changed its state.
    pub(super) rebuild_ms: f64,
    pub(super) rebuild_ms_of_state: f64,
    /// The simulation's own tables included.
    pub(super) rss_bytes: u64,
    pub(super) phases: Vec<Phase>,
}

/// Traffic under one condition.
#[derive(Serialize)]
pub(super) struct Phase {
    pub(super) name: String,
    /// Edges stay as they are, reports are fresh and bodies of equal size: the coordinator knows what it bounds.
    pub(super) is_settled: bool,
    pub(super) requests: u64,
    /// The worst second.
    pub(super) max_over_mean_load: f64,
    /// Of each second once loads have settled.
    pub(super) max_over_mean_by_second: Vec<f64>,
    /// At the end, of edges as multiples of the mean.
    pub(super) load_p1: f64,
    pub(super) load_p50: f64,
    pub(super) load_p99: f64,
    /// For the plot: the same at equal steps from the least to the most loaded.
    pub(super) load_steps: Vec<f64>,
}

const STEPS: usize = 100;

impl Phase {
    pub(super) fn new(name: &str, requests: u64, ratios: Vec<f64>, mut loads: Vec<f64>) -> Self {
        loads.sort_by(f64::total_cmp);
        let at = |step: usize| {
            loads.get((loads.len().saturating_sub(1)) * step / STEPS).copied().unwrap_or_default()
        };
        Self {
            name: name.to_owned(),
            is_settled: false,
            requests,
            max_over_mean_load: ratios.iter().copied().fold(0.0, f64::max),
            max_over_mean_by_second: ratios,
            load_p1: at(1),
            load_p50: at(50),
            load_p99: at(99),
            load_steps: (0..=STEPS).map(at).collect(),
        }
    }
}

impl Report {
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Self { edges, zones, files, seed, .. } = self;
        writeln!(out, "{edges} edges in {zones} zones, {files} files, seed {seed}\n")?;
        writeln!(
            out,
            "{:<28} {:>10} {:>9} {:>7} {:>7} {:>7}",
            "phase", "requests", "max/mean", "p1", "p50", "p99"
        )?;
        for phase in &self.phases {
            let Phase { name, requests, max_over_mean_load: max, load_p1, load_p50, load_p99, .. } = phase;
            writeln!(
                out,
                "{name:<28} {requests:>10} {max:>9.3} {load_p1:>7.3} {load_p50:>7.3} {load_p99:>7.3}"
            )?;
        }
        let times_ideal = self.moved_fraction / self.ideal_moved_fraction;
        writeln!(out)?;
        let mut line = |name: &str, value: String| writeln!(out, "{name:<28} {value}");
        line("max/mean, settled phases", format!("{:.3}", self.max_over_mean_load))?;
        line("moved by joins and deaths", format!("{:.5} ({times_ideal:.3} of ideal)", self.moved_fraction))?;
        line("moved without need", format!("{:.6}", self.needlessly_moved_fraction))?;
        line("moved by flapping", format!("{:.6}", self.moved_by_flapping_fraction))?;
        line("a request's routing", format!("{:.0} ns", self.pick_ns))?;
        line("all rings from nothing", format!("{:.0} ms", self.build_ms))?;
        line("an edge comes or goes", format!("{:.1} ms", self.rebuild_ms))?;
        line("an edge dies or returns", format!("{:.2} ms", self.rebuild_ms_of_state))?;
        line("resident memory", format!("{} MiB", self.rss_bytes >> 20))
    }
}
