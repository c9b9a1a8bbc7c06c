//! Why etcd did not do what was asked: whose fault it is, and whether it may have done it all the same.

use std::time::Duration;

use etcd_client::Error;

/// A code of gRPC's, as far as one decides something here (grpc.github.io/grpc/core/md_doc_statuscodes.html).
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAUTHENTICATED: i32 = 16;
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// What the library or the server says of a failure, for the log.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("etcd does not answer within {0:?}")]
    Silent(Duration),
    #[error("etcd is not reached: {0}")]
    Away(Cause),
    #[error("the etcd member {0} knows no leader")]
    Leaderless(String),
    #[error("etcd does not take `etcd.user` and its password: {0}")]
    Credentials(Cause),
    #[error("etcd does not allow it to `etcd.user`; grant its role what the shipped roles have: {0}")]
    Forbidden(Cause),
    #[error("the lease is over")]
    LeaseOver,
    #[error("the answer is larger than is read")]
    TooLarge,
    #[error("etcd refuses the request: {0}")]
    Refused(Cause),
}

impl EtcdError {
    /// Whether the connection is to be given up: another member, or another token, may do better.
    pub(super) fn condemns_connection(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Away(_) | Self::Leaderless(_) | Self::Credentials(_))
    }

    /// Whether the request was certainly not carried out, so that it may be sent again whatever it does.
    pub(super) fn is_undone(&self) -> bool {
        matches!(self, Self::Leaderless(_) | Self::Credentials(_))
    }
}

impl From<Error> for EtcdError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::GRpcStatus(status) => status,
            // What the library calls so is an answer with a TTL of 0.
            Error::LeaseKeepAliveError(_) => return Self::LeaseOver,
            Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) | Error::EndpointError(_) => {
                return Self::Away(Box::new(error));
            }
            _ => return Self::Refused(Box::new(error)),
        };
        let message = status.message();
        match i32::from(status.code()) {
            code::UNAUTHENTICATED => Self::Credentials(Box::new(error)),
            // Wrong passwords come as this one; so do tokens from before a change of users or roles, and none at all.
            code::INVALID_ARGUMENT if message.contains("auth") || message.contains("user name") => {
                Self::Credentials(Box::new(error))
            }
            code::PERMISSION_DENIED => Self::Forbidden(Box::new(error)),
            code::NOT_FOUND if message.contains("lease") => Self::LeaseOver,
            // What tonic says where a message is longer than is taken.
            code::OUT_OF_RANGE if message.contains("message length") => Self::TooLarge,
            code::CANCELLED
            | code::UNKNOWN
            | code::DEADLINE_EXCEEDED
            | code::INTERNAL
            | code::UNAVAILABLE => Self::Away(Box::new(error)),
            _ => Self::Refused(Box::new(error)),
        }
    }
}
