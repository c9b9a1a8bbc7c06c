//! The two answers that carry a token: links in JSON, and a redirection.

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::mint::Minted;
use crate::observe::SentTo;
use crate::routing::Edge;

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
    /// `edges` are the file's, best first; not empty.
    pub(crate) fn new(minted: &Minted, edges: &[&'a Edge]) -> Self {
        let token = minted.token.as_str();
        let url = |edge: &&Edge| format!("{}/download?token={token}", edge.record.url);
        Self {
            download_url: url(&edges[0]),
            expires_at: humantime::format_rfc3339(minted.expires_at).to_string(),
            edge: edges[0].record.id.as_str(),
            alternates: edges.iter().skip(1).map(url).collect(),
        }
    }

    pub(crate) fn into_response(self, edge: &Edge) -> Response {
        sent_to(Json(self).into_response(), edge)
    }
}

/// Not to be kept by caches, and logged with its edge.
pub(crate) fn sent_to(mut response: Response, edge: &Edge) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(SentTo(edge.record.id.clone()));
    response
}

/// 302 to an edge, under the name that the file is for people.
pub(crate) fn redirection(minted: &Minted, edge: &Edge, name: &str) -> Response {
    let parts = ["/download/", "?token=", minted.token.as_str(), edge.record.url.as_str()];
    // For all but names that are mostly escapes: grown once more, then.
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + name.len();
    let [path, query, token, url] = parts;
    let mut location = String::with_capacity(length);
    location.extend([url, path].into_iter().chain(utf8_percent_encode(name, SEGMENT)).chain([query, token]));
    let location = HeaderValue::from_maybe_shared(Bytes::from(location));
    let location = location.expect("URLs, escapes and tokens are visible ASCII");
    let mut response = sent_to(StatusCode::FOUND.into_response(), edge);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    // The token is in the URL, and would be in the Referer of whatever the file links to.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
