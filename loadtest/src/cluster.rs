//! Coordinators and their edges over one folder of files, in a temporary folder of their own.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, thread};

use anyhow::{Context, ensure};
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{self, Claims};
use tempfile::TempDir;

use crate::client::{self, Answer, Request};
use crate::clock::Clock;
use crate::content::Content;
use crate::hosts::Hosts;
use crate::process::{self, Process};
use crate::settings;
use crate::wait::wait_until;

mod answers;
mod builder;
mod etcd;
mod member;
mod redis;

pub use answers::{EdgeStatus, Offer, token_of};
pub use builder::Builder;
pub use etcd::{EtcdCluster, EtcdServer, PREFIX};
pub use member::Member;
pub use redis::{PASSWORD as REDIS_PASSWORD, RedisServer};

/// Where this variable is set, the folder of every cluster stays, and its place is printed.
const KEEP: &str = "LOADTEST_KEEP";
/// Says that network namespaces are not permitted, and that tests are to do without.
const WITHOUT_NAMESPACES: &str = "LOADTEST_WITHOUT_NAMESPACES";

/// A running cluster. Dropping it ends its programs; its folder stays where a test panics, or [`KEEP`] is set.
#[derive(Debug)]
pub struct Cluster {
    /// Not empty.
    coordinators: Vec<Member>,
    edges: Vec<Member>,
    redis: Option<RedisServer>,
    clock: Option<Clock>,
    etcd: Option<EtcdCluster>,
    /// Dropped after the programs on them.
    hosts: Option<Hosts>,
    files: Vec<(String, Content)>,
    /// Clients speak TLS with its programs.
    is_tls: bool,
    /// Dropped after the programs that live in it.
    folder: Option<TempDir>,
}

impl Cluster {
    /// A cluster to be.
    pub fn start() -> Builder {
        Builder::new()
    }

    /// The first coordinator.
    pub fn coordinator(&mut self) -> &mut Member {
        &mut self.coordinators[0]
    }

    pub fn coordinators(&self) -> &[Member] {
        &self.coordinators
    }

    /// Whether members can be cut off from each other: they have hosts, and those are more than addresses.
    pub fn is_apart(&self) -> bool {
        self.hosts.as_ref().is_some_and(Hosts::are_apart)
    }

    /// As [`Self::is_apart`], for a test that has nothing to show without.
    ///
    /// # Errors
    /// Namespaces are not permitted, and `LOADTEST_WITHOUT_NAMESPACES` does not say that it is known.
    pub fn can_be_cut(&self) -> anyhow::Result<bool> {
        ensure!(
            self.is_apart() || env::var_os(WITHOUT_NAMESPACES).is_some(),
            "network namespaces are not permitted here: with {WITHOUT_NAMESPACES}=1 nothing that needs them is tested"
        );
        Ok(self.is_apart())
    }

