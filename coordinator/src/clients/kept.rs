//! The clients, wherever they are kept: in a file of this coordinator's, or in etcd for all of them.

use std::sync::Arc;

use arc_swap::Guard;
use sluice_shared::blocking;
use sluice_shared::cluster::{Freshness, SkippedRecord};
use sluice_shared::etcd::Etcd;
use sluice_shared::followed::Asked;
use sluice_shared::ledger::SealedAnew;
use sluice_shared::secret::SecretText;

use super::etcd::EtcdClients;
use super::file::ClientsFile;
use super::{Client, ClientSet, ClientsFileError, EditError, RawClient};
use crate::config::ClientListSource;

/// Nobody has said yet which clients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotKnown;

/// The clients of this coordinator.
pub(crate) enum Clients {
    File(Arc<ClientsFile>),
    Etcd(EtcdClients),
}

impl Clients {
    /// Within a runtime.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn start(source: &ClientListSource, etcd: Option<&Etcd>) -> Result<Self, ClientsFileError> {
        Ok(match source {
            ClientListSource::File(path) => Self::File(ClientsFile::load(path)?),
            ClientListSource::Etcd(sealing) => {
                let etcd = etcd.expect("a configuration with clients in etcd has etcd's settings");
                Self::Etcd(EtcdClients::follow(etcd, sealing.clone()))
            }
        })
    }

    /// Checks the file, where there is one. Makes nothing.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn check(source: &ClientListSource) -> Result<(), ClientsFileError> {
        match source {
            ClientListSource::File(path) => ClientsFile::load(path).map(drop),
            ClientListSource::Etcd(_) => Ok(()),
        }
    }

    pub(crate) fn set(&self) -> Guard<Arc<ClientSet>> {
        match self {
            Self::File(file) => file.set(),
            Self::Etcd(clients) => clients.set(),
        }
    }

    /// The client of a key.
    ///
    /// # Errors
    /// There is none yet, and there may be.
    pub(crate) fn client(&self, access_key: &str) -> Result<Option<Arc<Client>>, NotKnown> {
        match self.set().client(access_key) {
            None if self.missing().is_some() => Err(NotKnown),
            client => Ok(client.cloned()),
        }
    }

    /// Why nobody can be said to be a client or none.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Etcd(clients) if !clients.is_known() => Some("clients not known"),
            Self::File(_) | Self::Etcd(_) => None,
        }
    }

    /// How much the set can be relied on; `None` for a file.
    pub(crate) fn freshness(&self) -> Option<Freshness> {
        match self {
            Self::File(_) => None,
            Self::Etcd(clients) => Some(clients.freshness()),
        }
    }

    /// Records in etcd that are not used, and why.
    pub(crate) fn skipped(&self) -> Vec<SkippedRecord> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Etcd(clients) => clients.skipped(),
        }
    }

    /// Rereads the file when it changes, and when asked.
    pub(crate) fn follow_file(&self, asked: &Asked) {
        if let Self::File(file) = self {
            tokio::spawn(Arc::clone(file).follow(asked.clone()));
        }
    }

    pub(crate) async fn add(&self, client: RawClient) -> Result<SecretText, EditError> {
        match self {
            Self::File(file) => edit(file, |file| file.add(client)).await,
            Self::Etcd(clients) => clients.add(client).await,
        }
    }

    /// Takes in a client with the secret that it has; tells whether it takes the place of one.
    pub(crate) async fn import(
        &self,
        client: RawClient,
        secret: SecretText,
        replace: bool,
    ) -> Result<bool, EditError> {
        match self {
            Self::File(file) => edit(file, move |file| file.import(client, secret, replace)).await,
            Self::Etcd(clients) => clients.import(client, secret, replace).await,
        }
    }

    /// Seals clients with the first `coordinator_key`, `count_max` at most.
    pub(crate) async fn seal_anew(&self, count_max: usize) -> Result<SealedAnew, EditError> {
        match self {
            Self::File(_) => Err(EditError::NotSealed),
            Self::Etcd(clients) => clients.seal_anew(count_max).await,
        }
    }

    pub(crate) async fn enable(&self, access_key: String, enabled: bool) -> Result<(), EditError> {
        match self {
            Self::File(file) => edit(file, move |file| file.enable(&access_key, enabled)).await,
            Self::Etcd(clients) => clients.enable(&access_key, enabled).await,
        }
    }

    pub(crate) async fn rotate(&self, access_key: String) -> Result<SecretText, EditError> {
        match self {
            Self::File(file) => edit(file, move |file| file.rotate(&access_key)).await,
            Self::Etcd(clients) => clients.rotate(&access_key).await,
        }
    }

    pub(crate) async fn remove(&self, access_key: String) -> Result<(), EditError> {
        match self {
            Self::File(file) => edit(file, move |file| file.remove(&access_key)).await,
            Self::Etcd(clients) => clients.remove(&access_key).await,
        }
    }
}

/// The file's changes wait for a disk.
async fn edit<T: Send + 'static>(
    file: &Arc<ClientsFile>,
    change: impl FnOnce(&ClientsFile) -> Result<T, EditError> + Send + 'static,
) -> Result<T, EditError> {
    let file = Arc::clone(file);
    blocking::run(move || change(&file)).await
}
