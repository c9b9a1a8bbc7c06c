//! The two most usual answers that carry a token: links in JSON, and a redirection. [`crate::metalink`] has the third.

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sluice_shared::cluster::EdgeId;

use crate::mint::Minted;
use crate::routing::{Candidates, Edge};

pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Everything but the unreserved characters of RFC 3986 §2.3: whatever a file is called, its name is one segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The answer of request-download. It holds tokens: no `Debug`.
#[derive(Serialize)]
pub(crate) struct Links<'a> {
    download_url: String,
    expires_at: String,
    edge: &'a str,
    alternates: Vec<String>,
}

impl<'a> Links<'a> {
    /// For a caller that is sent to `edge`, the first of the candidates.
    pub(crate) fn new(minted: &Minted, edge: &'a Edge, candidates: &Candidates<'_>) -> Self {
        let token = minted.token.as_str();
        let url = |edge: &Edge| format!("{}/download?token={token}", edge.record.url);
        Self {
            download_url: url(edge),
            expires_at: humantime::format_rfc3339(minted.expires_at).to_string(),
            edge: edge.record.id.as_str(),
            alternates: candidates.iter().skip(1).map(|candidate| url(candidate.edge())).collect(),
        }
    }

    pub(crate) fn into_response(self, edge: &Edge) -> Response {
        sent_to(Json(self).into_response(), edge)
    }
}

/// The edge that an answer sends its caller to; in the response's extensions, for the log.
#[derive(Debug, Clone)]
pub(crate) struct SentTo(pub(crate) EdgeId);

/// Not to be kept by caches, and logged with its edge.
pub(crate) fn sent_to(mut response: Response, edge: &Edge) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response.extensions_mut().insert(SentTo(edge.record.id.clone()));
    response
}

/// An answer that sends its caller to an edge: 302, or a list that begins with it.
pub(crate) struct Redirection {
    pub(crate) response: Response,
    pub(crate) edge: EdgeId,
}

impl IntoResponse for Redirection {
    fn into_response(mut self) -> Response {
        self.response.extensions_mut().insert(SentTo(self.edge));
        self.response
    }
}

/// 302 to an edge, under the name that the file is for people.
pub(crate) fn redirection(minted: &Minted, edge: &Edge, name: &str) -> Redirection {
    let parts = ["/download/", "?token=", minted.token.as_str(), edge.record.url.as_str()];
    // For all but names that are mostly escapes: grown once more, then.
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + name.len();
    let [path, query, token, url] = parts;
    let mut location = String::with_capacity(length);
    location.extend([url, path].into_iter().chain(utf8_percent_encode(name, SEGMENT)).chain([query, token]));
    let location = HeaderValue::from_maybe_shared(Bytes::from(location));
    let location = location.expect("URLs, escapes and tokens are visible ASCII");
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::LOCATION, location);
    // The token is in the URL, and would be in the Referer of whatever the file links to.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Redirection { response, edge: edge.record.id.clone() }
}
