//! From real numbers to whole ones: the one place where digits are cut off.

/// The whole part; 0 for what is negative or no number, the largest number for what is larger.
#[allow(clippy::cast_possible_truncation, reason = "a cast of floats saturates, and that is wanted")]
pub(crate) fn whole(real: f64) -> u64 {
    real as u64
}
