//! A simulated cluster, routed by the coordinator's own code: how evenly work is spread, how much a change moves, and
//! what a pick and a change cost, in a cluster as large as you like.
//!
//! Time is simulated, and everything but what is measured in real time and memory follows from the seed.

mod chart;
mod cluster;
mod placement;
mod report;
mod traffic;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::arguments::Simulate;
use cluster::Cluster;
use placement::Placement;
use report::{Phase, Report};
use traffic::{Reports, Sizes, Traffic};

/// Picks that are timed.
const PICKS_TIMED: u32 = 1_000_000;
/// Of each kind: joins, deaths.
const CHANGES_MIN: usize = 5;
/// Of the machines that Sluice runs on.
const PAGE_BYTES: u64 = 4096;

pub(crate) fn run(arguments: &Simulate) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut cluster = Cluster::new(arguments);
    let build_ms = millis(begun.elapsed());
    let pick_ns = pick_ns(&cluster, arguments);
    let changes = changes(&mut cluster, arguments);
    let phases = phases(&mut cluster, arguments);
    let settled = phases.iter().filter(|phase| phase.is_settled);
    let report = Report {
        edges: arguments.edges,
        zones: arguments.zones,
        files: arguments.files,
        seed: arguments.seed,
        rate_per_edge: arguments.rate,
        max_over_mean_load: settled.map(|phase| phase.max_over_mean_load).fold(0.0, f64::max),
        moved_fraction: changes.moved.moved_fraction,
        ideal_moved_fraction: changes.moved.ideal_moved_fraction,
        needlessly_moved_fraction: changes.moved.needless_fraction,
        moved_by_flapping_fraction: changes.flapping,
        pick_ns,
        build_ms,
        rebuild_ms: changes.rebuild_ms,
        rebuild_ms_of_state: changes.state_ms,
        rss_bytes: rss_bytes()?,
        phases,
    };
    let text = serde_json::to_string_pretty(&report)? + "\n";
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(&arguments.json, &text)?;
    write(&arguments.json.with_extension("svg"), &chart::of(&report))?;
    report.print()?;
    Ok(())
}

/// The mean time of a pick with its start, the file's rate and its assignment: all that routing costs a request.
fn pick_ns(cluster: &Cluster, arguments: &Simulate) -> f64 {
    let mut traffic = Traffic::new(arguments);
    let requests: Vec<_> = (0..PICKS_TIMED).map(|_| traffic.request()).collect();
    let begun = Instant::now();
    for (n, request) in requests.iter().enumerate() {
        // The requests of a second, in the time that they would take one coordinator of a few.
        let now = Duration::from_micros(n as u64 * 10);
        cluster.assign(request, now);
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS_TIMED)
}

/// What came of edges that come, die and flap.
struct Changes {
    moved: placement::Moved,
    /// The part of the files that was elsewhere after an edge had flapped.
    flapping: f64,
    /// The longest snapshot after an edge's coming or going, and after a change of state.
    rebuild_ms: f64,
    state_ms: f64,
}

fn changes(cluster: &mut Cluster, arguments: &Simulate) -> Changes {
    let count = (cluster.len() / 100).max(CHANGES_MIN).min(cluster.len() / 2);
    let mut traffic = Traffic::new(arguments);
    let places = placement::sample(&mut traffic);
    let mut moved = placement::Moved::default();
    let (mut rebuild_ms, mut state_ms) = (0.0_f64, 0.0_f64);
    let mut before = Placement::of(cluster, &places);
    for _ in 0..count {
        // One at a time for what it costs, all together for what they move.
        rebuild_ms = rebuild_ms.max(millis(cluster.join(&mut traffic)));
    }
    let after = Placement::of(cluster, &places);
    moved.joined(&before, &after, cluster, count);
    before = after;
    let dead = cluster.some(count, &mut traffic);
    for edge in &dead {
        state_ms = state_ms.max(millis(cluster.set_up(*edge, false)));
    }
    let after = Placement::of(cluster, &places);
    moved.died(&before, &after, cluster, &dead);
    cluster.set_all_up(&dead, true);
    let flapping = before.differs_from(&Placement::of(cluster, &places));
    for edge in dead {
        rebuild_ms = rebuild_ms.max(millis(cluster.leave_and_return(edge)));
    }
    Changes { moved, flapping, rebuild_ms, state_ms }
}

/// Traffic under one condition after the other.
fn phases(cluster: &mut Cluster, arguments: &Simulate) -> Vec<Phase> {
    let mut traffic = Traffic::new(arguments);
    let mut phases = vec![traffic.run(cluster, "steady", Reports::Fresh, Sizes::Equal)];
    let joined: Vec<_> = (0..CHANGES_MIN).map(|_| cluster.join(&mut traffic)).collect();
    phases.push(traffic.run(
        cluster,
        &format!("{} edges joined", joined.len()),
        Reports::Fresh,
        Sizes::Equal,
    ));
    let count = (cluster.len() / 10).max(1).min(cluster.len() / 3);
    let dead = cluster.some(count, &mut traffic);
    cluster.set_all_up(&dead, false);
    phases.push(traffic.run(cluster, "a tenth of the edges dead", Reports::Fresh, Sizes::Equal));
    phases.push(traffic.run_flapping(cluster, &dead));
    cluster.set_all_up(&dead, true);
    if arguments.zones > 1 {
        let zone = cluster.zone(0);
        cluster.set_all_up(&zone, false);
        phases.push(traffic.run(cluster, "a zone lost", Reports::Fresh, Sizes::Equal));
        cluster.set_all_up(&zone, true);
    }
    phases.push(traffic.run(cluster, "sizes unknown, by file", Reports::Fresh, Sizes::ByFile));
    phases.push(traffic.run(cluster, "reports 5 s late", Reports::Late, Sizes::Equal));
    phases.push(traffic.run(cluster, "no reports", Reports::None, Sizes::Equal));
    phases
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// Of this process: the simulation's own tables are in it.
fn rss_bytes() -> anyhow::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.context("/proc/self/statm has no number of resident pages")?;
    Ok(pages * PAGE_BYTES)
}
