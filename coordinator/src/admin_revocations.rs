//! `/admin/v1/revocations` and `/admin/v1/blocks`: what is not given any more, as operators say it. In force when the
//! answer is sent, and written down.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_shared::blocking;
use sluice_shared::query::Query;
use sluice_shared::revocations::{BarError, Instant, Kind, Mark, RevocationBook, Target};

use crate::admin_api::AdminName;
use crate::admin_error::AdminError;
use crate::audit::Audit;

/// 9999-12-31: until somebody lifts it.
pub(crate) const FOR_GOOD: Instant = Instant(253_402_214_400_000);

/// What the handlers work with.
pub(crate) struct RevocationsAdmin {
    pub(crate) book: Arc<RevocationBook>,
    pub(crate) audit: Arc<Audit>,
}

pub(crate) fn routes(admin: Arc<RevocationsAdmin>) -> Router {
    Router::new()
        .route("/admin/v1/revocations", get(revocations).post(revoke).delete(lift_revocation))
        .route("/admin/v1/blocks", get(blocks).post(block).delete(lift_block))
        .with_state(admin)
}

/// A mark as operators see it.
#[derive(Serialize)]
struct View {
    what: &'static str,
    value: String,
    #[serde(flatten)]
    mark: Mark,
    /// Not lifted, and not over.
    in_force: bool,
}

impl View {
    fn of(target: &Target, mark: Mark) -> Self {
        let in_force = mark.is_in_force(Instant::now());
        Self { what: target.kind().name(), value: target.value().to_owned(), mark, in_force }
    }
}

/// All marks of some kinds, in order; those that are lifted too, for they are known.
fn views(book: &RevocationBook, is_wanted: impl Fn(Kind) -> bool) -> Vec<View> {
    let known = book.load();
    let mut marks: Vec<_> = known.iter().filter(|(target, _)| is_wanted(target.kind())).collect();
    marks.sort_by(|a, b| a.0.cmp(&b.0));
    marks.iter().map(|(target, mark)| View::of(target, *mark)).collect()
}

async fn revocations(State(admin): State<Arc<RevocationsAdmin>>) -> Response {
    let revocations = views(&admin.book, |kind| kind != Kind::Prefix);
    Json(serde_json::json!({ "revocations": revocations })).into_response()
}

async fn blocks(State(admin): State<Arc<RevocationsAdmin>>) -> Response {
    let blocks = views(&admin.book, |kind| kind == Kind::Prefix);
    Json(serde_json::json!({ "blocks": blocks })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRevocation {
    what: String,
    value: String,
    until: Option<Instant>,
    #[serde(default)]
    cut: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBlock {
    prefix: String,
    until: Option<Instant>,
    #[serde(default)]
    cut: bool,
}

fn parse<T: for<'b> Deserialize<'b>>(body: &[u8]) -> Result<T, AdminError> {
    serde_json::from_slice(body).map_err(|fault| AdminError::Body(fault.to_string()))
}

async fn revoke(
    State(admin): State<Arc<RevocationsAdmin>>,
    Extension(name): Extension<AdminName>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let new: NewRevocation = parse(&body)?;
    set(&admin, name, Target::new(kind(&new.what)?, &new.value)?, new.until, new.cut).await
}

async fn block(
    State(admin): State<Arc<RevocationsAdmin>>,
    Extension(name): Extension<AdminName>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let new: NewBlock = parse(&body)?;
    set(&admin, name, Target::new(Kind::Prefix, &new.prefix)?, new.until, new.cut).await
}

async fn lift_revocation(
    State(admin): State<Arc<RevocationsAdmin>>,
    Extension(name): Extension<AdminName>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, AdminError> {
    let target = named(query, |query| Ok((kind(required(query, "what")?)?, required(query, "value")?)))?;
    lift(&admin, name, target).await
}

async fn lift_block(
    State(admin): State<Arc<RevocationsAdmin>>,
    Extension(name): Extension<AdminName>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, AdminError> {
    lift(&admin, name, named(query, |query| Ok((Kind::Prefix, required(query, "prefix")?)))?).await
}

/// What a query is about, by how it says so.
fn named(
    query: Option<String>,
    read: impl for<'q> FnOnce(&'q Query<'_>) -> Result<(Kind, &'q str), AdminError>,
) -> Result<Target, AdminError> {
    let query = query.unwrap_or_default();
    let query = Query::parse(&query)?;
    let (kind, value) = read(&query)?;
    Ok(Target::new(kind, value)?)
}

fn required<'q>(query: &'q Query<'_>, name: &'static str) -> Result<&'q str, AdminError> {
    query.value(name).ok_or(AdminError::MissingParameter(name))
}

/// Prefixes are blocked, by another call.
fn kind(name: &str) -> Result<Kind, AdminError> {
    Kind::parse(name).filter(|kind| *kind != Kind::Prefix).ok_or(AdminError::What)
}

async fn set(
    admin: &Arc<RevocationsAdmin>,
    name: AdminName,
    target: Target,
    until: Option<Instant>,
    cut: bool,
) -> Result<Response, AdminError> {
    let until = until.unwrap_or(FOR_GOOD);
    if until <= Instant::now() {
        return Err(AdminError::Until);
    }
    let change = Box::pin(bar(Arc::clone(&admin.book), target.clone(), until, cut));
    let mark = admin.audit.around(name, "revocations.set", shown(&target), change).await?;
    Ok((StatusCode::CREATED, Json(View::of(&target, mark))).into_response())
}

async fn lift(
    admin: &Arc<RevocationsAdmin>,
    name: AdminName,
    target: Target,
) -> Result<StatusCode, AdminError> {
    let now = Instant::now();
    // Looked at before anything is noted; the book looks again.
    if !admin.book.load().mark_on(&target).is_some_and(|known| known.is_in_force(now)) {
        return Err(AdminError::NotBarred);
    }
    let subject = shown(&target);
    let change = Box::pin(put(Arc::clone(&admin.book), move |book| book.lift(&target)));
    if admin.audit.around(name, "revocations.lift", subject, change).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(AdminError::NotBarred)
    }
}

/// Bars a target, and puts that on disk; gives the mark that stands.
pub(crate) async fn bar(
    book: Arc<RevocationBook>,
    target: Target,
    until: Instant,
    cut: bool,
) -> Result<Mark, AdminError> {
    put(book, move |book| book.bar(&target, until, cut)).await
}

async fn put<T: Send + 'static>(
    book: Arc<RevocationBook>,
    change: impl FnOnce(&RevocationBook) -> Result<T, BarError> + Send + 'static,
) -> Result<T, AdminError> {
    let put = move || -> Result<T, AdminError> {
        let changed = change(&book)?;
        book.save()?;
        Ok(changed)
    };
    blocking::run(put).await
}

fn shown(target: &Target) -> String {
    format!("{} {}", target.kind().name(), target.value())
}
