//! Request → [`Principal`]. It decides who asks, never what they get; a scheme a file.

use std::pin::Pin;

use http::request::Parts;
use sluice_shared::file_id::FileId;

use crate::config::SchemeName;
use crate::error::ApiError;

mod open;

/// Who asks, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The API client, where a scheme authenticates one; the token's `cid`.
    pub(crate) client_id: Option<String>,
}

impl Principal {
    /// Somebody, and that is enough.
    pub(crate) const ANONYMOUS: Self = Self { client_id: None };
}

/// A scheme's judgement; a future, because some must ask shared state (nonces, throttles) before they can tell.
pub(crate) type Judgement<'a> = Pin<Box<dyn Future<Output = Result<Principal, ApiError>> + Send + 'a>>;

/// One way to authenticate calls.
pub(crate) trait Scheme: Send + Sync {
    /// Whether the request carries this scheme's credentials, good or bad. What one scheme claims no other judges.
    fn claims(&self, request: &Parts) -> bool;

    /// Who asks; where the credentials are missing or bad, the error that says so.
    fn judge<'a>(&'a self, request: &'a Parts) -> Judgement<'a>;
}

/// The configured schemes, in their order.
pub(crate) struct Authenticator {
    /// Never empty.
    schemes: Vec<Box<dyn Scheme>>,
    public_prefixes: Vec<String>,
}

impl Authenticator {
    /// `schemes` are the configuration's, which are not empty.
    pub(crate) fn new(schemes: &[SchemeName], public_prefixes: Vec<String>) -> Self {
        assert!(!schemes.is_empty(), "the configuration names a scheme");
        let scheme = |name: &SchemeName| -> Box<dyn Scheme> {
            match name {
                SchemeName::Open => Box::new(open::Open),
            }
        };
        Self { schemes: schemes.iter().map(scheme).collect(), public_prefixes }
    }

    /// Who asks. A request that carries nobody's credentials is the first scheme's, which says what is missing.
    pub(crate) async fn authenticate(&self, request: &Parts) -> Result<Principal, ApiError> {
        let claimed = self.schemes.iter().find(|scheme| scheme.claims(request));
        let scheme = claimed.unwrap_or(&self.schemes[0]);
        scheme.judge(request).await
    }

    /// As [`Authenticator::authenticate`], except for a file under a public prefix, which anyone may fetch.
    pub(crate) async fn authenticate_for(
        &self,
        file: &FileId<'_>,
        request: &Parts,
    ) -> Result<Principal, ApiError> {
        if self.public_prefixes.iter().any(|prefix| file.is_under(prefix)) {
            return Ok(Principal::ANONYMOUS);
        }
        self.authenticate(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims requests with a header of its name; knows one client.
    struct Named(&'static str);

    impl Scheme for Named {
        fn claims(&self, request: &Parts) -> bool {
            request.headers.contains_key(self.0)
        }

        fn judge<'a>(&'a self, request: &'a Parts) -> Judgement<'a> {
            let known = request.headers.get(self.0).is_some_and(|value| value == "good");
            let judged = if known {
                Ok(Principal { client_id: Some(self.0.to_owned()) })
            } else {
                Err(ApiError::MissingParameter(self.0))
            };
            Box::pin(async move { judged })
        }
    }

    fn request(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request.into_parts().0
    }

    fn authenticator() -> Authenticator {
        Authenticator {
            schemes: vec![Box::new(Named("first")), Box::new(Named("second"))],
            public_prefixes: vec!["public/".to_owned()],
        }
    }

    #[tokio::test]
    async fn the_scheme_whose_credentials_are_there_judges_alone() {
        let authenticator = authenticator();
        let table = [
            (vec![("first", "good")], Ok("first")),
            (vec![("second", "good")], Ok("second")),
            (vec![("second", "bad")], Err("second")),
            // A failed credential is never made good by another one.
            (vec![("first", "bad"), ("second", "good")], Err("first")),
            (vec![], Err("first")),
        ];
        for (headers, expected) in table {
            let judged = authenticator.authenticate(&request(&headers)).await;
            match (judged, expected) {
                (Ok(principal), Ok(name)) => assert_eq!(principal.client_id.as_deref(), Some(name)),
                (Err(ApiError::MissingParameter(name)), Err(expected)) => assert_eq!(name, expected),
                (judged, _) => panic!("{headers:?}: {judged:?}"),
            }
        }
    }

    #[tokio::test]
    async fn files_under_a_public_prefix_need_no_credentials() {
        let authenticator = authenticator();
        for (file, admitted) in [("public/a", true), ("public", false), ("publicity/a", false)] {
            let file = FileId::parse(file).unwrap();
            let judged = authenticator.authenticate_for(&file, &request(&[])).await;
            assert_eq!(judged.is_ok(), admitted, "{file}");
        }
    }
}
