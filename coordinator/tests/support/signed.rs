//! Calls signed as a client of the scheme `signature` signs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// The secret of every client that a test writes itself.
const SECRET: &str = "another secret";

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The four headers of a call.
pub(crate) struct Signed(pub(crate) [(&'static str, String); 4]);

impl Signed {
    pub(crate) fn new(
        method: &str,
        target: &str,
        body: &str,
        access_key: &str,
        timestamp: &str,
        nonce: &str,
    ) -> Self {
        Self::with_secret(SECRET, method, target, body, access_key, timestamp, nonce)
    }

    pub(crate) fn get(target: &str, access_key: &str) -> Self {
        Self::get_with_secret(SECRET, target, access_key)
    }

    pub(crate) fn get_with_secret(secret: &str, target: &str, access_key: &str) -> Self {
        Self::with_secret(secret, "GET", target, "", access_key, &seconds().to_string(), &nonce())
    }

    fn with_secret(
        secret: &str,
        method: &str,
        target: &str,
        body: &str,
        access_key: &str,
        timestamp: &str,
        nonce: &str,
    ) -> Self {
        let md5 = if body.is_empty() { String::new() } else { STANDARD.encode(Md5::digest(body)) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parameters: Vec<_> = query.split('&').filter(|part| !part.is_empty()).collect();
        parameters.sort_unstable();
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let text = format!(
            "{method}\n{md5}\nAuth-Access-Key: {access_key}\nAuth-Nonce: {nonce}\nAuth-Timestamp: {timestamp}\n{path}{query}"
        );
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(text);
        Self([
            ("Auth-Access-Key", access_key.to_owned()),
            ("Auth-Nonce", nonce.to_owned()),
            ("Auth-Timestamp", timestamp.to_owned()),
            ("Auth-Signature", STANDARD.encode(mac.finalize().into_bytes())),
        ])
    }

    pub(crate) fn fields(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}
