//! Calls that prove who makes them: signed requests, app keys with a JWT, sealed calls. Every text is the one that the
//! systems replaced have.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sluice_shared::token::sealed::SealedCalls;
use support::{Answer, Coordinator, Edge, Setting, Signed, nonce, seconds, token_of};

const CLIENTS: &str = r#"
[[clients]]
access_key = "AK1"
secret = "another secret"
scheme = "signature"
prefixes = ["mine/"]
max_ttl = "60s"

[[clients]]
access_key = "OFF"
secret = "another secret"
scheme = "signature"
enabled = false
prefixes = [""]

[[clients]]
access_key = "OLD"
secret = "another secret"
scheme = "signature"
expires_at = "2020-01-01T00:00:00Z"
prefixes = [""]

[[clients]]
access_key = "SLOW"
secret = "another secret"
scheme = "signature"
prefixes = [""]
rate = "1/m"
burst = 3

[[clients]]
access_key = "app"
secret = "your_app_secret"
scheme = "app-jwt"
prefixes = [""]
"#;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn start(edge: &Edge) -> Coordinator {
    let more = format!(
        "[auth]\nschemes = [\"signature\", \"app-jwt\", \"sealed\"]\nclients_file = \"clients.toml\"\n\
         [sealed]\nencryption_key = \"{KEY}\"\napi_secret_key = \"api-secret\"\n"
    );
    let setting = Setting::new(&[edge], &more);
    setting.write_private("clients.toml", CLIENTS);
    let coordinator = Coordinator::launch(setting);
    coordinator.wait_for_state("edge-1", "up");
    support::wait_until("it is ready", || coordinator.ready().status == 200);
    // With nonces in memory, timestamps of before the start are refused; they are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    coordinator
}

const MINE: &str = "/api/request-download?user_id=u456&file_id=mine%2Fa.bin";

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_signed_call_is_its_clients_and_good_once() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let signed = Signed::get(MINE, "AK1");
    let answer = coordinator.send("GET", MINE, &signed.fields());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let claims = coordinator.claims(&token_of(answer.json()["download_url"].as_str().unwrap()));
    assert_eq!(claims.cid.as_deref(), Some("AK1"));
    assert_eq!(claims.exp.as_secs_f64() - claims.iat.unwrap().as_secs_f64(), 60.0, "its client's max_ttl");
    let again = coordinator.send("GET", MINE, &signed.fields());
    assert_eq!((again.status, detail(&again)), (403, "Specified nonce was used already.".to_owned()));
    let other = "/api/request-download?file_id=other&user_id=u";
    let refused = coordinator.send("GET", other, &Signed::get(other, "AK1").fields());
    assert_eq!((refused.status, detail(&refused)), (403, "this client may not ask for this file".to_owned()));
    // A body is read in the form that verified: here with its names sorted and without its spaces.
    let (sent, canonical) = ("{\"ttl\": 30, \"file_id\": \"mine/é\"}", "{\"file_id\":\"mine/é\",\"ttl\":30}");
    let now = seconds().to_string();
    for (body, covered) in [(sent, sent), (sent, canonical)] {
        let signed = Signed::new("POST", "/api/links", covered, "AK1", &now, &nonce());
        let answer = coordinator.post("/api/links", &signed.fields(), body);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let signed = Signed::new("POST", "/api/links", canonical, "AK1", &now, &nonce());
    let answer = coordinator.post("/api/links", &signed.fields(), "{\"ttl\": 31, \"file_id\": \"mine/é\"}");
    assert_eq!(answer.status, 401);
    let log = coordinator.log_text();
    assert!(!log.contains("another secret") && !log.contains(&signed.0[3].1), "{log}");
}

