//! Why a command is not done: one sentence, and the exit code.

use std::io;
use std::path::PathBuf;

use http::StatusCode;
use sluice_coordinator::ClientsFileError;
use sluice_shared::bearer::AdminTokenError;
use sluice_shared::keys::KeyFileError;
use sluice_shared::units::BaseUrl;

use crate::coordinator::ANSWER_TIMEOUT;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// In the coordinator's own words.
    #[error("{detail}")]
    Refused { detail: String },
    /// Likewise, of what is there already or was changed meanwhile.
    #[error("{detail}")]
    Conflict { detail: String },
    #[error("{0}")]
    ClientsFile(ClientsFileError),
    #[error("{0}")]
    Left(String),
    #[error("{url} does not know the token in {file}; give one of its admin_token_file with --token-file", file = .file.display())]
    UnknownToken { url: BaseUrl, file: PathBuf },
    /// What `token verify` or `token open` found; in words.
    #[error("{0}")]
    TokenNotGood(String),
    #[error("{file} cannot be read: {cause}", file = .0.display(), cause = .1)]
    Configuration(PathBuf, io::Error),
    #[error(
        "{file} is neither a coordinator's configuration (public_url) nor an edge's (root); say which with --program",
        file = .0.display()
    )]
    WhichProgram(PathBuf),
    #[error("cannot run {program}: {cause}; install it beside sluicectl, or name its folder in PATH")]
    Program { program: String, cause: String },
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("there is no token; give it as the argument, or on standard input")]
    NoToken,
    #[error("{0}")]
    KeyFile(KeyFileError),
    #[error("nothing was changed")]
    Declined,
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("the new secret of client '{access_key}' could not be printed and is lost ({source}); rotate it")]
    SecretLost { access_key: String, source: io::Error },
    #[error("{0}; name another file with --token-file")]
    TokenFile(AdminTokenError),
    #[error("admin token file {file}: the first token has characters that no HTTP header takes", file = .0.display())]
    TokenText(PathBuf),
    #[error("this wants a yes, and there is no terminal to ask on; add --yes")]
    NobodyToAsk,
    #[error(
        "cannot reach a coordinator at {url} ({cause}); see that it runs and that --coordinator is its admin_listen"
    )]
    Unreachable { url: BaseUrl, cause: String },
    #[error(
        "the call of {url} broke off ({cause}); see that --coordinator is a coordinator's admin_listen{doubt}"
    )]
    BrokenOff { url: BaseUrl, cause: String, doubt: Doubt },
    #[error(
        "{url} does not answer within {} s; see that the coordinator runs and that --coordinator is its admin_listen{doubt}",
        ANSWER_TIMEOUT.as_secs()
    )]
    NoAnswer { url: BaseUrl, doubt: Doubt },
    #[error("{url} answers with status {status}, and not as a coordinator's admin port; see --coordinator")]
    Foreign { url: BaseUrl, status: StatusCode },
}

/// What is not known of a call without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    None,
    Change,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Change => f.write_str("; the change may have been made, so list before you repeat it"),
        }
    }
}

impl Fault {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. }
            | Self::Conflict { .. }
            | Self::Left(_)
            | Self::UnknownToken { .. }
            | Self::TokenNotGood(_)
            | Self::Declined
            | Self::Output(_)
            | Self::SecretLost { .. } => 1,
            Self::TokenFile(_)
            | Self::TokenText(_)
            | Self::NobodyToAsk
            | Self::Input(_)
            | Self::Configuration(..)
            | Self::WhichProgram(_)
            | Self::NoToken
            | Self::ClientsFile(_)
            | Self::KeyFile(_) => 2,
            Self::Program { .. }
            | Self::Unreachable { .. }
            | Self::BrokenOff { .. }
            | Self::NoAnswer { .. }
            | Self::Foreign { .. } => 3,
        }
    }
}
