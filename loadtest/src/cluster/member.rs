//! One program of a cluster: where it listens, what it says, whether it is ready.

use anyhow::{Context, bail, ensure};

use crate::client::{self, Answer};
use crate::hosts::Host;
use crate::process::Process;
use crate::settings::Addresses;
use crate::wait::wait_until;

/// A program of the cluster and where it listens.
#[derive(Debug)]
pub struct Member {
    pub(super) process: Process,
    pub(super) addresses: Addresses,
}

impl Member {
    pub(crate) fn new(process: Process, addresses: Addresses) -> Self {
        Self { process, addresses }
    }

    /// The `id` of its configuration.
    pub fn id(&self) -> &str {
        self.process.name()
    }

    /// `http://host:port`, for clients.
    pub fn url(&self) -> String {
        self.addresses.public.url()
    }

    /// `host:port`, for clients that send raw bytes.
    pub fn address(&self) -> String {
        self.addresses.public.address()
    }

    /// `http://host:port` of its admin port.
    pub fn admin_url(&self) -> String {
        self.addresses.admin.url()
    }

    /// Where it lives.
    pub fn host(&self) -> &Host {
        self.addresses.public.host()
    }

    /// Everything it has logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.log()
    }

    /// The program itself, to signal it or look at it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What `/readyz` says.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn readiness(&self) -> anyhow::Result<Answer> {
        client::get_here(&format!("{}/readyz", self.admin_url()))
    }

    /// What `/metrics` says of a series, by its name and labels as they are written there.
    ///
    /// # Errors
    /// Nobody answers, or there is no such series.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let text = client::get_here(&format!("{}/metrics", self.admin_url()))?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.with_context(|| format!("no {series} in {text}"))?.parse().context("a metric is a number")
    }

    /// Which process answers on its admin port.
    ///
    /// # Errors
    /// None does.
    pub fn instance(&self) -> anyhow::Result<String> {
        let told = self.readiness()?.json()?;
        Ok(told["instance"].as_str().context("/readyz names the instance")?.to_owned())
    }

    /// Starts a successor, which takes its listeners over, and waits until that one is ready; gives the predecessor.
    ///
    /// # Errors
    /// The successor ends, or does not take over.
    pub fn upgrade(&mut self) -> anyhow::Result<Process> {
        let before = self.instance()?;
        let predecessor = self.process.start_beside()?;
        wait_until(&format!("a successor of {} answers", self.id()), || {
            ensure!(self.process.is_running()?, "the successor has ended:\n{}", self.process.log_tail());
            // A question that was on its way as the process changed has no answer.
            Ok(self.instance().is_ok_and(|instance| instance != before))
        })?;
        self.wait_until_ready()?;
        Ok(predecessor)
    }

    /// Starts it again, ending it first where it runs, and waits until it is ready.
    ///
    /// # Errors
    /// It does not end, or does not get ready.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.process.is_running()? {
            self.process.terminate()?;
        }
        self.process.start()?;
        self.wait_until_ready()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    fn is_ready(&mut self) -> anyhow::Result<bool> {
        if !self.process.is_running()? {
            bail!("{} has ended by itself; it said:\n{}", self.id(), self.process.log_tail());
        }
        // Nobody listens yet, or the answer is "not yet".
        Ok(self.readiness().is_ok_and(|answer| answer.status() == 200))
    }

    pub(crate) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let what = format!("{} is ready", self.id());
        let waited = wait_until(&what, || self.is_ready());
        waited.with_context(|| format!("{} said:\n{}", self.id(), self.process.log_tail()))
    }
}
