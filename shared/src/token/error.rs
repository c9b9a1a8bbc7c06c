//! Why a token is refused: one text for the client, the reason for the log.

/// Everything but `Expired` and `NotYetValid` is one and the same to a client: a malformed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    #[error("longer than {} bytes", super::TOKEN_BYTES_MAX)]
    TooLong,
    #[error("not five parts with an empty encrypted key")]
    Structure,
    #[error("not strict base64url")]
    Encoding,
    #[error("header is not that of a dir/A256GCM token")]
    Header,
    #[error("initialization vector or tag of the wrong length")]
    Length,
    #[error("sealed with a key that is not in the key set")]
    UnknownKey,
    #[error("not authentic")]
    Authentication,
    #[error("claims missing, repeated or of the wrong type")]
    Claims,
    #[error("file_id breaks the rules of file ids")]
    FileId,
    #[error("expired")]
    Expired,
    #[error("not yet valid")]
    NotYetValid,
}

impl TokenError {
    /// A short name of the reason, fit for a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Structure => "structure",
            Self::Encoding => "encoding",
            Self::Header => "header",
            Self::Length => "length",
            Self::UnknownKey => "unknown_key",
            Self::Authentication => "authentication",
            Self::Claims => "claims",
            Self::FileId => "file_id",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}
