//! Faults of the store.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use sluice_loadtest::client::{self, Connection};
use sluice_loadtest::crowd::target_of;
use sluice_loadtest::faulty_store::{Asked, Errno, FaultyStore, Which};
use sluice_loadtest::settings::Settings;
use sluice_loadtest::{Cluster, Content, wait_until};
use tempfile::TempDir;

use crate::availability::small;
use crate::stage::{Case, Stage, nothing, usual};

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceStorageAway", the_store_is_gone),
    Case::new("SluiceRootAbsent", the_store_is_unmounted),
    Case::new("SluiceStorageStuck", one_read_hangs),
    Case::new("SluiceStorageSaturated", more_is_asked_than_the_store_gives),
    Case::new("SluiceReadsFail", a_part_of_one_file_cannot_be_read),
    Case {
        magnified: SIXTY,
        ..Case::new("SluiceCacheCold", files_are_asked_for_that_nobody_asked_for_before)
    },
];

/// A window stands for sixty: the alert wants ten a second, for an hour and a half.
const SIXTY: &[(&str, f64)] =
    &[("sluice_edge_window_misses_total", 60.0), ("sluice_edge_window_hits_total", 60.0)];

const MIB: u64 = 1 << 20;

/// Edges over a store that can be made faulty. The store goes first when all is dropped, so that edges can end.
pub(crate) struct Mounted {
    pub(crate) store: FaultyStore,
    pub(crate) cluster: Cluster,
    source: TempDir,
    _mount: TempDir,
}

impl Mounted {
    /// Two edges over these files, each with its size, and the one that is asked for as usual.
    pub(crate) fn start(
        files: &[(&str, u64)],
        change: impl Fn(Settings) -> Settings,
    ) -> anyhow::Result<Self> {
        let (source, mount) = (tempfile::tempdir()?, tempfile::tempdir()?);
        for (name, size) in files.iter().chain(&[("a.bin", 2000)]) {
            let path = source.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(source.path()))?;
            Content::new(name, *size).write(&path)?;
        }
        let store = FaultyStore::mount(source.path(), mount.path())?;
        let root = format!("root = {:?}", mount.path());
        let cluster = Cluster::start().edges(2).every_edge(|edge| change(edge.toml(&root))).ready()?;
        Ok(Self { store, cluster, source, _mount: mount })
    }

    /// Makes so many files of a size, which are nothing but holes, and gives their names.
    fn publish(&self, folder: &str, count: usize, size: u64) -> anyhow::Result<Vec<String>> {
        let names: Vec<String> = (0..count).map(|number| format!("{folder}/{number}.bin")).collect();
        fs::create_dir_all(self.source.path().join(folder))?;
        for name in &names {
            File::create(self.source.path().join(name))?.set_len(size)?;
        }
        Ok(names)
    }
}

/// Waits until every edge exports a value.
fn wait_until_all(cluster: &Cluster, series: &str, value: f64) -> anyhow::Result<()> {
    for edge in cluster.edges() {
        wait_until(&format!("{} has {series} {value}", edge.id()), || Ok(edge.metric(series)? == value))?;
    }
    Ok(())
}

/// Downloads a file, and minds nothing but that it is all there.
fn download(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let answer = client::get(&cluster.download_url(name))?;
    ensure!(answer.status() == 200, "{name}: {}", answer.status());
    Ok(())
}

fn the_store_is_gone(stage: &mut Stage) -> anyhow::Result<()> {
    let mut rig = Mounted::start(&[], |edge| edge)?;
    stage.watch(&mut rig.cluster, 0);
    stage.well(10, || usual(&rig.cluster))?;
    rig.store.hold_all();
    wait_until_all(&rig.cluster, "sluice_edge_degraded", 1.0)?;
    stage.faulty(7, nothing)?;
    rig.store.release();
    wait_until_all(&rig.cluster, "sluice_edge_degraded", 0.0)?;
    stage.mended(2, nothing)
}

fn the_store_is_unmounted(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().every_edge(|edge| edge.toml("root_marker = \".store\"")).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let marker = cluster.root().join(".store");
    fs::remove_file(&marker)?;
    wait_until_all(&cluster, "sluice_edge_root_absent", 1.0)?;
    stage.faulty(7, nothing)?;
    fs::write(&marker, "")?;
    wait_until_all(&cluster, "sluice_edge_root_absent", 0.0)?;
    stage.mended(2, || usual(&cluster))
}

