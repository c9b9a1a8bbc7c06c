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

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};

use crate::api::Api;
use crate::error::ApiError;
use crate::links::LINK_ID_BYTES;
use crate::metrics::Endpoint;
use crate::{download, links, openapi, renew, sealed, timed};

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
        DOCUMENT => Endpoint::Document,
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
            ("/openapi.json", Endpoint::Document),
            ("/", Endpoint::Unknown),
            ("*", Endpoint::Unknown),
        ];
        for (path, expected) in table {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
