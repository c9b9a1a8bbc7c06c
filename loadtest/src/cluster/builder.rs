//! What a cluster should have, and its start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::{Cluster, Member, RedisServer, publish};
use crate::content::Content;
use crate::process::{self, Process};
use crate::settings::{self, Addresses, Settings};
use crate::wait::wait_until;

/// A cluster to be: say what it should have, then [`ready`](Builder::ready).
#[derive(Debug)]
pub struct Builder {
    edges: usize,
    coordinators: usize,
    redis: bool,
    clients: Option<String>,
    files: Vec<(String, Content)>,
    coordinator: Settings,
    all_edges: Vec<Settings>,
    one_edge: Vec<(usize, Settings)>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            edges: 1,
            coordinators: 1,
            redis: false,
            clients: None,
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

    /// How many coordinators over the same edges, keys and clients; 1 if not said. Their ids are `coordinator-1`, …
    pub fn coordinators(mut self, count: usize) -> Self {
        self.coordinators = count;
        self
    }

    /// The coordinators keep their state in a Redis of the cluster's own.
    pub fn redis(mut self) -> Self {
        self.redis = true;
        self
    }

    /// What is in the file of clients, as TOML; nobody but whom `auth.schemes` lets in otherwise.
    pub fn clients(mut self, toml: &str) -> Self {
        self.clients = Some(toml.to_owned());
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

    /// Changes the configuration of every coordinator.
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
        if let Some(clients) = &self.clients {
            let path = folder.path().join(settings::CLIENTS);
            fs::write(&path, clients)?;
            // Secrets are in it.
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
        let mut cluster = self.lay_out(folder)?;
        if let Some(redis) = &mut cluster.redis {
            redis.start()?;
        }
        start_coordinators(&mut cluster)?;
        for edge in &mut cluster.edges {
            edge.process.start()?;
        }
        for member in cluster.edges.iter_mut().chain(&mut cluster.coordinators) {
            member.wait_until_ready()?;
        }
        let everyone: Vec<usize> = (0..cluster.edges.len()).collect();
        cluster.wait_until_up(&everyone)?;
        Ok(cluster)
    }

    /// Configurations and programs, nothing started.
    fn lay_out(self, folder: TempDir) -> anyhow::Result<Cluster> {
        let path = |name: &str| folder.path().join(name);
        let member = |id: &str, binary: &str| {
            let binary = process::binary(binary)?;
            let process = Process::new(id, binary, path(&format!("{id}.toml")), path(&format!("{id}.log")));
            anyhow::Ok(Member::new(process, Addresses::take()?))
        };
        let members = |kind: &str, binary: &str, count: usize| {
            (1..=count)
                .map(|number| member(&format!("{kind}-{number}"), binary))
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let coordinators = members("coordinator", "sluice-coordinator", self.coordinators)?;
        let edges = members("edge", "sluice-edge", self.edges)?;
        for (index, edge) in edges.iter().enumerate() {
            let mut changes = self.all_edges.clone();
            changes.extend(
                self.one_edge.iter().filter(|(at, _)| *at == index).map(|(_, change)| change.clone()),
            );
            let known = coordinators.iter().map(|member| &member.addresses);
            let config = settings::edge(edge.id(), &edge.addresses, known);
            Settings::together(changes).write(config, &path(&format!("{}.toml", edge.id())))?;
        }
        let redis = self.redis.then(|| RedisServer::new(folder.path()));
        let state = redis.iter().map(|redis| {
            Settings::default().toml(&format!("[state]\nsource = \"redis\"\nurl = {:?}", redis.url()))
        });
        let changes = Settings::together(state.chain([self.coordinator]));
        for coordinator in &coordinators {
            let listed = edges.iter().map(|edge| (edge.id(), &edge.addresses));
            let config = settings::coordinator(coordinator.id(), &coordinator.addresses, listed);
            changes.write(config, &path(&format!("{}.toml", coordinator.id())))?;
        }
        Ok(Cluster { coordinators, edges, redis, files: self.files, folder: Some(folder) })
    }
}

/// One first: it makes the files of keys that edges and the other coordinators want to find.
fn start_coordinators(cluster: &mut Cluster) -> anyhow::Result<()> {
    let made =
        [settings::KEYS, settings::TICKETS, settings::ADMIN_TOKENS].map(|name| cluster.folder().join(name));
    let (first, others) = cluster.coordinators.split_first_mut().context("a cluster has a coordinator")?;
    first.process.start()?;
    wait_until("the coordinator has made keys and tokens", || {
        ensure!(
            first.process.is_running()?,
            "the coordinator has ended by itself; it said:\n{}",
            first.process.log_tail()
        );
        Ok(made.iter().all(|path| path.exists()))
    })?;
    others.iter_mut().try_for_each(|other| other.process.start())
}
