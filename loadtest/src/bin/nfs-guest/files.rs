//! The files that are stored, and fetching them whole.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_loadtest::Content;
use sluice_loadtest::client::get_here;

use crate::edge::Edge;
use crate::stalled;

/// From this size on (exclusive) an edge keeps a file open, with two descriptors; below, it keeps the content alone.
const KEPT_OPEN_ABOVE: u64 = 64 * 1024;
/// Between two requests for cold files.
pub(crate) const COLD_EVERY: Duration = Duration::from_secs(2);

/// A file of the store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) content: Content,
}

impl Stored {
    pub(crate) fn new(name: String, bytes: u64) -> Self {
        let content = Content::new(&name, bytes);
        Self { name, content }
    }

    pub(crate) fn is_kept_open(&self) -> bool {
        self.content.size() > KEPT_OPEN_ABOVE
    }
}

/// Twenty files of every kind the edge knows: copied from memory, small ones in shared memory, and in windows; with
/// odd sizes among them. All of them fit the cache. The first is the smallest, the last the largest.
pub(crate) fn hot() -> Vec<Stored> {
    const KIB: u64 = 1024;
    let small = [1, 2 * KIB, 3 * KIB + 1, 4 * KIB, 5 * KIB + 7, 7 * KIB, 8 * KIB];
    let middle = [16 * KIB, 16 * KIB + 1, 33 * KIB, 64 * KIB];
    let large = [100 * KIB, 100 * KIB + 3, 300 * KIB, 1024 * KIB];
    let largest = [2048 * KIB, 3 * 1024 * KIB + 11, 4 * 1024 * KIB, 5 * 1024 * KIB + 1, 30 * 1024 * KIB + 5];
    let sizes = small.iter().chain(&middle).chain(&large).chain(&largest);
    sizes.enumerate().map(|(number, bytes)| Stored::new(format!("hot-{number:02}.bin"), *bytes)).collect()
}

/// Files that nobody has asked for before the server vanishes: one for each time that one is asked for.
pub(crate) fn cold(away: Duration) -> Vec<Stored> {
    let count = away.as_secs() / COLD_EVERY.as_secs();
    let size = |number| if number % 4 == 3 { 2_500_000 } else { 10_000 + number };
    (0..count).map(|number| Stored::new(format!("cold-{number:02}.bin"), size(number))).collect()
}

/// A file that is being downloaded, and is cached in part, when the server vanishes.
pub(crate) fn half() -> Stored {
    Stored::new("half.bin".to_owned(), stalled::BYTES)
}

pub(crate) fn total_bytes(files: &[Stored]) -> u64 {
    files.iter().map(|stored| stored.content.size()).sum()
}

/// Fetches every file whole and checks every byte.
pub(crate) fn fetch_all(edge: &Edge, files: &[Stored]) -> anyhow::Result<()> {
    for stored in files {
        let name = &stored.name;
        let answer = get_here(&edge.url(name)?).with_context(|| format!("fetching {name}"))?;
        ensure!(answer.status() == 200, "{name}: {} {}", answer.status(), answer.text());
        stored.content.check_whole(&answer.body).with_context(|| format!("fetching {name}"))?;
    }
    Ok(())
}