fn one_read_hangs(stage: &mut Stage) -> anyhow::Result<()> {
    let patient = "limits.storage_timeout = \"10m\"";
    let mut rig = Mounted::start(&[("stuck/b.bin", 200_000)], |edge| edge.toml(patient))?;
    stage.watch(&mut rig.cluster, 0);
    stage.well(10, || usual(&rig.cluster))?;
    rig.store.hold_reads("stuck/");
    let offer = rig.cluster.request_download("stuck/b.bin")?;
    let edge = &rig.cluster.edges()[rig.cluster.edge_index(&offer.edge)?];
    let mut waiting = Connection::open(&edge.address())?;
    let target = target_of(&offer.download_url)?;
    waiting.send(format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes())?;
    let stuck = || edge.metric("sluice_edge_storage_stuck_operations");
    wait_until("the read is stuck", || Ok(stuck()? > 0.0))?;
    stage.faulty(8, || usual(&rig.cluster))?;
    rig.store.release();
    wait_until("nothing is stuck", || Ok(stuck()? == 0.0))?;
    ensure!(waiting.read_answer("GET")?.status() == 200);
    stage.mended(2, || usual(&rig.cluster))
}

fn more_is_asked_than_the_store_gives(stage: &mut Stage) -> anyhow::Result<()> {
    const CLIENTS: usize = 12;
    let mut rig = Mounted::start(&[], |edge| edge.toml("limits.storage_concurrency = 1"))?;
    let names = rig.publish("cold", CLIENTS * 150, 70_000)?;
    stage.watch(&mut rig.cluster, 0);
    stage.well(10, || usual(&rig.cluster))?;
    // Fifteen of them a second.
    rig.store.delay(Duration::from_secs(1));
    let is_over = AtomicBool::new(false);
    let cluster = &rig.cluster;
    let recorded = thread::scope(|scope| {
        for names in names.chunks(names.len() / CLIENTS) {
            let is_over = &is_over;
            scope.spawn(move || {
                for name in names.iter().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    // Whatever comes of it.
                    let _ = client::get(&cluster.download_url(name));
                }
            });
        }
        let waiting = |edge: usize| cluster.edges()[edge].metric("sluice_edge_storage_waiting_operations");
        let recorded = wait_until("reads wait", || Ok(waiting(0)? > 0.0 && waiting(1)? > 0.0))
            .and_then(|()| stage.faulty(14, || wait_until("reads wait", || Ok(waiting(0)? > 0.0))));
        is_over.store(true, Ordering::Relaxed);
        recorded
    });
    recorded?;
    rig.store.delay(Duration::ZERO);
    wait_until_all(&rig.cluster, "sluice_edge_storage_waiting_operations", 0.0)?;
    stage.mended(2, nothing)
}

fn a_part_of_one_file_cannot_be_read(stage: &mut Stage) -> anyhow::Result<()> {
    const GOOD: usize = 15;
    const FAULTY: usize = 14;
    let mut rig = Mounted::start(&[("bad/b.bin", 3 * MIB)], |edge| edge)?;
    let names = rig.publish("good", GOOD * (FAULTY + 10), 1000)?;
    stage.watch(&mut rig.cluster, 0);
    let mut fresh = names.chunks(GOOD);
    let mut read = || -> anyhow::Result<()> {
        fresh.next().into_iter().flatten().try_for_each(|name| download(&rig.cluster, name))
    };
    stage.well(10, &mut read)?;
    let later = |asked: &Asked| asked.path == "bad/b.bin" && asked.offset >= MIB;
    rig.store.fail_reads(Which::that(later), Errno::EIO);
    stage.faulty(FAULTY, || {
        ensure!(client::get(&rig.cluster.download_url("bad/b.bin")).is_err(), "it has an end");
        read()
    })
}

fn files_are_asked_for_that_nobody_asked_for_before(stage: &mut Stage) -> anyhow::Result<()> {
    // Of two edges.
    const ASKED: usize = 30;
    const FAULTY: usize = 100;
    let mut rig = Mounted::start(&[], |edge| edge)?;
    // Each is a window.
    let names = rig.publish("cold", ASKED * FAULTY, 70_000)?;
    stage.watch(&mut rig.cluster, 0);
    stage.well(40, || usual(&rig.cluster))?;
    let mut fresh = names.chunks(ASKED);
    stage.faulty(FAULTY, || {
        fresh.next().into_iter().flatten().try_for_each(|name| download(&rig.cluster, name))
    })
}
