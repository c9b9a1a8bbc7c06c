//! What a cluster should have, and its start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::{Cluster, EtcdCluster, Member, RedisServer, etcd, publish};
use crate::certificates;
use crate::clock::Clock;
use crate::content::Content;
use crate::hosts::{Host, Hosts};
use crate::ports::Port;
use crate::process::{self, Process};
use crate::settings::{self, Addresses, Settings};
use crate::wait::wait_until;

/// Who has a clock that tests move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    All,
    /// Counted from 0.
    Edge(usize),
}

/// A cluster to be: say what it should have, then [`ready`](Builder::ready).
#[derive(Debug)]
pub struct Builder {
    edges: usize,
    coordinators: usize,
    redis: bool,
    clock: Option<Whose>,
    hosts: bool,
    tls: bool,
    waiting: usize,
    is_apart_from_terminal: bool,
    etcd: usize,
    etcd_quota: Option<u64>,
    are_keys_in_etcd: bool,
    is_etcd_locked: bool,
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
            clock: None,
            hosts: false,
            tls: false,
            waiting: 0,
            is_apart_from_terminal: false,
            etcd: 0,
            etcd_quota: None,
            are_keys_in_etcd: false,
            is_etcd_locked: false,
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

    /// The coordinators and edges have a clock of their own, [`Cluster::clock`].
    pub fn clock(mut self) -> Self {
        self.clock = Some(Whose::All);
        self
    }

    /// One edge, counted from 0, has a clock of its own, [`Cluster::clock`], and all others the system's.
    pub fn clock_of_edge(mut self, index: usize) -> Self {
        self.clock = Some(Whose::Edge(index));
        self
    }

    /// Every program is on a host of its own.
    pub fn hosts(mut self) -> Self {
        self.hosts = true;
        self
    }

    /// Coordinators and edges speak TLS with clients, by a certificate of the cluster's own authority.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The last so many edges are not started: a test does so later.
    pub fn edges_waiting(mut self, count: usize) -> Self {
        self.waiting = count;
        self
    }

    /// Ctrl-C at the terminal is for whoever started the cluster, and not for its programs.
    pub fn apart_from_terminal(mut self) -> Self {
        self.is_apart_from_terminal = true;
        self
    }

    /// Edges name themselves in an etcd of so many members, of the cluster's own; coordinators have none in their
    /// configurations.
    pub fn etcd(mut self, members: usize) -> Self {
        self.etcd = members;
        self
    }

    /// Each member of the etcd stores so many bytes at most.
    pub fn etcd_quota(mut self, bytes: u64) -> Self {
        self.etcd_quota = Some(bytes);
        self
    }

    /// Keys are in the etcd of the cluster's own, and exchanged by themselves as `rules` say: keys of `[keys]` of the
    /// coordinators, as TOML.
    pub fn keys_in_etcd(mut self, rules: &str) -> Self {
        self.are_keys_in_etcd = true;
        let source = "[keys]\nsource = \"etcd\"\n";
        let cluster = "[etcd]\ncluster_key_file = \"cluster.key\"\n";
        self.all_edges.push(Settings::default().toml(&format!("{source}{cluster}")));
        let all = format!("{source}{rules}\n{cluster}coordinator_key_file = \"coordinator.key\"\n");
        self.coordinator = self.coordinator.toml(&all);
        self
    }

    /// The etcd lets programs in by passwords, each as a user with the role that is shipped for it.
    pub fn etcd_locked(mut self) -> Self {
        self.is_etcd_locked = true;
        self
    }

