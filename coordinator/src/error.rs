//! Everything a call of the API can fail with → status, headers and the sentence that the caller reads. No other file
//! of the API knows an error's status.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rand::RngExt;
use sluice_shared::app_jwt::AppJwtError;
use sluice_shared::file_id::FileIdError;
use sluice_shared::problem::{self, Problem};
use sluice_shared::query::QueryError;
use sluice_shared::revocations::Kind;
use sluice_shared::signed_request::{ShownString, SignatureError};
use sluice_shared::token::SealError;
use sluice_shared::token::sealed::SealedError;

use crate::allowance::{Allowance, whole_seconds};
use crate::clients::NotKnown;
use crate::state::{Pace, StateError};

mod reason;

pub(crate) use reason::{Reason, Refusals};

/// Seconds that callers wait before they ask again, drawn anew for each so that they don't come back together. Edges
/// are probed each second: one that comes back is in use two to three seconds later.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u8> = 1..=5;

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ApiError {
    // The caller's doing: what it asks.
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    FileId(#[from] FileIdError),
    #[error("query parameter '{0}' is missing")]
    MissingParameter(&'static str),
    #[error("user_id is not 1 to {0} bytes without control characters")]
    UserId(usize),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("nothing is served under this path")]
    UnknownPath,
    #[error("the method is not one of those in Allow")]
    Method,
    #[error("this call takes no body")]
    BodyNotAllowed,
    #[error("the body is longer than {0} bytes, or did not arrive whole")]
    Body(usize),
    #[error("the body did not arrive in time")]
    BodyLate,
    #[error("{0}")]
    Field(FieldFault),
    #[error("{0} header is given more than once.")]
    HeaderRepeated(&'static str),
    #[error("{0} header is not visible ASCII.")]
    HeaderText(&'static str),
    #[error("{0} value is longer than {1} bytes.")]
    HeaderTooLong(&'static str, usize),
    // Who it is. The words of the first are those of the systems replaced.
    #[error("{0} header is required.")]
    HeaderMissing(&'static str),
    #[error("{0} value can't be empty.")]
    HeaderEmpty(&'static str),
    #[error("Access key {0} not exists.")]
    NoSuchKey(String),
    #[error("Access key {0} is disable.")]
    KeyDisabled(String),
    #[error("Access key {0} has already expired.")]
    KeyExpired(String),
    #[error("Invalid Signature,StringToSign: {}", .0.as_str())]
    Signature(ShownString),
    #[error("Auth-Timestamp is invalid.")]
    Timestamp,
    #[error("Specified nonce was used already.")]
    NonceUsed,
    #[error("{0} header is required.")]
    CredentialMissing(&'static str),
    #[error("App key {0} not exists.")]
    NoSuchApp(String),
    #[error("{0}")]
    AppJwt(AppJwtError),
    #[error("this path takes no credentials that callers here have")]
    SealedOnly,
    #[error("{0}")]
    Sealed(SealedError),
    #[error("the call was made already")]
    SealedUsed,
    #[error("this client may not ask for this file")]
    FileNotYours,
    #[error(
        "too many failed attempts from this address; the time in Retry-After has to pass before one is judged aloud"
    )]
    FailedTooOften { retry_after: Duration },
    #[error("too many calls; the next may come after the time in Retry-After")]
    Throttled { retry_after: Duration, pace: Pace },
    #[error("this client went on calling too often and is blocked until {}", humantime::format_rfc3339_seconds(*.0))]
    Blocked(SystemTime),
    // Links and tokens.
    #[error("Invalid or malformed link")]
    Link,
    #[error("Link expired")]
    LinkExpired,
    #[error("Link revoked")]
    LinkRevoked,
    #[error("Link has had all its downloads")]
    LinkExhausted,
    #[error("Link is bound to another address")]
    LinkAddress,
    #[error("there is no such link")]
    NoSuchLink,
    #[error(
        "the link is taken back and gives no more tokens, but those it gave live until they expire: edges are told of as \
         many revoked links as may be; try again after the time in Retry-After"
    )]
    MarksFull,
    #[error("the link's client may not call any more")]
    LinkOwner,
    #[error("Invalid or malformed token")]
    Token,
    #[error("Token expired")]
    TokenExpired,
    #[error("Token is bound to another address")]
    TokenAddress,
    #[error("the link of this token was not redeemed from this address")]
    NotRedeemed,
    #[error("bad token(invalid token)")]
    TimedBad,
    #[error("expired token(token timeout, verification failed)")]
    TimedExpired,
    #[error("this link may not name this file")]
    TimedFile,
    #[error("the {} is not served any more", .0.name())]
    Barred(Kind),
    // The cluster's.
    #[error("no edge can serve the file now; try again after the time in Retry-After")]
    NoLiveEdge,
    #[error("what has to be remembered cannot be now; try again after the time in Retry-After")]
    State,
    #[error("who may call is not known yet; try again after the time in Retry-After")]
    ClientsNotKnown,
    #[error(
        "as many nonces of this client are remembered as may be; try again after the time in Retry-After"
    )]
    NoncesFull,
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Away => Self::State,
        }
    }
}

