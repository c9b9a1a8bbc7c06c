//! The other coordinators, as they name themselves in etcd; and that no two keep state each for itself.
//!
//! State in a file is one coordinator's: counts and revocations of two files contradict each other, and nobody would
//! notice. So who has such state looks who else does, after it has put its own record there: of two that start
//! together, one at least sees the other, and the later record gives way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_shared::etcd::{Etcd, EtcdError, MirrorRules, Record, Registration, Standing};
use sluice_shared::token::random_id;
use sluice_shared::units::BaseUrl;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const COORDINATORS: &str = "coordinators/";
const RECORD_TTL: Duration = Duration::from_secs(10);
/// The record of a coordinator that was killed is gone by then.
const GONE_WITHIN: Duration = RECORD_TTL.saturating_add(Duration::from_secs(2));
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why this coordinator must not run beside another.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error(
        "coordinator '{id}' ({url}) of the same etcd keeps state in a file of its own, as this one does, and neither \
         would know of the other's links and counts; let them share a Redis ([state] source = \"redis\"), or stop one"
    )]
    SecondState { id: String, url: String },
    #[error("another coordinator with the id '{0}' is alive in the same etcd; give each an id of its own")]
    SameId(String),
}

/// A coordinator's record. Members that are not known are passed over: others may be of another version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CoordinatorRecord {
    pub(crate) id: String,
    pub(crate) url: String,
    /// Where its state is: `embedded` or `redis`.
    pub(crate) state: String,
    /// The random name of state that is its own.
    #[serde(default)]
    state_id: Option<String>,
    #[serde(default)]
    pub(crate) version: String,
    instance: String,
}

/// All coordinators, as they name themselves in etcd now. What is no record is passed over.
///
/// # Errors
/// etcd does not answer.
pub(crate) async fn list(etcd: &Etcd) -> Result<Vec<CoordinatorRecord>, EtcdError> {
    let records = etcd.list(COORDINATORS, MirrorRules::default()).await?;
    Ok(records.values().filter_map(|entry| parse(&entry.value)).collect())
}

/// This coordinator among the others.
pub(crate) struct Peers {
    registration: Registration,
    has_rival: Arc<AtomicBool>,
}

impl Peers {
    /// Puts our record there, and looks for a rival where `own_state` names state of our own.
    ///
    /// # Errors
    /// There is one, and it lives. An etcd that is away is no error; it is looked for later.
    pub(crate) async fn join(
        etcd: Etcd,
        id: &str,
        url: &BaseUrl,
        own_state: Option<&str>,
    ) -> Result<Self, PeerError> {
        let instance = random_id();
        let record = CoordinatorRecord {
            id: id.to_owned(),
            url: url.to_string(),
            state: if own_state.is_some() { "embedded" } else { "redis" }.to_owned(),
            state_id: own_state.map(str::to_owned),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.clone(),
        };
        let value = serde_json::to_vec(&record).expect("texts are JSON");
        let mut kept = Record::new(format!("{COORDINATORS}{id}"), instance, value, RECORD_TTL);
        // One process at a time has the file: who had it before us is gone.
        let state_id = record.state_id;
        kept.is_over = Box::new(move |value| {
            state_id.is_some() && parse(value).and_then(|known| known.state_id) == state_id
        });
        let registration = Registration::start(etcd.clone(), kept);
        let peers = Self { registration, has_rival: Arc::default() };
        let watched = Watched { etcd, id: id.to_owned(), standing: peers.registration.standing() };
        if own_state.is_some() {
            if let Err(error) = watched.check_at_start().await {
                peers.leave().await;
                return Err(error);
            }
            tokio::spawn(watched.check_from_now_on(Arc::clone(&peers.has_rival)));
        }
        Ok(peers)
    }

    /// Whether another coordinator's state contradicts ours, as far as is known.
    pub(crate) fn rivalry(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_rival)
    }

    /// Takes our record back; in five seconds at most.
    pub(crate) async fn leave(self) {
        self.registration.leave(None).await;
    }
}

/// What is asked to find a rival.
struct Watched {
    etcd: Etcd,
    id: String,
    standing: watch::Receiver<Standing>,
}

impl Watched {
    async fn check_at_start(&self) -> Result<(), PeerError> {
        // An etcd that is away keeps nobody from serving.
        if let Err(error) = self.etcd.get(&format!("{COORDINATORS}{}", self.id)).await {
            tracing::warn!(%error, "other coordinators are looked for later");
            return Ok(());
        }
        // Long enough to tell whether a record of our id is of a process that lives.
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|standing| *standing != Standing::Seeking);
        if let Ok(Ok(standing)) = timeout(GONE_WITHIN, settled).await
            && matches!(*standing, Standing::Taken { .. })
        {
            return Err(PeerError::SameId(self.id.clone()));
        }
        match self.rival_that_stays().await {
            Ok(None) => Ok(()),
            Ok(Some(rival)) => Err(PeerError::SecondState { id: rival.id, url: rival.url }),
            Err(error) => {
                tracing::warn!(%error, "other coordinators are looked for later");
                Ok(())
            }
        }
    }

    /// Looks again whenever our record was made anew: it was gone for a while, and others could come.
    async fn check_from_now_on(mut self, has_rival: Arc<AtomicBool>) {
        let mut checked = None;
        loop {
            let standing = self.standing.borrow_and_update().clone();
            match standing {
                Standing::Held { lease, .. } if checked != Some(lease) => match self.rival_that_stays().await
                {
                    Ok(None) => {
                        has_rival.store(false, Ordering::Release);
                        checked = Some(lease);
                    }
                    Ok(Some(rival)) => {
                        has_rival.store(true, Ordering::Release);
                        let (rival, url) = (rival.id, rival.url);
                        tracing::error!(
                            rival,
                            url,
                            "another coordinator of this etcd keeps state of its own"
                        );
                        continue;
                    }
                    Err(_) => {
                        sleep(LOOK_EVERY).await;
                        continue;
                    }
                },
                Standing::Taken { .. } => has_rival.store(true, Ordering::Release),
                _ => {}
            }
            if self.standing.changed().await.is_err() {
                return;
            }
        }
    }

    /// A coordinator with state of its own whose record is older than ours, and stays.
    async fn rival_that_stays(&self) -> Result<Option<CoordinatorRecord>, EtcdError> {
        let until = Instant::now() + GONE_WITHIN;
        loop {
            let rival = self.rival().await?;
            if rival.is_none() || Instant::now() >= until {
                return Ok(rival);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn rival(&self) -> Result<Option<CoordinatorRecord>, EtcdError> {
        let records = self.etcd.list(COORDINATORS, MirrorRules::default()).await?;
        let Some(own) = records.get(self.id.as_str()) else { return Ok(None) };
        let others = records.iter().filter(|(id, entry)| {
            // What no lease ends, no coordinator put there.
            ***id != *self.id && entry.lease != 0 && entry.create_revision < own.create_revision
        });
        Ok(others.filter_map(|(_, entry)| parse(&entry.value)).find(|record| record.state == "embedded"))
    }
}

fn parse(value: &[u8]) -> Option<CoordinatorRecord> {
    serde_json::from_slice(value).ok()
}