    /// What is in the file of clients, as TOML; without it there is none, and clients are in etcd where keys are.
    pub fn clients(mut self, toml: &str) -> Self {
        self.clients = Some(toml.to_owned());
        let file = format!("auth.clients_file = {:?}", settings::CLIENTS);
        self.coordinator = self.coordinator.toml(&file);
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

    /// Starts the programs; they are ready, and the coordinators see every edge up, when this returns.
    ///
    /// # Errors
    /// A program is not built, will not start or gets not ready; the message holds the end of its log.
    pub fn ready(self) -> anyhow::Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("sluice-").tempdir()?;
        let root = folder.path().join(settings::ROOT);
        fs::create_dir(&root)?;
        settings::mark_store(&root)?;
        for (file_id, content) in &self.files {
            publish(&root, file_id, content)?;
        }
        // Secrets are in them.
        let write_private = |name: &str, text: &str| -> anyhow::Result<()> {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            Ok(fs::set_permissions(&path, Permissions::from_mode(0o600))?)
        };
        if let Some(clients) = &self.clients {
            write_private(settings::CLIENTS, clients)?;
        }
        let (are_keys_in_etcd, is_etcd_locked) = (self.are_keys_in_etcd, self.is_etcd_locked);
        if are_keys_in_etcd {
            // Fernet keys: 32 bytes each.
            write_private("cluster.key", "Y2x1c3RlcmNsdXN0ZXJjbHVzdGVyY2x1c3RlcmNsdXM=\n")?;
            write_private("coordinator.key", "Y29vcmRpbmF0b3Jjb29yZGluYXRvcmNvb3JkaW5hdG8=\n")?;
        }
        let started = self.edges.saturating_sub(self.waiting);
        let is_apart_from_terminal = self.is_apart_from_terminal;
        let mut cluster = self.lay_out(folder)?;
        if is_apart_from_terminal {
            cluster.processes().for_each(Process::part_from_terminal);
        }
        if let Some(redis) = &mut cluster.redis {
            redis.start()?;
        }
        if let Some(etcd) = &mut cluster.etcd {
            etcd.start_all()?;
            if is_etcd_locked {
                let edges: Vec<&str> = cluster.edges.iter().map(Member::id).collect();
                etcd.lock(&edges)?;
            }
        }
        let made_first: &[&str] = if are_keys_in_etcd {
            &[settings::ADMIN_TOKENS]
        } else {
            &[settings::KEYS, settings::TICKETS, settings::ADMIN_TOKENS]
        };
        start_coordinators(&mut cluster, made_first)?;
        for edge in &mut cluster.edges[..started] {
            edge.process.start()?;
        }
        for member in cluster.edges[..started].iter_mut().chain(&mut cluster.coordinators) {
            member.wait_until_ready()?;
        }
        let everyone: Vec<usize> = (0..started).collect();
        cluster.wait_until_up(&everyone)?;
        Ok(cluster)
    }

    /// Configurations and programs, nothing started.
    fn lay_out(self, folder: TempDir) -> anyhow::Result<Cluster> {
        let mut hosts = self.hosts.then(Hosts::new).transpose()?;
        let path = |name: &str| folder.path().join(name);
        let clock = self.clock.map(|_| Clock::start(path("clock"))).transpose()?;
        let etcd = (self.etcd > 0)
            .then(|| EtcdCluster::new(folder.path(), self.etcd, self.etcd_quota, &mut hosts))
            .transpose()?;
        let redis = if self.redis { Some(redis(folder.path(), &mut hosts)?) } else { None };
        let mut members = |kind: &str, binary: &str, count: usize| {
            let mut members = Vec::new();
            for at in 0..count {
                let host = hosts.as_mut().map_or_else(|| Ok(Host::local()), Hosts::add)?;
                let has_clock =
                    self.clock == Some(Whose::All) || (kind == "edge" && self.clock == Some(Whose::Edge(at)));
                let clock = clock.as_ref().filter(|_| has_clock);
                members.push(member(folder.path(), &format!("{kind}-{}", at + 1), binary, &host, clock)?);
            }
            anyhow::Ok(members)
        };
        let coordinators = members("coordinator", "sluice-coordinator", self.coordinators)?;
        let edges = members("edge", "sluice-edge", self.edges)?;
        let pattern = hosts.as_ref().map_or_else(|| "http://127.0.0.1:*".to_owned(), Hosts::url_pattern);
        let pattern = if self.tls { pattern.replacen("http", "https", 1) } else { pattern };
        let (in_edges, in_coordinators) =
            etcd.as_ref().map(|etcd| etcd.settings(&pattern)).unwrap_or_default();
        let is_tls = self.tls;
        let (edges_over_tls, coordinators_over_tls) = if is_tls {
            certificates::write(folder.path(), certificates::USUAL)?;
            over_tls(&edges, &coordinators)
        } else {
            Default::default()
        };
        for (index, edge) in edges.iter().enumerate() {
            let own = format!("admin_url = {:?}", edge.admin_url());
            let mut changes = vec![in_edges.clone(), Settings::default().toml(&own)];
            changes.extend(self.is_etcd_locked.then(|| etcd::credentials(edge.id())));
            changes.extend(edges_over_tls.get(index).cloned());
            changes.extend(self.all_edges.clone());
            changes.extend(
                self.one_edge.iter().filter(|(at, _)| *at == index).map(|(_, change)| change.clone()),
            );
            let known = coordinators.iter().map(|member| &member.addresses);
            let config = settings::edge(edge.id(), &edge.addresses, known);
            Settings::together(changes).write(config, &path(&format!("{}.toml", edge.id())))?;
        }
        let state = redis.iter().map(|redis| {
            Settings::default().toml(&format!("[state]\nsource = \"redis\"\nurl = {:?}", redis.url()))
        });
        let user = self.is_etcd_locked.then(|| etcd::credentials(etcd::COORDINATOR));
        let changes: Vec<_> = state.chain([in_coordinators]).chain(user).chain([self.coordinator]).collect();
        for (index, coordinator) in coordinators.iter().enumerate() {
            let own = coordinators_over_tls.get(index).cloned();
            let changes = Settings::together(own.into_iter().chain(changes.clone()));
            let listed = edges.iter().map(|edge| (edge.id(), &edge.addresses));
            let config = settings::coordinator(coordinator.id(), &coordinator.addresses, listed);
            changes.write(config, &path(&format!("{}.toml", coordinator.id())))?;
        }
        Ok(Cluster {
            coordinators,
            edges,
            redis,
            clock,
            etcd,
            hosts,
            files: self.files,
            is_tls,
            folder: Some(folder),
        })
    }
}

