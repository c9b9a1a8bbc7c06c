//! What every call of the API gets, whatever becomes of it: a request id, a log line, its place in the metrics.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use hyper::body::Incoming;
use sluice_shared::cluster::EdgeId;
use sluice_shared::serve::{Answers, ClientAddress};
use sluice_shared::token::random_id;

use crate::api::Api;
use crate::call_log::{CallLog, Line};
use crate::download;
use crate::metrics::{self, CallMetrics, Endpoint};
use crate::router::{self, Shown};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 64;
/// The longest file id with every byte escaped, and the route before it.
const PATH_BYTES_LOGGED_MAX: usize = 3200;
/// `/favicon.ico` and its like, but of no token the part that makes it one.
const FOREIGN_PATH_BYTES_LOGGED_MAX: usize = 24;

/// The name of a call, in the caller's logs and ours; in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id where there is exactly one, of `A-Z a-z 0-9 . _ -`; else a new one.
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let only = values.next().filter(|_| values.next().is_none());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let kept = only.filter(|value| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().copied().all(plain)
        });
        Self(kept.cloned().unwrap_or_else(|| {
            HeaderValue::from_maybe_shared(Bytes::from(random_id())).expect("an id is plain ASCII")
        }))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("an id is plain ASCII")
    }
}

/// The edge that an answer sends its caller to; in the response's extensions, for the log.
#[derive(Debug, Clone)]
pub(crate) struct SentTo(pub(crate) EdgeId);

/// The API, observed: what is refused inside is logged and counted like everything else.
pub(crate) struct Observed {
    api: Arc<Api>,
    router: Router,
    metrics: CallMetrics,
    log: CallLog,
}

impl Observed {
    /// # Errors
    /// There is no thread to be had for the log.
    pub(crate) fn new(api: Arc<Api>) -> io::Result<Self> {
        let log = CallLog::start(metrics::log_lines_lost())?;
        Ok(Self { router: router::api(Arc::clone(&api)), api, metrics: CallMetrics::new(), log })
    }

    /// Most calls by far are redirections; what the router costs is an eighth of one.
    async fn run(&self, endpoint: Endpoint, request: Request<Incoming>) -> Response {
        if endpoint == Endpoint::Download && matches!(*request.method(), Method::GET | Method::HEAD) {
            let request = request.map(|_| Body::empty());
            return download::redirect(State(Arc::clone(&self.api)), request).await.into_response();
        }
        self.router.answer(request).await
    }
}

impl Answers for Observed {
    async fn answer(&self, mut request: Request<Incoming>) -> Response {
        let begun = Instant::now();
        let request_id = RequestId::of(request.headers());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let endpoint = router::endpoint(uri.path());
        let client = request.extensions().get::<ClientAddress>().map(|client| client.0);
        request.extensions_mut().insert(request_id.clone());

        let mut response = self.run(endpoint, request).await;

        response.headers_mut().insert(X_REQUEST_ID, request_id.0.clone());
        let took = begun.elapsed();
        self.metrics.answered(endpoint, response.status(), took);
        let sent_to = response.extensions().get::<SentTo>();
        self.log.write(&Line {
            method: method.as_str(),
            // Without its query: other programs' links, and our own, carry tokens there.
            path: loggable(router::shown(endpoint), uri.path()),
            status: response.status().as_u16(),
            request_id: request_id.as_str(),
            client,
            edge: sent_to.map(|edge| edge.0.as_str()),
            took,
        });
        response
    }
}

/// The part of a path that may be logged. Of one that is none of ours, or carries a secret, the first segment only:
/// older systems' links carry their tokens in the second or third, as tickets and timed links do.
fn loggable(shown: Shown, path: &str) -> &str {
    let end = match shown {
        Shown::Whole => path.len().min(PATH_BYTES_LOGGED_MAX),
        Shown::Start(bytes) => path.len().min(bytes),
        Shown::FirstSegment => {
            let second = path.get(1..).and_then(|rest| rest.find('/'));
            second.map_or(path.len(), |at| at + 1).min(FOREIGN_PATH_BYTES_LOGGED_MAX)
        }
    };
    // Not at a character's boundary: then it is no path that anybody means.
    path.get(..end).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn only_a_plain_single_request_id_is_kept() {
        let longest = "x".repeat(64);
        for kept in ["a", "A-z_0.9", &longest] {
            assert_eq!(id_of(&[kept]), kept);
        }
        let too_long = "x".repeat(65);
        let replaced: [&[&str]; 7] = [&[], &[""], &["a b"], &["é"], &["a\"b"], &[&too_long], &["a", "a"]];
        for values in replaced {
            let id = id_of(values);
            assert_eq!(id.len(), 22, "{values:?}");
            assert_ne!(id, id_of(values), "{values:?}");
        }
    }

    #[test]
    fn paths_of_others_are_cut_in_the_log() {
        let ticket = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwidHlwIjoidGlja2V0In0";
        let table = [
            (Shown::Whole, "/download/a/b.bin", "/download/a/b.bin"),
            (Shown::FirstSegment, "/api/get_file/eyJ0", "/api"),
            (Shown::FirstSegment, "/favicon.ico", "/favicon.ico"),
            (Shown::FirstSegment, "/", "/"),
            (Shown::FirstSegment, "*", "*"),
            (Shown::FirstSegment, "", ""),
            (Shown::FirstSegment, "//x", "/"),
            (Shown::FirstSegment, &format!("/{ticket}"), "/eyJhbGciOiJkaXIiLCJlbmM"),
            (
                router::shown(Endpoint::Links),
                "/api/links/u0123456789012345678901",
                "/api/links/u0123456789012345678901",
            ),
            (
                router::shown(Endpoint::Links),
                &format!("/api/links/{ticket}"),
                "/api/links/eyJhbGciOiJkaXIiLCJlbmM",
            ),
        ];
        for (shown, path, expected) in table {
            assert_eq!(loggable(shown, path), expected, "{path}");
        }
        let long = format!("/download/{}", "e".repeat(9000));
        assert_eq!(loggable(Shown::Whole, &long).len(), PATH_BYTES_LOGGED_MAX);
        assert_eq!(loggable(Shown::FirstSegment, &long[9..]).len(), FOREIGN_PATH_BYTES_LOGGED_MAX);
    }
}
