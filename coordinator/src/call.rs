//! A call as the schemes and handlers see it: its head, its body whole, and who is at the other end.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::Request;
use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use sluice_shared::query::Query;

use crate::error::{ApiError, FieldFault};
use crate::observe::RequestId;
use crate::state::Subscriber;

/// The largest body of any call. The largest one that is meant has a file id and a name, escaped, sealed.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// For a body to arrive whole: nobody is known yet who could be held to it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is at the other end, and what the call is named; where it goes through the router, in the request's extensions.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: IpAddr,
    pub(crate) request_id: RequestId,
    pub(crate) received: Received,
}

/// When a call's head was whole. Reading clocks costs 25 ns each time, which is two in a hundred of a redirection with
/// all its readers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}

impl Received {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) caller: Caller,
    pub(crate) body: Bytes,
}

impl Call {
    /// A call that has no body; one that has is refused, for nobody can say what it means.
    pub(crate) fn without_body(request: Request) -> Result<Self, ApiError> {
        let (mut parts, _) = request.into_parts();
        let caller = caller_of(&mut parts);
        let call = Self::of_head(parts, caller);
        call.check_bodiless()?;
        Ok(call)
    }

    /// A call whose body nobody reads.
    pub(crate) fn of_head(parts: Parts, caller: Caller) -> Self {
        Self { parts, caller, body: Bytes::new() }
    }

    pub(crate) fn check_bodiless(&self) -> Result<(), ApiError> {
        let headers = &self.parts.headers;
        let has_body = headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        if has_body { Err(ApiError::BodyNotAllowed) } else { Ok(()) }
    }

    /// Reads the body, whatever it is.
    pub(crate) async fn with_body(request: Request) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let caller = caller_of(&mut parts);
        let arriving = Limited::new(body, BODY_BYTES_MAX).collect();
        let body = tokio::time::timeout(BODY_TIMEOUT, arriving).await.map_err(|_| ApiError::BodyLate)?;
        Ok(Self { parts, caller, body: body.map_err(|_| ApiError::Body(BODY_BYTES_MAX))?.to_bytes() })
    }

    pub(crate) fn client(&self) -> IpAddr {
        self.caller.client
    }

    pub(crate) fn received(&self) -> Received {
        self.caller.received
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        Subscriber::of(self.client())
    }

    pub(crate) fn request_id(&self) -> &str {
        self.caller.request_id.as_str()
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

fn caller_of(parts: &mut Parts) -> Caller {
    parts.extensions.remove::<Caller>().expect("every call that is observed has one")
}

/// A body that is an object, as far as its beginning tells. An array of its fields' values is none, though serde would
/// take one.
pub(crate) fn object(body: &[u8]) -> Result<&[u8], ApiError> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let refusal = || ApiError::Field(FieldFault::Json("it does not begin as one".to_owned()));
    is_object.then_some(body).ok_or_else(refusal)
}
