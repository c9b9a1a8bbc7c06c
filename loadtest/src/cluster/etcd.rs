//! An etcd of a cluster's own: one member or several, each a process that can be killed, frozen and started again, and
//! cut off where it has a host; and what operators do with it: compaction, snapshots.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{self, Request};
use crate::hosts::{Host, Hosts};
use crate::ports::Port;
use crate::process::{Process, Signal};
use crate::settings::Settings;
use crate::tool;
use crate::wait::wait_until;

/// Under which all of Sluice's keys are, unless it is told otherwise.
pub const PREFIX: &str = "/sluice/";
/// The user that coordinators are; edges are users by their ids.
pub(super) const COORDINATOR: &str = "coordinator";
const ROOT: &str = "root";
/// A member that is cut off is asked in vain for no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// The members of one etcd.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<EtcdServer>,
    /// `NAME=PEER-URL,…` of all.
    everyone: String,
}

/// One member.
#[derive(Debug)]
pub struct EtcdServer {
    process: Process,
    client: Port,
    peer: Port,
    data: PathBuf,
    /// As whom this asks, where that has to be said.
    user: Option<&'static str>,
}

impl EtcdCluster {
    /// A cluster whose data and logs are in `folder`, each member on a host of its own where there are any, and with
    /// room for `quota` bytes, where that is not etcd's usual; not started.
    ///
    /// # Errors
    /// There are no free ports.
    pub(super) fn new(
        folder: &Path,
        count: usize,
        quota: Option<u64>,
        hosts: &mut Option<Hosts>,
    ) -> anyhow::Result<Self> {
        let ports = (0..count).map(|_| {
            let host = hosts.as_mut().map_or_else(|| Ok(Host::local()), Hosts::add)?;
            Ok((Port::take_on(&host)?, Port::take_on(&host)?))
        });
        let ports = ports.collect::<anyhow::Result<Vec<(Port, Port)>>>()?;
        let name = |at: usize| format!("etcd-{}", at + 1);
        let everyone = ports.iter().enumerate().map(|(at, (_, peer))| format!("{}={}", name(at), peer.url()));
        let everyone = everyone.collect::<Vec<_>>().join(",");
        let member = |(at, (client, peer)): (usize, (Port, Port))| {
            let data = folder.join(name(at));
            // Elections within a quarter of a second: tests kill leaders, and wait for the next.
            let arguments = [
                format!("--name={}", name(at)),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={}", client.url()),
                format!("--advertise-client-urls={}", client.url()),
                format!("--listen-peer-urls={}", peer.url()),
                format!("--initial-advertise-peer-urls={}", peer.url()),
                format!("--initial-cluster={everyone}"),
                "--logger=zap".to_owned(),
                "--heartbeat-interval=50".to_owned(),
                "--election-timeout=250".to_owned(),
            ];
            let log = folder.join(format!("{}.log", name(at)));
            let quota = quota.map(|bytes| format!("--quota-backend-bytes={bytes}"));
            let arguments = arguments.into_iter().chain(quota).map(Into::into).collect();
            let process = Process::with_arguments(&name(at), "etcd".into(), arguments, log);
            let process = process.on(client.host());
            EtcdServer { process, client, peer, data, user: None }
        };
        let members = ports.into_iter().enumerate().map(member).collect();
        Ok(Self { members, everyone })
    }

