//! The two ways to ask for a file: an answer in JSON, and a redirection. Each handler is four calls: authenticate,
//! locate, mint, answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;
use sluice_shared::file_id::FileId;
use sluice_shared::query::Query;

use crate::answer::{Links, Redirection, redirection};
use crate::api::{Api, Wanted, user_id};
use crate::authenticate::Principal;
use crate::call::Call;
use crate::error::ApiError;
use crate::metalink;
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
    let candidates = api.locate(&snapshot, &call, &file_id)?;
    let first = candidates.first().ok_or(ApiError::NoLiveEdge)?;
    let wanted = wanted(&file_id, Some(user_id), &principal, false);
    let minted = api.mint(&call, wanted, first, call.received().time)?;
    let mut response = Links::new(&minted, first.edge(), &candidates).into_response(first.edge());
    principal.tell(response.headers_mut());
    Ok(response)
}

/// `GET, HEAD /download/{file_id…}?user_id`
pub(crate) async fn redirect(State(api): State<Arc<Api>>, request: Request) -> Result<Redirection, ApiError> {
    to_edge(&api, &Call::without_body(request)?).await
}

/// The same without the router.
pub(crate) async fn to_edge(api: &Api, call: &Call) -> Result<Redirection, ApiError> {
    let query = call.query()?;
    let file_id = FileId::parse_percent_encoded(path_behind(call, "/download/"))?;
    let user_id = query.value("user_id").map(user_id).transpose()?;
    let principal = api.authenticator.authenticate_for(&file_id, call).await?;
    let wanted = wanted(&file_id, user_id, &principal, call.parts.method == Method::HEAD);
    let mut redirection = if metalink::is_wanted(&call.parts.headers) {
        // Boxed: it waits for edges, and every call would have room for it.
        Box::pin(to_edges(api, call, wanted)).await?
    } else {
        let snapshot = api.snapshot();
        let candidate = api.locate_one(&snapshot, call, &file_id, None)?;
        let minted = api.mint(call, wanted, candidate, call.received().time)?;
        let mut redirection = redirection(&minted, candidate.edge(), file_id.name());
        metalink::vary(&mut redirection.response);
        redirection
    };
    principal.tell(redirection.response.headers_mut());
    Ok(redirection)
}

/// All candidates, for clients that choose and change among them.
async fn to_edges(api: &Api, call: &Call, wanted: Wanted<'_>) -> Result<Redirection, ApiError> {
    let file_id = wanted.file_id;
    let snapshot = api.snapshot();
    let candidates = api.locate(&snapshot, call, file_id)?;
    let first = candidates.first().ok_or(ApiError::NoLiveEdge)?;
    let edges: Vec<_> = candidates.iter().map(|candidate| candidate.edge()).collect();
    let minted = api.mint(call, wanted, first, call.received().time)?;
    let fact = api.fact(call, file_id, &edges).await;
    Ok(metalink::answer(&minted, &edges, file_id.name(), fact))
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
