//! How calls fail, step by step. What a step can fail with is said by its errors themselves: the statuses and header
//! fields of the document are those that the errors are answered with.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use axum::response::IntoResponse;
use http::{HeaderMap, HeaderName, StatusCode};
use sluice_shared::app_jwt::AppJwtError;
use sluice_shared::file_id::FileIdError;
use sluice_shared::problem;
use sluice_shared::query::QueryError;
use sluice_shared::revocations::Kind;
use sluice_shared::signed_request;
use sluice_shared::token::SealError;
use sluice_shared::token::sealed::SealedError;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{Response, ResponseBuilder};

use super::{Offered, answers, schemas};
use crate::api::USER_ID_BYTES_MAX;
use crate::authenticate::app_jwt::{APP_KEY, AUTHORIZATION};
use crate::authenticate::signature::{ACCESS_KEY, NONCE, NONCE_BYTES_MAX};
use crate::call::BODY_BYTES_MAX;
use crate::config::SchemeName;
use crate::error::{ApiError, FieldFault};
use crate::state::Pace;

/// Something that calls do, and that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    ComeWithoutBody,
    ReadBody,
    ReadFields,
    ReadQuery,
    Need(&'static str),
    NameFile,
    NameUser,
    Authenticate,
    AskForFile,
    Locate,
    Remember,
    Mint,
    OpenLink,
    FindLink,
    /// Edges are told of what was revoked.
    TellEdges,
    /// The standing of the link that a ticket or a token is of.
    CheckLink,
    OpenToken,
    OpenTimed,
    OpenSealed,
}

impl Step {
    /// An error of each kind that the step can end with.
    pub(super) fn errors(self, offered: &Offered) -> Vec<ApiError> {
        match self {
            Self::ComeWithoutBody => vec![ApiError::BodyNotAllowed],
            Self::ReadBody => vec![ApiError::Body(BODY_BYTES_MAX), ApiError::BodyLate],
            Self::ReadFields => vec![
                ApiError::Field(FieldFault::Json("…".to_owned())),
                ApiError::Field(FieldFault::Field("…", Cow::Borrowed("…"))),
            ],
            Self::ReadQuery => query(),
            Self::Need(parameter) => vec![ApiError::MissingParameter(parameter)],
            Self::NameFile => {
                vec![ApiError::FileId(FileIdError::Empty), ApiError::FileId(FileIdError::Segment)]
            }
            Self::NameUser => vec![ApiError::UserId(USER_ID_BYTES_MAX)],
            Self::Authenticate => of_schemes(offered),
            Self::AskForFile => vec![ApiError::FileNotYours],
            Self::Locate => vec![ApiError::NoLiveEdge],
            Self::Remember => vec![ApiError::State],
            Self::Mint => vec![ApiError::Seal(SealError::TooLong), ApiError::Barred(Kind::File)],
            Self::OpenLink => {
                vec![ApiError::Link, ApiError::LinkExpired, ApiError::LinkAddress, ApiError::LinkExhausted]
            }
            Self::FindLink => vec![ApiError::NoSuchLink],
            Self::TellEdges => vec![ApiError::MarksFull],
            Self::CheckLink => vec![ApiError::LinkOwner, ApiError::LinkRevoked],
            Self::OpenToken => {
                vec![ApiError::Token, ApiError::TokenExpired, ApiError::TokenAddress, ApiError::NotRedeemed]
            }
            Self::OpenTimed => vec![ApiError::TimedBad, ApiError::TimedExpired, ApiError::TimedFile],
            Self::OpenSealed => sealed(),
        }
    }
}

fn query() -> Vec<ApiError> {
    vec![
        ApiError::Query(QueryError::Repeated("…".to_owned())),
        ApiError::Query(QueryError::Encoding),
        ApiError::Query(QueryError::TooMany),
    ]
}

fn sealed() -> Vec<ApiError> {
    let faults = [
        SealedError::TooLong,
        SealedError::Timestamp,
        SealedError::SignatureShape,
        SealedError::Signature,
        SealedError::TooOld,
        SealedError::FromTheFuture,
        SealedError::Decryption,
    ];
    let mut errors: Vec<_> = faults.into_iter().map(ApiError::Sealed).collect();
    let too_often = ApiError::FailedTooOften { retry_after: Duration::from_secs(1) };
    errors.extend([ApiError::SealedUsed, ApiError::NoncesFull, too_often]);
    errors
}

