//! Hot files, and cold ones from healthy storage, while downloads hang in the store: in its READs, or in its OPENs.
//!
//! The root has a healthy folder on a local filesystem, and a FUSE filesystem mounted beside it, of which a part hangs.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, thread};

use sluice_loadtest::faulty_store::{Errno, FaultyStore, Which};
use tempfile::TempDir;

use crate::crowd::{Crowd, Reading, fetch_each};
use crate::lab::Lab;
use crate::meter::Meter;
use crate::report::{Bound, Goal, Measures, Rows};
use crate::scenario::Scenario;
use crate::scenario::hot::{self, HotFiles};
use crate::server::{Kind, Server};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::Median;
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "Hot files of 16 KiB beside downloads that hang in the store, as a share of the same server's own rate without";

pub(super) const COLUMNS: &[Column] = &[
    column("edge", Kind::Edge, Median("share"), Share),
    column("edge, p99 ×", Kind::Edge, Median("p99_times"), Ratio),
    column("nginx + `open_file_cache`", Kind::NginxCache, Median("share"), Share),
    column("nginx + `aio threads`", Kind::NginxThreads, Median("share"), Share),
    column("edge, files/s", Kind::Edge, Median("requests_per_second"), Count),
];

const SERVERS: [Kind; 3] = [Kind::NginxCache, Kind::NginxThreads, Kind::Edge];
const COUNTS: [usize; 3] = [16, 128, 512];

/// Of a file that hangs: nobody ever gets any of it.
const STUCK_BYTES: u64 = 64 << 20;
/// The store keeps each file that was ever asked for open, which leaves no room for more.
const COLD_FILES: usize = 7_000;
const COLD_BYTES: u64 = 256 << 10;
const COLD_CONNECTIONS: usize = 64;

/// Where the store is mounted, beneath the root.
const MOUNT: &str = "store";
/// How long clients may take to ask; one whose server is stuck may never get through.
const ASK_PATIENCE: Duration = Duration::from_secs(3);
/// No more requests than these come to hang, if none has for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Cold files are asked for when what hangs has hung for so long: an edge takes a moment to tell it from what is slow.
const HUNG_FOR: Duration = Duration::from_secs(3);

/// What downloads hang in.
#[derive(Debug, Clone, Copy)]
enum Call {
    Read,
    Open,
}

impl Call {
    const ALL: [Self; 2] = [Self::Read, Self::Open];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "READs",
            Self::Open => "OPENs",
        }
    }
}

const NONE: &str = "none";
/// Once all that hung was let go of, beside the very first.
const AFTERWARDS: &str = "none, afterwards";
/// Beside these, cold files are asked for too.
const BESIDE_COLD: &str = "512 READs";
const COLD_ALONE: &str = "cold files";
const COLD: &str = "cold files, 512 READs";

pub(super) fn goals() -> Vec<Goal> {
    const CASES: [&str; 6] = ["16 READs", "128 READs", "512 READs", "16 OPENs", "128 OPENs", "512 OPENs"];
    let hot = CASES.into_iter().flat_map(|case| {
        let rate = ("share of the rate without", "share", Bound::AtLeast(0.9));
        let latency = ("p99 × that without", "p99_times", Bound::AtMost(2.0));
        [rate, latency].map(|(what, measure, bound)| Goal { what, case, measure, bound })
    });
    let cold =
        Goal { what: "share of the rate without", case: COLD, measure: "share", bound: Bound::AtLeast(0.8) };
    hot.chain([cold]).collect()
}

/// The store, and what is beneath it.
struct Site {
    // Let go of first: whoever is stuck in it could not end.
    store: FaultyStore,
    source: TempDir,
    root: TempDir,
    hot_files: HotFiles,
}

impl Site {
    fn make(lab: &Lab) -> anyhow::Result<Self> {
        let (root, source) = (lab.root()?, lab.root()?);
        let hot_files = HotFiles::make(root.path())?;
        make_holes(&source.path().join("cold"), 2 * COLD_FILES, COLD_BYTES)?;
        let mount = root.path().join(MOUNT);
        fs::create_dir(&mount)?;
        let store = FaultyStore::mount(source.path(), &mount)?;
        Ok(Self { store, source, root, hot_files })
    }

    /// Links to half of the cold files.
    fn cold_targets(&self, server: &Server, half: usize) -> anyhow::Result<Vec<String>> {
        let numbers = half * COLD_FILES..(half + 1) * COLD_FILES;
        numbers.map(|number| server.target(&format!("{MOUNT}/cold/{number}"), number as u64)).collect()
    }

