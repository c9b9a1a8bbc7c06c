//! What must not be found where it should not be: secrets, tokens and signatures in logs, keys in a process's arguments;
//! and in logs, anything but lines of JSON, whatever callers send.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::client::{self, Connection, Request};
use sluice_loadtest::crowd::target_of;
use sluice_loadtest::{Cluster, download};
use sluice_shared::file_id::FileId;
use sluice_shared::token::sealed::SealedCalls;
use sluice_shared::token::timed::{TimedPayload, TimedSigner};
use sluice_shared::token::{Claims, NumericDate};

mod etcd;
mod search;

use search::Secrets;

const SIGNATURE_SECRET: &str = "hush-of-signatures";
const APP_SECRET: &str = "hush-of-apps";
const TIMED_SECRET: &str = "hush-of-timed-links";
const API_SECRET: &str = "hush-of-sealed-calls";
const ENCRYPTION_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// A name that would break out of careless quotes, in a log and in a header.
const HOSTILE_FILE: &str = "we ird/q\"uo'te {}, \"level\":1} %0d%0a 年度.bin";
const HOSTILE_NAME: &str = "\"}\\\r\n{\u{0}\u{2028}";
/// What people send in fields that are meant for other things.
const HOSTILE_FIELDS: &[u8] =
    b"User-Agent: \"}\\r\\n{\"level\":\"x\"} \xff\xfe%0d%0a\t\r\nX-Request-Id: \"a\\n\xc3\r\n\
    Referer: \\x00\\u0000\"\r\nX-Forwarded-For: \"\\r\\n, 10.0.0.1\r\n";

fn cluster() -> anyhow::Result<Cluster> {
    let client = |key: &str, secret: &str, scheme: &str| {
        format!(
            "[[clients]]\naccess_key = {key:?}\nsecret = {secret:?}\nscheme = {scheme:?}\nprefixes = [\"\"]\n"
        )
    };
    let clients = client("AK", SIGNATURE_SECRET, "signature") + &client("app", APP_SECRET, "app-jwt");
    let coordinator = format!(
        "public_prefixes = [\"we ird\"]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [auth]\nschemes = [\"signature\", \"app-jwt\", \"sealed\"]\n\
         [sealed]\nencryption_key = {ENCRYPTION_KEY:?}\napi_secret_key = {API_SECRET:?}\n\
         [timed]\nsecret = {TIMED_SECRET:?}\nfile_id = \"a.bin\"\n\
         [log]\nfilter = \"trace\"\naudit_file = \"audit.log\""
    );
    let edge = |id: usize| {
        format!(
            "[log]\nfilter = \"trace\"\naccess_file = \"access-{id}.log\"\nusage_file = \"usage-{id}.log\"\n\
             [limits]\ndrain_grace = \"10ms\""
        )
    };
    let cluster = Cluster::start()
        .edges(2)
        .clients(&clients)
        .coordinator(|settings| settings.toml(&coordinator))
        .edge(0, |settings| settings.toml(&edge(1)))
        .edge(1, |settings| settings.toml(&edge(2)))
        .file("a.bin", 3 << 20)
        .file(HOSTILE_FILE, 1000)
        .ready()?;
    caller::wait_for_next_second()?;
    Ok(cluster)
}

