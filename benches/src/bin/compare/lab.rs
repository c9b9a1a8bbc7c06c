//! What all scenarios measure with: where files and servers are, how often and how long, and wrk's measurement of one
//! server under one load.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use sluice_loadtest::interrupts::Interrupts;
use tempfile::TempDir;

use crate::meter::Meter;
use crate::report::Measures;
use crate::scenario::Selection;
use crate::server::{Front, Kind, Known, Links, Server};
use crate::wrk::{Order, Wrk};
use crate::{edge, h2load, nginx};

/// Lies beneath every root: servers are checked with it when they start.
const PROBE: Known = Known { name: "probe", bytes: 1 << 10 };

/// From here on a download is long: few end within a run.
const LONG_BYTES: f64 = (1 << 20) as f64;

/// How often something is measured at most, where others disturb it.
const TRIES_MAX: u32 = 3;

pub(crate) struct Lab {
    folder: TempDir,
    edge: PathBuf,
    pub(crate) coordinator: PathBuf,
    wrk: Wrk,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) selection: Selection,
    started: Cell<u32>,
}

/// What wrk does to a server.
pub(crate) struct Load<'l> {
    pub(crate) links: &'l Links,
    pub(crate) connections: u32,
    pub(crate) order: Order,
    pub(crate) front: Front,
}

impl Lab {
    pub(crate) fn new(
        edge: PathBuf,
        coordinator: PathBuf,
        rounds: usize,
        seconds: u64,
        selection: Selection,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-compare-").tempdir()?;
        let wrk = Wrk::new(folder.path())?;
        Ok(Self { folder, edge, coordinator, wrk, rounds, seconds, selection, started: Cell::new(0) })
    }

    /// A new folder for files, which goes when it is dropped.
    pub(crate) fn root(&self) -> anyhow::Result<TempDir> {
        let root = tempfile::Builder::new().prefix("files-").tempdir_in(self.folder.path())?;
        PROBE.write(root.path())?;
        Ok(root)
    }

    /// Starts a server, and has it show that it serves and checks links.
    pub(crate) fn start(&self, kind: Kind, root: &Path) -> anyhow::Result<Server> {
        self.start_with_cache(kind, root, None)
    }

    /// As [`Lab::start`]; an edge's cache has so many bytes.
    pub(crate) fn start_with_cache(
        &self,
        kind: Kind,
        root: &Path,
        cache_bytes: Option<u64>,
    ) -> anyhow::Result<Server> {
        self.start_as(kind, root, cache_bytes, false)
    }

    /// As [`Lab::start`]; it speaks TLS beside plain HTTP.
    pub(crate) fn start_with_tls(&self, kind: Kind, root: &Path) -> anyhow::Result<Server> {
        self.start_as(kind, root, None, true)
    }

    fn start_as(
        &self,
        kind: Kind,
        root: &Path,
        cache_bytes: Option<u64>,
        has_tls: bool,
    ) -> anyhow::Result<Server> {
        let own = self.server_folder()?;
        let mut server = match kind {
            Kind::Edge => edge::start(&own, root, &self.edge, cache_bytes, has_tls)?,
            Kind::Nginx | Kind::NginxCache | Kind::NginxThreads | Kind::NginxTls => {
                nginx::start(&own, root, kind)?
            }
            Kind::BareHyper | Kind::Python | Kind::PythonTuned | Kind::Coordinator => {
                bail!("{} serves no files", kind.name())
            }
        };
        self.wait_for(&mut server)?;
        server.check(PROBE)?;
        Ok(server)
    }

    /// A new folder for what a server needs and says.
    pub(crate) fn server_folder(&self) -> io::Result<PathBuf> {
        self.started.set(self.started.get() + 1);
        let own = self.folder.path().join(format!("server-{}", self.started.get()));
        fs::create_dir(&own)?;
        Ok(own)
    }

    /// Waits until a server answers, after it was started or was stuck.
    pub(crate) fn wait_for(&self, server: &mut Server) -> anyhow::Result<()> {
        server.wait_until_it_serves(PROBE)
    }

    /// Every round, with the place of each of `count` servers in turn; each round begins with another.
    pub(crate) fn turns(&self, count: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let rounds = self.rounds;
        (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round, (round + turn) % count)))
    }

    /// Warms a server up, then measures it. It has to answer everything.
    pub(crate) fn measure(&self, server: &mut Server, load: &Load<'_>) -> anyhow::Result<Measures> {
        let measured = self.measure_as_it_is(server, load)?;
        let (name, value) = (server.name(), |name| measured.value(name).unwrap_or(0.0));
        ensure!(value("errors") == 0.0, "{name}: wrk saw errors, so this is no measurement: {measured:?}");
        ensure!(value("requests_per_second") > 0.0, "{name} gave wrk no answer");
        Ok(measured)
    }

    /// Warms a server up, then measures it, whatever comes of it: no answer at all is a result too. The warm-up takes a
    /// fifth of the time, at least a second. Where others used the cores meanwhile, it is measured again, and what was disturbed
    /// least counts.
    pub(crate) fn measure_as_it_is(&self, server: &mut Server, load: &Load<'_>) -> anyhow::Result<Measures> {
        let run = |server: &Server, seconds| match load.front {
            Front::H2 => h2load::run(server, load.links, load.connections, seconds),
            _ => self.wrk.run(server, load, seconds),
        };
        let warm_up = (self.seconds / 5).max(1);
        load.links.renew(warm_up)?;
        run(server, warm_up)?;
        let mut attempt = || {
            load.links.renew(self.seconds)?;
            let meter = Meter::start(server)?;
            let seen = run(server, self.seconds)?;
            let used = meter.stop(server, seen.cpu_seconds)?;
            server.ensure_it_runs()?;
            anyhow::Ok((seen, used))
        };
        let (mut seen, mut used) = attempt()?;
        for _ in 1..TRIES_MAX {
            if !used.is_disturbed() {
                break;
            }
            let again = attempt()?;
            if again.1.others_busy() < used.others_busy() {
                (seen, used) = again;
            }
        }
        // A run ends in the middle of downloads: of long ones what came counts, not how many came to their end.
        let size = load.links.least_bytes as f64;
        let requests = if size < LONG_BYTES { seen.requests } else { seen.bytes / size };
        Ok(Measures::default()
            .with("requests_per_second", requests / seen.seconds)
            .with("gb_per_second", seen.bytes / seen.seconds / 1e9)
            .with("p99_ms", seen.p99_ms)
            .with("errors", seen.errors)
            .with("core_busy", used.server / seen.seconds)
            .with("client_busy", seen.cpu_seconds / seen.seconds)
            .with("others_busy", used.others_busy())
            .with("cpu_seconds_per_100k_requests", used.server / requests * 1e5)
            .with("cpu_seconds_per_gb", used.server / seen.bytes * 1e9))
    }

    /// Says what is to be measured next.
    ///
    /// # Errors
    /// Nothing more is, for somebody wants this to end.
    pub(crate) fn say(&self, what: &str, round: usize, server: &str) -> anyhow::Result<()> {
        ensure!(Interrupts::listen()?.take().is_none(), "interrupted");
        Ok(writeln!(io::stderr().lock(), "{what:>24}  round {}  {server}", round + 1)?)
    }
}
