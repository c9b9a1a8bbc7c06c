//! What every call of the API gets, whatever becomes of it: a request id, a log line, its place in the metrics.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use hyper::body::Incoming;
use sluice_shared::cluster::EdgeId;
use sluice_shared::serve::Answers;
use sluice_shared::shown_address::ShownAddress;
use sluice_shared::token::random_id;

use crate::answer::SentTo;
use crate::api::Api;
use crate::call::{Call, Caller, Received};
use crate::call_log::{CallLog, Line};
use crate::download;
use crate::error::{Reason, Refusals};
use crate::metrics::{self, CallMetrics, Endpoint};
use crate::router::{self, Shown};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 64;
/// The longest file id with every byte escaped, and the route before it.
const PATH_BYTES_LOGGED_MAX: usize = 3200;
/// `/favicon.ico` and its like, but of no token the part that makes it one.
const FOREIGN_PATH_BYTES_LOGGED_MAX: usize = 24;

/// The name of a call, in the caller's logs and ours.
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

/// The API, observed: what is refused inside is logged and counted like everything else.
pub(crate) struct Observed {
    api: Arc<Api>,
    router: Arc<Router>,
    metrics: CallMetrics,
    refusals: Arc<Refusals>,
    log: CallLog,
}

impl Observed {
    /// # Errors
    /// There is no thread to be had for the log.
    pub(crate) fn new(api: Arc<Api>, refusals: Arc<Refusals>, shown: ShownAddress) -> io::Result<Self> {
        let log = CallLog::start(metrics::log_lines_lost(), shown)?;
        let router = Arc::new(router::api(Arc::clone(&api)));
        Ok(Self { router, api, metrics: CallMetrics::new(), refusals, log })
    }

    /// What most calls by far want, by a short way: of a redirection the router is an eighth, and what is passed by
    /// extensions a twentieth.
    #[allow(clippy::manual_async_fn, reason = "an async function's future has room for its arguments twice")]
    fn redirect(self: Arc<Self>, call: Call) -> impl Future<Output = Response> + Send {
        async move {
            let redirected = match call.check_bodiless() {
                Ok(()) => download::to_edge(&self.api, &call).await,
                Err(error) => Err(error),
            };
            let (response, edge) = match redirected {
                Ok(redirection) => (redirection.response, Some(redirection.edge)),
                Err(error) => (error.into_response(), None),
            };
            self.observe(Endpoint::Download, &call.parts.method, &call.parts.uri, call.caller, response, edge)
        }
    }

    async fn route(self: Arc<Self>, mut request: Request<Incoming>, caller: Caller) -> Response {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        request.extensions_mut().insert(caller.clone());
        let mut response = self.router.answer(request, caller.client).await;
        let edge = response.extensions_mut().remove::<SentTo>().map(|sent_to| sent_to.0);
        self.observe(router::endpoint(uri.path()), &method, &uri, caller, response, edge)
    }

    /// Counts and logs a call that is answered, and names it in its answer.
    fn observe(
        &self,
        endpoint: Endpoint,
        method: &Method,
        uri: &Uri,
        caller: Caller,
        mut response: Response,
        edge: Option<EdgeId>,
    ) -> Response {
        let Caller { client, request_id, received } = caller;
        let took = received.instant.elapsed();
        self.metrics.answered(endpoint, response.status(), took);
        let reason = response.extensions().get::<Reason>().copied();
        if let Some(reason) = reason {
            self.metrics.refused(reason);
            self.refusals.count(reason);
        }
        self.log.write(&Line {
            at: received.time + took,
            method: method.as_str(),
            // Without its query: other programs' links, and our own, carry tokens there.
            path: loggable(router::shown(endpoint), uri.path()),
            status: response.status().as_u16(),
            request_id: request_id.as_str(),
            client,
            edge: edge.as_ref(),
            reason: reason.map(Reason::name),
            took,
        });
        response.headers_mut().insert(X_REQUEST_ID, request_id.0);
        response
    }
}

impl Answers for Observed {
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> impl Future<Output = Response> + Send + use<> {
        let received = Received::now();
        let caller = Caller { client, request_id: RequestId::of(request.headers()), received };
        let this = Arc::clone(self);
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_reading && router::endpoint(request.uri().path()) == Endpoint::Download {
            Either::Left(this.redirect(Call::of_head(request.into_parts().0, caller)))
        } else {
            Either::Right(Box::pin(this.route(request, caller)))
        }
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
