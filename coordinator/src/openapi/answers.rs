//! The answers to calls that succeed, and the header fields of all answers.

use http::StatusCode;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Response, ResponseBuilder};

use super::schemas;

pub(super) const X_REQUEST_ID: &str = "X-Request-Id";
const CACHE_CONTROL: &str = "Cache-Control";
const LOCATION: &str = "Location";
const REFERRER_POLICY: &str = "Referrer-Policy";

const FIELDS: [&str; 8] = [
    X_REQUEST_ID,
    CACHE_CONTROL,
    LOCATION,
    REFERRER_POLICY,
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
];

/// What a call that succeeds is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Links,
    Redirection,
    Created,
    Revoked,
    Sealed,
    SecurityInfo,
    Document,
}

impl Answer {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Links | Self::Sealed | Self::SecurityInfo | Self::Document => StatusCode::OK,
            Self::Created => StatusCode::CREATED,
            Self::Revoked => StatusCode::NO_CONTENT,
            Self::Redirection => StatusCode::FOUND,
        }
    }

    pub(super) fn described(self, has_content: bool) -> Response {
        let response = ResponseBuilder::new().description(self.about());
        let all = [X_REQUEST_ID].iter().chain(self.fields());
        let response = all.fold(response, |response, name| response.header(*name, self.field(name)));
        let Some(content) = self.content().filter(|_| has_content) else { return response.build() };
        response.content("application/json", content.build()).build()
    }

    fn about(self) -> &'static str {
        match self {
            Self::Links => "Where the file is.",
            Self::Redirection => "To an edge that has the file, with a token.",
            Self::Created => "The link.",
            Self::Revoked => "The link is good no more.",
            Self::Sealed => "Where the file is, sealed.",
            Self::SecurityInfo => "What a caller has to know.",
            Self::Document => "This document.",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Links | Self::Sealed | Self::Document => &[CACHE_CONTROL],
            Self::Created => &[CACHE_CONTROL, LOCATION],
            Self::Redirection => &[CACHE_CONTROL, LOCATION, REFERRER_POLICY],
            Self::Revoked | Self::SecurityInfo => &[],
        }
    }

    fn field(self, name: &str) -> Header {
        match name {
            CACHE_CONTROL if self == Self::Document => {
                described(exactly("no-cache"), "Another configuration has another document.")
            }
            name => field(name),
        }
    }

    fn content(self) -> Option<ContentBuilder> {
        let named = |name| Some(ContentBuilder::new().schema(Some(schemas::named(name))));
        match self {
            Self::Links => named(schemas::LINKS),
            Self::Created => named(schemas::CREATED),
            Self::Sealed => named(schemas::SEALED_ANSWER),
            Self::SecurityInfo => named(schemas::SECURITY_INFO),
            Self::Document => Some(ContentBuilder::new().schema(Some(ObjectBuilder::new().build()))),
            Self::Redirection | Self::Revoked => None,
        }
    }
}

/// A field's name as the document writes it; `None` for one that it does not know.
pub(super) fn field_name(name: &str) -> Option<&'static str> {
    FIELDS.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

/// A header field of an answer.
pub(super) fn field(name: &str) -> Header {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    match name {
        X_REQUEST_ID => described(
            text().pattern(Some("^[A-Za-z0-9._-]{1,64}$")).build(),
            "The call's name in the logs: the caller's, or a new one.",
        ),
        CACHE_CONTROL => described(exactly("no-store"), "Nobody is to keep it."),
        LOCATION => described(text().build(), "The URL, with a token in it."),
        REFERRER_POLICY => described(exactly("no-referrer"), "The token in the URL is for nobody else."),
        "Retry-After" => described(
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build(),
            "Seconds until the same call can do better.",
        ),
        "RateLimit" => {
            described(text().build(), "What is left of the client's pace, and when there is more.")
        }
        "RateLimit-Policy" => described(text().build(), "The client's pace."),
        "WWW-Authenticate" => described(text().build(), "How callers prove who they are."),
        _ => described(text().build(), ""),
    }
}

fn exactly(value: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([value])).build()
}

fn described(schema: Object, description: &str) -> Header {
    HeaderBuilder::new().schema(schema).description(Some(description)).build()
}
