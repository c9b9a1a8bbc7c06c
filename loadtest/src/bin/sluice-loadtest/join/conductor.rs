//! The machine that says what is to be done, does its part, and adds up what all have measured. A joiner that is lost is
//! named, and waited for no longer than is said.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self as thread_mpsc, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sluice_loadtest::interrupts::Interrupts;
use sluice_shared::private_file;
use sluice_shared::secret::SecretText;
use tokio::sync::mpsc;

use super::wire::{Half, Peer, Role, meet};
use super::{Answer, Instruction, LEAD, Part, SILENCE_MAX};
use crate::arguments;
use crate::machine::Machine;
use crate::report::plain;
use crate::run::{Job, Live, Others, Places, Progress};
use crate::scenario::Scenario;
use crate::summary::Summary;
use crate::worker::Target;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Strangers that are listened to at a time.
const GREETINGS_MAX: usize = 64;

struct Joiner {
    name: String,
    threads: u32,
    says: Half,
    hears: Half,
}

/// What came of a joiner.
type Told = (String, Result<Box<Summary>, String>);

/// Waits for the joiners, has all of them run, and runs itself.
pub(crate) fn conduct(
    job: &Job,
    joiners: u32,
    arguments: &arguments::Run,
    progress: &mut Progress,
) -> anyhow::Result<Summary> {
    let listener = TcpListener::bind(arguments.listen)
        .with_context(|| format!("cannot wait for joiners at {}", arguments.listen))?;
    let address = listener.local_addr()?;
    progress.note(&format!("Waiting for {joiners} machines: sluice-loadtest run --join {address} …"))?;
    let own = Peer { name: Machine::here().name, threads: job.threads };
    let mut joined =
        gather(&listener, joiners, &secret(arguments)?, &own, arguments.join_timeout.0, progress)?;
    drop(listener);
    let of = job.threads + joined.iter().map(|joiner| joiner.threads).sum::<u32>();
    let mut lost = BTreeMap::new();
    let mut first = job.threads;
    joined.retain_mut(|joiner| {
        let part = part(job, first, of);
        first += joiner.threads;
        joiner.prepare(part).inspect_err(|error| note_lost(&mut lost, &joiner.name, error)).is_ok()
    });
    joined.retain_mut(|joiner| {
        let started = joiner.says.say(&Instruction::Start);
        started.inspect_err(|error| note_lost(&mut lost, &joiner.name, error)).is_ok()
    });
    let (live_of_all, live) = mpsc::unbounded_channel();
    let (tell, told) = thread_mpsc::channel();
    let (mut enders, mut waited_for) = (Vec::new(), Vec::new());
    for joiner in joined {
        let Joiner { name, says, hears, .. } = joiner;
        waited_for.push(name.clone());
        enders.push(says);
        let (tell, live) = (tell.clone(), live_of_all.clone());
        thread::spawn(move || listen(name, hears, &live, &tell));
    }
    let others = Others {
        live,
        on_interrupt: Box::new(move || {
            for says in &mut enders {
                // Who is gone needs not be told.
                let _ = says.say(&Instruction::End);
            }
        }),
        ..Others::none()
    };
    let summary = job.run(Places { first: 0, of }, LEAD, progress, Some(others));
    let mut summary = summary?;
    drop(tell);
    // Whoever has still downloads under way speaks until they have ended, or are given up.
    let drain = Scenario::of(&job.source, &job.overrides)?.drain;
    collect(&mut summary, &told, waited_for, &mut lost, LEAD + drain + SILENCE_MAX)?;
    summary.lost = lost;
    Ok(summary)
}

/// The secret that all machines of a run know.
pub(super) fn secret(arguments: &arguments::Run) -> anyhow::Result<SecretText> {
    let file = arguments.secret_file.as_ref().context("--secret-file is missing")?;
    let text = private_file::read(file).with_context(|| format!("cannot use {}", file.display()))?;
    let secret = SecretText::new(text.trim());
    ensure!(!secret.is_empty(), "{} is empty; openssl rand -hex 32 makes a secret", file.display());
    Ok(secret)
}

