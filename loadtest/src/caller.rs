//! Those who call the API: with an access key, whose requests carry the `Auth-` headers, each with a nonce of its own;
//! with an app key and its JWT; and servers that seal their calls.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use sluice_shared::token::sealed::SealedCalls;

use crate::client::Request;
use crate::wait::wait_until;

/// Who calls, and where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Of the coordinator, `http://host:port`.
    pub url: String,
    pub access_key: String,
    pub secret: String,
}

/// The answer of `POST /api/links`.
#[derive(Debug, Clone)]
pub struct Link {
    pub url: String,
    pub id: String,
}

/// A signature and what it was made of, for calls that are made more than once.
#[derive(Debug, Clone)]
pub struct Signed {
    pub nonce: String,
    pub signature: String,
    timestamp: u64,
}

impl Caller {
    pub fn new(url: &str, access_key: &str, secret: &str) -> Self {
        Self { url: url.to_owned(), access_key: access_key.to_owned(), secret: secret.to_owned() }
    }

    /// Signs what [`Caller::request`] sends. The target's parameters must come sorted.
    pub fn sign(&self, method: &str, target: &str, body: &str) -> Signed {
        let timestamp = now().as_secs();
        let nonce = format!("{:032x}", rand::random::<u128>());
        let md5 = if body.is_empty() { String::new() } else { STANDARD.encode(Md5::digest(body)) };
        let text = format!(
            "{method}\n{md5}\nAuth-Access-Key: {}\nAuth-Nonce: {nonce}\nAuth-Timestamp: {timestamp}\n{target}",
            self.access_key
        );
        let mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of any length");
        let signature = STANDARD.encode(mac.chain_update(text).finalize().into_bytes());
        Signed { nonce, signature, timestamp }
    }

    /// The header fields that carry a signature.
    pub fn fields(&self, signed: &Signed) -> [(&'static str, String); 4] {
        [
            ("Auth-Access-Key", self.access_key.clone()),
            ("Auth-Nonce", signed.nonce.clone()),
            ("Auth-Timestamp", signed.timestamp.to_string()),
            ("Auth-Signature", signed.signature.clone()),
        ]
    }

    /// A request under a signature.
    pub fn request(&self, method: &'static str, target: &str, body: &str, signed: &Signed) -> Request {
        let fields = self.fields(signed);
        let request = Request::new(method, &format!("{}{target}", self.url));
        let request = fields.iter().fold(request, |request, (name, value)| request.field(name, value));
        if body.is_empty() { request } else { request.body(body) }
    }

    /// A request with a signature of its own.
    pub fn call(&self, method: &'static str, target: &str, body: &str) -> Request {
        self.request(method, target, body, &self.sign(method, target, body))
    }

    /// Makes a link from the fields of `POST /api/links`.
    ///
    /// # Errors
    /// The coordinator makes none.
    pub fn link(&self, fields: &Value) -> anyhow::Result<Link> {
        Link::of(&self.call("POST", "/api/links", &fields.to_string()))
    }
}

impl Link {
    /// Sends a request for a link.
    ///
    /// # Errors
    /// The answer is none.
    pub fn of(request: &Request) -> anyhow::Result<Self> {
        let answer = request.send()?;
        ensure!(answer.status() == 201, "links: {} {}", answer.status(), answer.text());
        let json = answer.json()?;
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Ok(Self { url: text("link"), id: text("id") })
    }
}

/// An app's JWT, good for an hour.
pub fn app_jwt(secret: &str) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let claims = json!({ "iat": now().as_secs(), "exp": 3600 }).to_string();
    let signed = format!("{}.{}", part(br#"{"alg":"HS256","typ":"JWT"}"#), part(claims.as_bytes()));
    format!("{signed}.{}", part(&hmac_sha256(secret, &signed)))
}

/// The body of a sealed call.
pub fn sealed_call(calls: &SealedCalls, api_secret: &str, plaintext: &Value) -> Value {
    let data = calls.seal(plaintext.to_string().as_bytes(), SystemTime::now());
    let timestamp = now().as_millis().to_string();
    let mac = hmac_sha256(api_secret, &format!("{data}{timestamp}"));
    let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "data": data, "timestamp": timestamp, "signature": signature })
}

fn hmac_sha256(key: &str, text: &str) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.chain_update(text).finalize().into_bytes().into()
}

/// Waits until the clock, read in whole seconds as callers' timestamps are, is past now. A coordinator that keeps its
/// nonces in memory takes no timestamp from before its start.
///
/// # Errors
/// The clock stands still.
pub fn wait_for_next_second() -> anyhow::Result<()> {
    let begun = now().as_secs();
    wait_until("the next second has begun", || Ok(now().as_secs() > begun))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}
