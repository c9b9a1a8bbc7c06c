//! Who used the cores while something was measured: the server, this program, and others, who spoil a measurement.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::machine;
use crate::report::Measures;
use crate::server::Server;

/// Cores' worth of time that others may use before a measurement is worth repeating.
pub(crate) const OTHERS_MAX: f64 = 0.1;

/// Processor times at a beginning, in seconds.
pub(crate) struct Meter {
    began: Instant,
    machine: f64,
    server: f64,
    own: f64,
}

/// Seconds of processor time, and of a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) server: f64,
    /// This program's: its own clients, and the store.
    own: f64,
    others: f64,
    elapsed: f64,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            began: Instant::now(),
            machine: machine::busy_time()?,
            server: server.cpu_time()?,
            own: machine::cpu_time(process::id())?,
        })
    }

    /// What was used since. `wrk` is what that says it used.
    pub(crate) fn stop(self, server: &Server, wrk: f64) -> anyhow::Result<Used> {
        let elapsed = self.began.elapsed().as_secs_f64();
        // What clients left unread is thrown away within moments; it belongs to what was measured.
        thread::sleep(Duration::from_millis(20));
        let used = server.cpu_time()? - self.server;
        let own = machine::cpu_time(process::id())? - self.own;
        let others = machine::busy_time()? - self.machine - used - own - wrk;
        Ok(Used { server: used, own, others: others.max(0.0), elapsed })
    }
}

impl Used {
    /// Cores' worth of time that neither server nor clients had.
    pub(crate) fn others_busy(self) -> f64 {
        self.others / self.elapsed
    }

    pub(crate) fn is_disturbed(self) -> bool {
        self.others_busy() > OTHERS_MAX
    }

    /// For what was measured with clients of our own.
    pub(crate) fn measures(self) -> Measures {
        Measures::default()
            .with("core_busy", self.server / self.elapsed)
            .with("client_busy", self.own / self.elapsed)
            .with("others_busy", self.others_busy())
    }
}
