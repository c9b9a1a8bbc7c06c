//! The two ways to ask for a file: an answer in JSON, and a redirection. Each handler is four calls: authenticate,
//! locate, mint, answer.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sluice_shared::file_id::FileId;
use sluice_shared::query::Query;

use crate::authenticate::{Authenticator, Principal};
use crate::error::ApiError;
use crate::membership::Membership;
use crate::mint::{Minted, Minter, Order};
use crate::observe::{RequestId, SentTo};
use crate::routing::{Candidates, Edge, Snapshot};

const USER_ID_BYTES_MAX: usize = 256;
/// Everything but the unreserved characters of RFC 3986 §2.3: whatever a file is called, its name is one segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the handlers work with.
pub(crate) struct Api {
    pub(crate) authenticator: Authenticator,
    pub(crate) membership: Arc<Membership>,
    pub(crate) minter: Minter,
}

/// `GET /api/request-download?file_id&user_id`
pub(crate) async fn request_download(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let query = query(&parts)?;
    let asked = Asked {
        file_id: FileId::parse(required(&query, "file_id")?)?,
        user_id: Some(user_id(required(&query, "user_id")?)?),
        head_only: false,
    };
    let principal = api.authenticator.authenticate(&parts).await?;
    let snapshot = api.membership.snapshot();
    let (edge, candidates) = locate(&snapshot, &asked.file_id)?;
    let minted = mint(&api.minter, &parts, &asked, &principal, edge)?;
    Ok(links(&minted, edge, candidates))
}

/// `GET, HEAD /download/{file_id…}?user_id`
pub(crate) async fn redirect(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let query = query(&parts)?;
    let asked = Asked {
        file_id: FileId::parse_percent_encoded(path_of_file(&parts))?,
        user_id: query.value("user_id").map(user_id).transpose()?,
        head_only: parts.method == Method::HEAD,
    };
    let authenticator = &api.authenticator;
    let principal = authenticator.authenticate_for(&asked.file_id, &parts).await?;
    let snapshot = api.membership.snapshot();
    let (edge, _) = locate(&snapshot, &asked.file_id)?;
    let minted = mint(&api.minter, &parts, &asked, &principal, edge)?;
    Ok(redirection(&minted, edge, &asked.file_id))
}

/// A call's own words, judged.
struct Asked<'a> {
    file_id: FileId<'a>,
    user_id: Option<&'a str>,
    head_only: bool,
}

fn query(parts: &Parts) -> Result<Query<'_>, ApiError> {
    Ok(Query::parse(parts.uri.query().unwrap_or_default())?)
}

fn required<'q>(query: &'q Query<'_>, name: &'static str) -> Result<&'q str, ApiError> {
    query.value(name).ok_or(ApiError::MissingParameter(name))
}

fn user_id(text: &str) -> Result<&str, ApiError> {
    let fits = (1..=USER_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then_some(text).ok_or(ApiError::UserId(USER_ID_BYTES_MAX))
}

/// The path behind `/download/`, as it came: `FileId` decodes it, once, by its own rules.
fn path_of_file(parts: &Parts) -> &str {
    let path = parts.uri.path();
    path.strip_prefix("/download/").unwrap_or_default()
}

/// The file's edge, and all its candidates.
fn locate<'s>(snapshot: &'s Snapshot, file: &FileId<'_>) -> Result<(&'s Edge, Candidates<'s>), ApiError> {
    let candidates = snapshot.candidates(file);
    let edge = candidates.first().ok_or(ApiError::NoLiveEdge)?;
    Ok((edge, candidates))
}

fn mint(
    minter: &Minter,
    parts: &Parts,
    asked: &Asked<'_>,
    principal: &Principal,
    edge: &Edge,
) -> Result<Minted, ApiError> {
    let request_id = parts.extensions.get::<RequestId>();
    let order = Order {
        file_id: &asked.file_id,
        user_id: asked.user_id,
        principal,
        request_id: request_id.expect("every call has a request id").as_str(),
        edge: &edge.record.id,
        head_only: asked.head_only,
    };
    let minted = minter.mint(&order, SystemTime::now())?;
    edge.picks.increment(1);
    Ok(minted)
}

/// The answer of request-download. It holds tokens: no `Debug`.
#[derive(Serialize)]
struct Links<'a> {
    download_url: String,
    expires_at: String,
    edge: &'a str,
    alternates: Vec<String>,
}

fn links(minted: &Minted, edge: &Edge, candidates: Candidates<'_>) -> Response {
    let token = minted.token.as_str();
    let url = |edge: &Edge| format!("{}/download?token={token}", edge.record.url);
    let body = Links {
        download_url: url(edge),
        expires_at: humantime::format_rfc3339(minted.expires_at).to_string(),
        edge: edge.record.id.as_str(),
        alternates: candidates.iter().skip(1).map(url).collect(),
    };
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(SentTo(edge.record.id.clone()));
    response
}

fn redirection(minted: &Minted, edge: &Edge, file: &FileId<'_>) -> Response {
    let name = utf8_percent_encode(file.name(), SEGMENT);
    let token = minted.token.as_str();
    let location = format!("{}/download/{name}?token={token}", edge.record.url);
    let location = HeaderValue::try_from(location).expect("URLs, escapes and tokens are visible ASCII");
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The token is in the URL, and would be in the Referer of whatever the file links to.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.extensions_mut().insert(SentTo(edge.record.id.clone()));
    response
}