#[test]
fn no_secret_is_in_any_log_or_command_line_and_every_line_is_json() -> anyhow::Result<()> {
    let mut cluster = cluster()?;
    let mut secrets = Secrets::default();
    use_schemes(&mut cluster, &mut secrets)?;
    use_links(&mut cluster, &mut secrets)?;
    use_tokens(&cluster, &mut secrets)?;
    use_admin(&cluster, &mut secrets)?;
    be_hostile(&mut cluster, &mut secrets)?;
    for file in ["keys.jwks.json", "tickets.jwks.json"] {
        let keys: Value = serde_json::from_slice(&fs::read(cluster.folder().join(file))?)?;
        secrets.add(keys["keys"][0]["k"].as_str().context("a key")?);
    }
    for text in
        [SIGNATURE_SECRET, APP_SECRET, TIMED_SECRET, API_SECRET, ENCRYPTION_KEY, &cluster.admin_token()?]
    {
        secrets.add(text);
    }

    secrets.check_arguments(&mut cluster)?;
    let (logs, lines) = secrets.check_logs(&mut cluster)?;
    assert_eq!(
        logs,
        ["access-1", "access-2", "audit", "coordinator-1", "edge-1", "edge-2", "usage-1", "usage-2"]
    );
    // What is hostile and no secret is there, as it came.
    for (member, value) in
        [("file", HOSTILE_FILE), ("user", HOSTILE_NAME), ("cid", HOSTILE_NAME), ("subject", HOSTILE_NAME)]
    {
        assert!(lines.iter().any(|line| line[member] == value), "no {member} {value:?} in the logs");
    }
    Ok(())
}

/// Calls by every scheme, good ones and bad ones.
fn use_schemes(cluster: &mut Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    const TARGET: &str = "/api/request-download?file_id=a.bin&user_id=\"u%20\\u0041";
    let url = cluster.coordinator().url();
    let caller = Caller::new(&url, "AK", SIGNATURE_SECRET);
    let target = TARGET.replace(['"', '\\'], "%22");
    let signed = caller.sign("GET", &target, "");
    secrets.add(&signed.signature);
    let answer = caller.request("GET", &target, "", &signed).send()?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let offered = answer.json()?["download_url"].as_str().context("a URL")?.to_owned();
    secrets.add_url(&offered)?;
    assert_eq!(client::get_here(&offered)?.status(), 200);
    assert_eq!(caller.request("GET", &target, "", &signed).send()?.status(), 403, "a nonce used twice");
    let forged = Caller { secret: "another-secret".to_owned(), ..caller.clone() }.sign("GET", &target, "");
    secrets.add(&forged.signature);
    assert_eq!(caller.request("GET", &target, "", &forged).send()?.status(), 401);
    let unknown = Caller { access_key: "\"}\\n".to_owned(), ..caller };
    assert_eq!(unknown.call("GET", &target, "").send()?.status(), 403);

    for (secret, status) in [(APP_SECRET, 200), ("another-secret", 401)] {
        let jwt = caller::app_jwt(secret);
        secrets.add(jwt.rsplit('.').next().unwrap_or_default());
        let request = Request::new("GET", &format!("{url}{target}")).field("AppKey", "app");
        assert_eq!(request.field("Authorization", &format!("Bearer {jwt}")).send()?.status(), status);
    }

    let calls = SealedCalls::new(ENCRYPTION_KEY, API_SECRET)?;
    let asked = json!({ "file_id": HOSTILE_FILE, "user_id": "\"u\\" });
    for (api_secret, status) in [(API_SECRET, 200), ("another-secret", 401)] {
        let body = caller::sealed_call(&calls, api_secret, &asked);
        for field in ["data", "signature"] {
            let text = body[field].as_str().context("a text")?;
            // Fernet begins with version and time.
            secrets.add(text.get(20..).context("a long text")?);
        }
        let sealed = format!("{url}/api/secure/request-download");
        let answer = Request::new("POST", &sealed).body(&body.to_string()).send()?;
        assert_eq!(answer.status(), status, "{}", answer.text());
        if status == 200 {
            secrets
                .add(answer.json()?["data"].as_str().and_then(|data| data.get(20..)).context("sealed data")?);
        }
    }
    Ok(())
}

