//! One alert's fault in a cluster of its own, and what the rules make of what that cluster exports over it.
//!
//! The rules are those that are shipped, unchanged. It is the record whose time is another: a scrape stands for each
//! minute, however soon it follows the one before, so that an hour of a fault passes in a second and no pause of this
//! machine is part of it. promtool evaluates the rules over the record, by Prometheus' own code.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, bail};
use sluice_loadtest::{Cluster, client, tool, wait_until};

use crate::record::{Record, Target};

/// Clusters at a time: each mostly waits.
const AT_ONCE: usize = 5;
/// Downloads of a minute in which all is as usual.
const USUAL: usize = 4;

/// Of each edge, until a coordinator has made up its mind.
const PROBES: usize = 4;

/// An alert, and the fault that has it fire.
pub(crate) struct Case {
    pub(crate) alert: &'static str,
    /// What may fire with it, for the fault is of that kind, too.
    pub(crate) beside: &'static [&'static str],
    /// Metrics that a test cannot bring as far as a year of service does: what they are recorded with.
    pub(crate) magnified: &'static [(&'static str, f64)],
    /// Makes a cluster, and has it be well, faulty, and where that can be, well again.
    pub(crate) play: fn(&mut Stage) -> anyhow::Result<()>,
}

impl Case {
    pub(crate) const fn new(alert: &'static str, play: fn(&mut Stage) -> anyhow::Result<()>) -> Self {
        Self { alert, beside: &[], magnified: &[], play }
    }
}

/// What is recorded of a cluster.
pub(crate) struct Stage {
    record: Record,
    targets: Vec<Target>,
    /// Minutes that a scrape stands for. Less than the 5 after which Prometheus forgets a series.
    pub(crate) minutes: usize,
    /// Scrapes up to the end of each act.
    well: Option<usize>,
    faulty: Option<usize>,
    mended: Option<usize>,
}

impl Stage {
    pub(crate) fn new(magnified: &'static [(&'static str, f64)]) -> Self {
        Self {
            record: Record::new(magnified),
            targets: Vec::new(),
            minutes: 1,
            well: None,
            faulty: None,
            mended: None,
        }
    }

    /// Scrapes a cluster from now on, and so many members of its etcd.
    pub(crate) fn watch(&mut self, cluster: &mut Cluster, etcd_members: usize) {
        self.targets = Target::all_of(cluster, etcd_members);
    }

    /// All is well for so many scrapes, before each of which something may happen.
    ///
    /// # Errors
    /// What happens fails.
    pub(crate) fn well(
        &mut self,
        scrapes: usize,
        happens: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.well = Some(self.scrape(scrapes, happens)?);
        Ok(())
    }

    /// Waits until coordinators know what has become of edges: as many silent probes as it takes, and one.
    fn settle(&self) -> anyhow::Result<()> {
        let edges = self.targets.iter().filter(|target| target.is_edge()).count();
        for target in &self.targets {
            let Some(before) = target.probes() else { continue };
            let enough = before + (PROBES * edges) as f64;
            wait_until("edges were probed", || Ok(target.probes().is_some_and(|probes| probes >= enough)))?;
        }
        Ok(())
    }

    /// The fault is there for so many scrapes, once coordinators have seen what they see of it.
    ///
    /// # Errors
    /// What happens fails.
    pub(crate) fn faulty(
        &mut self,
        scrapes: usize,
        happens: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.settle()?;
        self.faulty = Some(self.scrape(scrapes, happens)?);
        Ok(())
    }

    /// The fault was mended, for so many scrapes, once coordinators have seen it.
    ///
    /// # Errors
    /// What happens fails.
    pub(crate) fn mended(
        &mut self,
        scrapes: usize,
        happens: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.settle()?;
        self.mended = Some(self.scrape(scrapes, happens)?);
        Ok(())
    }

    fn scrape(
        &mut self,
        scrapes: usize,
        mut happens: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        for _ in 0..scrapes {
            happens()?;
            self.record.scrape(&self.targets)?;
        }
        Ok(self.record.scrapes())
    }

    /// Has promtool say whether exactly what should fire does: nothing while all is well, the alert by the end of the
    /// fault and nothing else at any time, and nothing once it was mended.
    ///
    /// # Errors
    /// Something else fires, or it does not; the message holds what does.
    pub(crate) fn judge(&self, folder: &Path, alert: Option<&str>, beside: &[&str]) -> anyhow::Result<()> {
        let rules = fs::canonicalize(rules_path())?;
        let mut text = format!(
            "rule_files: [{:?}]\nevaluation_interval: 30s\ntests:\n  - interval: {}m\n    input_series:\n",
            rules, self.minutes
        );
        self.record.write_to(&mut text, 6);
        text.push_str("    promql_expr_test:\n");
        let mut expect = |scrapes: Option<usize>, is_ever: bool, firing: Option<&str>| {
            let Some(scrapes) = scrapes else { return };
            let at = (scrapes - 1) * self.minutes;
            let others = format!("ALERTS{{alertstate=\"firing\",alertname!~\"{}\"}}", beside.join("|"));
            let fired = if is_ever { format!("max_over_time({others}[{}m])", at + 1) } else { others };
            let samples = firing
                .map(|alert| format!("{{labels: '{{alertname=\"{alert}\"}}', value: 1}}"))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "      - {{eval_time: {at}m, expr: 'group by (alertname) ({fired})', exp_samples: [{samples}]}}"
            );
        };
        expect(self.well, true, None);
        expect(self.faulty, false, alert);
        expect(self.faulty, true, alert);
        expect(self.mended, false, None);
        let path = folder.join("record.test.yml");
        fs::write(&path, text)?;
        tool::run("promtool", &[Path::new("test"), Path::new("rules"), &path]).map(drop)
    }
}

pub(crate) fn rules_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/sluice.rules.yml")
}

/// Plays every case, some at a time.
///
/// # Errors
/// An alert does not fire on its fault, or another one does; all that failed are named.
pub(crate) fn play(cases: &[Case]) -> anyhow::Result<()> {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(fault) = play_one(case) {
                        let mut faults = faults.lock().expect("nothing panics under this lock");
                        faults.push(format!("{}: {fault:#}", case.alert));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().context("a case panicked")?;
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(())
}

fn play_one(case: &Case) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::new(case.magnified);
    (case.play)(&mut stage)?;
    // Where this machine does not let the fault be made, the case has said so.
    if stage.faulty.is_none() {
        return Ok(());
    }
    for (metric, _) in case.magnified {
        anyhow::ensure!(stage.record.has(metric), "nobody exports {metric}");
    }
    stage.judge(folder.path(), Some(case.alert), case.beside).inspect_err(|_| {
        // For whoever wants to see why.
        let _ = folder.keep();
    })
}

/// What clients do in a minute in which all is as usual.
///
/// # Errors
/// A download fails.
pub(crate) fn usual(cluster: &Cluster) -> anyhow::Result<()> {
    for _ in 0..USUAL {
        let answer = client::get(&cluster.download_url("a.bin"))?;
        anyhow::ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text());
    }
    Ok(())
}

/// Nothing happens.
///
/// # Errors
/// Never.
#[allow(clippy::unnecessary_wraps, reason = "where something happens, it can fail")]
pub(crate) fn nothing() -> anyhow::Result<()> {
    Ok(())
}
