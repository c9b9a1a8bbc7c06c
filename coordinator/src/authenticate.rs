//! Call → [`Proven`]. It decides who asks, never what they get; a scheme a file.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use sluice_shared::file_id::{FileId, Prefix};

use crate::allowance::Allowance;
use crate::call::Call;
use crate::clients::{Barred, Client, ClientScheme, Clients};
use crate::error::ApiError;
use crate::state::{State, Throttled};

pub(crate) mod app_jwt;
mod failures;
mod open;
pub(crate) mod signature;

pub(crate) use app_jwt::AppJwt;
pub(crate) use failures::Failures;
pub(crate) use open::Open;
pub(crate) use signature::Signature;

/// Who asks, as far as it is proven.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The API client, where a scheme authenticates one; its name is the token's `cid`.
    client: Option<Arc<Client>>,
    /// What is left of its pace, where it has one.
    allowance: Option<Allowance>,
}

impl Principal {
    /// Somebody, and that is enough.
    pub(crate) const ANONYMOUS: Self = Self { client: None, allowance: None };

    fn of(client: Arc<Client>, allowance: Option<Allowance>) -> Self {
        Self { client: Some(client), allowance }
    }

    /// Tells a client that has a pace what is left of it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(allowance) = self.allowance {
            allowance.insert_into(headers);
        }
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client.as_deref().map(|client| client.access_key.as_str())
    }

    /// The longest life of what it may be given, where its client has one.
    pub(crate) fn max_ttl(&self) -> Option<std::time::Duration> {
        self.client.as_deref()?.max_ttl
    }

    /// Whether the file is one of those that the client may ask for.
    pub(crate) fn may_ask_for(&self, file: &FileId<'_>) -> Result<(), ApiError> {
        let may = self.client.as_deref().is_none_or(|client| client.may_ask_for(file));
        may.then_some(()).ok_or(ApiError::FileNotYours)
    }
}

/// A caller that has proven who it is, and the body that it did so with: what a handler reads is what was verified.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) principal: Principal,
    pub(crate) body: Bytes,
}

/// A scheme's judgement; a future, because some must ask shared state (nonces, throttles) before they can tell.
pub(crate) type Judgement<'a> = Pin<Box<dyn Future<Output = Result<Proven, ApiError>> + Send + 'a>>;

/// One way to authenticate calls.
pub(crate) trait Scheme: Send + Sync {
    /// Whether the call carries this scheme's credentials, good or bad. What one scheme claims no other judges.
    fn claims(&self, call: &Call) -> bool;

    /// Who asks; where the credentials are missing or bad, the error that says so.
    fn judge<'a>(&'a self, call: &'a Call) -> Judgement<'a>;
}

/// The configured schemes that go by headers, in their order.
pub(crate) struct Authenticator {
    schemes: Vec<Box<dyn Scheme>>,
    public_prefixes: Vec<Prefix>,
}

impl Authenticator {
    pub(crate) fn new(schemes: Vec<Box<dyn Scheme>>, public_prefixes: Vec<Prefix>) -> Self {
        Self { schemes, public_prefixes }
    }

    /// Who asks. A call that carries nobody's credentials is the first scheme's, which says what is missing.
    pub(crate) async fn authenticate(&self, call: &Call) -> Result<Proven, ApiError> {
        let claimed = self.schemes.iter().find(|scheme| scheme.claims(call)).or(self.schemes.first());
        // With sealed calls alone there is no other way in.
        claimed.ok_or(ApiError::SealedOnly)?.judge(call).await
    }

    /// As [`Authenticator::authenticate`], except for a file under a public prefix, which anyone may fetch.
    pub(crate) async fn authenticate_for(
        &self,
        file: &FileId<'_>,
        call: &Call,
    ) -> Result<Principal, ApiError> {
        if self.public_prefixes.iter().any(|prefix| prefix.holds(file)) {
            return Ok(Principal::ANONYMOUS);
        }
        let principal = self.authenticate(call).await?.principal;
        principal.may_ask_for(file)?;
        Ok(principal)
    }
}

/// What the schemes of known clients have in common.
#[derive(Clone)]
pub(crate) struct KnownClients {
    pub(crate) clients: Arc<Clients>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) failures: Arc<Failures>,
}

impl KnownClients {
    /// The client that has a key, and proves itself in this way.
    fn client(&self, access_key: &str, scheme: ClientScheme) -> Result<Option<Arc<Client>>, ApiError> {
        Ok(self.clients.client(access_key)?.filter(|client| client.scheme == scheme))
    }

    /// Counts a call that was verified against its client's pace.
    async fn throttle(&self, client: &Client, now: SystemTime) -> Result<Option<Allowance>, ApiError> {
        let Some(pace) = client.pace else { return Ok(None) };
        match self.state.throttle(&client.access_key, pace, now).await? {
            Throttled::No { remaining } => Ok(Some(Allowance::remaining(pace, remaining))),
            Throttled::Yes { retry_after } => Err(ApiError::Throttled { retry_after, pace }),
            Throttled::Blocked { until } => Err(ApiError::Blocked(until)),
        }
    }

    fn failed(&self, call: &Call, error: ApiError, now: SystemTime) -> ApiError {
        self.failures.judged(call.subscriber(), error, now)
    }
}

/// A client that may not call now says so by its key, in the words of the systems replaced.
fn admit(client: &Client, now: SystemTime) -> Result<(), ApiError> {
    match client.bar(now) {
        None => Ok(()),
        Some(Barred::Disabled) => Err(ApiError::KeyDisabled(client.access_key.clone())),
        Some(Barred::Expired) => Err(ApiError::KeyExpired(client.access_key.clone())),
    }
}