    /// The clock of coordinators and edges, or of the one edge that was given it.
    ///
    /// # Panics
    /// The cluster was started without.
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("the cluster was started with a clock")
    }

    /// Where coordinators keep their state.
    ///
    /// # Panics
    /// The cluster was started without.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("the cluster was started with a Redis")
    }

    /// Where edges name themselves.
    ///
    /// # Panics
    /// The cluster was started without.
    pub fn etcd(&mut self) -> &mut EtcdCluster {
        self.etcd.as_mut().expect("the cluster was started with an etcd")
    }

    /// A coordinator, counted from 0.
    pub fn coordinator_at(&mut self, index: usize) -> &mut Member {
        &mut self.coordinators[index]
    }

    /// An edge, counted from 0.
    pub fn edge(&mut self, index: usize) -> &mut Member {
        &mut self.edges[index]
    }

    pub fn edges(&self) -> &[Member] {
        &self.edges
    }

    /// The place of the edge with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn edge_index(&self, id: &str) -> anyhow::Result<usize> {
        let found = self.edges.iter().position(|edge| edge.id() == id);
        found.with_context(|| format!("no edge has the id {id:?}"))
    }

    /// The folder that holds configurations, logs, keys and the root.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("the folder is there until the cluster is dropped").path()
    }

    /// The folder of the files.
    pub fn root(&self) -> PathBuf {
        self.folder().join(settings::ROOT)
    }

    pub fn keys_path(&self) -> PathBuf {
        self.folder().join(settings::KEYS)
    }

    /// Seals claims with the cluster's own key, for tokens that its coordinator would not mint.
    ///
    /// # Errors
    /// The key file cannot be read, or the token would be too long.
    pub fn seal(&self, claims: &Claims<'_>) -> anyhow::Result<String> {
        let keys = KeyFile::load(&self.keys_path())?;
        Ok(token::seal(claims, keys.ring().load().current())?)
    }

    /// Sends a request to the first coordinator's admin API.
    ///
    /// # Errors
    /// Nobody answers, or the coordinator has made no token.
    pub fn admin(&self, method: &'static str, path: &str) -> anyhow::Result<Answer> {
        self.admin_at(0, method, path, "")
    }

    /// The same at a coordinator, counted from 0, with a body.
    ///
    /// # Errors
    /// As [`Cluster::admin`].
    pub fn admin_at(
        &self,
        coordinator: usize,
        method: &'static str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.coordinators[coordinator].admin_url());
        let bearer = format!("Bearer {}", self.admin_token()?);
        Request::new(method, &url).field("Authorization", &bearer).body(body).send()
    }

    /// Runs the operators' tool against a coordinator, counted from 0; gives its exit code and what it says, on standard
    /// output and on standard error.
    ///
    /// # Errors
    /// It is not built.
    pub fn operate(
        &self,
        coordinator: usize,
        arguments: &[&str],
    ) -> anyhow::Result<(Option<i32>, String, String)> {
        let output = Command::new(process::binary("sluicectl")?)
            .args(["--coordinator", &self.coordinators[coordinator].admin_url(), "--token-file"])
            .arg(self.folder().join(settings::ADMIN_TOKENS))
            .args(arguments)
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// The token that the admin API wants.
    ///
    /// # Errors
    /// The coordinator has made none.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        let path = self.folder().join(settings::ADMIN_TOKENS);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let token = text.lines().next().and_then(|line| line.split_once(':'));
        Ok(token.context("the first line is not name:token")?.1.trim().to_owned())
    }

    /// The coordinator's URL of a file, which redirects to an edge. The id must need no escapes.
    pub fn download_url(&self, file_id: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/download/{file_id}?user_id=tester", self.coordinators[0].address())
    }

    /// The files that the cluster was started with, and what they should hold.
    pub fn files(&self) -> &[(String, Content)] {
        &self.files
    }

    /// What the files that the cluster was started with should hold.
    ///
    /// # Panics
    /// It was started without such a file.
    pub fn content(&self, file_id: &str) -> &Content {
        let found = self.files.iter().find(|(known, _)| known == file_id);
        &found.expect("the cluster was started with the file").1
    }

    /// Asks the first coordinator for a download.
    ///
    /// # Errors
    /// It does not answer with one.
    pub fn request_download(&self, file_id: &str) -> anyhow::Result<Offer> {
        self.request_download_at(&self.coordinators[0], file_id)
    }

    /// Asks a coordinator for a download.
    ///
    /// # Errors
    /// It does not answer with one.
    pub fn request_download_at(&self, coordinator: &Member, file_id: &str) -> anyhow::Result<Offer> {
        let url = format!("{}/api/request-download?file_id={file_id}&user_id=tester", coordinator.url());
        Offer::parse(&client::get_here(&url)?)
    }

    /// How the first coordinator sees the edges.
    ///
    /// # Errors
    /// It does not tell.
    pub fn edge_statuses(&self) -> anyhow::Result<Vec<EdgeStatus>> {
        self.edge_statuses_at(&self.coordinators[0])
    }

    /// How a coordinator sees the edges.
    ///
    /// # Errors
    /// It does not tell.
    pub fn edge_statuses_at(&self, coordinator: &Member) -> anyhow::Result<Vec<EdgeStatus>> {
        let url = format!("{}/admin/v1/edges", coordinator.admin_url());
        let bearer = format!("Bearer {}", self.admin_token()?);
        let answer = Request::new("GET", &url).field("Authorization", &bearer).send()?;
        ensure!(answer.status() == 200, "{url}: {} {}", answer.status(), answer.text());
        EdgeStatus::parse_list(&answer.json()?)
    }

    /// Waits until every coordinator sees exactly these edges up, and sends downloads to no other.
    ///
    /// # Errors
    /// It does not come to see it.
    pub fn wait_until_up(&self, indices: &[usize]) -> anyhow::Result<()> {
        self.coordinators.iter().try_for_each(|coordinator| self.wait_until_up_at(coordinator, indices))
    }

    /// Waits until one coordinator sees exactly these edges up, and sends downloads to no other.
    ///
    /// # Errors
    /// It does not come to see it.
    pub fn wait_until_up_at(&self, coordinator: &Member, indices: &[usize]) -> anyhow::Result<()> {
        let wanted: Vec<&str> = indices.iter().map(|index| self.edges[*index].id()).collect();
        wait_until(&format!("{} sees {wanted:?} up, and no other", coordinator.id()), || {
            let statuses = self.edge_statuses_at(coordinator)?;
            let is_listed = |id: &&str| statuses.iter().any(|edge| edge.id == *id);
            Ok(wanted.iter().all(is_listed)
                && statuses.iter().all(|edge| edge.is_settled(wanted.contains(&edge.id.as_str()))))
        })
    }

    /// SIGKILL to an edge. The coordinator learns of it by itself.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, edge: usize) -> anyhow::Result<()> {
        self.edges[edge].process.kill()
    }

    /// SIGTERM to an edge, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub fn terminate(&mut self, edge: usize) -> anyhow::Result<ExitStatus> {
        self.edges[edge].process.terminate()
    }

    /// Starts an edge again, ending it first where it runs, and waits until it is ready.
    ///
    /// # Errors
    /// It does not end, or does not get ready.
    pub fn restart(&mut self, edge: usize) -> anyhow::Result<()> {
        self.edges[edge].restart()
    }

    /// Writes a file beneath the root, under a temporary name first, as publishers should.
    ///
    /// # Errors
    /// The root cannot be written.
    pub fn publish(&self, file_id: &str, content: &Content) -> anyhow::Result<()> {
        publish(&self.root(), file_id, content)
    }

    /// Edges and coordinators, in the order in which they are ended.
    pub fn programs(&mut self) -> impl Iterator<Item = &mut Process> {
        self.edges.iter_mut().chain(&mut self.coordinators).map(Member::process)
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let members = self.edges.iter_mut().chain(&mut self.coordinators);
        let etcd = self.etcd.iter_mut().flat_map(EtcdCluster::processes);
        members.map(Member::process).chain(etcd).chain(self.redis.iter_mut().map(RedisServer::process))
    }

    /// Name and log of every program.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn logs(&self) -> anyhow::Result<Vec<(&str, String)>> {
        let members = self.edges.iter().chain(&self.coordinators);
        members.map(|member| Ok((member.id(), member.log()?))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let wanted = thread::panicking() || env::var_os(KEEP).is_some();
        if wanted && let Some(folder) = self.folder.take() {
            let kept = folder.keep();
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "the cluster's folder is kept: {}", kept.display());
            for member in self.edges.iter().chain(&self.coordinators) {
                let _ = writeln!(out, "--- end of {}'s log\n{}", member.id(), member.process.log_tail());
            }
        }
    }
}

fn publish(root: &Path, file_id: &str, content: &Content) -> anyhow::Result<()> {
    let path = root.join(file_id);
    let folder = path.parent().context("a file id has a folder beneath the root")?;
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(".unfinished");
    content.write(&unfinished)?;
    fs::rename(&unfinished, &path).with_context(|| format!("cannot publish {file_id}"))
}
