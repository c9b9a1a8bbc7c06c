//! One edge without a coordinator, over a folder that is already there. Tokens are sealed here, as a coordinator would.

use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};

use crate::client::{self, Answer};
use crate::process::{self, Process};
use crate::settings::{self, Addresses, Settings};
use crate::wait::wait_until;

const ID: &str = "edge-1";
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// A running edge. Dropping it ends the program; its folder stays.
pub struct LoneEdge {
    process: Process,
    addresses: Addresses,
    keys: Arc<KeyFile>,
}

impl LoneEdge {
    /// Starts an edge over `root`, ready when this returns; its configuration, keys and log go to `folder`. With a
    /// user, it runs as that one, who must be able to enter `folder` and the program's.
    ///
    /// # Errors
    /// The program is not built, will not start or gets not ready; the message holds the end of its log.
    pub fn start(folder: &Path, root: &Path, settings: &Settings, user: Option<u32>) -> anyhow::Result<Self> {
        let addresses = Addresses::take()?;
        let root = root.to_str().context("the root's path is text")?;
        let config = settings::edge(ID, &addresses, &addresses);
        let own = Settings::default().toml(&format!("root = {root:?}\ncoordinator_urls = []"));
        let (config_path, keys_path) = (folder.join("edge.toml"), folder.join(settings::KEYS));
        Settings::together([own, settings.clone()]).write(config, &config_path)?;
        let keys = KeyFile::load_or_create(&keys_path)?;
        let program = process::binary("sluice-edge")?;
        let mut process = Process::new(ID, program, config_path, folder.join("edge.log"));
        if let Some(id) = user {
            // An edge takes keys only from a file that is its own user's, and no one else's to read.
            chown(&keys_path, Some(id), Some(id)).context("cannot give the keys to the edge's user")?;
            process = process.as_user(id);
        }
        process.start()?;
        let mut edge = Self { process, addresses, keys };
        let ready = wait_until("the edge is ready", || {
            ensure!(edge.process.is_running()?, "the edge has ended by itself");
            Ok(edge.admin("/readyz").is_ok_and(|answer| answer.status() == 200))
        });
        ready.with_context(|| format!("the edge said:\n{}", edge.process.log_tail()))?;
        Ok(edge)
    }

    /// `host:port`, for clients that send raw bytes.
    pub fn address(&self) -> String {
        self.addresses.public.address()
    }

    /// The path and query of a download, with a token that is good for an hour. Each file has a user of its own, so
    /// that none waits for what another's reads are charged with.
    ///
    /// # Errors
    /// The id is none.
    pub fn target(&self, file_id: &str) -> anyhow::Result<String> {
        let expires = NumericDate::from_system_time(SystemTime::now() + TOKEN_TTL);
        let user_id = Some(format!("user of {file_id}").into());
        let claims = Claims { user_id, ..Claims::new(FileId::parse(file_id)?, expires) };
        Ok(format!("/download?token={}", seal(&claims, self.keys.ring().load().current())?))
    }

    /// The URL of a download, see [`target`](Self::target).
    ///
    /// # Errors
    /// The id is none.
    pub fn url(&self, file_id: &str) -> anyhow::Result<String> {
        Ok(format!("{}{}", self.addresses.public.url(), self.target(file_id)?))
    }

    /// A page of the admin port.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn admin(&self, path: &str) -> anyhow::Result<Answer> {
        client::get_here(&format!("{}{path}", self.addresses.admin.url()))
    }

    /// A number of `/load`.
    ///
    /// # Errors
    /// The admin port does not answer with it.
    pub fn load(&self, key: &str) -> anyhow::Result<u64> {
        let load = self.admin("/load")?.json()?;
        load.get(key).and_then(serde_json::Value::as_u64).with_context(|| format!("no {key} in {load}"))
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.pid().context("the edge does not run")
    }
}