/// Links and timed links, in their places and out of them.
fn use_links(cluster: &mut Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    let url = cluster.coordinator().url();
    let caller = Caller::new(&url, "AK", SIGNATURE_SECRET);
    let signer = TimedSigner::new(TIMED_SECRET, "itsdangerous");
    let timed = signer.sign(&TimedPayload { to_user: "\"\\\r\n".into(), file_id: None }, SystemTime::now());
    secrets.add(&timed);
    let link =
        caller.link(&json!({ "file_id": HOSTILE_FILE, "filename": "q\"uo'te.bin", "max_downloads": 2 }))?;
    let ticket = target_of(&link.url)?.trim_start_matches("/d/").to_owned();
    secrets.add_token(&ticket);
    for good in [link.url.clone(), format!("{url}/api/get_file/{timed}")] {
        let answer = client::get_here(&good)?;
        assert_eq!(answer.status(), 302, "{}", answer.text());
        let location = answer.field("location")?.to_owned();
        let token = secrets.add_url(&location)?;
        assert_eq!(client::get_here(&location)?.status(), 200);
        let renewed = client::get_here(&format!("{url}/renew?token={token}&not=edge-1"))?;
        assert_eq!(renewed.status(), 302, "{}", renewed.text());
        secrets.add_url(renewed.field("location")?)?;
        let metalink = Request::new("GET", &good).field("Accept", "application/metalink4+xml").send()?;
        assert!(metalink.status() < 400, "{}", metalink.text());
    }
    for secret in [&ticket, &timed] {
        for target in [
            "/d/%/more",
            "/d//%",
            "/%64/%",
            "/D/%",
            "//d/%",
            "/api/get_file/%/",
            "/api//get_file/%",
            "/API/%",
        ] {
            client::get_here(&format!("{url}{}", target.replacen("/%", &format!("/{secret}"), 1)))?;
        }
        // Who takes the link for its id.
        let target = format!("/api/links/{secret}");
        assert_eq!(caller.call("DELETE", &target, "").send()?.status(), 404);
        let mut connection = Connection::open(&cluster.coordinator().address())?;
        let absolute = format!("GET {url}/d/{secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        connection.send(absolute.as_bytes())?;
        connection.read_to_close()?;
    }
    assert_eq!(caller.call("DELETE", &format!("/api/links/{}", link.id), "").send()?.status(), 204);
    assert_eq!(client::get_here(&link.url)?.status(), 403);
    Ok(())
}

/// Tokens, used well and badly.
fn use_tokens(cluster: &Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    let hour = Duration::from_secs(3600);
    let claims =
        |file_id, exp| anyhow::Ok(Claims::new(FileId::parse(file_id)?, NumericDate::from_system_time(exp)));
    let now = SystemTime::now();
    let good = cluster.seal(&claims("a.bin", now + hour)?)?;
    let expired = cluster.seal(&claims("a.bin", now - hour)?)?;
    let missing = cluster.seal(&claims("nothing-here.bin", now + hour)?)?;
    let other = if good.ends_with('A') { "Q" } else { "A" };
    let altered = format!("{}{other}", &good[..good.len() - 1]);
    let edge = cluster.edges()[0].url();
    for (token, status) in [(&good, 200), (&expired, 401), (&missing, 404), (&altered, 400)] {
        secrets.add_token(token);
        let answer = client::get_here(&format!("{edge}/download?token={token}"))?;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert!(!answer.text().contains(token), "an answer repeats no token");
    }
    let url =
        format!("{edge}/download/any \"name\".bin?token={good}").replace(' ', "%20").replace('"', "%22");
    assert_eq!(Request::new("GET", &url).range("5-9").send()?.status(), 206);
    assert_eq!(Request::new("POST", &url).field("Content-Length", "0").send()?.status(), 405);
    download::resuming(&url, |_| ())?;
    // Where tokens do not belong: in a path, twice, in a field, in the coordinator's query.
    client::get_here(&format!("{edge}/{good}"))?;
    client::get_here(&format!("{edge}/download?token={good}&token={good}"))?;
    Request::new("GET", &url)
        .field("Referer", &url)
        .field("Authorization", &good)
        .field("Cookie", &good)
        .send()?;
    let coordinator = cluster.coordinators()[0].url();
    client::get_here(&format!("{coordinator}/download/a.bin?token={good}"))?;
    client::get_here(&format!("{coordinator}/{good}"))?;
    client::get_here(&format!("{coordinator}/renew/{good}?token={good}"))?;
    Ok(())
}

/// Operators, and those who would be.
fn use_admin(cluster: &Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    let url = cluster.coordinators()[0].admin_url();
    let bearer = format!("Bearer {}", cluster.admin_token()?);
    let post = |path: &str, body: &Value| {
        let request = Request::new("POST", &format!("{url}{path}")).field("Authorization", &bearer);
        request.body(&body.to_string()).send()
    };
    let added =
        post("/admin/v1/clients", &json!({ "access_key": "new", "scheme": "signature", "prefixes": [""] }))?;
    assert_eq!(added.status(), 201, "{}", added.text());
    secrets.add(added.json()?["secret"].as_str().context("a secret")?);
    let rotated = cluster.admin("POST", "/admin/v1/clients/new/rotate")?;
    secrets.add(rotated.json()?["secret"].as_str().context("a secret")?);
    let timed = post("/admin/v1/timed-links", &json!({ "to_user": HOSTILE_NAME }))?;
    assert_eq!(timed.status(), 201, "{}", timed.text());
    let link = timed.json()?["link"].as_str().context("a link")?.to_owned();
    secrets.add(link.rsplit('/').next().unwrap_or_default());
    assert_eq!(cluster.admin("POST", "/admin/v1/clients/%22%0d%0a%7B%ff/disable")?.status() / 100, 4);
    assert_eq!(cluster.admin("POST", "/admin/v1/clients/%22%0d%0a%7B/disable")?.status(), 404);
    let stranger = "Bearer a-token-of-another-place";
    secrets.add(&stranger[7..]);
    let refused =
        Request::new("GET", &format!("{url}/admin/v1/edges")).field("Authorization", stranger).send()?;
    assert_eq!(refused.status(), 401);
    Ok(())
}

/// Bytes that no well-meaning client sends, to everybody.
fn be_hostile(cluster: &mut Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    let hour = SystemTime::now() + Duration::from_secs(3600);
    let claims = Claims {
        user_id: Some(HOSTILE_NAME.into()),
        cid: Some(HOSTILE_NAME.into()),
        rid: Some("\"\n".into()),
        r#fn: Some("q\"uo\r\nte".into()),
        ..Claims::new(FileId::parse(HOSTILE_FILE)?, NumericDate::from_system_time(hour))
    };
    let token = cluster.seal(&claims)?;
    secrets.add_token(&token);
    let answer = client::get_here(&format!("{}/download?token={token}", cluster.edges()[0].url()))?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let targets: Vec<Vec<u8>> = vec![
        format!("/download/%0d%0a%22%ff?token={token}").into_bytes(),
        [b"/download/\xff\xfe\"?token=".as_slice(), token.as_bytes()].concat(),
        format!("/download?token={token}%0d%0a").into_bytes(),
        format!("/{token}\"\\r\\n").into_bytes(),
        b"/download/%ff%fe%0d%0a%22%7B?user_id=%ff".to_vec(),
        b"/download/we%20ird/%22%0d%0a?user_id=a%0d%0ab".to_vec(),
        b"/download/we%20ird/\"\\\xe2\x80\xa8{}?user_id=\"".to_vec(),
        b"/renew?token=%22%0a&not=%22%0d%0a".to_vec(),
        b"/d/\"}%0d%0a{".to_vec(),
        b"*".to_vec(),
    ];
    let everybody =
        [cluster.edges()[0].address(), cluster.edges()[1].address(), cluster.coordinator().address()];
    for address in &everybody {
        for target in &targets {
            let head = [
                b"GET ",
                &target[..],
                b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
                HOSTILE_FIELDS,
                b"\r\n",
            ];
            let mut connection = Connection::open(address)?;
            connection.send(&head.concat())?;
            connection.read_to_close()?;
        }
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01\xff\xff\"\r\n\r\n"[..],
            b"GET / HTTP/9\r\n\x00: \xff\r\n\r\n",
            b"\"{}\n\n",
        ] {
            let mut connection = Connection::open(address)?;
            connection.send(bytes)?;
            connection.shutdown(std::net::Shutdown::Write)?;
            connection.read_to_close()?;
        }
    }
    Ok(())
}
