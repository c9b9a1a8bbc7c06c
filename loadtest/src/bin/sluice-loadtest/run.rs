//! A run: workers are started, watched once a second, and told to end; what they counted becomes a summary.

mod intervals;
mod live;
mod preflight;
mod progress;
mod recorder;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use live::Live;
pub(crate) use progress::Progress;
pub(crate) use watching::Others;

use crate::arguments;
use crate::clock::{Clock, Phase};
use crate::generator::Generator;
use crate::machine::Machine;
use crate::plan::Share;
use crate::scenario::{Kind, Overrides, Scenario, Source};
use crate::summary::{FORMAT, Figures, Part, Summary};
use crate::worker::{self, Board, KnownFiles, Order, Target};
use crate::{join, report};
use recorder::{Record, Recorder};
use watching::Watching;

/// From the order to the first download: threads have to be there by then.
const LEAD: Duration = Duration::from_millis(50);

type Worker = JoinHandle<anyhow::Result<()>>;

/// What is to be done, wherever it is done.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) source: Source,
    pub(crate) overrides: Overrides,
    pub(crate) target: Target,
    pub(crate) threads: u32,
}

/// This machine's workers among all: the first one's number, and how many all machines have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) first: u32,
    pub(crate) of: u32,
}

/// `sluice-loadtest run`. Gives whether no server said what was not so.
pub(crate) fn command(arguments: &arguments::Run) -> anyhow::Result<bool> {
    if let Some(conductor) = &arguments.join {
        return join::take_part(conductor, arguments);
    }
    let target = match &arguments.url {
        Some(url) => Target::Server(url.clone()),
        None => Target::Coordinators(
            arguments.coordinator.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        ),
    };
    let job = Job::new(&arguments.manner, target)?;
    let mut progress = Progress::new(&arguments.manner);
    let summary = match arguments.joiners {
        Some(joiners) => join::conduct(&job, joiners, arguments, &mut progress)?,
        None => job.run_alone(&mut progress, None)?,
    };
    conclude(&summary, &arguments.manner, &progress)
}

/// Tells a run's result, in every form that was asked for.
pub(crate) fn conclude(
    summary: &Summary,
    manner: &arguments::Manner,
    progress: &Progress,
) -> anyhow::Result<bool> {
    if let Some(folder) = &manner.report {
        report::write(summary, folder)?;
    }
    progress.result(summary)?;
    anyhow::ensure!(
        summary.tally.ended > 0,
        "nothing was downloaded{}",
        match summary.tally.failures.contains_key("status 404") {
            true =>
                ": the store has none of the scenario's files; `sluice-loadtest files --root STORE` makes them",
            false => "",
        }
    );
    Ok(summary.wrong() == 0)
}

impl Job {
    pub(crate) fn new(manner: &arguments::Manner, target: Target) -> anyhow::Result<Self> {
        let overrides = Overrides {
            duration: manner.duration.map(|span| span.0),
            rate: manner.rate,
            clients: manner.clients,
            seed: manner.seed,
        };
        let source = Source::load(manner.scenario.as_deref())?;
        // One that is wrong is told before anybody is asked.
        let scenario = Scenario::of(&source, &overrides)?;
        anyhow::ensure!(
            matches!(target, Target::Coordinators(_)) || !scenario.requests.has(Kind::Renew),
            "{}: requests of `kind = \"renew\"` have a coordinator exchange their token, and with --url there is \
             none; take them out",
            source.path.display()
        );
        Ok(Self { source, overrides, target, threads: threads(manner) })
    }

    /// On this machine alone.
    pub(crate) fn run_alone(
        &self,
        progress: &mut Progress,
        others: Option<Others>,
    ) -> anyhow::Result<Summary> {
        self.run(Places { first: 0, of: self.threads }, LEAD, progress, others)
    }

    /// This machine's part of a run that begins after `lead`.
    pub(crate) fn run(
        &self,
        places: Places,
        lead: Duration,
        progress: &mut Progress,
        others: Option<Others>,
    ) -> anyhow::Result<Summary> {
        let scenario = Arc::new(Scenario::of(&self.source, &self.overrides)?);
        let ordered = Instant::now();
        preflight::raise_descriptors(&scenario)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server_version = runtime.block_on(preflight::ask(&self.target, &scenario.client))?;
        let clock = Clock::new((ordered + lead).max(Instant::now() + LEAD), &scenario);
        let (phase, seen) = watch::channel(Phase::Running);
        let (boards, workers) = self.start(&scenario, places, clock, &seen)?;
        let began = SystemTime::now() + (clock.start - Instant::now());
        let mut watching = Watching {
            recorder: Recorder::new(intervals::cuts(&scenario)),
            boards,
            workers: &workers,
            phase: &phase,
            clock,
            readings: Vec::new(),
            events: Vec::new(),
        };
        runtime.block_on(watching.watch(progress, others))?;
        let Watching { recorder, boards, readings, events, .. } = watching;
        for worker in workers {
            worker.join().ok().context("a worker has panicked")??;
        }
        let rest = boards.iter().map(|board| board.take());
        let record = recorder.finish(rest, clock.seconds(Instant::now()));
        let Record { intervals, warm_up, all: tally, measured_seconds: seconds } = record;
        let generator = match readings.as_slice() {
            [first, .., last] => last.since(first),
            _ => Generator::default(),
        };
        let mut summary = Summary {
            format: FORMAT,
            began: humantime::format_rfc3339_seconds(began).to_string(),
            target: self.target.shown(),
            server_version,
            scenario: self.source.text.clone(),
            said: self.said(),
            seconds_wanted: scenario.duration.as_secs_f64(),
            seconds,
            figures: Figures::default(),
            generators: vec![Part::new(Machine::here(), generator, &tally)],
            lost: BTreeMap::new(),
            faults: events,
            intervals,
            tally,
            warm_up,
        };
        summary.figure();
        Ok(summary)
    }

    /// Starts this machine's workers.
    fn start(
        &self,
        scenario: &Arc<Scenario>,
        places: Places,
        clock: Clock,
        phase: &watch::Receiver<Phase>,
    ) -> anyhow::Result<(Vec<Arc<Board>>, Vec<Worker>)> {
        let (mut boards, mut workers) = (Vec::new(), Vec::new());
        let known = Arc::new(KnownFiles::default());
        for own in 0..self.threads {
            let share = Share { index: places.first + own, of: places.of };
            let board = Arc::new(Board::default());
            let (scenario, target) = (Arc::clone(scenario), self.target.clone());
            let (phase, known) = (phase.clone(), Arc::clone(&known));
            let order = Order { scenario, target, share, clock, phase, known };
            workers.push(worker::start(order, Arc::clone(&board))?);
            boards.push(board);
        }
        Ok((boards, workers))
    }

    /// What the command line said in place of the scenario.
    fn said(&self) -> Vec<String> {
        let Overrides { duration, rate, clients, seed } = self.overrides;
        let duration = duration.map(|span| format!("--duration {}", humantime::format_duration(span)));
        let rate = rate.map(|rate| format!("--rate {rate}"));
        let clients = clients.map(|clients| format!("--clients {clients}"));
        let seed = seed.map(|seed| format!("--seed {seed}"));
        [duration, rate, clients, seed].into_iter().flatten().collect()
    }
}

pub(crate) fn threads(manner: &arguments::Manner) -> u32 {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    manner.threads.unwrap_or_else(|| u32::try_from(cores()).unwrap_or(1))
}
