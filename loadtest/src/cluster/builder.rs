//! What a cluster should have, and its start.

use std::fs;

use anyhow::ensure;
use tempfile::TempDir;

use super::{Cluster, Member, publish};
use crate::content::Content;
use crate::process::{self, Process};
use crate::settings::{self, Addresses, Settings};
use crate::wait::wait_until;

/// A cluster to be: say what it should have, then [`ready`](Builder::ready).
#[derive(Debug)]
pub struct Builder {
    edges: usize,
    files: Vec<(String, Content)>,
    coordinator: Settings,
    all_edges: Vec<Settings>,
    one_edge: Vec<(usize, Settings)>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            edges: 1,
            files: Vec::new(),
            coordinator: Settings::default(),
            all_edges: Vec::new(),
            one_edge: Vec::new(),
        }
    }

    /// How many edges; 1 if not said. Their ids are `edge-1`, `edge-2`, …
    pub fn edges(mut self, count: usize) -> Self {
        self.edges = count;
        self
    }

    /// A file of generated content beneath the root; folders are made.
    pub fn file(mut self, file_id: &str, size: u64) -> Self {
        self.files.push((file_id.to_owned(), Content::new(file_id, size)));
        self
    }

    /// Changes the configuration of every edge.
    pub fn every_edge(mut self, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.all_edges.push(change(Settings::default()));
        self
    }

    /// Changes the configuration of one edge, counted from 0, after those of every edge.
    pub fn edge(mut self, index: usize, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.one_edge.push((index, change(Settings::default())));
        self
    }

    /// Changes the coordinator's configuration.
    pub fn coordinator(mut self, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.coordinator = change(self.coordinator);
        self
    }

    /// Starts the programs; they are ready, and the coordinator sees every edge up, when this returns.
    ///
    /// # Errors
    /// A program is not built, will not start or gets not ready; the message holds the end of its log.
    pub fn ready(self) -> anyhow::Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("sluice-").tempdir()?;
        let root = folder.path().join(settings::ROOT);
        fs::create_dir(&root)?;
        for (file_id, content) in &self.files {
            publish(&root, file_id, content)?;
        }
        let mut cluster = self.lay_out(folder)?;
        // The coordinator first: it makes the key file that edges want to find.
        cluster.coordinator.process.start()?;
        wait_until("the coordinator has made the key file", || {
            ensure!(
                cluster.coordinator.process.is_running()?,
                "the coordinator has ended by itself; it said:\n{}",
                cluster.coordinator.process.log_tail()
            );
            Ok(cluster.keys_path().exists())
        })?;
        for edge in &mut cluster.edges {
            edge.process.start()?;
        }
        for edge in &mut cluster.edges {
            edge.wait_until_ready()?;
        }
        cluster.coordinator.wait_until_ready()?;
        let everyone: Vec<usize> = (0..cluster.edges.len()).collect();
        cluster.wait_until_up(&everyone)?;
        Ok(cluster)
    }

    /// Configurations and programs, nothing started.
    fn lay_out(self, folder: TempDir) -> anyhow::Result<Cluster> {
        let path = |name: &str| folder.path().join(name);
        let member = |id: &str, binary: &str, addresses| {
            let binary = process::binary(binary)?;
            let process = Process::new(id, binary, path(&format!("{id}.toml")), path(&format!("{id}.log")));
            anyhow::Ok(Member::new(process, addresses))
        };
        let coordinator = member("coordinator-1", "sluice-coordinator", Addresses::take()?)?;
        let mut edges = Vec::new();
        for index in 0..self.edges {
            let edge = member(&format!("edge-{}", index + 1), "sluice-edge", Addresses::take()?)?;
            let mut changes = self.all_edges.clone();
            changes.extend(
                self.one_edge.iter().filter(|(at, _)| *at == index).map(|(_, change)| change.clone()),
            );
            let config = settings::edge(edge.id(), &edge.addresses, &coordinator.addresses);
            Settings::together(changes).write(config, &path(&format!("{}.toml", edge.id())))?;
            edges.push(edge);
        }
        let listed = edges.iter().map(|edge| (edge.id(), &edge.addresses));
        let config = settings::coordinator(&coordinator.addresses, listed);
        self.coordinator.write(config, &path("coordinator-1.toml"))?;
        Ok(Cluster { coordinator, edges, files: self.files, folder: Some(folder) })
    }
}
