//! The edge after the cut: everything works as before, nothing is left behind, nobody died.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_loadtest::wait_until;

use crate::THREADS;
use crate::edge::Edge;
use crate::files::{Stored, fetch_all};
use crate::report::passed;

/// A descriptor or two that come and go: the admin port's connections.
const DESCRIPTORS_SPARE: usize = 2;
/// A cold file that is kept open takes the store's descriptor and the memory's.
const DESCRIPTORS_EACH: usize = 2;

/// What the edge holds when it does nothing.
pub(crate) struct Held {
    descriptors: usize,
}

impl Held {
    pub(crate) fn by(edge: &Edge) -> anyhow::Result<Self> {
        wait_until("all connections are gone", || Ok(edge.load("connections")? == 0))?;
        Ok(Self { descriptors: descriptors(edge)? })
    }
}

/// Looks at everything once the edge is ready again.
pub(crate) fn check(edge: &mut Edge, hot: &[Stored], cold: &[Stored], before: &Held) -> anyhow::Result<()> {
    let began = Instant::now();
    wait_until("no operation is left in the store", || Ok(edge.load("storage_operations")? == 0))?;
    passed("what was stuck in the store ends", &format!("after {:.1?}", began.elapsed()))?;
    fetch_all(edge, cold)?;
    passed("cold files come now", &format!("{} files, every byte", cold.len()))?;
    fetch_all(edge, hot)?;
    passed("cached files come as before", &format!("{} files, every byte", hot.len()))?;

    let opened = DESCRIPTORS_EACH * cold.iter().filter(|stored| stored.is_kept_open()).count();
    let most = before.descriptors + opened + DESCRIPTORS_SPARE;
    let mut now = 0;
    let waited = wait_until("no more descriptors are open than before", || {
        now = descriptors(edge)?;
        Ok(now <= most)
    });
    let measured =
        format!("{} before, {now} now, {opened} of them for files opened since", before.descriptors);
    waited.with_context(|| measured.clone())?;
    passed("no descriptor is lost", &measured)?;
    check_alive(edge)?;
    passed("no worker died", &format!("{THREADS} workers, no panic in the log"))
}

/// The process lives, with all its workers.
pub(crate) fn check_alive(edge: &mut Edge) -> anyhow::Result<()> {
    ensure!(edge.process().is_running()?, "the edge has ended");
    let tasks = fs::read_dir(format!("/proc/{}/task", edge.pid()?))?;
    // A thread may end between the list and the look.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let workers = names.filter(|name| name.trim_end() == "worker").count();
    ensure!(workers == THREADS, "{workers} of {THREADS} workers are left");
    ensure!(!edge.process().log()?.contains("panicked"), "a thread of the edge has panicked");
    Ok(())
}

fn descriptors(edge: &Edge) -> anyhow::Result<usize> {
    // What the kernel's threads for the ring do is over within a moment; a count is of one moment.
    std::thread::sleep(Duration::from_millis(100));
    Ok(fs::read_dir(format!("/proc/{}/fd", edge.pid()?))?.count())
}
