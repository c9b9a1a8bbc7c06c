//! `/admin/v1/clients` and `/admin/v1/timed-links`: who may call, as operators change it. Every change is in the audit
//! log before it is made; a secret is in the one answer that makes it.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_shared::admin::problem;
use sluice_shared::file_id::Prefix;
use sluice_shared::secret::SecretText;
use sluice_shared::token::timed::{TimedPayload, TimedSigner};
use sluice_shared::units::BaseUrl;

use crate::admin_api::AdminName;
use crate::audit::{Audit, AuditError};
use crate::clients::{Client, ClientScheme, ClientsFile, EditError, RawClient};

/// What the handlers work with.
pub(crate) struct ClientsAdmin {
    pub(crate) clients: Arc<ClientsFile>,
    pub(crate) audit: Audit,
    pub(crate) timed: Option<TimedSigner>,
    pub(crate) public_url: BaseUrl,
}

pub(crate) fn routes(admin: Arc<ClientsAdmin>) -> Router {
    Router::new()
        .route("/admin/v1/clients", get(list).post(add))
        .route("/admin/v1/clients/{access_key}", delete(remove))
        .route("/admin/v1/clients/{access_key}/{change}", post(change))
        .route("/admin/v1/timed-links", post(timed_link))
        .with_state(admin)
}

/// A client as operators see it: without its secret.
#[derive(Serialize)]
struct ClientView {
    access_key: String,
    scheme: ClientScheme,
    enabled: bool,
    /// RFC 3339 UTC; null where it never expires.
    expires_at: Option<String>,
    prefixes: Vec<Prefix>,
    /// Seconds.
    max_ttl: Option<u64>,
    /// Calls a second, on the mean.
    rate: Option<f64>,
    burst: Option<u32>,
    note: String,
}

impl From<&Client> for ClientView {
    fn from(client: &Client) -> Self {
        Self {
            access_key: client.access_key.clone(),
            scheme: client.scheme,
            enabled: client.enabled,
            expires_at: client.expires_at.map(|at| humantime::format_rfc3339(at).to_string()),
            prefixes: client.prefixes.clone(),
            max_ttl: client.max_ttl.map(|ttl| ttl.as_secs()),
            rate: client.pace.map(|pace| pace.per_second),
            burst: client.pace.map(|pace| pace.burst),
            note: client.note.clone(),
        }
    }
}

async fn list(State(admin): State<Arc<ClientsAdmin>>) -> Response {
    let set = admin.clients.set();
    let mut clients: Vec<_> = set.iter().map(|client| ClientView::from(&**client)).collect();
    clients.sort_by(|a, b| a.access_key.cmp(&b.access_key));
    Json(serde_json::json!({ "clients": clients })).into_response()
}

/// The one answer that has a secret.
#[derive(Serialize)]
struct NewSecret<'a> {
    access_key: &'a str,
    secret: &'a SecretText,
}

async fn add(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let client: RawClient =
        serde_json::from_slice(&body).map_err(|fault| AdminError::Body(fault.to_string()))?;
    if client.secret.is_some() || client.secret_file.is_some() {
        return Err(AdminError::Body("secrets are made here and are not given".to_owned()));
    }
    let access_key = client.access_key.clone();
    let secret =
        audited(&admin, name, "clients.add", access_key.clone(), |admin, _| admin.clients.add(client))
            .await?;
    let body = Json(NewSecret { access_key: &access_key, secret: &secret });
    Ok((StatusCode::CREATED, body).into_response())
}

async fn remove(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(access_key): Path<String>,
) -> Result<StatusCode, AdminError> {
    audited(&admin, name, "clients.remove", access_key, |admin, key| admin.clients.remove(key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    Path((access_key, change)): Path<(String, String)>,
) -> Result<Response, AdminError> {
    let (action, enabled) = match change.as_str() {
        "enable" => ("clients.enable", true),
        "disable" => ("clients.disable", false),
        "rotate" => return rotate(&admin, name, access_key).await,
        _ => return Err(AdminError::Change),
    };
    audited(&admin, name, action, access_key, move |admin, key| admin.clients.enable(key, enabled)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn rotate(
    admin: &Arc<ClientsAdmin>,
    name: AdminName,
    access_key: String,
) -> Result<Response, AdminError> {
    let subject = access_key.clone();
    let secret =
        audited(admin, name, "clients.rotate", subject, |admin, key| admin.clients.rotate(key)).await?;
    Ok(Json(NewSecret { access_key: &access_key, secret: &secret }).into_response())
}

/// Makes a change between its two notes in the audit log, and not at all where the first cannot be written. Files are
/// written and synced away from the threads that serve, and to the end also where the caller goes away.
async fn audited<T: Send + 'static>(
    admin: &Arc<ClientsAdmin>,
    name: AdminName,
    action: &'static str,
    subject: String,
    change: impl FnOnce(&ClientsAdmin, &str) -> Result<T, EditError> + Send + 'static,
) -> Result<T, AdminError> {
    let admin = Arc::clone(admin);
    let work = move || {
        let begun = admin.audit.begin(&name, action, &subject)?;
        let changed = change(&admin, &subject);
        begun.end(changed.is_ok());
        Ok(changed?)
    };
    tokio::task::spawn_blocking(work).await.expect("a change does not panic")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimedLink {
    to_user: String,
    file_id: Option<String>,
}

/// Makes a timed link as the other system would.
async fn timed_link(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let signer = admin.timed.as_ref().ok_or(AdminError::NoTimed)?;
    let asked: TimedLink =
        serde_json::from_slice(&body).map_err(|fault| AdminError::Body(fault.to_string()))?;
    let payload = TimedPayload { to_user: asked.to_user, file_id: asked.file_id };
    let link = format!("{}/api/get_file/{}", admin.public_url, signer.sign(&payload, SystemTime::now()));
    audited(&admin, name, "timed-links.make", payload.to_user, |_, _| Ok(())).await?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "link": link }))).into_response())
}

/// Why an operator's call fails.
#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error("the body is not as this call takes it: {0}")]
    Body(String),
    #[error("clients can be changed by enable, disable and rotate")]
    Change,
    #[error("the configuration has no [timed] section")]
    NoTimed,
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(_) | Self::Edit(EditError::Fault(_)) => StatusCode::BAD_REQUEST,
            Self::Change | Self::NoTimed | Self::Edit(EditError::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Edit(EditError::Exists(_) | EditError::SecretElsewhere(_)) => StatusCode::CONFLICT,
            Self::Audit(_) | Self::Edit(EditError::File(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        problem(status, &self.to_string())
    }
}
