//! The two ways to ask for a file: an answer in JSON, and a redirection. Each handler is four calls: authenticate,
//! locate, mint, answer.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;
use sluice_shared::file_id::FileId;
use sluice_shared::query::Query;

use crate::answer::{Links, redirection};
use crate::api::{Api, Wanted, locate, user_id};
use crate::authenticate::Principal;
use crate::call::Call;
use crate::error::ApiError;
use crate::mint::Terms;

/// `GET /api/request-download?file_id&user_id`
pub(crate) async fn request_download(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let call = Call::without_body(request)?;
    let query = call.query()?;
    let file_id = FileId::parse(required(&query, "file_id")?)?;
    let user_id = user_id(required(&query, "user_id")?)?;
    let principal = api.authenticator.authenticate(&call).await?.principal;
    principal.may_ask_for(&file_id)?;
    let snapshot = api.snapshot();
    let edges = locate(&snapshot, &file_id)?;
    let wanted = wanted(&file_id, Some(user_id), &principal, false);
    let minted = api.mint(&call, wanted, edges[0], SystemTime::now())?;
    Ok(Links::new(&minted, &edges).into_response(edges[0]))
}

/// `GET, HEAD /download/{file_id…}?user_id`
pub(crate) async fn redirect(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let call = Call::without_body(request)?;
    let query = call.query()?;
    let file_id = FileId::parse_percent_encoded(path_behind(&call, "/download/"))?;
    let user_id = query.value("user_id").map(user_id).transpose()?;
    let principal = api.authenticator.authenticate_for(&file_id, &call).await?;
    let snapshot = api.snapshot();
    let edges = locate(&snapshot, &file_id)?;
    let wanted = wanted(&file_id, user_id, &principal, call.parts.method == Method::HEAD);
    let minted = api.mint(&call, wanted, edges[0], SystemTime::now())?;
    Ok(redirection(&minted, edges[0], file_id.name()))
}

/// A file as it was asked for, with nothing but its client's own limits.
pub(crate) fn wanted<'a>(
    file_id: &'a FileId<'a>,
    user_id: Option<&'a str>,
    principal: &'a Principal,
    head_only: bool,
) -> Wanted<'a> {
    let terms = Terms { ttl_max: principal.max_ttl(), ..Terms::default() };
    Wanted { file_id, user_id, client_id: principal.client_id(), head_only, terms }
}

fn required<'q>(query: &'q Query<'_>, name: &'static str) -> Result<&'q str, ApiError> {
    query.value(name).ok_or(ApiError::MissingParameter(name))
}

/// The path behind a route's prefix, as it came: whoever reads it decodes it, once, by its own rules.
pub(crate) fn path_behind<'c>(call: &'c Call, prefix: &str) -> &'c str {
    call.parts.uri.path().strip_prefix(prefix).unwrap_or_default()
}
