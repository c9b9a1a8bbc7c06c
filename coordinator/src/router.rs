//! Every route of the API, and who may take it, on one screen.
//!
//! | route | who may |
//! | --- | --- |
//! | request-download, links | callers that a scheme of `auth.schemes` authenticates by their headers |
//! | `/download/` | the same, and anybody under `public_prefixes` |
//! | `/d/`, `/renew`, `/api/get_file/` | whoever has the ticket, token or timed link |
//! | `/api/secure/` | callers that sealed their call, where `auth.schemes` has "sealed" |
//! | `/security-info`, `/openapi.json` | anybody |

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};
use axum::{Router, middleware};

use crate::api::Api;
use crate::error::ApiError;
use crate::metrics::{CallMetrics, Endpoint};
use crate::{download, links, observe, openapi, renew, sealed, timed};

pub(crate) const REQUEST_DOWNLOAD: &str = "/api/request-download";
pub(crate) const DOWNLOAD: &str = "/download/{*file_id}";
/// The router's wildcard takes one byte at least; here the file id is empty, which is an error like another.
pub(crate) const DOWNLOAD_NOTHING: &str = "/download/";
pub(crate) const LINKS: &str = "/api/links";
pub(crate) const LINK: &str = "/api/links/{id}";
pub(crate) const TICKET: &str = "/d/{ticket}";
pub(crate) const RENEW: &str = "/renew";
pub(crate) const TIMED: &str = "/api/get_file/{token}";
pub(crate) const SEALED: &str = "/api/secure/request-download";
pub(crate) const SECURITY_INFO: &str = "/security-info";
pub(crate) const DOCUMENT: &str = "/openapi.json";

/// Paths, and what answers there. `get` answers HEAD too, by the GET handler without its body.
pub(crate) fn routes(has_timed: bool, has_sealed: bool) -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    let mut routes = vec![
        (REQUEST_DOWNLOAD, get(download::request_download)),
        (DOWNLOAD, get(download::redirect)),
        (DOWNLOAD_NOTHING, get(download::redirect)),
        (LINKS, post(links::create)),
        (LINK, delete(links::revoke)),
        (TICKET, get(links::redeem)),
        (RENEW, get(renew::renew)),
        (DOCUMENT, get(openapi::document)),
    ];
    if has_timed {
        routes.push((TIMED, get(timed::redirect)));
    }
    if has_sealed {
        routes.push((SEALED, post(sealed::request_download)));
        routes.push((SECURITY_INFO, get(sealed::security_info)));
    }
    routes
}

pub(crate) fn api(api: Arc<Api>) -> Router {
    let routes = routes(api.timed.is_some(), api.sealed.is_some());
    let add = |router: Router<Arc<Api>>, (path, answered)| router.route(path, answered);
    routes
        .into_iter()
        .fold(Router::new(), add)
        .with_state(api)
        .method_not_allowed_fallback(async || ApiError::Method)
        .fallback(async || ApiError::UnknownPath)
        .layer(middleware::from_fn_with_state(Arc::new(CallMetrics::new()), observe::observe))
}

/// What a matched route is counted under.
pub(crate) fn endpoint(matched: Option<&str>) -> Endpoint {
    match matched {
        Some(REQUEST_DOWNLOAD) => Endpoint::RequestDownload,
        Some(DOWNLOAD | DOWNLOAD_NOTHING) => Endpoint::Download,
        Some(LINKS | LINK) => Endpoint::Links,
        Some(TICKET) => Endpoint::Redeem,
        Some(RENEW) => Endpoint::Renew,
        Some(TIMED) => Endpoint::Timed,
        Some(SEALED | SECURITY_INFO) => Endpoint::Sealed,
        Some(DOCUMENT) => Endpoint::Document,
        _ => Endpoint::Unknown,
    }
}

/// Whether a matched route's path itself is worth a file to whoever reads it.
pub(crate) fn is_secret(matched: Option<&str>) -> bool {
    matches!(matched, Some(TICKET | TIMED))
}
