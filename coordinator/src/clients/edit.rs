//! Why an operator's change of a client is not made.

use sluice_shared::ledger::LedgerError;

use super::etcd::RecordFault;
use super::{ClientFault, ClientsFileError};

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("there is no client '{0}'")]
    Unknown(String),
    #[error("there is a client '{0}' already")]
    Exists(String),
    #[error("the secret of client '{0}' is in a file of its own (secret_file); write a new one there")]
    SecretElsewhere(String),
    #[error(
        "what etcd has of client '{0}' cannot be used, so nothing was changed: {1}; remove it, or revoke it"
    )]
    Unreadable(String, RecordFault),
    #[error("clients are in a file here, and nothing of them is sealed")]
    NotSealed,
    #[error(transparent)]
    Fault(#[from] ClientFault),
    #[error(transparent)]
    File(#[from] ClientsFileError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
