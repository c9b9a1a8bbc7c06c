//! Any stage's error → status, text, and whether the connection goes on. The only place here that knows statuses of
//! failures.

use http::StatusCode;
use rand::RngExt;
use sluice_shared::cluster::{ANSWERED_BY, EdgeId};
use sluice_shared::problem::{self, Problem};
use sluice_shared::revocations::Kind;
use sluice_shared::token::TokenError;

use crate::authorize::AuthorizeError;
use crate::head::{Envelope, allowed_methods, write_text_head};
use crate::request::RequestError;
use crate::resolve::ResolveError;

/// Why a request is not answered with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reject {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Authorize(#[from] AuthorizeError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    #[error("draining")]
    Draining,
    #[error("too many connections")]
    Full,
    #[error("too many connections from one address")]
    FullForAddress,
    #[error("too many transfers with one token")]
    FullForToken,
}

impl Reject {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Request(error) => match error {
                RequestError::Method => StatusCode::METHOD_NOT_ALLOWED,
                RequestError::TargetTooLong => StatusCode::URI_TOO_LONG,
                RequestError::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                RequestError::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                RequestError::Path => StatusCode::NOT_FOUND,
                RequestError::Expect => StatusCode::EXPECTATION_FAILED,
                RequestError::Malformed
                | RequestError::BareLf
                | RequestError::Target
                | RequestError::Host
                | RequestError::Body => StatusCode::BAD_REQUEST,
            },
            Self::Authorize(error) => match error {
                AuthorizeError::Token(TokenError::Expired | TokenError::NotYetValid) => {
                    StatusCode::UNAUTHORIZED
                }
                AuthorizeError::NoToken | AuthorizeError::TwoTokens | AuthorizeError::Token(_) => {
                    StatusCode::BAD_REQUEST
                }
                AuthorizeError::Address | AuthorizeError::HeadOnly | AuthorizeError::Barred(_) => {
                    StatusCode::FORBIDDEN
                }
            },
            Self::Resolve(error) => match error {
                ResolveError::TooLarge => StatusCode::INTERNAL_SERVER_ERROR,
                ResolveError::NotFound | ResolveError::NotRegular | ResolveError::Denied => {
                    StatusCode::NOT_FOUND
                }
                ResolveError::Storage(_) | ResolveError::Changing | ResolveError::Timeout => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            },
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Draining | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::FullForAddress | Self::FullForToken => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// One plain sentence; those of the systems that Sluice replaces are kept word for word.
    fn detail(self) -> &'static str {
        match self {
            Self::Request(error) => match error {
                RequestError::Malformed => "Malformed request",
                RequestError::BareLf => "Malformed request: lines end with CR LF",
                RequestError::Version => "Only HTTP/1.0 and HTTP/1.1 are spoken here",
                RequestError::Method => "Only GET and HEAD are allowed",
                RequestError::Target => "The request target is malformed",
                RequestError::Expect => "Nothing but 100-continue can be expected",
                RequestError::TargetTooLong => "The request target is longer than 12 KiB",
                RequestError::HeadTooLarge => {
                    "The request head is larger than 16 KiB, or has more than 100 fields"
                }
                RequestError::Host => "Exactly one Host field with a valid value is required",
                RequestError::Body => "A request body is not allowed",
                RequestError::Path => "Not found",
            },
            Self::Authorize(error) => match error {
                AuthorizeError::Token(TokenError::Expired) => "Token expired",
                AuthorizeError::Token(TokenError::NotYetValid) => "Token not yet valid",
                AuthorizeError::NoToken | AuthorizeError::TwoTokens | AuthorizeError::Token(_) => {
                    "Invalid or malformed token"
                }
                AuthorizeError::Address => "Token is bound to another address",
                AuthorizeError::HeadOnly => "Token is good for HEAD only",
                AuthorizeError::Barred(Kind::Link) => "Link revoked",
                AuthorizeError::Barred(Kind::User | Kind::Client) => {
                    "Whom this link was made for gets nothing more"
                }
                AuthorizeError::Barred(Kind::File | Kind::Key | Kind::Prefix) => {
                    "This file is not given any more"
                }
            },
            Self::Resolve(error) => match error {
                ResolveError::NotFound | ResolveError::NotRegular | ResolveError::Denied => "File not found",
                ResolveError::TooLarge => "The file is larger than this edge serves",
                ResolveError::Storage(_) => "Storage failed; try again",
                ResolveError::Changing => "The file is being written; try again",
                ResolveError::Timeout => "Storage did not answer in time; try again",
            },
            Self::HeadTimeout => "The request did not arrive in time",
            Self::Draining => "This edge is about to stop; ask the coordinator again",
            Self::Full => "This edge has no room for another connection; try again",
            Self::FullForAddress => "Too many connections from this address; close some first",
            Self::FullForToken => "Too many downloads with this link at a time; let some end first",
        }
    }

    fn fields(self, status: StatusCode, with_options: bool, edge: &EdgeId) -> String {
        let mut fields = format!("Content-Type: {}\r\nCache-Control: no-store\r\n", problem::CONTENT_TYPE);
        // Coordinators ask so who answers where clients are sent.
        if self == Self::Authorize(AuthorizeError::NoToken) {
            fields.push_str(&format!("{ANSWERED_BY}: {edge}\r\n"));
        }
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                fields.push_str(&format!("Allow: {}\r\n", allowed_methods(with_options)));
            }
            // RFC 9110 §15.5.2 wants a challenge; RFC 6750 §3 has one for tokens.
            StatusCode::UNAUTHORIZED => {
                fields.push_str("WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let seconds: u8 = rand::rng().random_range(1..=5);
                fields.push_str(&format!("Retry-After: {seconds}\r\n"));
            }
            _ => {}
        }
        fields
    }

    /// Whether the connection has to end because the edge wants it so. That nobody knows where the next request begins
    /// is for those to say who could not read this one.
    pub(crate) fn closes(self) -> bool {
        match self {
            Self::Request(_) | Self::Authorize(_) | Self::Resolve(_) | Self::FullForToken => false,
            Self::HeadTimeout | Self::Draining | Self::Full | Self::FullForAddress => true,
        }
    }

    /// Whether it is this edge that cannot, while another may.
    pub(crate) fn is_this_edges(self) -> bool {
        match self {
            Self::Draining | Self::Full => true,
            Self::Resolve(error) => matches!(error, ResolveError::Storage(_) | ResolveError::Timeout),
            Self::Request(_) | Self::Authorize(_) => false,
            Self::HeadTimeout | Self::FullForAddress | Self::FullForToken => false,
        }
    }

    /// Writes head and body; the body only if `with_body`, which HEAD has not. `edge` is who answers.
    pub(crate) fn write(self, edge: &EdgeId, envelope: &Envelope<'_>, with_body: bool, out: &mut Vec<u8>) {
        let status = self.status();
        let body = Problem::new(status, self.detail()).to_json();
        let fields = self.fields(status, !envelope.cors.standing.is_empty(), edge);
        write_text_head(status, &fields, body.len(), envelope, out);
        if with_body {
            out.extend_from_slice(body.as_bytes());
        }
    }
}