/// Waits until so many have joined. Who does not know the secret is not waited for.
fn gather(
    listener: &TcpListener,
    joiners: u32,
    secret: &SecretText,
    own: &Peer,
    limit: Duration,
    progress: &Progress,
) -> anyhow::Result<Vec<Joiner>> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + limit;
    let (tell, told) = thread_mpsc::channel();
    let mut greeted = 0_usize;
    let mut joined: Vec<Joiner> = Vec::new();
    while joined.len() < usize::try_from(joiners)? {
        while let Ok(met) = told.try_recv() {
            greeted -= 1;
            match met {
                Ok(joiner) => {
                    let mut joiner: Joiner = joiner;
                    joiner.name = own_name(&joined, &joiner.name);
                    progress
                        .note(&format!("{} has joined, with {} threads.", joiner.name, joiner.threads))?;
                    joined.push(joiner);
                }
                Err(error) => progress.note(&format!("Somebody did not join: {error}"))?,
            }
        }
        if Instant::now() >= deadline {
            bail!("{} of {joiners} machines have joined within {limit:?}", joined.len());
        }
        match listener.accept() {
            Ok((stream, address)) if greeted < GREETINGS_MAX => {
                greeted += 1;
                let (tell, secret, own) = (tell.clone(), secret.clone(), own.clone());
                thread::spawn(move || {
                    let met = greet(stream, &secret, &own).map_err(|error| format!("{address}: {error:#}"));
                    // Nobody is waited for any more.
                    let _ = tell.send(met);
                });
            }
            // Refused, or nobody came.
            _ => thread::sleep(LOOK_EVERY),
        }
    }
    Ok(joined)
}

fn greet(stream: TcpStream, secret: &SecretText, own: &Peer) -> anyhow::Result<Joiner> {
    stream.set_nonblocking(false)?;
    let (says, hears, peer) = meet(stream, Role::Conductor, secret, own)?;
    ensure!(peer.threads > 0, "it has no threads");
    Ok(Joiner { name: plain(&peer.name), threads: peer.threads, says, hears })
}

/// Two machines may call themselves alike.
fn own_name(joined: &[Joiner], name: &str) -> String {
    let is_taken = |name: &str| joined.iter().any(|joiner| joiner.name == name);
    let numbered = (2..).map(|number| format!("{name} ({number})"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

fn part(job: &Job, first: u32, of: u32) -> Part {
    let (coordinators, server) = match &job.target {
        Target::Coordinators(urls) => (urls.clone(), None),
        Target::Server(url) => (Vec::new(), Some(url.clone())),
    };
    Part { scenario: job.source.text.clone(), overrides: job.overrides, coordinators, server, first, of }
}

fn note_lost(lost: &mut BTreeMap<String, String>, name: &str, error: &anyhow::Error) {
    lost.insert(name.to_owned(), format!("{error:#}"));
}

impl Joiner {
    fn prepare(&mut self, part: Part) -> anyhow::Result<()> {
        self.hears.set_patience(Some(SILENCE_MAX))?;
        self.says.say(&Instruction::Prepare(Box::new(part)))?;
        match self.hears.hear()? {
            Answer::Ready => Ok(()),
            Answer::Failed(why) => bail!("{}", plain(&why)),
            Answer::Live(_) | Answer::Done(_) => bail!("it speaks before it was asked"),
        }
    }
}

/// Hears a joiner to its end.
fn listen(
    name: String,
    mut hears: Half,
    live: &mpsc::UnboundedSender<Live>,
    tell: &thread_mpsc::Sender<Told>,
) {
    let result = loop {
        match hears.hear() {
            // The display may have ended.
            Ok(Answer::Live(seen)) => drop(live.send(seen)),
            Ok(Answer::Done(summary)) => break Ok(summary),
            Ok(Answer::Failed(why)) => break Err(plain(&why)),
            Ok(Answer::Ready) => break Err("it is ready twice".to_owned()),
            Err(error) => break Err(format!("it was not heard of any more: {error:#}")),
        }
    };
    hears.close();
    // Nobody may be waiting any more.
    let _ = tell.send((name, result));
}

/// Adds what joiners have measured, as long as they are to be waited for and nobody interrupts that. One that says nothing is
/// told as lost before.
fn collect(
    summary: &mut Summary,
    told: &thread_mpsc::Receiver<Told>,
    mut waited_for: Vec<String>,
    lost: &mut BTreeMap<String, String>,
    patience: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    let mut interrupts = Interrupts::listen()?;
    // What ended the run ends no more than that.
    interrupts.take();
    while !waited_for.is_empty() && Instant::now() < deadline && interrupts.take().is_none() {
        let (name, result) = match told.recv_timeout(LOOK_EVERY) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        waited_for.retain(|waited| *waited != name);
        match result {
            Ok(part) => summary.add(&part),
            Err(why) => drop(lost.insert(name, why)),
        }
    }
    for name in waited_for {
        lost.insert(name, "it did not say in time what it had measured".to_owned());
    }
    Ok(())
}
