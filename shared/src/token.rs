//! Tokens: compact JWE (RFC 7516) with `dir` and `A256GCM`, carrying [`Claims`] from the coordinator to any edge.
//!
//! [`seal`] and [`open`] are each other's inverse. [`open`] is [`open_authentic`] and [`Claims::judge`]; there is no
//! other way to claims. All keep their work in place; opening allocates nothing (a claim whose JSON text has escapes is the one exception: it is unescaped into a copy).

mod base64url;
mod claims;
mod error;
mod minted;
mod open;
mod seal;
pub mod sealed;
pub mod ticket;
pub mod timed;
mod validity;

pub use claims::{Claims, NumericDate};
pub use error::TokenError;
pub use open::{Scratch, open, open_authentic, open_by_key};
pub use seal::{SealError, random_id, seal};
pub use ticket::Ticket;

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest token that is minted, in bytes: it has to fit a URL everywhere.
pub const MINTED_TOKEN_BYTES_MAX: usize = 2 * 1024;

/// Length of the IV and of the authentication tag (RFC 7518 §5.3).
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests;