#[test]
fn every_error_is_told_in_the_words_of_the_system_replaced() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    for missing in 0..4 {
        let signed = Signed::get(MINE, "AK1");
        let mut fields = signed.fields();
        let (name, _) = fields.remove(missing);
        let answer = coordinator.send("GET", MINE, &fields);
        assert_eq!((answer.status, detail(&answer)), (400, format!("{name} header is required.")));
        fields.insert(missing, (name, ""));
        let answer = coordinator.send("GET", MINE, &fields);
        assert_eq!((answer.status, detail(&answer)), (400, format!("{name} value can't be empty.")));
        let signed = Signed::get(MINE, "AK1");
        let mut fields = signed.fields();
        fields.push(fields[missing]);
        let answer = coordinator.send("GET", MINE, &fields);
        assert_eq!(
            (answer.status, detail(&answer)),
            (400, format!("{name} header is given more than once."))
        );
    }
    let old = (seconds() - 301).to_string();
    let future = (seconds() + 310).to_string();
    let table = [
        (Signed::get(MINE, "XX"), 403, "Access key XX not exists."),
        (Signed::get(MINE, "app"), 403, "Access key app not exists."),
        (Signed::get(MINE, "OFF"), 403, "Access key OFF is disable."),
        (Signed::get(MINE, "OLD"), 403, "Access key OLD has already expired."),
        (Signed::new("GET", MINE, "", "AK1", &old, "n-1"), 403, "Auth-Timestamp is invalid."),
        (Signed::new("GET", MINE, "", "AK1", &future, "n-2"), 403, "Auth-Timestamp is invalid."),
        (Signed::new("GET", MINE, "", "AK1", "soon", "n-3"), 403, "Auth-Timestamp is invalid."),
    ];
    for (signed, status, text) in table {
        let answer = coordinator.send("GET", MINE, &signed.fields());
        assert_eq!((answer.status, detail(&answer).as_str()), (status, text));
    }
    let signed = Signed::new("HEAD", MINE, "", "AK1", "1677222787", "n-4");
    let answer = coordinator.send("GET", MINE, &signed.fields());
    let expected = "Invalid Signature,StringToSign: GET\\n\\nAuth-Access-Key: AK1\\nAuth-Nonce: n-4\\n\
        Auth-Timestamp: 1677222787\\n/api/request-download?file_id=mine%2Fa.bin&user_id=u456";
    assert_eq!((answer.status, detail(&answer).as_str()), (401, expected));
    let repeated = format!("{MINE}&user_id=u456");
    assert_eq!(coordinator.send("GET", &repeated, &Signed::get(MINE, "AK1").fields()).status, 400);
}

#[test]
fn who_calls_too_often_is_told_when_and_nobody_else_notices() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let call = |key: &str| coordinator.send("GET", MINE, &Signed::get(MINE, key).fields());
    for left in (0..3).rev() {
        let answer = call("SLOW");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("ratelimit-policy"), "\"client\";q=3;w=180");
        let limit = answer.field("ratelimit");
        assert!(limit.starts_with(&format!("\"client\";r={left};t=")), "{limit}");
    }
    assert!(call("AK1").fields.keys().all(|name| !name.starts_with("ratelimit")), "it has no pace");
    // Calls that do not verify count against nobody's pace.
    for _ in 0..3 {
        let wrong = Signed::new("HEAD", MINE, "", "AK1", "1", &nonce());
        assert_eq!(coordinator.send("GET", MINE, &wrong.fields()).status, 401);
    }
    let throttled = call("SLOW");
    assert_eq!(throttled.status, 429);
    let wait: u64 = throttled.field("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(throttled.field("ratelimit-policy"), "\"client\";q=3;w=180");
    let blocked = (0..20).map(|_| call("SLOW")).find(|answer| answer.status == 403).unwrap();
    assert!(detail(&blocked).contains("blocked until 20"), "{}", detail(&blocked));
    assert_eq!(call("AK1").status, 200);
    // Guesses from one address are answered shortly after a while; good calls from there are as good as before.
    let guess = || coordinator.send("GET", MINE, &Signed::get(MINE, "guess").fields()).status;
    // So many that those before or those after a full minute are too many.
    assert!((0..60).any(|_| guess() == 429));
    assert_eq!(call("AK1").status, 200);
    let refused = |reason: &str| {
        coordinator.metric(&format!("sluice_coordinator_refusals_total{{reason=\"{reason}\"}}"))
    };
    assert_eq!(refused("signature"), 3.0);
    for reason in ["throttled", "blocked", "no-such-client", "failed-too-often"] {
        assert!(refused(reason) >= 1.0, "{reason}");
    }
    assert_eq!(refused("replay"), 0.0, "it is there before the first");
    coordinator.log_line(|line| line["message"] == "call" && line["reason"] == "throttled");
}

