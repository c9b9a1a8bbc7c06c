//! A machine that takes part in another one's run.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc as thread_mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use super::wire::{Half, Peer, Role, meet};
use super::{Answer, Instruction, LEAD, Part};
use crate::arguments;
use crate::machine::Machine;
use crate::run::{Job, Live, Others, Places, Progress, threads};
use crate::scenario::{Scenario, Source};
use crate::worker::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Joins a conductor's run. Gives whether no server said what was not so.
pub(crate) fn take_part(conductor: &str, arguments: &arguments::Run) -> anyhow::Result<bool> {
    let secret = super::conductor::secret(arguments)?;
    let progress = Progress::new(&arguments.manner);
    let own = Peer { name: Machine::here().name, threads: threads(&arguments.manner) };
    let failed = || format!("cannot join {conductor}");
    let address = conductor.to_socket_addrs().with_context(failed)?.next().with_context(failed)?;
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).with_context(failed)?;
    let (mut says, mut hears, peer) = meet(stream, Role::Joiner, &secret, &own).with_context(failed)?;
    progress.note(&format!("Joined the run of {}.", crate::report::plain(&peer.name)))?;
    // It waits for others as long as it likes.
    hears.set_patience(None)?;
    let gone = "the conductor has gone";
    let Instruction::Prepare(part) = hears.hear().context(gone)? else {
        bail!("the conductor prepares nothing")
    };
    let job = match job(*part, own.threads) {
        Ok(job) => job,
        Err(error) => {
            says.say(&Answer::Failed(format!("{error:#}")))?;
            return Err(error);
        }
    };
    says.say(&Answer::Ready)?;
    match hears.hear().context(gone)? {
        Instruction::Start => {}
        _ => bail!("the conductor has ended the run before it began"),
    }
    let (job, places) = job;
    let result = run(&job, places, says, hears)?;
    progress.note("The conductor has what was measured.")?;
    Ok(result)
}

fn job(part: Part, threads: u32) -> anyhow::Result<(Job, Places)> {
    let source = Source { path: "scenario.toml".into(), text: part.scenario };
    Scenario::of(&source, &part.overrides)?;
    let target = part.server.map_or(Target::Coordinators(part.coordinators), Target::Server);
    Ok((
        Job { source, overrides: part.overrides, target, threads },
        Places { first: part.first, of: part.of },
    ))
}

/// Runs, while one thread tells what is seen, and another hears that it is to end.
fn run(job: &Job, places: Places, mut says: Half, mut hears: Half) -> anyhow::Result<bool> {
    let (tell, lives) = thread_mpsc::channel::<Live>();
    let (stop, stops) = mpsc::unbounded_channel();
    thread::spawn(move || {
        // Nothing but the word to end is expected; the conductor's own end is one.
        let _ = hears.hear::<Instruction>();
        // The run may be over.
        let _ = stop.send(());
    });
    let telling = thread::spawn(move || {
        for live in lives {
            if says.say(&Answer::Live(live)).is_err() {
                break;
            }
        }
        says
    });
    let mut progress = Progress::told_to(tell);
    let summary = job.run(places, LEAD, &mut progress, Some(Others { stops, ..Others::none() }));
    drop(progress);
    let mut says = telling.join().ok().context("telling the conductor has panicked")?;
    let answer = match &summary {
        Ok(summary) => Answer::Done(Box::new(summary.clone())),
        Err(error) => Answer::Failed(format!("{error:#}")),
    };
    let told = says.say(&answer).context("the conductor has gone");
    let summary = summary?;
    told?;
    Ok(summary.wrong() == 0)
}