/// What programs are told beside the usual where clients speak TLS with them: each edge, and each coordinator.
fn over_tls(edges: &[Member], coordinators: &[Member]) -> (Vec<Settings>, Vec<Settings>) {
    let url = |member: &Member| format!("https://{}", member.address());
    let (cert, key) = (certificates::SERVER, certificates::SERVER_KEY);
    let tls = format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
    let urls: Vec<_> = coordinators.iter().map(url).collect();
    let listed: String = edges
        .iter()
        .map(|edge| {
            let (id, admin_url) = (edge.id(), edge.admin_url());
            format!(
                "[[registry.edges]]\nid = {id:?}\nurl = {:?}\nadmin_url = {admin_url:?}\nweight = 100\nzone = \"a\"\n",
                url(edge)
            )
        })
        .collect();
    let of_edge = |edge| {
        let text = format!("advertise_url = {:?}\ncoordinator_urls = {urls:?}\n{tls}", url(edge));
        Settings::default().toml(&text)
    };
    let of_coordinator = |coordinator| {
        let authority = certificates::AUTHORITY;
        let trusted = format!("[registry]\nedges_ca_file = {authority:?}\n");
        let text = format!("public_url = {:?}\n{tls}{trusted}{listed}", url(coordinator));
        Settings::default().toml(&text)
    };
    (edges.iter().map(of_edge).collect(), coordinators.iter().map(of_coordinator).collect())
}

fn member(
    folder: &Path,
    id: &str,
    binary: &str,
    host: &Host,
    clock: Option<&Clock>,
) -> anyhow::Result<Member> {
    let (config, log) = (folder.join(format!("{id}.toml")), folder.join(format!("{id}.log")));
    let process = Process::new(id, process::binary(binary)?, config, log).on(host);
    let process = process.environment(clock.map(Clock::environment).unwrap_or_default());
    Ok(Member::new(process, Addresses::take_on(host)?))
}

fn redis(folder: &Path, hosts: &mut Option<Hosts>) -> anyhow::Result<RedisServer> {
    let host = hosts.as_mut().map(Hosts::add).transpose()?;
    let port = host.map(|host| Port::take_on(&host)).transpose()?;
    Ok(RedisServer::new(folder, port))
}

/// One first: it makes the files of keys that edges and the other coordinators want to find.
fn start_coordinators(cluster: &mut Cluster, made_first: &[&str]) -> anyhow::Result<()> {
    let made: Vec<_> = made_first.iter().map(|name| cluster.folder().join(name)).collect();
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