    /// Starts so many downloads, each of another file by another user, that hang from then on. Once for each call and
    /// count: what was read before may be cached.
    fn hang(&self, server: &Server, call: Call, count: usize) -> anyhow::Result<Hanging<'_>> {
        let folder = format!("{count}-{}", call.name());
        make_holes(&self.source.path().join(&folder), count, STUCK_BYTES)?;
        let which = format!("{folder}/");
        match call {
            Call::Read => self.store.hold_reads(which.as_str()),
            Call::Open => self.store.hold_opens(which.as_str()),
        }
        let target = |number| server.target(&format!("{MOUNT}/{folder}/{number}"), number);
        let targets = (0..count as u64).map(target).collect::<anyhow::Result<Vec<_>>>()?;
        // Whatever happens from here on, what hangs is let go of.
        let mut hanging = Hanging { store: &self.store, crowd: None, since: Instant::now(), held: 0 };
        let mut crowd = Crowd::connect(server.address(), &targets, Reading::Fast)?;
        crowd.ask(ASK_PATIENCE)?;
        hanging.crowd = Some(crowd);
        hanging.wait_until_all_hang(count);
        Ok(hanging)
    }
}

/// Downloads that hang until this is dropped.
struct Hanging<'s> {
    store: &'s FaultyStore,
    crowd: Option<Crowd>,
    since: Instant,
    /// Requests that hang in the store. Fewer than downloads, where a server does not get so far with all of them.
    held: usize,
}

impl Hanging<'_> {
    fn wait_until_all_hang(&mut self, count: usize) {
        let mut changed = Instant::now();
        while self.held < count && changed.elapsed() < QUIET {
            let held = self.store.held();
            if held != self.held {
                (self.held, changed) = (held, Instant::now());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.since = Instant::now();
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        // Clients go first: a server that gets on finds nobody to send to.
        drop(self.crowd.take());
        // An error, so that nobody goes on to read 64 MiB of each.
        self.store.fail_reads(Which::all(), Errno::EIO);
        self.store.fail_opens(Which::all(), Errno::EIO);
        self.store.release();
        self.store.mend();
    }
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    for (round, turn) in lab.turns(SERVERS.len()) {
        let kind = SERVERS[turn];
        let site = Site::make(lab)?;
        let mut server = lab.start(kind, site.root.path())?;
        let links = site.hot_files.links(&server)?;
        let load = hot::load(&links);
        lab.say(COLD_ALONE, round, kind.name())?;
        let cold_alone = cold(lab, &server, site.cold_targets(&server, 0)?)?;
        rows.add(COLD_ALONE, kind.name(), cold_alone.clone());
        let mut first = None;
        for (call, count) in Call::ALL.into_iter().flat_map(|call| COUNTS.map(|count| (call, count))) {
            let case = format!("{count} {}", call.name());
            if !lab.selection.has_case(Scenario::Stuck, &case) {
                continue;
            }
            // Right before: the machine's speed is another one minutes later.
            lab.say(NONE, round, kind.name())?;
            let alone = lab.measure(&mut server, &load)?;
            rows.add(NONE, kind.name(), alone.clone());
            lab.say(&case, round, kind.name())?;
            let cold_targets = site.cold_targets(&server, 1)?;
            let hanging = site.hang(&server, call, count)?;
            let beside = beside(lab.measure_as_it_is(&mut server, &load)?, &alone);
            rows.add(&case, kind.name(), beside.with("held", hanging.held as f64));
            first.get_or_insert(alone);
            if case == BESIDE_COLD {
                lab.say(COLD, round, kind.name())?;
                thread::sleep(HUNG_FOR.saturating_sub(hanging.since.elapsed()));
                let beside = cold(lab, &server, cold_targets)?;
                let share = beside.ratio(&cold_alone, "requests_per_second");
                rows.add(COLD, kind.name(), beside.with("share", share));
            }
            drop(hanging);
            lab.wait_for(&mut server)?;
        }
        let Some(first) = first else { continue };
        lab.say(AFTERWARDS, round, kind.name())?;
        rows.add(AFTERWARDS, kind.name(), beside(lab.measure_as_it_is(&mut server, &load)?, &first));
    }
    Ok(())
}

/// With what it is of what the server did alone.
fn beside(measured: Measures, alone: &Measures) -> Measures {
    let share = measured.ratio(alone, "requests_per_second");
    let p99_times = measured.ratio(alone, "p99_ms");
    measured.with("share", share).with("p99_times", p99_times)
}

/// Fetches cold files, for as long as there are any or the time lasts.
fn cold(lab: &Lab, server: &Server, targets: Vec<String>) -> anyhow::Result<Measures> {
    let meter = Meter::start(server)?;
    let fetched = fetch_each(server.address(), targets, COLD_CONNECTIONS, Duration::from_secs(lab.seconds))?;
    let measured = meter.stop(server, 0.0)?.measures();
    Ok(measured
        .with("requests_per_second", fetched.answers as f64 / fetched.seconds)
        .with("gb_per_second", fetched.body_bytes as f64 / fetched.seconds / 1e9)
        .with("errors", fetched.failures as f64))
}

/// Makes files that hold nothing but zeros, and take no room.
fn make_holes(folder: &Path, count: usize, bytes: u64) -> io::Result<()> {
    fs::create_dir(folder)?;
    (0..count).try_for_each(|number| File::create(folder.join(number.to_string()))?.set_len(bytes))
}
