//! The operators' API, `/admin/v1/…` on the admin port: JSON, and always with a bearer token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluice_shared::admin::problem;
use sluice_shared::bearer::AdminTokens;
use sluice_shared::file_id::FileId;
use sluice_shared::query::Query;

use crate::admin_clients::{self, ClientsAdmin};
use crate::admin_edges::{self, EdgesAdmin};
use crate::admin_keys::{self, KeysAdmin};
use crate::admin_revocations::{self, RevocationsAdmin};
use crate::admin_status::{self, StatusAdmin};
use crate::membership::Membership;
use crate::popular::Popular;
use crate::routing::hot::HotFiles;
use crate::status::StatusPage;

/// The name of the token that a call was made with; in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct AdminName(pub(crate) Arc<str>);

/// What the pages tell and change.
pub(crate) struct Pages {
    pub(crate) edges: EdgesAdmin,
    pub(crate) hot: Arc<HotFiles>,
    pub(crate) popular: Arc<Popular>,
    pub(crate) clients: ClientsAdmin,
    pub(crate) revocations: RevocationsAdmin,
    pub(crate) keys: KeysAdmin,
    pub(crate) status: StatusAdmin,
    /// Beside the API, for whoever reaches the port.
    pub(crate) page: StatusPage,
}

/// The pages; the admin router guards their `Host`.
pub(crate) fn pages(pages: Pages, tokens: AdminTokens) -> Router {
    let walk = (Arc::clone(&pages.edges.membership), Arc::clone(&pages.hot));
    let files = (Arc::clone(&pages.edges.membership), pages.hot, pages.popular);
    let hot_files = Router::new().route("/admin/v1/hot-files", get(hot_files)).with_state(files);
    Router::new()
        .route("/admin/v1/explain", get(explain))
        .with_state(walk)
        .merge(hot_files)
        .merge(admin_edges::routes(Arc::new(pages.edges)))
        .merge(admin_clients::routes(Arc::new(pages.clients)))
        .merge(admin_revocations::routes(Arc::new(pages.revocations)))
        .merge(admin_keys::routes(Arc::new(pages.keys)))
        .merge(admin_status::routes(Arc::new(pages.status)))
        .route_layer(middleware::from_fn_with_state(Arc::new(tokens), check_token))
        .merge(pages.page.routes())
}

async fn check_token(State(tokens): State<Arc<AdminTokens>>, mut request: Request, next: Next) -> Response {
    if let Some(name) = bearer(&tokens, request.headers()) {
        request.extensions_mut().insert(AdminName(name.into()));
        let mut response = next.run(request).await;
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        return response;
    }
    let mut response = problem(
        StatusCode::UNAUTHORIZED,
        "Send one of the tokens in admin_token_file as 'Authorization: Bearer TOKEN'",
    );
    let challenge = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// One field, one token: of two fields nobody can say which was meant.
fn bearer<'t>(tokens: &'t AdminTokens, headers: &HeaderMap) -> Option<&'t str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let only = fields.next().filter(|_| fields.next().is_none());
    tokens.authenticate(only?.to_str().ok()?)
}

/// `GET /admin/v1/explain?file_id&client`: why a file's request goes where it goes.
async fn explain(
    State((membership, hot)): State<(Arc<Membership>, Arc<HotFiles>)>,
    RawQuery(query): RawQuery,
) -> Response {
    let refusal = |detail: &str| problem(StatusCode::BAD_REQUEST, detail);
    let Ok(query) = Query::parse(query.as_deref().unwrap_or_default()) else {
        return refusal("the query is not as queries are: a parameter stands twice, or an escape is none");
    };
    let Some(file) = query.value("file_id") else { return refusal("file_id is missing") };
    let file = match FileId::parse(file) {
        Ok(file) => file,
        Err(fault) => return refusal(&format!("file_id is none: {fault}")),
    };
    let Some(Ok(client)) = query.value("client").map(str::parse) else {
        return refusal("client is missing, or no IP address");
    };
    Json(membership.snapshot().explain(&file, client, &hot, membership.now())).into_response()
}

/// Where nobody looked lately, names are noted for so long before there is an answer.
const NOTED_BEFORE_ANSWER: Duration = Duration::from_secs(2);
const HOT_FILES_TOLD: usize = 32;

/// `GET /admin/v1/hot-files`: the files that are asked for most, with the tags that the status page has of them.
async fn hot_files(
    State((membership, hot, popular)): State<(Arc<Membership>, Arc<HotFiles>, Arc<Popular>)>,
) -> Response {
    if !popular.look(membership.now()) {
        tokio::time::sleep(NOTED_BEFORE_ANSWER).await;
    }
    let files = popular.list(HOT_FILES_TOLD, &hot, membership.now());
    Json(serde_json::json!({ "files": files })).into_response()
}
