//! Who may call: the schemes of the configuration, and what each call asks for.

use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use super::{Offered, schemas};
use crate::authenticate::app_jwt::APP_KEY;
use crate::authenticate::signature::{ACCESS_KEY, CONTENT_MD5, NONCE, SIGNATURE, TIMESTAMP};
use crate::config::SchemeName;

const APP_JWT: &str = "AppJwt";

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Anybody,
    /// Whom a scheme authenticates by headers.
    Callers,
    /// The same, and anybody for files under a public prefix.
    CallersOrPublic,
}

impl Who {
    pub(super) fn has_callers(self) -> bool {
        self != Self::Anybody
    }

    /// Each is one way in; none at all: there is nothing to prove.
    pub(super) fn requirements(self, offered: &Offered) -> Vec<SecurityRequirement> {
        if !self.has_callers() {
            return Vec::new();
        }
        let together = |names: &[&str]| {
            let add = |all: SecurityRequirement, name: &&str| all.add(*name, [] as [&str; 0]);
            names.iter().fold(SecurityRequirement::default(), add)
        };
        let mut ways = Vec::new();
        if offered.has(SchemeName::Signature) {
            ways.push(together(&[ACCESS_KEY, NONCE, TIMESTAMP, SIGNATURE]));
        }
        if offered.has(SchemeName::AppJwt) {
            ways.push(together(&[APP_KEY, APP_JWT]));
        }
        if self == Self::CallersOrPublic && offered.has_public_files && !ways.is_empty() {
            ways.push(SecurityRequirement::default());
        }
        ways
    }

    /// What a scheme reads beside its credentials.
    pub(super) fn parameters(self, offered: &Offered) -> Option<Parameter> {
        (self.has_callers() && offered.has(SchemeName::Signature)).then(|| {
            let schema = schemas::text("Base64 of the body's MD5; signed where it is there.");
            header(CONTENT_MD5, schema.build())
        })
    }
}

pub(super) fn header(name: &str, schema: utoipa::openapi::Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(schema))
        .build()
}

/// Every security scheme that some call asks for.
pub(super) fn schemes(offered: &Offered) -> Vec<(&'static str, SecurityScheme)> {
    let field = |name: &'static str, what: &str| {
        (name, SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, what))))
    };
    let mut schemes = Vec::new();
    if offered.has(SchemeName::Signature) {
        schemes.extend([
            field(ACCESS_KEY, "The client's access key."),
            field(NONCE, "Anything that the client has not used before, at most 128 bytes."),
            field(TIMESTAMP, "Seconds since 1970."),
            field(
                SIGNATURE,
                "HMAC-SHA256 over method, body, headers, path and query, under the client's secret.",
            ),
        ]);
    }
    if offered.has(SchemeName::AppJwt) {
        schemes.push(field(APP_KEY, "The app's key."));
        let jwt = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("A JWT (HS256) under the app's secret, with `exp`. `Bearer` may be left out."));
        schemes.push((APP_JWT, SecurityScheme::Http(jwt.build())));
    }
    schemes
}
