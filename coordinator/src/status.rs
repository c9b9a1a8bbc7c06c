//! The status page: a cluster on one screen, live, for whoever reaches the admin port. It is read-only and wants no
//! token, so nothing is on it by which a link could be made or used, no secret, and no file's name.
//!
//! One page, one style, one script and one picture are part of the program; the page asks nobody else for anything.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sluice_shared::admin::problem;

pub(crate) mod findings;
mod snapshot;
mod watchers;

use snapshot::Observatory;
pub(crate) use snapshot::Sources;
pub(crate) use watchers::WATCHERS_MAX;
use watchers::{NotNow, TICK, Watchers};

const PAGE: &str = include_str!("status/page.html");
const STYLE: &str = include_str!("status/page.css");
const SCRIPT: &str = include_str!("status/page.js");
const PICTURE: &str = include_str!("status/icon.svg");

/// Of every answer here. Nothing but what this port serves is loaded or asked, no script or style stands in a page, no text
/// becomes markup, nobody frames it.
const FIELDS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The page, and who watches it.
#[derive(Clone)]
pub(crate) struct StatusPage(Arc<Watchers<Observatory>>);

impl StatusPage {
    pub(crate) fn new(sources: Sources) -> Self {
        Self(Watchers::new(Observatory::new(sources), TICK))
    }

    /// Ends what is watched, and begins no more: the process ends.
    pub(crate) fn end(&self) {
        self.0.end();
    }

    /// The routes; the admin router guards their `Host`.
    pub(crate) fn routes(self) -> Router {
        let file = |media_type: &'static str, text: &'static str| {
            get(move || async move { ([(header::CONTENT_TYPE, media_type)], text) })
        };
        Router::new()
            .route("/", file("text/html; charset=utf-8", PAGE))
            .route("/status/page.css", file("text/css; charset=utf-8", STYLE))
            .route("/status/page.js", file("text/javascript; charset=utf-8", SCRIPT))
            .route("/status/icon.svg", file("image/svg+xml", PICTURE))
            .route("/status/events", get(events))
            .with_state(self)
            .route_layer(middleware::map_response(with_fields))
    }
}

async fn with_fields(mut response: Response) -> Response {
    response.headers_mut().extend(FIELDS);
    response
}

/// `GET /status/events`: what the page shows, each second, as server-sent events.
async fn events(State(StatusPage(watchers)): State<StatusPage>, request: Request) -> Response {
    if is_of_another_site(request.headers()) {
        return problem(StatusCode::FORBIDDEN, "Only the status page itself is told");
    }
    match watchers.watch() {
        Ok(events) => ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response(),
        Err(reason) => {
            let detail = match reason {
                NotNow::Full => format!("{WATCHERS_MAX} pages watch already; close one, or try again"),
                NotNow::Over => "This coordinator is about to stop".to_owned(),
            };
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

/// Whether a page of somebody else's asks, by what browsers say of it (Fetch Metadata): it could read nothing, and would
/// take a place.
fn is_of_another_site(fields: &HeaderMap) -> bool {
    fields.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules that a policy cannot say by itself: no place where a text could become markup, nothing from elsewhere.
    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_texts() {
        for (name, text) in [("page", PAGE), ("style", STYLE), ("script", SCRIPT), ("picture", PICTURE)] {
            for elsewhere in
                ["https://", "@import", "url(", "eval(", "innerHTML", "outerHTML", "insertAdjacent"]
            {
                assert!(!text.contains(elsewhere), "{elsewhere} in the {name}");
            }
            let others = text
                .match_indices("http://")
                .filter(|(at, _)| !text[*at..].starts_with("http://www.w3.org/2000/svg"));
            assert_eq!(others.count(), 0, "an address in the {name}");
        }
        for inline in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
            assert!(!PAGE.contains(inline), "{inline} in the page");
        }
    }

    #[test]
    fn pages_of_others_are_told_nothing() {
        let of = |site: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            is_of_another_site(&fields)
        };
        assert!(of("cross-site") && of("same-site"));
        assert!(!of("same-origin") && !of("none"));
        assert!(!is_of_another_site(&HeaderMap::new()), "curl, and older browsers");
    }
}
