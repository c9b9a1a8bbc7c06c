//! Whether a caller is who it says: each of the schemes, beside the MAC alone.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use sluice_loadtest::caller::{Caller, app_jwt, sealed_call};
use sluice_shared::app_jwt;
use sluice_shared::signed_request::{Parts, verify};
use sluice_shared::token::sealed::SealedCalls;
use sluice_shared::token::timed::{TimedPayload, TimedSigner};

use super::{Operation, Subject};

const COUNTED: u32 = 2000;

pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "signature/mac-alone",
        beside: None,
        limit: "SHA-256: six blocks, two of them the key's",
        counted: COUNTED,
        make: mac_alone,
    },
    Subject {
        name: "signature/get",
        beside: Some("signature/mac-alone"),
        limit: "SHA-256; then writing what should have been signed",
        counted: COUNTED,
        make: || signed("GET", "/download/reports/2026.pdf?user_id=user-4711", ""),
    },
    Subject {
        name: "signature/post",
        beside: Some("signature/mac-alone"),
        limit: "SHA-256, and MD5 of the body",
        counted: COUNTED,
        make: || signed("POST", "/api/links", BODY),
    },
    Subject {
        name: "signature/app-jwt",
        beside: Some("signature/mac-alone"),
        limit: "SHA-256, and two JSON texts",
        counted: COUNTED,
        make: jwt,
    },
    Subject {
        name: "signature/sealed",
        beside: Some("signature/mac-alone"),
        limit: "SHA-256 twice: the call's and Fernet's",
        counted: COUNTED,
        make: sealed,
    },
    Subject {
        name: "signature/timed",
        beside: Some("signature/mac-alone"),
        limit: "SHA-1, and inflating the payload",
        counted: COUNTED,
        make: timed,
    },
];

const SECRET: &str = "a secret of some thirty-odd letters";
const BODY: &str = r#"{"file_id":"reports/2026.pdf","user_id":"user-4711","ttl":3600}"#;
const FERNET_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Benches may take as long as they like.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

fn mac_alone() -> Operation {
    let text = [b'x'; 180];
    Box::new(move || {
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
        black_box(mac.chain_update(black_box(text)).finalize());
    })
}

fn signed(method: &'static str, target: &'static str, body: &'static str) -> Operation {
    let caller = Caller::new("http://127.0.0.1", "AK1", SECRET);
    let fields = caller.fields(&caller.sign(method, target, body)).map(|(_, value)| value);
    Box::new(move || {
        let [access_key, nonce, timestamp, signature] = &fields;
        let parts = Parts { method, path_and_query: target, content_md5: None, access_key, nonce, timestamp };
        let verified = verify(black_box(&parts), body.as_bytes(), SECRET.as_bytes(), signature);
        assert!(black_box(verified).is_ok());
    })
}

fn jwt() -> Operation {
    let (token, now) = (app_jwt(SECRET), SystemTime::now());
    Box::new(move || {
        let verified = app_jwt::verify(black_box(&token), SECRET.as_bytes(), now, app_jwt::MAX_EXP_DEFAULT);
        assert!(black_box(verified).is_ok());
    })
}

fn sealed() -> Operation {
    let calls = SealedCalls::new(FERNET_KEY, SECRET).expect("a Fernet key");
    let call = sealed_call(&calls, SECRET, &json!({ "file_id": "reports/2026.pdf", "user_id": "user-4711" }));
    let part = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
    let (data, timestamp, signature) = (part("data"), part("timestamp"), part("signature"));
    let now = SystemTime::now();
    Box::new(move || {
        let verified = calls.verify(black_box(&data), &timestamp, &signature, now, AGE_MAX);
        assert!(black_box(verified).is_ok());
    })
}

fn timed() -> Operation {
    let signer = TimedSigner::new(SECRET, "download");
    let payload = TimedPayload {
        to_user: "ann".to_owned(),
        file_id: Some("reports/2026/annual-report.pdf".to_owned()),
    };
    let now = SystemTime::now();
    let token = signer.sign(&payload, now);
    Box::new(move || assert!(black_box(signer.open(black_box(&token), now, AGE_MAX)).is_ok()))
}
