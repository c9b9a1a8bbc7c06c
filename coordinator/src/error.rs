//! Everything a call of the API can fail with → status, headers and the sentence that the caller reads. No other file
//! of the API knows an error's status.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rand::RngExt;
use sluice_shared::file_id::FileIdError;
use sluice_shared::problem::{self, Problem};
use sluice_shared::query::QueryError;
use sluice_shared::token::SealError;

/// Seconds that callers wait before they ask again, drawn anew for each so that they don't come back together. Edges
/// are probed each second: one that comes back is in use two to three seconds later.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u8> = 1..=5;

/// Why a call fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    // The caller's doing.
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
    // The cluster's.
    #[error("no edge can serve the file now; try again after the time in Retry-After")]
    NoLiveEdge,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Query(_)
            | Self::FileId(_)
            | Self::MissingParameter(_)
            | Self::UserId(_)
            | Self::Seal(_) => StatusCode::BAD_REQUEST,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoLiveEdge => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Seal(SealError::TooLong) => "file_id and user_id are too long together".into(),
            other => other.to_string().into(),
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
        if self == Self::NoLiveEdge {
            let seconds: u8 = rand::rng().random_range(RETRY_AFTER_SECONDS);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
        }
        response
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