    /// Starts every member, and waits until all serve.
    ///
    /// # Errors
    /// etcd is not installed, or does not get to serve.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.process.start().context("deploy/needs.sh test installs etcd-server")?;
        }
        self.members.iter_mut().try_for_each(EtcdServer::wait_until_healthy)
    }

    /// Starts the members that do not run, and waits until all serve.
    ///
    /// # Errors
    /// One does not get to serve.
    pub fn start_stopped(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            if !member.process.is_running()? {
                member.process.start()?;
            }
        }
        self.members.iter_mut().try_for_each(EtcdServer::wait_until_healthy)
    }

    /// Makes the users and roles that are shipped, one for all coordinators and one for each edge, and lets nobody else
    /// in.
    ///
    /// # Errors
    /// The script fails.
    pub(super) fn lock(&mut self, edges: &[&str]) -> anyhow::Result<()> {
        let endpoints = self.endpoints().join(",");
        let run = |arguments: &[&str], user: &str| run_roles(&endpoints, arguments, &password(user));
        // Twice, for everything may be repeated.
        for _ in 0..2 {
            run(&["roles"], "")?;
            run(&["coordinator", COORDINATOR], COORDINATOR)?;
        }
        edges.iter().try_for_each(|edge| run(&["edge", edge], edge))?;
        run(&["lock"], ROOT)?;
        self.members.iter_mut().for_each(|member| member.user = Some(ROOT));
        Ok(())
    }

    /// SIGKILL to every member.
    ///
    /// # Errors
    /// One does not run.
    pub fn kill_all(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(EtcdServer::kill)
    }

    /// Removes what the members, which have ended, had stored.
    ///
    /// # Errors
    /// A folder cannot be removed.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(|member| Ok(fs::remove_dir_all(&member.data)?))
    }

    /// The member that leads, counted from 0.
    ///
    /// # Errors
    /// Nobody does who can be asked.
    pub fn leader(&self) -> anyhow::Result<usize> {
        let leads = |member: &EtcdServer| {
            let status = member.ask("maintenance/status", &json!({}));
            status.is_ok_and(|status| {
                status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
            })
        };
        self.members.iter().position(leads).context("no member of etcd leads")
    }

    /// Forgets what was before now, at all members.
    ///
    /// # Errors
    /// Nobody answers who can be asked.
    pub fn compact(&self) -> anyhow::Result<()> {
        let member = &self.members[self.leader()?];
        let status = member.ask("maintenance/status", &json!({}))?;
        let now = json!({ "revision": status["header"]["revision"], "physical": true });
        member.ask("kv/compaction", &now).map(drop)
    }

    /// Has a member write all there is to a file.
    ///
    /// # Errors
    /// It does not.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let endpoint = format!("--endpoints={}", self.members[0].url());
        let path = path.to_string_lossy();
        tool::run("env", &["ETCDCTL_API=3", "etcdctl", &endpoint, "snapshot", "save", &path]).map(drop)
    }

    /// Kills all members, gives each what a file holds in place of what it had, and starts them.
    ///
    /// # Errors
    /// One does not run, or does not get to serve.
    pub fn restore(&mut self, path: &Path) -> anyhow::Result<()> {
        self.kill_all()?;
        self.wipe()?;
        let path = path.to_string_lossy();
        for member in &self.members {
            let arguments = [
                format!("--name={}", member.process.name()),
                format!("--data-dir={}", member.data.display()),
                format!("--initial-cluster={}", self.everyone),
                format!("--initial-advertise-peer-urls={}", member.peer.url()),
            ];
            let mut words = vec!["ETCDCTL_API=3", "etcdctl", "snapshot", "restore", &path];
            words.extend(arguments.iter().map(String::as_str));
            tool::run("env", &words)?;
        }
        self.start_all()
    }

    /// A member, counted from 0.
    pub fn member(&mut self, index: usize) -> &mut EtcdServer {
        &mut self.members[index]
    }

    /// `http://host:port` of every member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.url()).collect()
    }

    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.members.iter_mut().map(|member| &mut member.process)
    }

    /// What edges and coordinators are told of it; `edges` is a pattern of the URLs that edges have.
    pub(super) fn settings(&self, edges: &str) -> (Settings, Settings) {
        let source = "[registry]\nsource = \"etcd\"\n";
        let own = format!("[etcd]\nendpoints = {:?}\n", self.endpoints());
        let edge = Settings::default().toml(&format!("{source}{own}"));
        let coordinator =
            Settings::default().toml(&format!("{source}edges = []\nallow_urls = [{edges:?}]\n{own}"));
        (edge, coordinator)
    }
}

