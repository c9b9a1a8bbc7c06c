//! `/admin/v1/keys`: which keys there are, and what operators do about them. No key is ever shown, only its fingerprint.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::Serialize;
use sluice_shared::keys::{KeyKeeper, KeyKeeperError, KeyRing, KeyState};
use sluice_shared::revocations::{Instant, Kind, RevocationBook, Target};

use crate::admin_api::AdminName;
use crate::admin_error::AdminError;
use crate::admin_revocations::{FOR_GOOD, bar};
use crate::audit::{Audit, Change};
use crate::keys::{Kept, Keys};

/// What the handlers work with.
pub(crate) struct KeysAdmin {
    pub(crate) keys: Arc<Keys>,
    pub(crate) book: Arc<RevocationBook>,
    pub(crate) audit: Arc<Audit>,
}

pub(crate) fn routes(admin: Arc<KeysAdmin>) -> Router {
    Router::new()
        .route("/admin/v1/keys", get(list))
        .route("/admin/v1/keys/rotate", post(rotate))
        .route("/admin/v1/keys/reseal", post(reseal))
        .route("/admin/v1/keys/{kid}/retire", post(retire))
        .route("/admin/v1/keys/{kid}/revoke", post(revoke))
        .with_state(admin)
}

/// A key as operators see it.
#[derive(Serialize)]
pub(crate) struct View {
    pub(crate) kid: String,
    /// `token` or `ticket`.
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    fingerprint: String,
    /// RFC 3339; there where keys are in etcd.
    pub(crate) created: Option<Instant>,
    pub(crate) current_since: Option<Instant>,
    retire_at: Option<Instant>,
}

fn views(kind: &'static str, ring: &KeyRing, keeper: Option<&KeyKeeper>) -> Vec<View> {
    let known = keeper.map(KeyKeeper::good).unwrap_or_default();
    let view = |key: &sluice_shared::keys::TokenKey| {
        let record = known.get(key.id().as_str());
        View {
            kid: key.id().to_string(),
            kind,
            state: match key.state() {
                KeyState::Next => "next",
                KeyState::Current => "current",
                KeyState::Previous => "previous",
            },
            fingerprint: key.fingerprint(),
            created: record.map(|record| record.created),
            current_since: record.and_then(|record| record.current_since),
            retire_at: record.and_then(|record| record.retire_at),
        }
    };
    ring.newest_first().map(view).collect()
}

/// All keys, tokens' first.
pub(crate) fn listed(keys: &Keys) -> Vec<View> {
    let keepers = match &keys.kept {
        Kept::Files { .. } => [None, None],
        Kept::Etcd { tokens, tickets, .. } => [Some(&**tokens), Some(&**tickets)],
    };
    let mut listed = views("token", &keys.tokens.load(), keepers[0]);
    listed.extend(views("ticket", &keys.tickets.load(), keepers[1]));
    listed
}

async fn list(State(admin): State<Arc<KeysAdmin>>) -> Response {
    Json(serde_json::json!({ "keys": listed(&admin.keys) })).into_response()
}

/// The keepers, tokens' first.
fn keepers(admin: &KeysAdmin) -> Result<[Arc<KeyKeeper>; 2], AdminError> {
    match &admin.keys.kept {
        Kept::Files { .. } => Err(AdminError::KeysInFiles),
        Kept::Etcd { tokens, tickets, .. } => Ok([Arc::clone(tokens), Arc::clone(tickets)]),
    }
}

/// `POST /admin/v1/keys/rotate`: other keys for tokens and for tickets.
async fn rotate(
    State(admin): State<Arc<KeysAdmin>>,
    Extension(name): Extension<AdminName>,
) -> Result<Response, AdminError> {
    let keepers = keepers(&admin)?;
    let change: Change<_, AdminError> = Box::pin(async move {
        // Both or neither, as far as that can be told: who has to try again would exchange one of them twice.
        keepers.iter().try_for_each(|keeper| keeper.can_rotate())?;
        let token = keepers[0].rotate().await?;
        Ok([token, keepers[1].rotate().await?])
    });
    let [token, ticket] = admin.audit.around(name, "keys.rotate", String::new(), change).await?;
    let told = serde_json::json!({ "token": token.as_str(), "ticket": ticket.as_str() });
    Ok((StatusCode::OK, Json(told)).into_response())
}

/// `POST /admin/v1/keys/reseal`: seals keys of tokens with the first `cluster_key`, those of tickets with the first
/// `coordinator_key`.
async fn reseal(
    State(admin): State<Arc<KeysAdmin>>,
    Extension(name): Extension<AdminName>,
) -> Result<Response, AdminError> {
    let keepers = keepers(&admin)?;
    let change: Change<_, AdminError> = Box::pin(async move {
        let tokens = keepers[0].seal_anew().await.map_err(KeyKeeperError::Etcd)?;
        let tickets = keepers[1].seal_anew().await.map_err(KeyKeeperError::Etcd)?;
        Ok(tokens.and(tickets))
    });
    let came = admin.audit.around(name, "keys.reseal", String::new(), change).await?;
    Ok(Json(came).into_response())
}

/// `POST /admin/v1/keys/{kid}/retire`: what a key sealed that mints no more is refused from now on.
async fn retire(
    State(admin): State<Arc<KeysAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(kid): Path<String>,
) -> Result<StatusCode, AdminError> {
    let keepers = keepers(&admin)?;
    let subject = kid.clone();
    let change: Change<_, AdminError> = Box::pin(async move {
        let retired = match keepers[0].retire(&kid).await {
            Err(KeyKeeperError::Unknown) => keepers[1].retire(&kid).await,
            other => other,
        };
        Ok(retired?)
    });
    admin.audit.around(name, "keys.retire", subject, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /admin/v1/keys/{kid}/revoke`: others may have the key; whatever is sealed with it is refused from now on, and
/// another takes its place.
async fn revoke(
    State(admin): State<Arc<KeysAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(kid): Path<String>,
) -> Result<StatusCode, AdminError> {
    let is_known =
        [&admin.keys.tokens, &admin.keys.tickets].iter().any(|ring| ring.load().by_id(&kid).is_some());
    if !is_known {
        return Err(AdminError::Keys(KeyKeeperError::Unknown));
    }
    let target = Target::new(Kind::Key, &kid)?;
    let change = Box::pin(bar(Arc::clone(&admin.book), target, FOR_GOOD, false));
    admin.audit.around(name, "keys.revoke", kid, change).await?;
    Ok(StatusCode::NO_CONTENT)
}
