//! Key updates of TLS 1.3: the message that tells of one (RFC 8446 §4.6.3), and the keys that come next (§7.2).

use std::fmt;

use tokio_rustls::rustls::Tls13CipherSuite;
use tokio_rustls::rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use zeroize::Zeroizing;

use crate::uring::kernel_tls::{Cipher, Keys, TlsVersion};

/// That the sender's next record is under its next key; ours is not asked for (`update_not_requested`).
pub(crate) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// As [`KEY_UPDATE`], and the receiver is to update its own (`update_requested`).
pub(crate) const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

/// The longest of the ciphers' keys.
const KEY_BYTES_MAX: usize = 32;

/// What one direction's keys come of (`application_traffic_secret_N`); written over when dropped, and never shown.
pub(crate) struct TrafficSecret {
    secret: OkmBlock,
    suite: &'static Tls13CipherSuite,
    cipher: Cipher,
}

impl TrafficSecret {
    /// `cipher` is the suite's.
    pub(crate) fn new(secret: OkmBlock, suite: &'static Tls13CipherSuite, cipher: Cipher) -> Self {
        Self { secret, suite, cipher }
    }

    /// The keys of this secret; `sequence` is the next record's number.
    pub(crate) fn keys(&self, sequence: u64) -> Keys {
        let expander = self.suite.hkdf_provider.expander_for_okm(&self.secret);
        let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
        let key = &mut key[..self.cipher.key_bytes()];
        let mut nonce = [0; 12];
        expand_label(&*expander, b"key", key);
        expand_label(&*expander, b"iv", &mut nonce);
        Keys::new(TlsVersion::Tls13, self.cipher, key, nonce, sequence)
    }

    /// Goes on to the next secret, and gives its keys, of which no record has been made.
    pub(crate) fn update(&mut self) -> Keys {
        let expander = self.suite.hkdf_provider.expander_for_okm(&self.secret);
        let mut next = Zeroizing::new([0; OkmBlock::MAX_LEN]);
        let next = &mut next[..expander.hash_len()];
        expand_label(&*expander, b"traffic upd", next);
        self.secret = OkmBlock::new(next);
        self.keys(0)
    }
}

impl fmt::Debug for TrafficSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficSecret").finish_non_exhaustive()
    }
}

/// `HKDF-Expand-Label` without a context (RFC 8446 §7.1).
fn expand_label(expander: &dyn HkdfExpander, label: &[u8], output: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(output.len()).expect("no longer than a hash").to_be_bytes();
    let label_bytes = u8::try_from(PREFIX.len() + label.len()).expect("labels are short");
    let info = [&length[..], &[label_bytes], PREFIX, label, &[0]];
    expander.expand_slice(&info, output).expect("no longer than a hash");
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio_rustls::rustls::SupportedCipherSuite;
    use tokio_rustls::rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
    };

    use super::*;

    /// A secret of AES-256-GCM.
    pub(crate) fn secret(bytes: &[u8; 48]) -> TrafficSecret {
        of_suite(TLS13_AES_256_GCM_SHA384, bytes, Cipher::Aes256Gcm)
    }

    fn of_suite(suite: SupportedCipherSuite, bytes: &[u8], cipher: Cipher) -> TrafficSecret {
        TrafficSecret::new(OkmBlock::new(bytes), suite.tls13().unwrap(), cipher)
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The server's of RFC 8448 §3, "derive write traffic keys for application data".
    #[test]
    fn keys_are_those_of_the_standard_s_example() {
        let secret = bytes_of("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
        let secret = of_suite(TLS13_AES_128_GCM_SHA256, &secret, Cipher::Aes128Gcm);
        let key = bytes_of("9f02283b6c9c07efc26bb9f2ac92e356");
        let nonce = bytes_of("cf782b88dd83549aadf1e984").try_into().unwrap();
        assert!(secret.keys(3) == Keys::new(TlsVersion::Tls13, Cipher::Aes128Gcm, &key, nonce, 3));
    }

    #[test]
    fn each_key_update_gives_keys_that_never_were() {
        let mut secret = secret(&[7; 48]);
        let mut before = vec![secret.keys(0)];
        for _ in 0..5 {
            let keys = secret.update();
            assert!(!before.contains(&keys));
            assert!(secret.keys(0) == keys, "until the next");
            before.push(keys);
        }
        assert_eq!(format!("{secret:?}"), "TrafficSecret { .. }");
    }
}
