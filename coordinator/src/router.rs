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

use axum::Router;
use axum::routing::{delete, get, post};

use crate::api::Api;
use crate::error::ApiError;
use crate::links::LINK_ID_BYTES;
use crate::metrics::Endpoint;
use crate::{download, links, renew, sealed, timed};

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
}

/// What a path is counted under, whatever the method: as the routes above have it.
pub(crate) fn endpoint(path: &str) -> Endpoint {
    // First what is asked for most.
    if path.starts_with(DOWNLOAD_NOTHING) {
        return Endpoint::Download;
    }
    match path {
        REQUEST_DOWNLOAD => Endpoint::RequestDownload,
        LINKS => Endpoint::Links,
        RENEW => Endpoint::Renew,
        SEALED | SECURITY_INFO => Endpoint::Sealed,
        path if is_one_below(path, LINK) => Endpoint::Links,
        path if is_one_below(path, TICKET) => Endpoint::Redeem,
        path if is_one_below(path, TIMED) => Endpoint::Timed,
        _ => Endpoint::Unknown,
    }
}

/// Whether a path is a route's, which ends with a parameter.
fn is_one_below(path: &str, route: &str) -> bool {
    let fixed = route.split('{').next().unwrap_or(route);
    path.strip_prefix(fixed).is_some_and(|segment| !segment.is_empty() && !segment.contains('/'))
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

/// The same by what the path is; it may itself be worth a file to whoever reads it.
pub(crate) fn shown(endpoint: Endpoint) -> Shown {
    match endpoint {
        Endpoint::Redeem | Endpoint::Timed | Endpoint::Unknown => Shown::FirstSegment,
        // As far as an id goes: some take the link itself for it.
        Endpoint::Links => Shown::Start("/api/links/".len() + LINK_ID_BYTES),
        _ => Shown::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_under_their_routes() {
        let table = [
            ("/download/", Endpoint::Download),
            ("/download/a/b", Endpoint::Download),
            ("/downloads", Endpoint::Unknown),
            ("/api/request-download", Endpoint::RequestDownload),
            ("/api/request-download/", Endpoint::Unknown),
            ("/api/links", Endpoint::Links),
            ("/api/links/x", Endpoint::Links),
            ("/api/links/x/y", Endpoint::Unknown),
            ("/api/links/", Endpoint::Unknown),
            ("/d/x", Endpoint::Redeem),
            ("/d/x/y", Endpoint::Unknown),
            ("/renew", Endpoint::Renew),
            ("/api/get_file/x", Endpoint::Timed),
            ("/api/secure/request-download", Endpoint::Sealed),
            ("/security-info", Endpoint::Sealed),
            ("/", Endpoint::Unknown),
            ("*", Endpoint::Unknown),
        ];
        for (path, expected) in table {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
