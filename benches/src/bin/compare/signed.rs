//! Requests that an access key signs, each with a nonce of its own: written before a run, for a client that signs while
//! it is measured would be measured itself. All of one length, so that a client finds the next one by counting.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sluice_shared::token::random_id;

pub(crate) const ACCESS_KEY: &str = "AK1";
pub(crate) const SECRET: &str = "a secret of the comparison";

/// One GET, to be signed any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    /// `host:port`
    pub(crate) host: String,
    /// Without parameters, or with one: sorting them is not for here.
    pub(crate) target: String,
}

impl Signer {
    /// Writes so many requests, good from now on for as long as their timestamp is. Gives the length of each.
    pub(crate) fn write(&self, path: &Path, count: u64) -> io::Result<usize> {
        // Eight digits that count, behind what no other run has.
        let (run, now) = (random_id(), seconds(SystemTime::now()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut bytes = 0;
        for number in 0..count {
            let request = self.request(&format!("{run}{number:08}"), now);
            bytes = request.len();
            file.write_all(request.as_bytes())?;
        }
        file.flush()?;
        Ok(bytes)
    }

    /// The fields of one request that is sent by itself.
    pub(crate) fn fields(&self) -> [(&'static str, String); 4] {
        self.fields_of(&random_id(), seconds(SystemTime::now()))
    }

    fn request(&self, nonce: &str, timestamp: u64) -> String {
        let Self { host, target } = self;
        let fields = self.fields_of(nonce, timestamp).map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", fields.concat())
    }

    fn fields_of(&self, nonce: &str, timestamp: u64) -> [(&'static str, String); 4] {
        [
            ("Auth-Access-Key", ACCESS_KEY.to_owned()),
            ("Auth-Nonce", nonce.to_owned()),
            ("Auth-Timestamp", timestamp.to_string()),
            ("Auth-Signature", sign(SECRET, ACCESS_KEY, nonce, timestamp, &self.target)),
        ]
    }
}

/// The signature of a GET without a body.
fn sign(secret: &str, access_key: &str, nonce: &str, timestamp: u64, target: &str) -> String {
    let text = format!(
        "GET\n\nAuth-Access-Key: {access_key}\nAuth-Nonce: {nonce}\nAuth-Timestamp: {timestamp}\n{target}"
    );
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    STANDARD.encode(mac.chain_update(text).finalize().into_bytes())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_callers_libraries() {
        let target = "/api/request-download?file_id=abc123&user_id=u456";
        let signature = sign("another secret", "AK1", "n-1", 1_677_222_787, target);
        assert_eq!(signature, "j+QItanrJhFh9mOGOPDzUGm8xcZahWdfH/7iO04JjKQ=");
    }

    #[test]
    fn requests_are_of_one_length_and_differ() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signed");
        let signer = Signer { host: "127.0.0.1:1".to_owned(), target: "/download/a?user_id=b".to_owned() };
        let bytes = signer.write(&path, 3).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 3 * bytes);
        let requests: std::collections::BTreeSet<&str> =
            (0..3).map(|at| &text[at * bytes..(at + 1) * bytes]).collect();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| request.starts_with("GET /") && request.ends_with("\r\n\r\n")));
    }
}