impl EtcdServer {
    /// Starts it again with what it has on disk, and waits until it serves; with others, until there is a leader.
    ///
    /// # Errors
    /// It runs already, or does not get to serve.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.process.start()?;
        self.wait_until_healthy()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Stops it in its tracks: its connections stay, nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }

    pub fn url(&self) -> String {
        self.client.url()
    }

    /// Where it lives.
    pub fn host(&self) -> &Host {
        self.client.host()
    }

    /// The value of a key under Sluice's prefix, as text.
    ///
    /// # Errors
    /// Nobody answers, or it is no text.
    pub fn value(&self, key: &str) -> anyhow::Result<Option<String>> {
        let answer = self.ask("kv/range", &json!({ "key": STANDARD.encode(format!("{PREFIX}{key}")) }))?;
        let Some(value) = answer["kvs"][0]["value"].as_str() else { return Ok(None) };
        Ok(Some(String::from_utf8(STANDARD.decode(value)?)?))
    }

    /// Gives a key under Sluice's prefix a value.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn put(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let key = STANDARD.encode(format!("{PREFIX}{key}"));
        self.ask("kv/put", &json!({ "key": key, "value": STANDARD.encode(value) })).map(drop)
    }

    /// Whether a user of an etcd that is locked may do what a command of `etcdctl` does.
    ///
    /// # Errors
    /// It fails for another reason.
    pub fn may(&self, user: &str, command: &[&str]) -> anyhow::Result<bool> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_USER", format!("{user}:{}", password(user)))
            .arg(format!("--endpoints={}", self.url()))
            .args(command)
            .output()
            .context("deploy/needs.sh test installs etcd-client")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_refused = said.contains("permission denied");
        ensure!(output.status.success() != is_refused, "{command:?} as {user}: {} {said}", output.status);
        Ok(!is_refused)
    }

    /// A question to it by its gateway of HTTP, `/v3/QUESTION`.
    fn ask(&self, question: &str, body: &Value) -> anyhow::Result<Value> {
        let Some(user) = self.user else { return self.post(question, body, None) };
        let credentials = json!({ "name": user, "password": password(user) });
        let token = self.post("auth/authenticate", &credentials, None)?;
        self.post(question, body, Some(token["token"].as_str().context("a token for the password")?))
    }

    fn post(&self, question: &str, body: &Value, token: Option<&str>) -> anyhow::Result<Value> {
        let url = format!("{}/v3/{question}", self.url());
        let request = Request::new("POST", &url).without_codings().patience(PATIENCE);
        let request = token.into_iter().fold(request, |request, token| request.field("Authorization", token));
        let answer = request.body(&body.to_string()).send()?;
        ensure!(answer.status() == 200, "{url}: {} {}", answer.status(), answer.text());
        answer.json()
    }

    fn wait_until_healthy(&mut self) -> anyhow::Result<()> {
        let url = format!("{}/health", self.client.url());
        wait_until(&format!("{} serves", self.process.name()), || {
            ensure!(
                self.process.is_running()?,
                "{} has ended; it said:\n{}",
                self.process.name(),
                self.process.log_tail()
            );
            Ok(client::get_here(&url).is_ok_and(|answer| answer.text().contains("true")))
        })
    }
}

/// What a program is told that is a user of a locked etcd.
pub(super) fn credentials(user: &str) -> Settings {
    Settings::default().toml(&format!("[etcd]\nuser = {user:?}\npassword = {:?}", password(user)))
}

fn password(user: &str) -> String {
    format!("{user}-s-password")
}

/// Runs the script that is shipped.
fn run_roles(endpoints: &str, arguments: &[&str], password: &str) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/etcd-roles.sh");
    let mut child = Command::new(&script)
        .args(arguments)
        .env("ETCDCTL_ENDPOINTS", endpoints)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", script.display()))?;
    writeln!(child.stdin.take().context("the script has an input")?, "{password}")?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {} {said}", output.status);
    Ok(())
}
