//! `/admin/v1/clients` and `/admin/v1/timed-links`: who may call, as operators change it. Every change is in the audit
//! log before it is made; a secret is in the one answer that makes it.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_shared::cluster::SkippedRecord;
use sluice_shared::file_id::Prefix;
use sluice_shared::query::Query;
use sluice_shared::secret::SecretText;
use sluice_shared::token::timed::{TimedPayload, TimedSigner};
use sluice_shared::units::BaseUrl;

use crate::admin_api::AdminName;
use crate::admin_error::AdminError;
use crate::audit::Audit;
use crate::clients::{Client, ClientScheme, Clients, EditError, RawClient};

/// What the handlers work with.
pub(crate) struct ClientsAdmin {
    pub(crate) clients: Arc<Clients>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) timed: Option<TimedSigner>,
    pub(crate) public_url: BaseUrl,
}

pub(crate) fn routes(admin: Arc<ClientsAdmin>) -> Router {
    Router::new()
        .route("/admin/v1/clients", get(list).post(add))
        .route("/admin/v1/clients/{access_key}", delete(remove).put(import))
        .route("/admin/v1/client-seals", post(seal_anew))
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

#[derive(Serialize)]
struct ClientsView {
    clients: Vec<ClientView>,
    /// Records in etcd that are not used, and why.
    skipped: Vec<SkippedRecord>,
    /// Since etcd confirmed them last; null for a file, and before the first time.
    stale_seconds: Option<f64>,
}

async fn list(State(admin): State<Arc<ClientsAdmin>>) -> Result<Response, AdminError> {
    if let Some(reason) = admin.clients.missing() {
        return Err(AdminError::NotKnown(reason));
    }
    let set = admin.clients.set();
    let mut clients: Vec<_> = set.iter().map(|client| ClientView::from(&**client)).collect();
    clients.sort_by(|a, b| a.access_key.cmp(&b.access_key));
    let staleness = admin.clients.freshness().and_then(|freshness| freshness.staleness);
    let stale_seconds = staleness.map(|stale| stale.as_millis() as f64 / 1e3);
    Ok(Json(ClientsView { clients, skipped: admin.clients.skipped(), stale_seconds }).into_response())
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
    let add = |clients: Arc<Clients>, _| async move { clients.add(client).await };
    let secret = audited(&admin, name, "clients.add", access_key.clone(), add).await?;
    let body = Json(NewSecret { access_key: &access_key, secret: &secret });
    Ok((StatusCode::CREATED, body).into_response())
}

/// So many are sealed anew by one call, which has to be answered in time.
const SEALED_AT_ONCE: usize = 500;

#[derive(Serialize)]
struct Imported<'a> {
    access_key: &'a str,
    /// It took the place of one.
    replaced: bool,
}

/// `PUT /admin/v1/clients/{access_key}`: a client as in `clients.toml`, with the secret that it has. One that is there is
/// kept (409), unless `?replace=true`.
async fn import(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(access_key): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response, AdminError> {
    let query = query.unwrap_or_default();
    let replace = match Query::parse(&query)?.value("replace") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(AdminError::Replace),
    };
    // Not the parser's own words: they may repeat a secret.
    let mut client: RawClient =
        serde_json::from_slice(&body).map_err(|_| AdminError::Body("it is no client".to_owned()))?;
    let secret = client.secret.take().filter(|_| client.secret_file.is_none());
    let secret = secret.ok_or_else(|| AdminError::Body("it has no secret".to_owned()))?;
    if client.access_key != access_key {
        return Err(AdminError::Body("it is of another access_key than the path".to_owned()));
    }
    let import = move |clients: Arc<Clients>, _| async move { clients.import(client, secret, replace).await };
    let replaced = audited(&admin, name, "clients.import", access_key.clone(), import).await?;
    let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(Imported { access_key: &access_key, replaced })).into_response())
}

/// `POST /admin/v1/client-seals`: seals clients in etcd with the first `coordinator_key`.
async fn seal_anew(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
) -> Result<Response, AdminError> {
    let seal = |clients: Arc<Clients>, _| async move { clients.seal_anew(SEALED_AT_ONCE).await };
    let came = audited(&admin, name, "clients.reseal", String::new(), seal).await?;
    Ok(Json(came).into_response())
}

async fn remove(
    State(admin): State<Arc<ClientsAdmin>>,
    Extension(name): Extension<AdminName>,
    Path(access_key): Path<String>,
) -> Result<StatusCode, AdminError> {
    let remove = |clients: Arc<Clients>, key| async move { clients.remove(key).await };
    audited(&admin, name, "clients.remove", access_key, remove).await?;
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
    let enable = move |clients: Arc<Clients>, key| async move { clients.enable(key, enabled).await };
    audited(&admin, name, action, access_key, enable).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn rotate(
    admin: &Arc<ClientsAdmin>,
    name: AdminName,
    access_key: String,
) -> Result<Response, AdminError> {
    let rotate = |clients: Arc<Clients>, key| async move { clients.rotate(key).await };
    let secret = audited(admin, name, "clients.rotate", access_key.clone(), rotate).await?;
    Ok(Json(NewSecret { access_key: &access_key, secret: &secret }).into_response())
}

/// A change of a client, noted in the audit log.
async fn audited<T, F>(
    admin: &ClientsAdmin,
    name: AdminName,
    action: &'static str,
    subject: String,
    change: impl FnOnce(Arc<Clients>, String) -> F,
) -> Result<T, AdminError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, EditError>> + Send + 'static,
{
    let change = change(Arc::clone(&admin.clients), subject.clone());
    admin.audit.around(name, action, subject, Box::pin(async { Ok(change.await?) })).await
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
    audited(&admin, name, "timed-links.make", payload.to_user, |_, _| async { Ok(()) }).await?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "link": link }))).into_response())
}