impl From<NotKnown> for ApiError {
    fn from(_: NotKnown) -> Self {
        Self::ClientsNotKnown
    }
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Query(error) => Self::Query(error),
            SignatureError::Mismatch(shown) => Self::Signature(shown),
        }
    }
}

impl ApiError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Query(_)
            | Self::FileId(_)
            | Self::MissingParameter(_)
            | Self::UserId(_)
            | Self::Seal(SealError::TooLong)
            | Self::BodyNotAllowed
            | Self::Body(_)
            | Self::Field(_)
            | Self::HeaderRepeated(_)
            | Self::HeaderText(_)
            | Self::HeaderTooLong(..)
            | Self::HeaderMissing(_)
            | Self::HeaderEmpty(_)
            | Self::Link
            | Self::Token
            | Self::TimedBad => StatusCode::BAD_REQUEST,
            Self::Sealed(error) if *error != SealedError::Signature => StatusCode::BAD_REQUEST,
            Self::Signature(_)
            | Self::Sealed(_)
            | Self::CredentialMissing(_)
            | Self::NoSuchApp(_)
            | Self::AppJwt(_)
            | Self::SealedOnly
            | Self::TokenExpired
            | Self::TimedExpired => StatusCode::UNAUTHORIZED,
            Self::NoSuchKey(_)
            | Self::KeyDisabled(_)
            | Self::KeyExpired(_)
            | Self::Timestamp
            | Self::NonceUsed
            | Self::SealedUsed
            | Self::FileNotYours
            | Self::Blocked(_)
            | Self::LinkRevoked
            | Self::LinkExhausted
            | Self::LinkAddress
            | Self::LinkOwner
            | Self::TokenAddress
            | Self::NotRedeemed
            | Self::TimedFile
            | Self::Barred(_) => StatusCode::FORBIDDEN,
            Self::UnknownPath | Self::NoSuchLink => StatusCode::NOT_FOUND,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::LinkExpired => StatusCode::GONE,
            Self::FailedTooOften { .. } | Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Seal(SealError::NoKey)
            | Self::NoLiveEdge
            | Self::State
            | Self::ClientsNotKnown
            | Self::MarksFull
            | Self::NoncesFull => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Seal(SealError::TooLong) => "file_id and the other names are too long together".into(),
            Self::Seal(SealError::NoKey) => {
                "there is no key for links now; try again after the time in Retry-After".into()
            }
            other => other.to_string().into(),
        }
    }

    /// Seconds to wait before the same call can do better.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Seal(SealError::NoKey)
            | Self::NoLiveEdge
            | Self::State
            | Self::ClientsNotKnown
            | Self::MarksFull
            | Self::NoncesFull => Some(u64::from(rand::rng().random_range::<u8, _>(RETRY_AFTER_SECONDS))),
            Self::FailedTooOften { retry_after } | Self::Throttled { retry_after, .. } => {
                Some(whole_seconds(*retry_after).max(1))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = Problem::new(status, &self.detail()).to_json();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        // An error is this moment's: a cache that kept it would outlive its cause.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // RFC 9110 §15.5.9: what is left of the request is not waited for.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(self.challenge()));
        }
        if let Self::Throttled { retry_after, pace } = &self {
            Allowance::used_up(*pace, *retry_after).insert_into(headers);
        }
        response.extensions_mut().insert(self.reason());
        response
    }
}

impl ApiError {
    /// RFC 9110 §15.5.2 wants a challenge with each 401.
    fn challenge(&self) -> &'static str {
        match self {
            Self::Signature(_) | Self::Sealed(_) | Self::SealedOnly => "Signature",
            Self::CredentialMissing(_) => "Bearer",
            _ => "Bearer error=\"invalid_token\"",
        }
    }
}

/// What is wrong with a field of a body; each message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldFault {
    #[error("the body is no JSON object as this call takes: {0}")]
    Json(String),
    #[error("field '{0}' {1}")]
    Field(&'static str, Cow<'static, str>),
}

impl FieldFault {
    pub(crate) fn of(field: &'static str, fault: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::Field(Self::Field(field, fault.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_status_and_a_sentence() {
        let table = [
            (ApiError::Query(QueryError::Repeated("a".into())), 400, "more than once"),
            (ApiError::FileId(FileIdError::Segment), 400, "segment"),
            (ApiError::MissingParameter("file_id"), 400, "'file_id'"),
            (ApiError::UserId(256), 400, "256 bytes"),
            (ApiError::Seal(SealError::TooLong), 400, "too long"),
            (ApiError::UnknownPath, 404, "path"),
            (ApiError::Method, 405, "Allow"),
            (ApiError::BodyLate, 408, "in time"),
            (ApiError::MarksFull, 503, "expire"),
            (ApiError::NoLiveEdge, 503, "Retry-After"),
        ];
        for (error, status, text) in table {
            assert!(error.detail().contains(text), "{error:?}");
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        }
    }

    #[test]
    fn retries_are_spread() {
        let seconds = |_| {
            let response = ApiError::NoLiveEdge.into_response();
            let text = response.headers()["retry-after"].to_str().unwrap().to_owned();
            text.parse::<u8>().unwrap()
        };
        let drawn: std::collections::BTreeSet<u8> = (0..500).map(seconds).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}