fn jwt(claims: &str) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let mac = Hmac::<Sha256>::new_from_slice(b"your_app_secret").unwrap().chain_update(&signed);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[test]
fn apps_call_with_their_jwt() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let target = "/download/a.bin";
    let good = jwt(&format!("{{\"exp\":{}}}", seconds() + 3600));
    let bearer = format!("Bearer {good}");
    let needs_iat = jwt("{\"exp\":3600}");
    let table = [
        (vec![("AppKey", "app"), ("Authorization", good.as_str())], 302, ""),
        (vec![("AppKey", "app"), ("Authorization", &bearer)], 302, ""),
        (vec![("AppKey", "app"), ("Authorization", &needs_iat)], 401, "add iat"),
        (vec![("AppKey", "app")], 401, "Authorization header is required."),
        (vec![("Authorization", &good)], 401, "AppKey header is required."),
        (vec![("AppKey", "AK1"), ("Authorization", &good)], 401, "App key AK1 not exists."),
        (vec![("AppKey", "app"), ("Authorization", "x")], 401, "not a JWT"),
        // Who brings one scheme's headers is judged by that one alone.
        (vec![("AppKey", "app"), ("Authorization", &good), ("Auth-Nonce", "n")], 400, "Auth-Access-Key"),
    ];
    for (fields, status, text) in table {
        let answer = coordinator.send("GET", target, &fields);
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text());
        if status == 302 {
            assert_eq!(coordinator.claims(&token_of(answer.field("location"))).cid.as_deref(), Some("app"));
        } else {
            assert!(detail(&answer).contains(text), "{}", answer.text());
        }
    }
}

#[test]
fn sealed_calls_are_answered_sealed_and_once() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let calls = SealedCalls::new(KEY, "api-secret").unwrap();
    let data = calls.seal(b"{\"file_id\":\"abc123\",\"user_id\":\"u456\"}", SystemTime::now());
    let millis = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    let body = |data: &str, timestamp: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(b"api-secret").unwrap();
        let mac = mac.chain_update(data).chain_update(timestamp).finalize().into_bytes();
        let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{\"data\":\"{data}\",\"timestamp\":\"{timestamp}\",\"signature\":\"{signature}\"}}")
    };
    let call = |body: &str| coordinator.post("/api/secure/request-download", &[], body);
    let good = body(&data, &millis());
    let answer = call(&good);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sealed = answer.json()["data"].as_str().unwrap().to_owned();
    // The answer is Fernet text too; a signature of our own opens it.
    let (now, timestamp) = (SystemTime::now(), millis());
    let signed: serde_json::Value = serde_json::from_str(&body(&sealed, &timestamp)).unwrap();
    let signature = signed["signature"].as_str().unwrap();
    let opened = calls.verify(&sealed, &timestamp, signature, now, Duration::from_secs(60)).unwrap();
    let links: serde_json::Value = serde_json::from_slice(&opened.plaintext).unwrap();
    let claims = coordinator.claims(&token_of(links["download_url"].as_str().unwrap()));
    assert_eq!((claims.file_id.as_str(), claims.user_id.as_deref()), ("abc123", Some("u456")));
    let table = [
        (good.clone(), 403),
        (body(&data, &millis()).replace("\"signature\":\"", "\"signature\":\"x"), 400),
        (body(&data, &millis()).replace(&data, &data.replacen('A', "B", 1)), 401),
        (body(&data, "1700000000000"), 400),
        (body("junk", &millis()), 400),
        ("{}".to_owned(), 400),
        (good.replace("{\"data\"", "{\"data\":\"x\",\"data\""), 400),
    ];
    for (body, status) in table {
        assert_eq!(call(&body).status, status, "{body}");
    }
    // Who guesses signatures is told less, and others' calls from there are as good as before.
    let guess = || call(&body(&data, &millis()).replace(&data, &data.replacen('A', "B", 1))).status;
    assert!((0..60).any(|_| guess() == 429));
    let another = calls.seal(b"{\"file_id\":\"abc123\",\"user_id\":\"u456\"}", SystemTime::now());
    assert_eq!(call(&body(&another, &millis())).status, 200);
    let info = coordinator.get("/security-info");
    assert_eq!(info.status, 200);
    assert_eq!(info.json()["max_age"], 300_000);
    assert_eq!(info.json()["encryption_key_fingerprint"].as_str().unwrap().len(), 16);
    assert!(!info.text().contains(KEY));
}

