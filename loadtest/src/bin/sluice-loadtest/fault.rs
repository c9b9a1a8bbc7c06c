//! What goes wrong with a download. Networks and servers break, and clients come again; but what a server says must be
//! true: an answer that is wrong is the worst that a run can find.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use sluice_loadtest::content::Mismatch;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the host's name is not known: {0}")]
    Name(io::Error),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("no more descriptors for connections (see `ulimit -n`): {0}")]
    Descriptors(io::Error),
    #[error("the server said nothing for {0:?}")]
    Silence(Duration),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the connection ended before an answer")]
    NoAnswer,
    #[error("the body ended {missing} bytes short")]
    Short { missing: u64 },
    #[error("status {status}: {said}")]
    Status { status: u16, said: String },
    #[error("more than {0} redirections")]
    Redirections(usize),

    #[error("not an HTTP/1 answer: {0}")]
    NotHttp(&'static str),
    #[error("redirected to what is no URL of HTTP: {0:?}")]
    Location(String),
    #[error("the coordinator's answer is not what was asked for: {0}")]
    NoOffer(String),
    #[error("bytes that nobody asked for follow an answer")]
    Surplus,
    #[error("status {found} where {expected} was due")]
    OtherStatus { expected: u16, found: u16 },
    #[error("Content-Length is {found} where {expected} was due")]
    Length { expected: u64, found: u64 },
    #[error("Content-Range is {found:?} where {expected:?} was due")]
    Range { expected: String, found: String },
    #[error("an answer without ETag")]
    NoEtag,
    #[error("the ETag changed from {before} to {after}")]
    Etag { before: String, after: String },
    #[error("{0}")]
    Bytes(#[from] Mismatch),
    #[error("the SHA-256 is {found} where {expected} was due")]
    Sha256 { expected: String, found: String },
}

impl Fault {
    /// A name for counting: the same for all faults of a kind.
    pub(crate) fn reason(&self) -> Cow<'static, str> {
        let name = match self {
            Self::Name(_) => "name unknown",
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => "connection refused",
            Self::Connect(_) => "cannot connect",
            Self::ConnectTimeout(_) => "connecting timed out",
            Self::Tls(_) => "TLS failed",
            Self::Descriptors(_) => "out of descriptors",
            Self::Silence(_) => "server silent",
            Self::Broken(_) => "connection broke",
            Self::NoAnswer => "closed without answer",
            Self::Short { .. } => "body cut short",
            Self::Status { status, .. } => return format!("status {status}").into(),
            Self::Redirections(_) => "too many redirections",
            Self::NotHttp(_) => "not HTTP",
            Self::Location(_) => "wrong redirection",
            Self::NoOffer(_) => "wrong API answer",
            Self::Surplus => "surplus bytes",
            Self::OtherStatus { .. } => "wrong status",
            Self::Length { .. } => "wrong length",
            Self::Range { .. } => "wrong range",
            Self::NoEtag => "no ETag",
            Self::Etag { .. } => "ETag changed",
            Self::Bytes(_) => "wrong bytes",
            Self::Sha256 { .. } => "wrong SHA-256",
        };
        name.into()
    }

    /// Nobody was reached who could answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Connect(_)
                | Self::ConnectTimeout(_)
                | Self::Tls(_)
                | Self::Descriptors(_)
                | Self::Silence(_)
        )
    }

    /// Somebody answered, and then no more, or would not.
    fn is_broken(&self) -> bool {
        matches!(
            self,
            Self::Broken(_)
                | Self::NoAnswer
                | Self::Short { .. }
                | Self::Status { .. }
                | Self::Redirections(_)
        )
    }

    /// Whether a server said what is not so. Nobody comes again after that.
    pub(crate) fn is_wrong(&self) -> bool {
        !(self.is_unreachable() || self.is_broken())
    }
}
