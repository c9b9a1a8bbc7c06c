//! `sluice-loadtest cluster`: a cluster on this machine, a run against it, and what happens to it meanwhile.

mod faults;
mod inflict;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use sluice_loadtest::Cluster;
use sluice_loadtest::faulty_store::FaultyStore;
use tokio::sync::mpsc;

use crate::arguments;
use crate::files;
use crate::run::{Job, Others, Progress, conclude};
use crate::scenario::{Overrides, Scenario, Source};
use crate::worker::Target;
use faults::{Fault, Needs};
use inflict::Victims;

/// Members of a cluster's etcd: one may be lost.
const ETCD_MEMBERS: usize = 3;
/// How soon a fault is noticed whose time has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What stands behind `--`.
#[derive(Debug, Parser)]
#[command(name = "run", no_binary_name = true)]
struct RunArguments {
    #[command(flatten)]
    manner: arguments::Manner,
}

/// Gives whether no server said what was not so.
pub(crate) fn command(arguments: &arguments::Cluster) -> anyhow::Result<bool> {
    ensure!(
        arguments.coordinators == 1 || arguments.redis,
        "several coordinators share a state: add --redis"
    );
    let manner = RunArguments::parse_from(&arguments.run).manner;
    let source = Source::load(manner.scenario.as_deref())?;
    let scenario = Scenario::of(&source, &Overrides::default())?;
    let planned = match &arguments.faults {
        None => Vec::new(),
        Some(path) => faults::load(path, arguments)?,
    };
    let needs = Needs::of(&planned);
    fs::create_dir_all(&arguments.root)
        .with_context(|| format!("cannot make {}", arguments.root.display()))?;
    let root = arguments.root.canonicalize()?;
    files::make(&scenario, &root)?;
    let mut progress = Progress::new(&manner);
    progress.note("Starting the cluster.")?;
    // Of the store that can be held, if one is wanted; it has to go before its edges can end.
    let mounted = needs.store.then(|| Mounted::new(&root)).transpose()?;
    let store = mounted.as_ref().map_or(&*root, Mounted::path);
    let cluster = unless_interrupted(|| started(arguments, &needs, store))?;
    if needs.hosts && !cluster.is_apart() {
        bail!("a fault cuts a host off, which takes the right to make network namespaces (run as root)");
    }
    let urls = cluster.coordinators().iter().map(|coordinator| coordinator.url());
    let job = Job::new(&manner, Target::Coordinators(urls.collect()))?;
    let victims = Victims { cluster, store: mounted };
    let (victims, summary) = run_amid(&job, victims, planned, &mut progress)?;
    drop(victims);
    conclude(&summary, &manner, &progress)
}

/// Starts something to its end, even where Ctrl-C comes meanwhile: what was started has to be ended.
fn unless_interrupted<T: Send>(start: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::scope(|scope| {
        let (tell, mut told) = tokio::sync::oneshot::channel();
        scope.spawn(move || tell.send(start()));
        runtime.block_on(async {
            let interrupted = tokio::select! {
                started = &mut told => return started.context("the start has panicked")?,
                interrupted = tokio::signal::ctrl_c() => interrupted,
            };
            drop(told.await);
            interrupted.context("cannot wait for Ctrl-C")?;
            bail!("interrupted before the cluster was up")
        })
    })
}

fn started(arguments: &arguments::Cluster, needs: &Needs, root: &Path) -> anyhow::Result<Cluster> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut builder =
        Cluster::start().edges(count(arguments.edges)).coordinators(count(arguments.coordinators));
    if arguments.redis {
        builder = builder.redis();
    }
    if arguments.etcd {
        builder = builder.etcd(ETCD_MEMBERS);
    }
    if needs.rotation {
        builder = builder.keys_in_etcd("rotate_every = \"24h\"\npropagation = \"1s\"");
    }
    if needs.hosts {
        builder = builder.hosts();
    }
    builder = builder.apart_from_terminal();
    let own = format!("root = {root:?}\ncache.size = \"256MiB\"");
    builder.every_edge(|edge| edge.toml(&own)).ready().context("the cluster does not start")
}

/// Runs, while a thread of its own does to the cluster what is planned; gives the cluster back.
fn run_amid(
    job: &Job,
    mut victims: Victims,
    planned: Vec<Fault>,
    progress: &mut Progress,
) -> anyhow::Result<(Victims, crate::summary::Summary)> {
    let (tell, events) = mpsc::unbounded_channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let (give_back, given_back) = thread_mpsc::channel();
    let began = Instant::now();
    let inflicting = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            for fault in planned {
                while began.elapsed() < fault.at {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    thread::sleep(LOOK_EVERY);
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let done = victims.suffer(&fault);
                let told = match done {
                    Ok(()) => fault.to_string(),
                    Err(error) => format!("{fault}: FAILED: {error:#}"),
                };
                // Nobody listens any more at the very end.
                let _ = tell.send(told);
            }
            let _ = give_back.send(victims);
        }
    });
    let summary = job.run_alone(progress, Some(Others { events, ..Others::none() }));
    is_over.store(true, Ordering::Relaxed);
    let victims = given_back.recv().context("what happens to the cluster has panicked")?;
    // It has nothing left to do but to end.
    let _ = inflicting.join();
    Ok((victims, summary?))
}

/// The store as edges see it: a mirror that can be held.
#[derive(Debug)]
struct Mounted {
    store: FaultyStore,
    folder: tempfile::TempDir,
}

impl Mounted {
    fn new(root: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-store-").tempdir()?;
        Ok(Self { store: FaultyStore::mount(root, folder.path())?, folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}