#[test]
fn operators_change_clients_while_all_goes_on() {
    let edge = Edge::start("edge-1");
    let coordinator = start(&edge);
    let call = |key: &str| coordinator.send("GET", MINE, &Signed::get(MINE, key).fields()).status;
    assert_eq!(call("AK1"), 200);
    assert_eq!(coordinator.admin_call("POST", "/admin/v1/clients/AK1/disable", "").status, 204);
    assert_eq!(call("AK1"), 403);
    assert_eq!(coordinator.admin_call("POST", "/admin/v1/clients/AK1/enable", "").status, 204);
    assert_eq!(call("AK1"), 200);
    let rotated = coordinator.admin_call("POST", "/admin/v1/clients/AK1/rotate", "").json();
    assert_eq!(call("AK1"), 401, "the old secret is good no more");
    let secret = rotated["secret"].as_str().unwrap().to_owned();
    assert_eq!(secret.len(), 43);
    let new = "{\"access_key\":\"NEW\",\"scheme\":\"app-jwt\",\"prefixes\":[\"a/\"],\"rate\":\"5/s\",\"note\":\"n\"}";
    let added = coordinator.admin_call("POST", "/admin/v1/clients", new);
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(coordinator.admin_call("POST", "/admin/v1/clients", new).status, 409);
    let list = coordinator.ask_admin("/admin/v1/clients");
    assert!(!list.text().contains("secret"), "{}", list.text());
    let keys: Vec<_> =
        list.json()["clients"].as_array().unwrap().iter().map(|c| c["access_key"].to_string()).collect();
    assert_eq!(keys, ["\"AK1\"", "\"NEW\"", "\"OFF\"", "\"OLD\"", "\"SLOW\"", "\"app\""]);
    assert_eq!(coordinator.admin_call("DELETE", "/admin/v1/clients/NEW", "").status, 204);
    assert_eq!(coordinator.admin_call("DELETE", "/admin/v1/clients/NEW", "").status, 404);
    let audited =
        coordinator.log_line(|line| line["message"] == "audit" && line["action"] == "clients.remove");
    assert_eq!((audited["subject"].as_str(), audited["done"].as_bool()), (Some("NEW"), Some(true)));
    assert!(!coordinator.log_text().contains(&secret));
    // A bad edit by hand keeps the clients that are known, and says so.
    let text = std::fs::read_to_string(coordinator.setting.path("clients.toml")).unwrap();
    coordinator.setting.write_private("clients.toml", "nonsense");
    coordinator.log_line(|line| line["message"] == "clients file not taken; the clients read before stay");
    assert_eq!(call("OFF"), 403);
    coordinator.setting.write_private("clients.toml", &text.replace("enabled = false", "enabled = true"));
    support::wait_until("the edit is taken", || call("OFF") == 200);
}
