//! A scenario as its file says it. What is left out has the value that `deploy/samples/scenario.toml` shows.

use serde::Deserialize;
use sluice_shared::units::{ByteSize, Span};
use toml::Spanned;

/// A value, and where in the text it stands.
pub(super) type Key<T> = Option<Spanned<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScenario {
    pub(super) seed: Option<u64>,
    pub(super) duration: Key<Span>,
    pub(super) warm_up: Key<Span>,
    pub(super) drain: Key<Span>,
    pub(super) load: RawLoad,
    pub(super) client: RawClient,
    pub(super) caller: RawCaller,
    pub(super) files: Vec<Spanned<RawFiles>>,
    pub(super) requests: Vec<Spanned<RawRequests>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLoad {
    pub(super) model: Key<Model>,
    pub(super) clients: Key<u32>,
    pub(super) think: Key<Span>,
    pub(super) think_times: Key<Times>,
    pub(super) rate: Key<f64>,
    pub(super) arrivals: Key<Times>,
    pub(super) in_flight_max: Key<u32>,
    pub(super) stages: Vec<RawStage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Model {
    Open,
    Closed,
}

/// How times between events are spread around their mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Times {
    Constant,
    #[serde(alias = "exponential")]
    Poisson,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStage {
    pub(super) r#for: Spanned<Span>,
    pub(super) to: Spanned<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawClient {
    pub(super) via: Key<Via>,
    pub(super) users: Key<u32>,
    pub(super) keep_alive: Option<bool>,
    pub(super) tries: Key<u32>,
    pub(super) pause: Key<Span>,
    pub(super) connect_timeout: Key<Span>,
    pub(super) silence_max: Key<Span>,
    pub(super) reuse: Key<Span>,
    pub(super) ca_file: Key<String>,
}

/// How a client comes to an edge's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    /// `GET /download/F`, and the redirection.
    Redirect,
    /// `GET /api/request-download`, or its sealed form.
    Api,
    /// A durable link, made once a file and worker.
    Link,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCaller {
    pub(super) scheme: Key<Scheme>,
    pub(super) access_key: Key<String>,
    pub(super) secret_file: Key<String>,
    pub(super) encryption_key_file: Key<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scheme {
    Open,
    Signature,
    AppJwt,
    Sealed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFiles {
    pub(super) name: Key<String>,
    pub(super) manifest: Key<String>,
    pub(super) count: Key<u32>,
    pub(super) size: Key<Sizes>,
    pub(super) weight: Key<f64>,
    pub(super) zipf: Key<f64>,
    pub(super) content: Key<RawContent>,
}

/// One size, or a least and a most.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a size as in \"64KiB\", or a list of the least and the most")]
pub(super) enum Sizes {
    One(ByteSize),
    Between([ByteSize; 2]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawContent {
    Generated,
    Constant,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRequests {
    pub(super) kind: Key<Kind>,
    pub(super) weight: Key<f64>,
    pub(super) bytes: Key<ByteSize>,
    pub(super) after: Key<f64>,
    pub(super) rate: Key<ByteSize>,
}

/// What a client does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Whole,
    /// A part of it, anywhere.
    Range,
    /// Breaks off, asks again and goes on with a Range.
    Resume,
    /// As `Resume`, with a token that the coordinator exchanged for the first one.
    Renew,
    /// Breaks off for good.
    Abort,
}
