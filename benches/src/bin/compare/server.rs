//! A server under measurement: its process, what it holds and uses, its links, and whether it does what it is measured
//! for.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sluice_loadtest::client::{self, Answer, Request};
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Content, wait_until};

use crate::machine::{self, Holdings};
use crate::signed::Signer;

/// Requests that are signed for each second of a run, more than any coordinator answers. Who answers more gets some
/// twice.
const SIGNED_PER_SECOND: u64 = 100_000;

/// The servers, in the order of reports: those of files, then those of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One worker, `sendfile`.
    Nginx,
    /// With `open_file_cache`.
    NginxCache,
    /// With `open_file_cache` and `aio threads`.
    NginxThreads,
    /// With `open_file_cache`, TLS and HTTP/2, and no `sendfile`, which it cannot use there.
    NginxTls,
    Edge,
    /// A ready-made answer, as fast as hyper gives it.
    BareHyper,
    /// The server that the coordinator replaces, its library's server as it comes.
    Python,
    /// With what makes it faster, and no log.
    PythonTuned,
    Coordinator,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Nginx,
        Self::NginxCache,
        Self::NginxThreads,
        Self::NginxTls,
        Self::Edge,
        Self::BareHyper,
        Self::Python,
        Self::PythonTuned,
        Self::Coordinator,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxCache => "nginx + open_file_cache",
            Self::NginxThreads => "nginx + aio threads",
            Self::NginxTls => "nginx + TLS",
            Self::Edge => "sluice-edge",
            Self::BareHyper => "bare hyper",
            Self::Python => "FastAPI + python-jose",
            Self::PythonTuned => "FastAPI + python-jose, tuned",
            Self::Coordinator => "sluice-coordinator",
        }
    }

    /// Whether the process that is started has a child do the work.
    fn is_nginx(self) -> bool {
        matches!(self, Self::Nginx | Self::NginxCache | Self::NginxThreads | Self::NginxTls)
    }

    /// The place of a server's name in reports; what is no server comes last.
    pub(crate) fn rank(name: &str) -> usize {
        Self::ALL.iter().position(|kind| kind.name() == name).unwrap_or(Self::ALL.len())
    }
}

/// By what a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// HTTP/1.1.
    Plain,
    /// The same over TLS.
    Tls,
    /// HTTP/2 over TLS.
    H2,
}

/// A file beneath the root, its content following from its name as [`Content`] has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
}

impl Known {
    pub(crate) fn write(self, root: &Path) -> io::Result<()> {
        Content::new(self.name, self.bytes).write(&root.join(self.name))
    }
}

/// Makes the target (path and query) that a server will accept for a file. Two that differ in the number are two links,
/// of different people where the server knows any.
pub(crate) type Sign = Box<dyn Fn(&str, u64) -> anyhow::Result<String>>;

/// Targets in a file, one a line.
pub(crate) struct Links {
    pub(crate) path: PathBuf,
    /// The smallest of the files.
    pub(crate) least_bytes: u64,
    /// Whole requests instead, each used once: written anew for every run.
    pub(crate) signed: Option<Signed>,
}

pub(crate) struct Signed {
    pub(crate) signer: Signer,
    pub(crate) bytes: usize,
}

impl Links {
    /// Before a run of so many seconds: what was signed for another one was used up, or is.
    pub(crate) fn renew(&self, seconds: u64) -> io::Result<()> {
        match &self.signed {
            Some(signed) => signed.signer.write(&self.path, seconds * SIGNED_PER_SECOND).map(drop),
            None => Ok(()),
        }
    }
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    port: Port,
    /// Where it speaks TLS beside that, if it does.
    tls_port: Option<Port>,
    sign: Sign,
    /// Whether whoever asks has to sign.
    asks_signed: bool,
    folder: PathBuf,
}

impl Server {
    /// Starts `command` on the servers' core, its output going to a file in its own folder.
    pub(crate) fn start(
        kind: Kind,
        command: &[&str],
        port: Port,
        sign: Sign,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(folder.join("log"))?;
        let child = machine::on_servers_core(command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {}", command.join(" ")))?;
        Ok(Self { kind, child, port, tls_port: None, sign, asks_signed: false, folder: folder.to_owned() })
    }

    /// It speaks TLS there, too.
    pub(crate) fn with_tls(mut self, port: Port) -> Self {
        self.tls_port = Some(port);
        self
    }

    /// Has it asked with signatures.
    pub(crate) fn asked_signed(mut self) -> Self {
        self.asks_signed = true;
        self
    }

    /// Asks for the first link of a file.
    pub(crate) fn ask(&self, file: &str) -> anyhow::Result<Answer> {
        let request = Request::new("GET", &(self.url() + &self.target(file, 0)?));
        if !self.asks_signed {
            return request.send();
        }
        let fields = self.signer(file)?.fields();
        fields.iter().fold(request, |request, (name, value)| request.field(name, value)).send()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(crate) fn url(&self) -> String {
        self.port.url()
    }

    /// Where it is asked by a front.
    pub(crate) fn url_of(&self, front: Front) -> anyhow::Result<String> {
        if front == Front::Plain {
            return Ok(self.url());
        }
        let port =
            self.tls_port.as_ref().with_context(|| format!("{} was started without TLS", self.name()))?;
        Ok(format!("https://{}", port.address()))
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, self.port.number())
    }

    /// The link of that number for a file.
    pub(crate) fn target(&self, file: &str, number: u64) -> anyhow::Result<String> {
        (self.sign)(file, number)
    }

    /// Writes so many links for these files, in turn, all different.
    pub(crate) fn links<'f>(
        &self,
        name: &str,
        files: impl Iterator<Item = &'f str> + Clone,
        count: usize,
        least_bytes: u64,
    ) -> anyhow::Result<Links> {
        let path = self.folder.join(name);
        let mut text = String::new();
        for (number, file) in (0..).zip(files.cycle().take(count)) {
            writeln!(text, "{}", self.target(file, number)?)?;
        }
        fs::write(&path, text)?;
        Ok(Links { path, least_bytes, signed: None })
    }

