//! One edge over a root of the caller's choice, without a coordinator: tokens are sealed here, with the edge's own key.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use tempfile::TempDir;

use crate::client::{Answer, Connection, Request, get_here};
use crate::cluster::Member;
use crate::process::{self, Process, RunAs};
use crate::settings::{self, Addresses, Settings};

const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// A running edge. Where its root is a [`FaultyStore`](crate::faulty_store::FaultyStore), drop that first: a program
/// with threads that are stuck cannot be ended.
pub struct SoloEdge {
    member: Member,
    keys: Arc<KeyFile>,
    /// Dropped after the program that lives in it.
    folder: TempDir,
}

impl SoloEdge {
    /// Starts an edge and waits until it is ready.
    ///
    /// # Errors
    /// It is not built, will not start or gets not ready; the message holds the end of its log.
    pub fn start(root: &Path, change: impl FnOnce(Settings) -> Settings) -> anyhow::Result<Self> {
        Self::start_as(RunAs::default(), root, change)
    }

    /// As [`SoloEdge::start`], and as something else than the caller. A user must be able to reach the edge's program.
    ///
    /// # Errors
    /// As [`SoloEdge::start`]; to run it as another user takes root's rights.
    pub fn start_as(
        run_as: RunAs,
        root: &Path,
        change: impl FnOnce(Settings) -> Settings,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        settings::mark_store(root).with_context(|| format!("cannot use {} as a root", root.display()))?;
        let keys = KeyFile::load_or_create(&path(settings::KEYS))?;
        let (own, coordinator) = (Addresses::take()?, Addresses::take()?);
        let config = settings::edge("edge-1", &own, [&coordinator]);
        let root = Settings::default().toml(&format!("root = {root:?}"));
        Settings::together([root, change(Settings::default())]).write(config, &path("edge-1.toml"))?;
        let binary = process::binary("sluice-edge")?;
        let process = Process::new("edge-1", binary, path("edge-1.toml"), path("edge-1.log")).run_as(run_as);
        if let Some(id) = run_as.user {
            // An edge takes keys only from a file that is its own user's, and no one else's to read.
            for own in [folder.path().to_owned(), path(settings::KEYS)] {
                chown(own, Some(id), Some(id)).context("cannot give the keys to the edge's user")?;
            }
        }
        let mut edge = Self { member: Member::new(process, own), keys, folder };
        edge.member.process().start()?;
        edge.member.wait_until_ready()?;
        Ok(edge)
    }

    /// `host:port`, for clients that send raw bytes.
    pub fn address(&self) -> String {
        self.member.address()
    }

    pub fn url(&self) -> String {
        self.member.url()
    }

    pub fn admin_url(&self) -> String {
        self.member.admin_url()
    }

    /// Where its keys are: a coordinator that is to mint for it reads the same.
    pub fn keys_path(&self) -> PathBuf {
        self.folder.path().join(settings::KEYS)
    }

    /// The program, and where it listens.
    pub fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// The target of a request for a file, with a token for a user.
    ///
    /// # Errors
    /// Neither names a file nor a user that a token can hold.
    pub fn target(&self, file_id: &str, user: &str) -> anyhow::Result<String> {
        let expiry = SystemTime::now().duration_since(UNIX_EPOCH)? + TOKEN_TTL;
        let expiry = NumericDate::from_secs(expiry.as_secs());
        let claims = Claims { user_id: Some(user.into()), ..Claims::new(FileId::parse(file_id)?, expiry) };
        Ok(format!("/download?token={}", seal(&claims, self.keys.ring().load().current())?))
    }

    /// A request for a file, to be completed and sent.
    ///
    /// # Errors
    /// As [`SoloEdge::target`].
    pub fn request(&self, file_id: &str, user: &str) -> anyhow::Result<Request> {
        Ok(Request::new("GET", &format!("{}{}", self.member.url(), self.target(file_id, user)?)))
    }

    /// Asks for a file and reads the answer whole.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn get(&self, file_id: &str) -> anyhow::Result<Answer> {
        self.request(file_id, "tester")?.send()
    }

    /// A connection on which nothing was sent.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.member.address())
    }

    /// Asks for a file and reads nothing of the answer, on a connection that is kept. `fields` end with CR LF each.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn ask(&self, file_id: &str, user: &str, fields: &str) -> anyhow::Result<Connection> {
        let mut connection = self.connect()?;
        let target = self.target(file_id, user)?;
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: edge\r\n{fields}\r\n").as_bytes())?;
        Ok(connection)
    }

    /// `/readyz`: status and text.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub fn readiness(&self) -> anyhow::Result<(u16, String)> {
        let answer = get_here(&format!("{}/readyz", self.member.admin_url()))?;
        Ok((answer.status(), answer.text()))
    }

    /// `/load`.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub fn load(&self) -> anyhow::Result<Value> {
        get_here(&format!("{}/load", self.member.admin_url()))?.json()
    }

    /// A number that `/load` has.
    ///
    /// # Errors
    /// It has not.
    pub fn load_of(&self, name: &str) -> anyhow::Result<u64> {
        let load = self.load()?;
        load[name].as_u64().with_context(|| format!("no number {name:?} in {load}"))
    }

    /// The value of a metric; its name with its labels, as it is written.
    ///
    /// # Errors
    /// There is no such metric.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let answer = get_here(&format!("{}/metrics", self.member.admin_url()))?;
        ensure!(answer.status() == 200, "/metrics: {}", answer.status());
        let text = answer.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("no metric {name}"))
    }

    /// Everything it has logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        self.member.log()
    }

    /// Descriptors that it has open.
    ///
    /// # Errors
    /// It does not run.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()?))?.count())
    }

    /// What its descriptors are of, in words, each with how many there are.
    ///
    /// # Errors
    /// It does not run.
    pub fn open_files(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid()?))? {
            // Closed since it was listed, where there is none.
            let Ok(link) = fs::read_link(entry?.path()) else { continue };
            *counts.entry(link.to_string_lossy().into_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// Memory of its own, shared memory and so the cache's windows not counted.
    ///
    /// # Errors
    /// It does not run.
    pub fn anonymous_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        Ok(line.context("no RssAnon")?.parse::<u64>()? * 1024)
    }

    /// Shared memory that its descriptors hold: what the cache really has of large and middling files.
    ///
    /// # Errors
    /// It does not run.
    pub fn shared_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid()?))? {
            let path = entry?.path();
            // Closed since it was listed, where there is none.
            let Ok(link) = fs::read_link(&path) else { continue };
            let name = link.to_string_lossy();
            // A memfd, or a file without a name in the root of a tmpfs that is mounted nowhere.
            if (name.starts_with("/memfd:") || name.starts_with("/#"))
                && let Ok(metadata) = fs::metadata(&path)
            {
                bytes += metadata.blocks() * 512;
            }
        }
        Ok(bytes)
    }

    /// Its process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.member.pid().context("a program that was started has a process id")
    }
}

impl Drop for SoloEdge {
    fn drop(&mut self) {
        if thread::panicking() {
            let tail = self.member.process().log_tail();
            let _ = writeln!(io::stderr().lock(), "--- end of the edge's log\n{tail}");
        }
    }
}
