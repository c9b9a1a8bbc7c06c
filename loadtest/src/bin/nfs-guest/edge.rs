//! The edge under test, as the checks ask it: each file has a user of its own, so that none waits for what another's
//! reads are charged with.

use std::fs;
use std::path::{Path, PathBuf};

use sluice_loadtest::SoloEdge;
use sluice_loadtest::client::{self, Answer};
use sluice_loadtest::process::Process;
use sluice_loadtest::process::RunAs;
use sluice_loadtest::settings::Settings;

pub(crate) struct Edge {
    edge: SoloEdge,
    /// Where its log goes when it ends, for who looks after a failure.
    log: PathBuf,
}

impl Edge {
    /// Starts it over `root` as `user`; it is ready when this returns. Its log is copied to `log` at the end.
    pub(crate) fn start(log: PathBuf, root: &Path, settings: &Settings, user: u32) -> anyhow::Result<Self> {
        let edge =
            SoloEdge::start_as(RunAs { user: Some(user), ..RunAs::default() }, root, |_| settings.clone())?;
        Ok(Self { edge, log })
    }

    /// `host:port`, for clients that send raw bytes.
    pub(crate) fn address(&self) -> String {
        self.edge.address()
    }

    /// The path and query of a download.
    pub(crate) fn target(&self, file_id: &str) -> anyhow::Result<String> {
        self.edge.target(file_id, &format!("user of {file_id}"))
    }

    /// The URL of a download.
    pub(crate) fn url(&self, file_id: &str) -> anyhow::Result<String> {
        Ok(format!("{}{}", self.edge.url(), self.target(file_id)?))
    }

    /// A page of the admin port.
    pub(crate) fn admin(&self, path: &str) -> anyhow::Result<Answer> {
        client::get_here(&format!("{}{path}", self.edge.admin_url()))
    }

    /// A number of `/load`.
    pub(crate) fn load(&self, key: &str) -> anyhow::Result<u64> {
        self.edge.load_of(key)
    }

    /// The program itself.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.edge.member().process()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        self.edge.log()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.edge.pid()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Ok(text) = self.edge.log() {
            let _ = fs::write(&self.log, text);
        }
    }
}