    /// The first link of a file, for all requests; signed anew for each, where that is asked.
    pub(crate) fn first_link(&self, file: &str) -> anyhow::Result<Links> {
        if !self.asks_signed {
            return self.links("first", std::iter::once(file), 1, 0);
        }
        let (path, signer) = (self.folder.join("signed"), self.signer(file)?);
        let bytes = signer.write(&path, 1)?;
        Ok(Links { path, least_bytes: 0, signed: Some(Signed { signer, bytes }) })
    }

    fn signer(&self, file: &str) -> anyhow::Result<Signer> {
        Ok(Signer { host: self.port.address(), target: self.target(file, 0)? })
    }

    /// # Errors
    /// It has ended; what it said is in the error.
    pub(crate) fn ensure_it_runs(&mut self) -> anyhow::Result<()> {
        let runs = self.child.try_wait()?.is_none();
        ensure!(runs, "{} has ended; it said:\n{}", self.name(), self.log());
        Ok(())
    }

    /// Throws away what it has said so far: a line a call fills a disk.
    pub(crate) fn empty_log(&self) -> io::Result<()> {
        File::options().write(true).truncate(true).open(self.folder.join("log")).map(drop)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_else(|error| error.to_string())
    }

    pub(crate) fn wait_until_it_serves(&mut self, file: Known) -> anyhow::Result<()> {
        self.wait_until_it_answers(file.name, 200)
    }

    /// Waits for this status on the first link of a file.
    pub(crate) fn wait_until_it_answers(&mut self, file: &str, status: u16) -> anyhow::Result<()> {
        let waited = wait_until(&format!("{} answers {status} for {file}", self.name()), || {
            self.ensure_it_runs()?;
            Ok(self.ask(file).is_ok_and(|answer| answer.status() == status))
        });
        waited.with_context(|| format!("{} said:\n{}", self.name(), self.log()))
    }

    /// It must give the right bytes for a good link, and none for a bad one: a server that skips its checks would
    /// be measured at something else.
    pub(crate) fn check(&self, file: Known) -> anyhow::Result<()> {
        let url = self.url() + &self.target(file.name, 0)?;
        let answer = client::get_here(&url)?;
        let told = |answer: &Answer| format!("{}: {} for {}", self.name(), answer.status(), file.name);
        ensure!(answer.status() == 200, "{}", told(&answer));
        Content::new(file.name, file.bytes).check_whole(&answer.body).with_context(|| told(&answer))?;
        for field in ["etag", "last-modified", "accept-ranges", "content-type", "content-disposition"] {
            answer.field(field).with_context(|| told(&answer))?;
        }
        // A character in the middle of the proof, not at its end, where spare bits could hide the change.
        let at = url.len() - 10;
        let other = if url.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &url[..at], &url[at + 1..]);
        let answer = client::get_here(&forged)?;
        ensure!((400..500).contains(&answer.status()), "{} although the link is forged", told(&answer));
        Ok(())
    }

    /// Seconds of processor time that the serving process has used, its threads included.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<f64> {
        machine::cpu_time(self.serving()?)
    }

    pub(crate) fn holdings(&self) -> anyhow::Result<Holdings> {
        machine::holdings(self.serving()?)
    }

    /// The process that does the work: nginx's is the only child of the one that was started.
    fn serving(&self) -> anyhow::Result<u32> {
        let started = self.child.id();
        if self.kind.is_nginx() { only_child(started) } else { Ok(started) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's master stops its worker when it is asked, not when it is killed. Others that are asked would let
        // what is under way finish.
        let asked = self.kind.is_nginx()
            && self.child.try_wait().is_ok_and(|ended| ended.is_none())
            && kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok();
        for _ in 0..30 {
            if !asked || self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn only_child(pid: u32) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut children = children.split_whitespace();
    let child = children.next().with_context(|| format!("process {pid} has no worker"))?;
    ensure!(children.next().is_none(), "process {pid} has several workers");
    child.parse().context("a process id is a number")
}
