//! What refusals are counted and logged under: coarser than [`ApiError`], and never anything that a caller chose.

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_shared::token::SealError;

use super::ApiError;

macro_rules! reasons {
    ($($reason:ident => $name:literal,)+) => {
        /// Why a call was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($reason,)+
        }

        impl Reason {
            pub(crate) const ALL: &[Self] = &[$(Self::$reason,)+];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }
        }
    };
}

reasons! {
    Request => "request",
    Path => "path",
    NoCredentials => "no-credentials",
    NoSuchClient => "no-such-client",
    ClientBarred => "client-barred",
    Signature => "signature",
    AppJwt => "app-jwt",
    Sealed => "sealed",
    Timestamp => "timestamp",
    Replay => "replay",
    NoncesFull => "nonces-full",
    FailedTooOften => "failed-too-often",
    Throttled => "throttled",
    Blocked => "blocked",
    FileNotAllowed => "file-not-allowed",
    Barred => "barred",
    Link => "link",
    LinkExpired => "link-expired",
    LinkRevoked => "link-revoked",
    LinkExhausted => "link-exhausted",
    MarksFull => "revocations-full",
    Address => "address",
    Token => "token",
    TokenExpired => "token-expired",
    NotRedeemed => "not-redeemed",
    TimedLink => "timed-link",
    NoLiveEdge => "no-live-edge",
    StateAway => "state-away",
    ClientsNotKnown => "clients-not-known",
    NoKey => "no-key",
}

/// How many calls were refused, by reason, since the start: what is exported cannot be read back.
#[derive(Debug)]
pub(crate) struct Refusals([AtomicU64; Reason::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Refusals {
    pub(crate) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that were there, by name.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.iter().map(|reason| reason.name()).zip(counts).filter(|(_, count)| *count > 0)
    }
}

impl ApiError {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Query(_)
            | Self::FileId(_)
            | Self::MissingParameter(_)
            | Self::UserId(_)
            | Self::Seal(SealError::TooLong)
            | Self::BodyNotAllowed
            | Self::Body(_)
            | Self::BodyLate
            | Self::Field(_)
            | Self::HeaderRepeated(_)
            | Self::HeaderText(_)
            | Self::HeaderTooLong(..) => Reason::Request,
            Self::UnknownPath | Self::Method => Reason::Path,
            Self::HeaderMissing(_) | Self::HeaderEmpty(_) | Self::CredentialMissing(_) | Self::SealedOnly => {
                Reason::NoCredentials
            }
            Self::NoSuchKey(_) | Self::NoSuchApp(_) => Reason::NoSuchClient,
            Self::KeyDisabled(_) | Self::KeyExpired(_) | Self::LinkOwner => Reason::ClientBarred,
            Self::Signature(_) => Reason::Signature,
            Self::AppJwt(_) => Reason::AppJwt,
            Self::Sealed(_) => Reason::Sealed,
            Self::Timestamp => Reason::Timestamp,
            Self::NonceUsed | Self::SealedUsed => Reason::Replay,
            Self::NoncesFull => Reason::NoncesFull,
            Self::FailedTooOften { .. } => Reason::FailedTooOften,
            Self::Throttled { .. } => Reason::Throttled,
            Self::Blocked(_) => Reason::Blocked,
            Self::FileNotYours | Self::TimedFile => Reason::FileNotAllowed,
            Self::Barred(_) => Reason::Barred,
            Self::Link | Self::NoSuchLink => Reason::Link,
            Self::LinkExpired => Reason::LinkExpired,
            Self::LinkRevoked => Reason::LinkRevoked,
            Self::LinkExhausted => Reason::LinkExhausted,
            Self::MarksFull => Reason::MarksFull,
            Self::LinkAddress | Self::TokenAddress => Reason::Address,
            Self::Token => Reason::Token,
            Self::TokenExpired => Reason::TokenExpired,
            Self::NotRedeemed => Reason::NotRedeemed,
            Self::TimedBad | Self::TimedExpired => Reason::TimedLink,
            Self::NoLiveEdge => Reason::NoLiveEdge,
            Self::State => Reason::StateAway,
            Self::ClientsNotKnown => Reason::ClientsNotKnown,
            Self::Seal(SealError::NoKey) => Reason::NoKey,
        }
    }
}
