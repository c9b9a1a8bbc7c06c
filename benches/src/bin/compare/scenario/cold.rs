//! Cold files out of a store that takes 5 ms for each MiB: one large download beside what fio reads of the same store,
//! and a thousand clients for one file, which should be read once.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use sluice_loadtest::faulty_store::{FaultyStore, Manner};
use tempfile::TempDir;

use crate::crowd::fetch_each;
use crate::fio;
use crate::lab::Lab;
use crate::meter::Meter;
use crate::report::{Bound, Goal, Measures, Rows};
use crate::server::{Kind, Known, Server};
use crate::tables::Style::{Count, Ratio};
use crate::tables::Value::Median;
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "Cold files out of a store that takes 5 ms for each MiB";

pub(super) const COLUMNS: &[Column] = &[
    column("edge, MB/s", Kind::Edge, Median("mb_per_second"), Count),
    column("÷ fio", Kind::Edge, Median("share_of_fio"), Ratio),
    column("nginx + `open_file_cache`, MB/s", Kind::NginxCache, Median("mb_per_second"), Count),
    column("edge, bytes read of the store ÷ size", Kind::Edge, Median("times_read"), Ratio),
    column(
        "nginx + `open_file_cache`, bytes read of the store ÷ size",
        Kind::NginxCache,
        Median("times_read"),
        Ratio,
    ),
];

pub(super) const GOALS: &[Goal] = &[
    Goal { what: "share of fio's rate", case: ONE, measure: "share_of_fio", bound: Bound::AtLeast(0.8) },
    Goal { what: "bytes read ÷ size", case: MANY, measure: "times_read", bound: Bound::AtMost(1.0) },
];

/// nginx keeps its descriptors: FUSE empties a file's page cache whenever it is opened, which is no fault of nginx's.
const SERVERS: [Kind; 2] = [Kind::NginxCache, Kind::Edge];
const PER_MIB: Duration = Duration::from_millis(5);
const ONE: &str = "one client, 1 GiB";
const LARGE: Known = Known { name: "large", bytes: 1 << 30 };
const MANY: &str = "1,000 clients, 16 MiB";
const CLIENTS: usize = 1_000;
const SHARED: Known = Known { name: "shared", bytes: 16 << 20 };
/// Reads an edge has under way for one file.
const DEPTH: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(120);

/// A slow store, mounted.
struct Site {
    // Let go of first: whoever is stuck in it could not end.
    store: FaultyStore,
    source: TempDir,
    mount: TempDir,
}

impl Site {
    fn make(lab: &Lab) -> anyhow::Result<Self> {
        let (source, mount) = (lab.root()?, lab.root()?);
        for file in [LARGE, SHARED] {
            file.write(source.path())?;
        }
        // As an NFS client does it.
        let manner = Manner { asynchronous: true, ..Manner::default() };
        let store = FaultyStore::mount_in(manner, source.path(), mount.path())?;
        store.delay(PER_MIB);
        Ok(Self { store, source, mount })
    }

    /// So many clients fetch one file, which is not cached.
    fn fetch(&self, server: &Server, file: Known, clients: usize) -> anyhow::Result<Measures> {
        let (reads, bytes) = (self.store.reads(file.name), self.store.bytes_read(file.name));
        let target = |number| server.target(file.name, number);
        let targets = (0..clients as u64).map(target).collect::<anyhow::Result<Vec<_>>>()?;
        let meter = Meter::start(server)?;
        let fetched = fetch_each(server.address(), targets, clients, PATIENCE)?;
        let is_whole = fetched.answers == clients as u64 && fetched.failures == 0;
        ensure!(is_whole, "{}, {clients} clients of {}: {fetched:?}", server.name(), file.name);
        let read = (self.store.bytes_read(file.name) - bytes) as f64;
        let measured = meter.stop(server, 0.0)?.measures();
        Ok(measured
            .with("mb_per_second", fetched.body_bytes as f64 / fetched.seconds / 1e6)
            .with("seconds", fetched.seconds)
            .with("reads", (self.store.reads(file.name) - reads) as f64)
            .with("times_read", read / file.bytes as f64))
    }

    fn fio(&self) -> anyhow::Result<Measures> {
        let reads = self.store.reads(LARGE.name);
        let rate = fio::read(&self.mount.path().join(LARGE.name), DEPTH)?;
        let reads = self.store.reads(LARGE.name) - reads;
        Ok(Measures::default().with("mb_per_second", rate / 1e6).with("reads", reads as f64))
    }
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let site = Site::make(lab)?;
    // What the source's filesystem has to read of its disk is no part of this.
    for file in [LARGE, SHARED] {
        fs::read(site.source.path().join(file.name))?;
    }
    // A virtual machine is given memory when it first touches it, which costs more than reading what then goes there: a
    // large file is fetched once before it counts.
    site.fetch(&lab.start(Kind::Edge, site.mount.path())?, LARGE, 1)?;
    for round in 0..lab.rounds {
        lab.say(ONE, round, fio::NAME)?;
        let by_fio = site.fio()?;
        rows.add(ONE, fio::NAME, by_fio.clone());
        for turn in 0..SERVERS.len() {
            let kind = SERVERS[(round + turn) % SERVERS.len()];
            // A new one each time, with nothing cached.
            let server = lab.start(kind, site.mount.path())?;
            lab.say(ONE, round, kind.name())?;
            let measured = site.fetch(&server, LARGE, 1)?;
            let share = measured.ratio(&by_fio, "mb_per_second");
            rows.add(ONE, kind.name(), measured.with("share_of_fio", share));
            lab.say(MANY, round, kind.name())?;
            rows.add(MANY, kind.name(), site.fetch(&server, SHARED, CLIENTS)?);
        }
    }
    Ok(())
}
