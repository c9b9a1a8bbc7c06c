//! Timed links: signed elsewhere with a shared secret, verified here, then redirected.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use http::Method;
use sluice_shared::file_id::FileId;
use sluice_shared::token::timed::TimedError;

use crate::answer::{Redirection, redirection};
use crate::api::{Api, Wanted, is_user_id};
use crate::call::Call;
use crate::config::access::Timed;
use crate::download::path_behind;
use crate::error::ApiError;
use crate::mint::Terms;

/// `GET, HEAD /api/get_file/{token}`
pub(crate) async fn redirect(State(api): State<Arc<Api>>, request: Request) -> Result<Redirection, ApiError> {
    let call = Call::without_body(request)?;
    let timed = api.timed.as_ref().ok_or(ApiError::UnknownPath)?;
    let now = SystemTime::now();
    let opened = timed.signer.open(path_behind(&call, "/api/get_file/"), now, timed.max_age);
    let payload = opened.map_err(|error| match error {
        TimedError::Bad(_) => ApiError::TimedBad,
        TimedError::Expired => ApiError::TimedExpired,
    })?;
    let file_id = file_of(timed, payload.file_id.as_deref())?;
    // Of another system's making: a name that would not do here is left out and harms nobody.
    let user_id = Some(payload.to_user.as_str()).filter(|name| is_user_id(name));
    let snapshot = api.snapshot();
    let candidate = api.locate_one(&snapshot, &call, &file_id, None)?;
    let wanted = Wanted {
        file_id: &file_id,
        user_id,
        client_id: None,
        head_only: call.parts.method == Method::HEAD,
        terms: Terms { save_as: Some(file_id.name()), ..Terms::default() },
    };
    let minted = api.mint(&call, wanted, candidate, now)?;
    Ok(redirection(&minted, candidate.edge(), file_id.name()))
}

/// The file that a payload means: the configured one, or one under the configured prefixes.
fn file_of<'a>(timed: &'a Timed, named: Option<&'a str>) -> Result<FileId<'a>, ApiError> {
    let Some(named) = named else { return timed.file_id.clone().ok_or(ApiError::TimedFile) };
    let file_id = FileId::parse(named)?;
    let is_fixed = timed.file_id.as_ref() == Some(&file_id);
    let may = is_fixed || timed.prefixes.iter().any(|prefix| prefix.holds(&file_id));
    may.then_some(file_id).ok_or(ApiError::TimedFile)
}
