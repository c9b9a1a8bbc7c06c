//! Every route of the API, on one screen.

use std::sync::Arc;

use axum::routing::get;
use axum::{Router, middleware};

use crate::download::{self, Api};
use crate::error::ApiError;
use crate::metrics::{CallMetrics, Endpoint};
use crate::observe;

const REQUEST_DOWNLOAD: &str = "/api/request-download";
const DOWNLOAD: &str = "/download/{*file_id}";
/// The router's wildcard takes one byte at least; here the file id is empty, which is an error like another.
const DOWNLOAD_NOTHING: &str = "/download/";

pub(crate) fn api(api: Arc<Api>) -> Router {
    // `get` answers HEAD too, by the GET handler without its body.
    Router::new()
        .route(REQUEST_DOWNLOAD, get(download::request_download))
        .route(DOWNLOAD, get(download::redirect))
        .route(DOWNLOAD_NOTHING, get(download::redirect))
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
        _ => Endpoint::Unknown,
    }
}
