//! A call as the schemes and handlers see it: its head, its body whole, and who is at the other end.

use std::net::IpAddr;

use axum::extract::Request;
use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use sluice_shared::query::Query;
use sluice_shared::serve::ClientAddress;

use crate::error::{ApiError, FieldFault};
use crate::observe::RequestId;
use crate::state::Subscriber;

/// The largest body of any call. The largest one that is meant has a file id and a name, escaped, sealed.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
}

impl Call {
    /// A call that has no body; one that has is refused, for nobody can say what it means.
    pub(crate) fn without_body(request: Request) -> Result<Self, ApiError> {
        let (parts, _) = request.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let has_body = parts.headers.contains_key(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length != "0");
        if has_body { Err(ApiError::BodyNotAllowed) } else { Ok(Self { parts, body: Bytes::new() }) }
    }

    /// Reads the body, whatever it is.
    pub(crate) async fn with_body(request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        Ok(Self { parts, body: body.map_err(|_| ApiError::Body(BODY_BYTES_MAX))?.to_bytes() })
    }

    pub(crate) fn client(&self) -> IpAddr {
        self.parts.extensions.get::<ClientAddress>().expect("every connection has an other end").0
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        Subscriber::of(self.client())
    }

    pub(crate) fn request_id(&self) -> &str {
        self.parts.extensions.get::<RequestId>().expect("every call has a request id").as_str()
    }

    pub(crate) fn query(&self) -> Result<Query<'_>, ApiError> {
        Ok(Query::parse(self.parts.uri.query().unwrap_or_default())?)
    }

    /// The value of a header that may be there once.
    pub(crate) fn header(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut values = self.parts.headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::HeaderRepeated(name));
        }
        first.map(|value| value.to_str().map_err(|_| ApiError::HeaderText(name))).transpose()
    }
}

/// A body that is an object, as far as its beginning tells. An array of its fields' values is none, though serde would
/// take one.
pub(crate) fn object(body: &[u8]) -> Result<&[u8], ApiError> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let refusal = || ApiError::Field(FieldFault::Json("it does not begin as one".to_owned()));
    is_object.then_some(body).ok_or_else(refusal)
}
