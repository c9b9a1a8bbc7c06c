//! Every route of the API, and who may take it, on one screen.
//!
//! | route | who may |
//! | --- | --- |
//! | request-download, links | callers that a scheme of `auth.schemes` authenticates by their headers |
//! | `/download/` | the same, and anybody under `public_prefixes` |
//! | `/d/`, `/renew`, `/api/get_file/` | whoever has the ticket, token or timed link |
//! | `/api/secure/` | callers that sealed their call, where `auth.schemes` has "sealed" |
//! | `/security-info` | anybody |

use std::sync::Arc;

use axum::routing::{delete, get, post};
use axum::{Router, middleware};

use crate::api::Api;
use crate::error::ApiError;
use crate::links::LINK_ID_BYTES;
use crate::metrics::{CallMetrics, Endpoint};
use crate::{download, links, observe, renew, sealed, timed};

const REQUEST_DOWNLOAD: &str = "/api/request-download";
const DOWNLOAD: &str = "/download/{*file_id}";
/// The router's wildcard takes one byte at least; here the file id is empty, which is an error like another.
const DOWNLOAD_NOTHING: &str = "/download/";
const LINKS: &str = "/api/links";
const LINK: &str = "/api/links/{id}";
const TICKET: &str = "/d/{ticket}";
const RENEW: &str = "/renew";
const TIMED: &str = "/api/get_file/{token}";
const SEALED: &str = "/api/secure/request-download";
const SECURITY_INFO: &str = "/security-info";

pub(crate) fn api(api: Arc<Api>) -> Router {
    // `get` answers HEAD too, by the GET handler without its body.
    let mut router = Router::new()
        .route(REQUEST_DOWNLOAD, get(download::request_download))
        .route(DOWNLOAD, get(download::redirect))
        .route(DOWNLOAD_NOTHING, get(download::redirect))
        .route(LINKS, post(links::create))
        .route(LINK, delete(links::revoke))
        .route(TICKET, get(links::redeem))
        .route(RENEW, get(renew::renew));
    if api.timed.is_some() {
        router = router.route(TIMED, get(timed::redirect));
    }
    if api.sealed.is_some() {
        router = router
            .route(SEALED, post(sealed::request_download))
            .route(SECURITY_INFO, get(sealed::security_info));
    }
    router
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
        _ => Endpoint::Unknown,
    }
}

/// How much of a call's path may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Whole,
    /// So many bytes.
    Start(usize),
    /// It, and not all of a long one.
    FirstSegment,
}

/// The same by the matched route; a path may itself be worth a file to whoever reads it.
pub(crate) fn shown(matched: Option<&str>) -> Shown {
    match matched {
        None | Some(TICKET | TIMED) => Shown::FirstSegment,
        // As far as an id goes: some take the link itself for it.
        Some(LINK) => Shown::Start("/api/links/".len() + LINK_ID_BYTES),
        Some(_) => Shown::Whole,
    }
}
