//! The API told to programs: an OpenAPI 3.1 document of what this configuration offers, made once at the start.
//!
//! It is built from what answers are made from: the router's paths, the errors' own statuses and header fields, the
//! bounds of fields. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::Value;
use utoipa::openapi::{Components, Info, License, OpenApi, OpenApiBuilder, PathsBuilder, Server};

use crate::api::Api;
use crate::call::Call;
use crate::config::{Config, SchemeName};
use crate::error::ApiError;

mod answers;
mod callers;
mod calls;
mod faults;
mod schemas;

const ABOUT: &str = "Who may fetch which file, and from which edge. Errors are `application/problem+json` (RFC 9457) \
                     with one plain sentence in `detail`; a repeated query parameter, header field of a scheme or key \
                     of a body is one. A request that is no HTTP, or whose head is longer than 64 KiB, never becomes a \
                     call: its answer has a status, no body and no `X-Request-Id`.";

/// Header fields that some answers of a status have and others have not.
const SOMETIMES: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

/// `GET, HEAD /openapi.json`
pub(crate) async fn document(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    Call::without_body(request)?;
    let mut response = api.document.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Another configuration has another document.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// What a configuration offers, as far as callers see it.
pub(crate) struct Offered {
    url: String,
    schemes: Vec<SchemeName>,
    has_public_files: bool,
    has_timed: bool,
    link_ttl_max: Duration,
}

impl Offered {
    pub(crate) fn by(config: &Config) -> Self {
        Self {
            url: config.public_url.to_string(),
            schemes: config.access.schemes.clone(),
            has_public_files: !config.public_prefixes.is_empty(),
            has_timed: config.access.timed.is_some(),
            link_ttl_max: config.links.max_ttl,
        }
    }

    /// The document's bytes.
    pub(crate) fn document(&self) -> Bytes {
        let mut document = serde_json::to_value(self.open_api()).expect("texts and numbers serialize");
        require_fields(&mut document);
        Bytes::from(document.to_string())
    }

    fn open_api(&self) -> OpenApi {
        let mut info = Info::new("Sluice coordinator", env!("CARGO_PKG_VERSION"));
        info.description = Some(ABOUT.to_owned());
        info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
        let calls = calls::of(self);
        let paths = calls.into_iter().fold(PathsBuilder::new(), |paths, call| call.add_to(paths, self));
        OpenApiBuilder::new()
            .info(info)
            .servers(Some([Server::new(&self.url)]))
            .paths(paths)
            .components(Some(self.components()))
            .build()
    }

    fn components(&self) -> Components {
        let mut components = Components::new();
        for (name, schema) in schemas::all(self) {
            components.schemas.insert(name.to_owned(), schema.into());
        }
        for (name, scheme) in callers::schemes(self) {
            components.add_security_scheme(name, scheme);
        }
        for (name, response) in faults::of_no_call() {
            components.responses.insert(name.to_owned(), response.into());
        }
        components
    }

    /// Whether some callers are clients, with a pace each.
    fn has_clients(&self) -> bool {
        self.has(SchemeName::Signature) || self.has(SchemeName::AppJwt)
    }

    fn has(&self, scheme: SchemeName) -> bool {
        self.schemes.contains(&scheme)
    }
}

/// Says of answers' header fields that they are always there, which the builders cannot.
fn require_fields(document: &mut Value) {
    match document {
        Value::Object(object) => {
            if let Some(Value::Object(fields)) = object.get_mut("headers") {
                for (name, field) in fields {
                    field["required"] = (!SOMETIMES.contains(&name.as_str())).into();
                }
            }
            object.values_mut().for_each(require_fields);
        }
        Value::Array(values) => values.iter_mut().for_each(require_fields),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
