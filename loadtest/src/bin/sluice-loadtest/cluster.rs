//! `sluice-loadtest cluster`: a cluster on this machine, a run against it, and what happens to it meanwhile.

mod faults;
mod inflict;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Parser;
use sluice_loadtest::Cluster;
use sluice_loadtest::faulty_store::FaultyStore;
use sluice_loadtest::interrupts::Interrupts;
use tokio::sync::mpsc::{self, error::SendError};
use tokio::time::Instant;

use crate::arguments;
use crate::files;
use crate::run::{Job, Others, Progress, conclude};
use crate::scenario::Scenario;
use crate::summary::Summary;
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
    // Whom it asks is known once the cluster is up.
    let mut job = Job::new(&manner, Target::Coordinators(Vec::new()))?;
    let scenario = Scenario::of(&job.source, &job.overrides)?;
    let planned = match &arguments.faults {
        None => Vec::new(),
        Some(path) => faults::load(path, arguments, scenario.warm_up + scenario.duration)?,
    };
    let needs = Needs::of(&planned);
    fs::create_dir_all(&arguments.root)
        .with_context(|| format!("cannot make {}", arguments.root.display()))?;
    let root = arguments.root.canonicalize()?;
    files::make(&scenario, &root)?;
    // What is started from here on has to be ended, whoever wants it to end and when.
    let mut interrupts = Interrupts::listen()?;
    let mut progress = Progress::new(&manner);
    progress.note("Starting the cluster.")?;
    // Of the store that can be held, if one is wanted; it has to go before its edges can end.
    let mounted = needs.store.then(|| Mounted::new(&root)).transpose()?;
    let store = mounted.as_ref().map_or(&*root, Mounted::path);
    let cluster = started(arguments, &needs, store)?;
    ensure!(interrupts.take().is_none(), "interrupted before the cluster was up");
    if needs.hosts && !cluster.is_apart() {
        bail!("a fault cuts a host off, which takes the right to make network namespaces (run as root)");
    }
    let urls = cluster.coordinators().iter().map(|coordinator| coordinator.url());
    job.target = Target::Coordinators(urls.collect());
    let victims = Victims { cluster, store: mounted };
    let (summary, failed) = run_amid(&job, victims, planned, &mut progress)?;
    let is_right = conclude(&summary, &manner, &progress)?;
    // What a server said wrongly is worse, and has a status of its own.
    ensure!(
        failed == 0 || !is_right,
        "{failed} faults could not be inflicted; the result says which, and why"
    );
    Ok(is_right)
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

/// Runs, while a thread of its own does to the cluster what is planned, and ends the cluster. Gives how much of what was
/// planned could not be done.
fn run_amid(
    job: &Job,
    mut victims: Victims,
    planned: Vec<Fault>,
    progress: &mut Progress,
) -> anyhow::Result<(Summary, usize)> {
    let (tell, events) = mpsc::unbounded_channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let (tell_start, start) = thread_mpsc::channel::<Instant>();
    let inflicting = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let is_over = || is_over.load(Ordering::Relaxed);
            let (mut failed, mut late) = (0, Vec::new());
            // Without a start, nothing is to be done.
            let Ok(began) = start.recv() else { return (victims, failed, late) };
            for fault in planned {
                while began.elapsed() < fault.at && !is_over() {
                    thread::sleep(LOOK_EVERY);
                }
                let at = Instant::now();
                if at < began + fault.at {
                    // The run was ended before its time.
                    break;
                }
                let done = if is_over() { Err(anyhow!("the run was over")) } else { victims.suffer(&fault) };
                failed += usize::from(done.is_err());
                let told = match done {
                    Ok(()) => fault.to_string(),
                    Err(error) => format!("{fault}: FAILED: {error:#}"),
                };
                // At the very end, nobody listens any more.
                if let Err(SendError((at, told))) = tell.send((at, told)) {
                    late.push(((at - began).as_secs_f64(), told));
                }
            }
            (victims, failed, late)
        }
    });
    let on_start = Box::new(move |start| {
        // It waits for this.
        let _ = tell_start.send(start);
    });
    let summary = job.run_alone(progress, Some(Others { events, on_start, ..Others::none() }));
    is_over.store(true, Ordering::Relaxed);
    let (victims, failed, late) =
        inflicting.join().ok().context("what happens to the cluster has panicked")?;
    drop(victims);
    let mut summary = summary?;
    summary.faults.extend(late);
    Ok((summary, failed))
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
