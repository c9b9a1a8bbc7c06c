//! HMAC-SHA-256 (RFC 2104) over parts, and the one way in which MACs are compared: in a time that does not depend on
//! where they differ.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Length of a MAC.
pub(crate) const MAC_BYTES: usize = 32;

/// The MAC of the parts, one after the other with nothing between them.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether a MAC is the expected one. A wrong length shows at once; lengths are no secret.
pub(crate) fn is_equal(expected: &[u8], presented: &[u8]) -> bool {
    expected.ct_eq(presented).into()
}
