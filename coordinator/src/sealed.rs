//! Encrypted, signed calls between servers: request-download, sealed on the way in and on the way out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sluice_shared::file_id::FileId;
use sluice_shared::token::sealed::SealedError;

use crate::answer::{Links, sent_to};
use crate::api::{Api, Wanted, user_id};
use crate::call::{Call, object};
use crate::config::access::Sealed;
use crate::error::{ApiError, FieldFault};
use crate::mint::Terms;
use crate::state::NonceUse;

/// Under which calls are remembered; no client has a name with a space.
const REMEMBERED_AS: &str = "sealed calls";

#[derive(Deserialize)]
struct SealedBody<'b> {
    #[serde(borrow)]
    data: Cow<'b, str>,
    #[serde(borrow)]
    timestamp: Cow<'b, str>,
    #[serde(borrow)]
    signature: Cow<'b, str>,
}

#[derive(Deserialize)]
struct Asked<'b> {
    #[serde(borrow)]
    file_id: Cow<'b, str>,
    #[serde(borrow)]
    user_id: Cow<'b, str>,
}

#[derive(Serialize)]
struct SealedAnswer {
    data: String,
}

/// `POST /api/secure/request-download`
pub(crate) async fn request_download(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let call = Call::with_body(request).await?;
    let sealed = api.sealed.as_ref().ok_or(ApiError::UnknownPath)?;
    let now = SystemTime::now();
    let plaintext = verify(&api, sealed, &call, now).await?;
    let asked: Asked<'_> = json(&plaintext)?;
    let file_id = FileId::parse(asked.file_id)?;
    let user_id = user_id(&asked.user_id)?;
    let snapshot = api.snapshot();
    let candidates = api.locate(&snapshot, &call, &file_id)?;
    let first = candidates.first().ok_or(ApiError::NoLiveEdge)?;
    let wanted = Wanted {
        file_id: &file_id,
        user_id: Some(user_id),
        client_id: None,
        head_only: false,
        terms: Terms::default(),
    };
    let minted = api.mint(&call, wanted, first, now)?;
    let links = serde_json::to_vec(&Links::new(&minted, first.edge(), &candidates)).expect("texts serialize");
    let data = sealed.calls.seal(&links, now);
    Ok(sent_to(Json(SealedAnswer { data }).into_response(), first.edge()))
}

/// The plaintext of a call that is authentic, recent and new.
async fn verify(api: &Api, sealed: &Sealed, call: &Call, now: SystemTime) -> Result<Vec<u8>, ApiError> {
    let body: SealedBody<'_> = json(&call.body)?;
    let opened = sealed.calls.verify(&body.data, &body.timestamp, &body.signature, now, sealed.max_age);
    let opened = opened.map_err(|error| match error {
        // Somebody without the secret; the rest is told to whoever has it, or is no proof at all.
        SealedError::Signature => api.failures.judged(call.subscriber(), ApiError::Sealed(error), now),
        error => ApiError::Sealed(error),
    })?;
    if !api.state.remembers(REMEMBERED_AS, opened.sent_at, now).await? {
        return Err(ApiError::Sealed(SealedError::TooOld));
    }
    let nonce = URL_SAFE_NO_PAD.encode(opened.mac);
    let keep_until = now + 2 * sealed.max_age;
    match api.state.use_nonce(REMEMBERED_AS, &nonce, now, keep_until).await? {
        NonceUse::Fresh => Ok(opened.plaintext),
        NonceUse::Used => Err(ApiError::SealedUsed),
        NonceUse::Full => Err(ApiError::NoncesFull),
    }
}

fn json<'b, T: Deserialize<'b>>(text: &'b [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(object(text)?)
        .map_err(|fault| ApiError::Field(FieldFault::Json(fault.to_string())))
}

#[derive(Serialize)]
struct SecurityInfo {
    encryption_key_fingerprint: String,
    signature_format: &'static str,
    timestamp_format: &'static str,
    /// Milliseconds.
    max_age: u64,
}

/// `GET /security-info`: what a caller needs to know, and not the key.
pub(crate) async fn security_info(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    Call::without_body(request)?;
    let sealed = api.sealed.as_ref().ok_or(ApiError::UnknownPath)?;
    let info = SecurityInfo {
        encryption_key_fingerprint: sealed.calls.fingerprint(),
        signature_format: "HMAC-SHA256(data + timestamp, API_SECRET_KEY)",
        timestamp_format: "milliseconds since epoch",
        max_age: u64::try_from(sealed.max_age.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Json(info).into_response())
}
