//! Access keys and signed requests: four `Auth-` headers, HMAC-SHA256 over method, body, headers, path and query.
//!
//! Order of judgement: the headers' shape, the key, the signature, the client's standing, the time, the nonce, the
//! pace. Nothing is remembered or counted of a client before its signature has verified.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sluice_shared::signed_request::{self, Body};

use super::{Judgement, KnownClients, Principal, Proven, Scheme, admit};
use crate::call::Call;
use crate::clients::{Client, ClientScheme};
use crate::error::ApiError;
use crate::state::NonceUse;

pub(crate) const ACCESS_KEY: &str = "Auth-Access-Key";
pub(crate) const NONCE: &str = "Auth-Nonce";
pub(crate) const TIMESTAMP: &str = "Auth-Timestamp";
pub(crate) const SIGNATURE: &str = "Auth-Signature";
pub(crate) const CONTENT_MD5: &str = "Content-MD5";
/// Longest nonce, in bytes: a UUID has 36.
pub(crate) const NONCE_BYTES_MAX: usize = 128;

pub(crate) struct Signature {
    pub(crate) clients: KnownClients,
    /// How far a timestamp may be from now, on either side. Nonces are remembered for twice as long.
    pub(crate) max_age: Duration,
}

/// The four headers, each there once and not empty.
struct Credentials<'c> {
    access_key: &'c str,
    nonce: &'c str,
    timestamp: &'c str,
    signature: &'c str,
}

impl<'c> Credentials<'c> {
    fn of(call: &'c Call) -> Result<Self, ApiError> {
        let required = |name| match call.header(name)?.map(str::trim) {
            None => Err(ApiError::HeaderMissing(name)),
            Some("") => Err(ApiError::HeaderEmpty(name)),
            Some(value) => Ok(value),
        };
        Ok(Self {
            access_key: required(ACCESS_KEY)?,
            nonce: required(NONCE)?,
            timestamp: required(TIMESTAMP)?,
            signature: required(SIGNATURE)?,
        })
    }
}

impl Scheme for Signature {
    fn claims(&self, call: &Call) -> bool {
        [ACCESS_KEY, NONCE, TIMESTAMP, SIGNATURE].iter().any(|name| call.parts.headers.contains_key(*name))
    }

    fn judge<'a>(&'a self, call: &'a Call) -> Judgement<'a> {
        Box::pin(async move {
            let now = SystemTime::now();
            let credentials = Credentials::of(call)?;
            let client = self.clients.client(credentials.access_key, ClientScheme::Signature)?;
            let client = client.ok_or_else(|| {
                self.clients.failed(call, ApiError::NoSuchKey(credentials.access_key.to_owned()), now)
            })?;
            let body =
                verify(call, &credentials, &client).map_err(|error| self.clients.failed(call, error, now))?;
            admit(&client, now)?;
            self.check_time(&client, credentials.timestamp, now).await?;
            self.use_nonce(&client, credentials.nonce, now).await?;
            let allowance = self.clients.throttle(&client, now).await?;
            Ok(Proven { principal: Principal::of(client, allowance), body })
        })
    }
}

impl Signature {
    /// Whole seconds since 1970, near enough to now, and not from a time of which nonces have been forgotten.
    async fn check_time(&self, client: &Client, timestamp: &str, now: SystemTime) -> Result<(), ApiError> {
        let secs: Option<u64> =
            timestamp.bytes().all(|byte| byte.is_ascii_digit()).then(|| timestamp.parse().ok()).flatten();
        let time = secs.and_then(|secs| UNIX_EPOCH.checked_add(Duration::from_secs(secs)));
        let time = time.ok_or(ApiError::Timestamp)?;
        let distance = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or_default();
        if distance > self.max_age || !self.clients.state.remembers(&client.access_key, time, now).await? {
            return Err(ApiError::Timestamp);
        }
        Ok(())
    }

    async fn use_nonce(&self, client: &Client, nonce: &str, now: SystemTime) -> Result<(), ApiError> {
        if nonce.len() > NONCE_BYTES_MAX {
            return Err(ApiError::HeaderTooLong(NONCE, NONCE_BYTES_MAX));
        }
        let keep_until = now + 2 * self.max_age;
        match self.clients.state.use_nonce(&client.access_key, nonce, now, keep_until).await? {
            NonceUse::Fresh => Ok(()),
            NonceUse::Used => Err(ApiError::NonceUsed),
            NonceUse::Full => Err(ApiError::NoncesFull),
        }
    }
}

/// Verifies a call's signature; gives the body in the form that it covers.
fn verify(call: &Call, credentials: &Credentials<'_>, client: &Client) -> Result<Bytes, ApiError> {
    let uri = &call.parts.uri;
    let signed = signed_request::Parts {
        method: call.parts.method.as_str(),
        path_and_query: uri.path_and_query().map_or(uri.path(), |target| target.as_str()),
        content_md5: call.header(CONTENT_MD5)?,
        access_key: credentials.access_key,
        nonce: credentials.nonce,
        timestamp: credentials.timestamp,
    };
    let secret = client.secret.reveal().as_bytes();
    match signed_request::verify(&signed, &call.body, secret, credentials.signature)? {
        Body::AsSent => Ok(call.body.clone()),
        Body::Canonical(text) => Ok(text.into()),
    }
}
