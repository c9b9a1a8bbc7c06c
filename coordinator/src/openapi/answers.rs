//! The answers to calls that succeed, and the header fields of all answers.

use http::StatusCode;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Response, ResponseBuilder};

use super::schemas;
use crate::metalink::MEDIA_TYPE;

pub(super) const X_REQUEST_ID: &str = "X-Request-Id";
const CACHE_CONTROL: &str = "Cache-Control";
const LOCATION: &str = "Location";
const REFERRER_POLICY: &str = "Referrer-Policy";
const VARY: &str = "Vary";
const CONTENT_DISPOSITION: &str = "Content-Disposition";
const RATE_LIMIT: &str = "RateLimit";
const RATE_LIMIT_POLICY: &str = "RateLimit-Policy";

const FIELDS: [&str; 10] = [
    X_REQUEST_ID,
    CACHE_CONTROL,
    LOCATION,
    REFERRER_POLICY,
    VARY,
    CONTENT_DISPOSITION,
    "Retry-After",
    RATE_LIMIT,
    RATE_LIMIT_POLICY,
    "WWW-Authenticate",
];

/// What a call that succeeds is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Links,
    Redirection,
    /// A redirection, or a Metalink for who asks for one.
    Negotiated,
    Metalink,
    Created,
    Revoked,
    Sealed,
    SecurityInfo,
    Document,
}

impl Answer {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Links | Self::Sealed | Self::SecurityInfo | Self::Document | Self::Metalink => {
                StatusCode::OK
            }
            Self::Created => StatusCode::CREATED,
            Self::Revoked => StatusCode::NO_CONTENT,
            Self::Redirection | Self::Negotiated => StatusCode::FOUND,
        }
    }

    /// `has_pace`: whether the caller may be one whose pace is limited, which is then told what is left.
    pub(super) fn described(self, has_content: bool, has_pace: bool) -> Response {
        let response = ResponseBuilder::new().description(self.about());
        let of_pace: &[_] = if has_pace { &[RATE_LIMIT, RATE_LIMIT_POLICY] } else { &[] };
        let all = [X_REQUEST_ID].iter().chain(self.fields()).chain(of_pace);
        let response = all.fold(response, |response, name| response.header(*name, self.field(name)));
        let Some(content) = self.content().filter(|_| has_content) else { return response.build() };
        let media_type = if self == Self::Metalink { MEDIA_TYPE } else { "application/json" };
        response.content(media_type, content.build()).build()
    }

    fn about(self) -> &'static str {
        match self {
            Self::Links => "Where the file is.",
            Self::Metalink => "Edges that have the file, with one token (RFC 5854); for who accepts it.",
            Self::Redirection | Self::Negotiated => "To an edge that has the file, with a token.",
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
            Self::Negotiated => &[CACHE_CONTROL, LOCATION, REFERRER_POLICY, VARY],
            Self::Metalink => &[CACHE_CONTROL, CONTENT_DISPOSITION, REFERRER_POLICY, VARY],
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
            Self::Metalink => Some(ContentBuilder::new().schema(Some(text()))),
            Self::Redirection | Self::Negotiated | Self::Revoked => None,
        }
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A field's name as the document writes it; `None` for one that it does not know.
pub(super) fn field_name(name: &str) -> Option<&'static str> {
    FIELDS.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

/// A header field of an answer.
pub(super) fn field(name: &str) -> Header {
    match name {
        X_REQUEST_ID => described(
            text().pattern(Some("^[A-Za-z0-9._-]{1,64}$")).build(),
            "The call's name in the logs: the caller's, or a new one.",
        ),
        CACHE_CONTROL => described(exactly("no-store"), "Nobody is to keep it."),
        LOCATION => described(text().build(), "The URL, with a token in it."),
        VARY => described(exactly("Accept"), "Who accepts a Metalink gets one."),
        CONTENT_DISPOSITION => described(text().build(), "The name to save the list as."),
        REFERRER_POLICY => described(exactly("no-referrer"), "The token in the URL is for nobody else."),
        "Retry-After" => described(
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build(),
            "Seconds until the same call can do better.",
        ),
        RATE_LIMIT => described(text().build(), "What is left of the client's pace, and when there is more."),
        RATE_LIMIT_POLICY => described(text().build(), "The client's pace."),
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
