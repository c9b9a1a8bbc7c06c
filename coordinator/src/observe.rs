//! What every call of the API gets, whatever becomes of it: a request id, a log line, its place in the metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_shared::cluster::EdgeId;
use sluice_shared::serve::ClientAddress;
use sluice_shared::token::random_id;

use crate::metrics::CallMetrics;
use crate::router::{self, Shown};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 64;
/// The longest file id with every byte escaped, and the route before it.
const PATH_BYTES_LOGGED_MAX: usize = 3200;
/// `/favicon.ico` and its like, but of no token the part that makes it one.
const FOREIGN_PATH_BYTES_LOGGED_MAX: usize = 24;

/// The name of a call, in the caller's logs and ours; in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's id where there is exactly one, of `A-Z a-z 0-9 . _ -`; else a new one.
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let only = values.next().filter(|_| values.next().is_none());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let id = only
            .and_then(|value| value.to_str().ok())
            .filter(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain));
        Self(id.map_or_else(|| random_id().into(), Into::into))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The edge that an answer sends its caller to; in the response's extensions, for the log.
#[derive(Debug, Clone)]
pub(crate) struct SentTo(pub(crate) EdgeId);

/// Runs a call. The outermost layer: what is refused inside is logged and counted here like everything else.
pub(crate) async fn observe(
    State(metrics): State<Arc<CallMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let request_id = RequestId::of(request.headers());
    let matched = request.extensions().get::<MatchedPath>();
    let matched = matched.map(MatchedPath::as_str);
    let endpoint = router::endpoint(matched);
    let method = request.method().clone();
    // Without its query: other programs' links, and our own, carry tokens there.
    let path = loggable(router::shown(matched), request.uri().path()).to_owned();
    let client = request.extensions().get::<ClientAddress>().map(|client| tracing::field::display(client.0));
    request.extensions_mut().insert(request_id.clone());

    let mut response = next.run(request).await;

    let id = HeaderValue::from_str(request_id.as_str()).expect("a request id is plain ASCII");
    response.headers_mut().insert(X_REQUEST_ID, id);
    let took = begun.elapsed();
    metrics.answered(endpoint, response.status(), took);
    let sent_to = response.extensions().get::<SentTo>();
    tracing::info!(
        method = method.as_str(),
        path,
        status = response.status().as_u16(),
        request_id = request_id.as_str(),
        client,
        edge = sent_to.map(|edge| edge.0.as_str()),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "call"
    );
    response
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
                router::shown(Some("/api/links/{id}")),
                "/api/links/u0123456789012345678901",
                "/api/links/u0123456789012345678901",
            ),
            (
                router::shown(Some("/api/links/{id}")),
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
