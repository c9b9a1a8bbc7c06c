//! When claims hold. Pure; the time is an argument, and the claims' authenticity somebody else's affair.

use super::{Claims, NumericDate, TokenError};

/// Clock skew allowed on `nbf`, in seconds; `exp` and `lxp` get none.
const NBF_SKEW_SECONDS: f64 = 5.0;

impl Claims<'_> {
    /// Whether the token holds at `now`.
    ///
    /// # Errors
    /// `Expired` or `NotYetValid`; of a token that is both, the first.
    pub fn judge(&self, now: NumericDate) -> Result<(), TokenError> {
        if now >= self.exp {
            return Err(TokenError::Expired);
        }
        if self.is_early(now) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// Whether another token may be had for this one at `now`: it holds, or has expired while the link that it was
    /// minted from has not.
    pub fn is_renewable(&self, now: NumericDate) -> bool {
        (now < self.exp || self.lxp.is_some_and(|lxp| now < lxp)) && !self.is_early(now)
    }

    fn is_early(&self, now: NumericDate) -> bool {
        self.nbf.is_some_and(|nbf| nbf.as_secs_f64() > now.as_secs_f64() + NBF_SKEW_SECONDS)
    }
}
