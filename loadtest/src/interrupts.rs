//! Signals that ask a program to end: Ctrl-C, SIGTERM, and the SIGHUP of a terminal that is closed. To one that listens, they
//! are a word to end by itself, so that nothing stays of what it has started and mounted.

use std::sync::{Mutex, PoisonError};
use std::{fs, io, thread};

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Those of this process, seen by each of these for itself.
#[derive(Debug, Clone)]
pub struct Interrupts {
    /// As the system numbers signals.
    last: watch::Receiver<i32>,
}

impl Interrupts {
    /// From the first time that this is called on, none of them ends the program on the spot. Whoever calls it later sees
    /// what has come since.
    ///
    /// # Errors
    /// The system gives no signals.
    pub fn listen() -> anyhow::Result<Self> {
        static LISTENING: Mutex<Option<Interrupts>> = Mutex::new(None);
        let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupts) = &*listening {
            return Ok(interrupts.clone());
        }
        Ok(listening.insert(first().context("cannot wait for signals")?).clone())
    }

    /// The last one that came, if it was not seen here yet.
    pub fn take(&mut self) -> Option<i32> {
        // An error means that no more will come.
        self.last.has_changed().unwrap_or(false).then(|| *self.last.borrow_and_update())
    }

    /// Waits for one that was not seen here yet.
    pub async fn next(&mut self) {
        if self.last.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn first() -> io::Result<Interrupts> {
    let (tell, last) = watch::channel(0);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        let hangup = (!ignores_hangup()?).then(|| signal(SignalKind::hangup())).transpose()?;
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup)
    };
    thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    Some(()) = async { hangup.as_mut()?.recv().await } => SignalKind::hangup(),
                };
                tell.send_replace(kind.as_raw_value());
            }
        });
    })?;
    Ok(Interrupts { last })
}

/// As `nohup` has it, which is to stay so.
fn ignores_hangup() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // Signals are bits, counted from 1; SIGHUP is the first.
    Ok(ignored & 1 != 0)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;
    use crate::wait_until;

    #[test]
    fn each_is_seen_once_by_whoever_listens() -> anyhow::Result<()> {
        let mut signals = vec![Signal::INT, Signal::TERM, Signal::HUP];
        if ignores_hangup()? {
            signals.pop();
        }
        let mut early = Interrupts::listen()?;
        assert_eq!(early.take(), None);
        for signal in signals.iter().copied() {
            kill_process(getpid(), signal)?;
            let mut seen = None;
            wait_until("the signal is seen", || {
                seen = early.take();
                Ok(seen.is_some())
            })?;
            assert_eq!((seen, early.take()), (Some(signal.as_raw()), None));
        }
        // What came since the first call is seen by those after it, too.
        assert_eq!(Interrupts::listen()?.take(), signals.last().map(|signal| signal.as_raw()));
        Ok(())
    }
}
