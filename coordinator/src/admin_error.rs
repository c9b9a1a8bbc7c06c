//! What operators' calls fail with → status and sentence.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use sluice_shared::admin::problem;
use sluice_shared::keys::KeyKeeperError;
use sluice_shared::ledger::LedgerError;
use sluice_shared::query::QueryError;
use sluice_shared::revocations::{BarError, BookError, TargetFault};

use crate::audit::AuditError;
use crate::clients::EditError;
use crate::orders::OrderError;

/// Why an operator's call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("the body is not as this call takes it: {0}")]
    Body(String),
    #[error("clients can be changed by enable, disable and rotate")]
    Change,
    #[error("replace is true or false")]
    Replace,
    #[error("the configuration has no [timed] section")]
    NoTimed,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("query parameter '{0}' is missing")]
    MissingParameter(&'static str),
    #[error("what can be revoked is a link, a user, a client, a file or a key")]
    What,
    #[error("the value cannot be revoked: {0}")]
    Target(#[from] TargetFault),
    #[error("until is no time in the future")]
    Until,
    #[error("nothing of it is revoked or blocked now")]
    NotBarred,
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("keys are in files here: change the files, and every program takes the change")]
    KeysInFiles,
    #[error(transparent)]
    Keys(#[from] KeyKeeperError),
    #[error("it is not barred: {0}")]
    Bar(#[from] BarError),
    #[error("it is in force, and would be lost at a restart: {0}")]
    Book(#[from] BookError),
    #[error("etcd has not been heard yet: {0}")]
    NotKnown(&'static str),
    #[error(
        "orders about edges are kept in etcd, and registry.source is \"static\" here; change registry.edges in each \
         coordinator's configuration and restart it"
    )]
    OrdersNeedEtcd,
    #[error("there is no edge '{0}'")]
    NoSuchEdge(String),
    #[error("edges can be changed by drain, undrain and weight")]
    EdgeChange,
    #[error(transparent)]
    Order(#[from] OrderError),
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(_)
            | Self::Query(_)
            | Self::MissingParameter(_)
            | Self::What
            | Self::Replace
            | Self::Target(_)
            | Self::Until
            | Self::Edit(EditError::Fault(_) | EditError::Ledger(LedgerError::TooLarge(_)))
            | Self::Order(OrderError::Weight(_)) => StatusCode::BAD_REQUEST,
            Self::Keys(KeyKeeperError::Unknown)
            | Self::Change
            | Self::NoTimed
            | Self::NotBarred
            | Self::NoSuchEdge(_)
            | Self::EdgeChange
            | Self::Edit(EditError::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Keys(KeyKeeperError::Etcd(_))
            | Self::NotKnown(_)
            | Self::Edit(EditError::Ledger(LedgerError::Etcd(_) | LedgerError::Unsure(_)))
            | Self::Order(OrderError::Ledger(LedgerError::Etcd(_) | LedgerError::Unsure(_))) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::KeysInFiles
            | Self::Keys(KeyKeeperError::NotYet(_) | KeyKeeperError::InUse | KeyKeeperError::Changed)
            | Self::OrdersNeedEtcd
            | Self::Bar(_)
            | Self::Edit(
                EditError::Exists(_)
                | EditError::NotSealed
                | EditError::SecretElsewhere(_)
                | EditError::Unreadable(..)
                | EditError::Ledger(LedgerError::Changed | LedgerError::TooMany(_)),
            )
            | Self::Order(OrderError::Newer(_) | OrderError::Ledger(_)) => StatusCode::CONFLICT,
            Self::Audit(_) | Self::Book(_) | Self::Edit(EditError::File(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        problem(status, &self.to_string())
    }
}
