//! App keys with a JWT: `AppKey`, and `Authorization` with a token signed by the app's secret.

use std::time::{Duration, SystemTime};

use sluice_shared::app_jwt;

use super::{Judgement, KnownClients, Principal, Proven, Scheme, admit};
use crate::call::Call;
use crate::clients::ClientScheme;
use crate::error::ApiError;

pub(crate) const APP_KEY: &str = "AppKey";
pub(crate) const AUTHORIZATION: &str = "Authorization";

pub(crate) struct AppJwt {
    pub(crate) clients: KnownClients,
    /// How far ahead a token's `exp` may be.
    pub(crate) max_exp: Duration,
}

impl Scheme for AppJwt {
    fn claims(&self, call: &Call) -> bool {
        [APP_KEY, AUTHORIZATION].iter().any(|name| call.parts.headers.contains_key(*name))
    }

    fn judge<'a>(&'a self, call: &'a Call) -> Judgement<'a> {
        Box::pin(async move {
            let now = SystemTime::now();
            let required = |name| match call.header(name)?.map(str::trim) {
                None => Err(ApiError::CredentialMissing(name)),
                Some("") => Err(ApiError::HeaderEmpty(name)),
                Some(value) => Ok(value),
            };
            let app_key = required(APP_KEY)?;
            let token = bare(required(AUTHORIZATION)?);
            let client = self.clients.client(app_key, ClientScheme::AppJwt)?;
            let client = client
                .ok_or_else(|| self.clients.failed(call, ApiError::NoSuchApp(app_key.to_owned()), now))?;
            app_jwt::verify(token, client.secret.reveal().as_bytes(), now, self.max_exp)
                .map_err(|error| self.clients.failed(call, ApiError::AppJwt(error), now))?;
            admit(&client, now)?;
            let allowance = self.clients.throttle(&client, now).await?;
            Ok(Proven { principal: Principal::of(client, allowance), body: call.body.clone() })
        })
    }
}

/// The token of a field that may say `Bearer` before it.
fn bare(field: &str) -> &str {
    match field.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        _ => field,
    }
}