/// What the schemes that go by headers refuse callers with.
fn of_schemes(offered: &Offered) -> Vec<ApiError> {
    let (is_signature, is_jwt) = (offered.has(SchemeName::Signature), offered.has(SchemeName::AppJwt));
    let mut errors = Vec::new();
    if is_signature {
        errors.extend([
            ApiError::HeaderMissing(ACCESS_KEY),
            ApiError::HeaderTooLong(NONCE, NONCE_BYTES_MAX),
            ApiError::NoSuchKey("…".to_owned()),
            ApiError::Timestamp,
            ApiError::NonceUsed,
            ApiError::NoncesFull,
        ]);
        errors.extend(query());
        errors.extend(mismatch());
    }
    if is_jwt {
        errors.extend([
            ApiError::CredentialMissing(AUTHORIZATION),
            ApiError::NoSuchApp("…".to_owned()),
            ApiError::AppJwt(AppJwtError::Malformed),
            ApiError::AppJwt(AppJwtError::BadSignature),
            ApiError::AppJwt(AppJwtError::Expired),
        ]);
    }
    if offered.has_clients() {
        let header = if is_signature { ACCESS_KEY } else { APP_KEY };
        let wait = Duration::from_secs(1);
        errors.extend([
            ApiError::HeaderRepeated(header),
            ApiError::HeaderText(header),
            ApiError::HeaderEmpty(header),
            ApiError::FailedTooOften { retry_after: wait },
            ApiError::KeyDisabled("…".to_owned()),
            ApiError::KeyExpired("…".to_owned()),
            ApiError::Throttled { retry_after: wait, pace: Pace { per_second: 1.0, burst: 1 } },
            ApiError::Blocked(SystemTime::UNIX_EPOCH),
            ApiError::State,
            ApiError::ClientsNotKnown,
        ]);
    } else if !offered.has(SchemeName::Open) {
        errors.push(ApiError::SealedOnly);
    }
    errors
}

/// A signature that does not match: what should have been signed comes from the verification alone.
fn mismatch() -> Option<ApiError> {
    let parts = signed_request::Parts {
        method: "GET",
        path_and_query: "/…",
        content_md5: None,
        access_key: "",
        nonce: "",
        timestamp: "",
    };
    signed_request::verify(&parts, b"", b"", "").err().map(ApiError::from)
}

/// The answers to calls that fail so: a status each, with the fields that its errors have.
pub(super) fn answers(errors: Vec<ApiError>, has_content: bool) -> Vec<(StatusCode, Response)> {
    let mut by_status: BTreeMap<StatusCode, Failure> = BTreeMap::new();
    for error in errors {
        by_status.entry(error.status()).or_default().add(error);
    }
    let described = |(status, failure): (_, Failure)| (status, failure.described(has_content));
    by_status.into_iter().map(described).collect()
}

/// The errors of one status.
#[derive(Default)]
struct Failure {
    details: Vec<String>,
    fields: BTreeSet<&'static str>,
}

impl Failure {
    fn add(&mut self, error: ApiError) {
        let detail = match &error {
            // The end of it is the caller's own call.
            ApiError::Signature(_) => "Invalid Signature,StringToSign: …".to_owned(),
            ApiError::Blocked(_) => "this client went on calling too often and is blocked until …".to_owned(),
            other => other.detail().into_owned(),
        };
        if !self.details.contains(&detail) {
            self.details.push(detail);
        }
        self.fields.extend(fields_of(error.into_response().headers()));
    }

    fn described(self, has_content: bool) -> Response {
        let details: Vec<String> = self.details.iter().map(|detail| format!("- {detail}")).collect();
        let fields = self.fields.into_iter().map(|name| (name, answers::field(name)));
        let mut response = ResponseBuilder::new()
            .description(details.join("\n"))
            .header(answers::X_REQUEST_ID, answers::field(answers::X_REQUEST_ID));
        response = fields.fold(response, |response, (name, field)| response.header(name, field));
        if has_content {
            let content = ContentBuilder::new().schema(Some(schemas::named(schemas::PROBLEM)));
            response = response.content(problem::CONTENT_TYPE, content.build());
        }
        response.build()
    }
}

/// An answer's fields by the names that the document has; those of its content go without saying.
fn fields_of(headers: &HeaderMap) -> impl Iterator<Item = &'static str> {
    let is_said = |name: &HeaderName| !matches!(name.as_str(), "content-type" | "content-length");
    headers.keys().filter(move |name| is_said(name)).filter_map(|name| answers::field_name(name.as_str()))
}

/// What gets no further than the router.
pub(super) fn of_no_call() -> Vec<(&'static str, Response)> {
    let only =
        |name, error| answers(vec![error], true).into_iter().map(move |(_, response)| (name, response));
    only("UnknownPath", ApiError::UnknownPath).chain(only("MethodNotAllowed", ApiError::Method)).collect()
}
