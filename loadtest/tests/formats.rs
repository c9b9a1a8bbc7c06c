//! What the Python libraries of callers write is read by Sluice, and the other way round.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sluice_loadtest::tool;
use sluice_shared::canonical_json::canonical;
use sluice_shared::token::sealed::SealedCalls;
use sluice_shared::token::timed::{TimedPayload, TimedSigner};

const MAX_AGE: Duration = Duration::from_secs(600);

fn python(action: &str, key: &str, argument: &str) -> anyhow::Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/formats.py");
    let said = tool::run(tool::python()?, &[&*script.to_string_lossy(), action, key, argument])?;
    Ok(serde_json::from_str(&said)?)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn timed_links_pass_between_itsdangerous_and_sluice() -> anyhow::Result<()> {
    let secret = "a sécret";
    let signer = TimedSigner::new(secret, "itsdangerous");
    let payloads = [
        TimedPayload { to_user: "alice".into(), file_id: None },
        TimedPayload { to_user: "\"\\\n\u{1}é漢😀\u{2028}".into(), file_id: Some("a/b.bin".into()) },
        TimedPayload { to_user: "a".repeat(2000), file_id: None },
    ];
    for payload in payloads {
        let said = serde_json::to_value(&payload)?;
        let token = python("timed-sign", secret, &said.to_string())?;
        assert_eq!(signer.open(text(&token), SystemTime::now(), MAX_AGE).as_ref(), Ok(&payload));
        let token = signer.sign(&payload, SystemTime::now());
        assert_eq!(python("timed-open", secret, &token)?, said);
    }
    let old = signer.sign(&TimedPayload { to_user: "alice".into(), file_id: None }, UNIX_EPOCH + MAX_AGE);
    let refused = python("timed-open", secret, &old).unwrap_err().to_string();
    assert!(refused.contains("SignatureExpired"), "{refused}");
    Ok(())
}

#[test]
fn sealed_calls_pass_between_cryptography_and_sluice() -> anyhow::Result<()> {
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let calls = SealedCalls::new(key, "api-secret")?;
    for plaintext in ["", r#"{"file_id":"年度報告"}"#, "exactly 16 bytes", &"x".repeat(3000)] {
        let call = python("call", &format!("{key},api-secret"), plaintext)?;
        let (data, timestamp) = (text(&call["data"]), text(&call["timestamp"]));
        let opened = calls.verify(data, timestamp, text(&call["signature"]), SystemTime::now(), MAX_AGE)?;
        assert_eq!(opened.plaintext, plaintext.as_bytes());
        let token = calls.seal(plaintext.as_bytes(), SystemTime::now());
        assert_eq!(python("fernet-open", key, &token)?, plaintext);
    }
    Ok(())
}

#[test]
fn canonical_json_is_what_python_makes_of_it() -> anyhow::Result<()> {
    let texts = [
        r#" { "b" : [ 1, 2.5, -0.0, 1e-07, true, null ], "a" : "\u5e74\u00e9\ud83d\ude00\/" } "#,
        r#"{"😀":1,"～":2,"é":3,"Z":4,"a-b":5,"a":6,"":{"y":[],"x":{}}}"#,
        r#""\b\f\n\r\t\"\\\u0000\u001F\u007f\u2028\u0080""#,
        "123456789012345678901234567890",
    ];
    let theirs = python("canonical", "-", &json!(texts).to_string())?;
    for (at, source) in texts.into_iter().enumerate() {
        assert_eq!(canonical(source.as_bytes())?, text(&theirs[at]), "{source}");
    }
    Ok(())
}
