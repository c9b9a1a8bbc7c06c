//! TLS on the API's port: who is served, with which certificate, and what is said of files that cannot be used.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use support::{
    Authority, Coordinator, Edge, Setting, Signal, TlsClient, complaint, date, output_of, wait_until,
};

const TLS: &str =
    "public_url = \"https://127.0.0.1\"\n[tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A setting with `[tls]` behind `more`.
fn setting(edges: &[&Edge], more: &str) -> Setting {
    let setting = Setting::new(edges, "");
    let plain = format!("public_url = \"{}\"", support::PUBLIC_URL);
    let text = support::config(edges, "").replace(&plain, "");
    setting.write_config(&text.replacen("[keys]", &format!("{more}\n{TLS}\n[keys]"), 1));
    setting
}

fn start(setting: Setting) -> Coordinator {
    let coordinator = Coordinator::launch(setting);
    wait_until("it is ready", || coordinator.ready().status == 200);
    coordinator
}

/// A running coordinator with a certificate of so long a life.
fn started(edge: &Edge, authority: &Authority, more: &str) -> Coordinator {
    let setting = setting(&[edge], more);
    authority.issue(90 * DAY).install(&setting);
    start(setting)
}

/// What curl says on its standard error, and what it was told to print.
fn curl(coordinator: &Coordinator, authority: &Authority, arguments: &[&str]) -> (String, String) {
    coordinator.setting.write_private("ca.pem", &authority.certificate);
    let mut command = Command::new("curl");
    command.args(["-sSv", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--max-time", "30"]);
    command.arg("--cacert").arg(coordinator.setting.path("ca.pem")).args(arguments);
    let output = output_of(command.arg(format!("https://{}/download/a", coordinator.address)));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stderr), text(output.stdout))
}

#[test]
fn curl_is_redirected_over_tls_1_2_and_1_3_and_not_over_1_1() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let coordinator = started(&edge, &authority, "");
    for version in ["1.2", "1.3"] {
        let (talk, written) =
            curl(&coordinator, &authority, &[&format!("--tlsv{version}"), "--tls-max", version]);
        assert!(written.starts_with(&format!("302 {}/download/a?token=", edge.url())), "{written} {talk}");
        assert!(talk.contains(&format!("SSL connection using TLSv{version}")), "{talk}");
        assert!(talk.contains("ALPN: server accepted http/1.1"), "{talk}");
    }
    assert_eq!(coordinator.metric("sluice_tls_handshake_failures_total"), 0.0);
    let old = ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    let (talk, written) = curl(&coordinator, &authority, &old);
    assert_eq!(written, "000 ");
    // The server's word upon a hello, not curl's own refusal.
    for part in ["TLSv1.1 (OUT), TLS handshake, Client hello", "TLSv1.1 (IN), TLS alert"] {
        assert!(talk.contains(part), "{part}: {talk}");
    }
    wait_until("it is counted", || coordinator.metric("sluice_tls_handshake_failures_total") == 1.0);
}

#[test]
fn a_certificate_of_another_issuer_is_refused_by_curl() {
    let edge = Edge::start("edge-1");
    let coordinator = started(&edge, &Authority::new(), "");
    let (talk, written) = curl(&coordinator, &Authority::new(), &[]);
    assert_eq!(written, "000 ", "{talk}");
}

#[test]
fn a_session_is_resumed_until_its_certificate_goes() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let coordinator = started(&edge, &authority, "");
    for version in [&TLS12, &TLS13] {
        let config = authority.trusted(version);
        let connect = || {
            let mut client = TlsClient::connect(coordinator.address, &config);
            assert_eq!(client.version(), version.version);
            assert!(client.get("/download/a").starts_with("http/1.1 302"));
            client
        };
        assert!(!connect().is_resumed());
        assert!(connect().is_resumed());
        // Read anew without a change, it stays.
        let rereads = rereads(&coordinator);
        coordinator.signal(Signal::HUP);
        wait_until("it is reread", || self::rereads(&coordinator) > rereads);
        assert!(connect().is_resumed());
        let next = authority.issue(60 * DAY);
        next.install(&coordinator.setting);
        wait_until("it is exchanged", || connect().certificate() == next.der());
        let exchanged = authority.trusted(version);
        assert!(!TlsClient::connect(coordinator.address, &exchanged).is_resumed());
    }
}

fn rereads(coordinator: &Coordinator) -> usize {
    coordinator.log_text().matches("certificate reread; it is the one in use").count()
}

#[test]
fn certificates_are_exchanged_and_open_connections_live_on() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let setting = setting(&[&edge], "");
    let first = authority.issue(90 * DAY);
    first.install(&setting);
    let coordinator = start(setting);
    let config = authority.trusted(&TLS13);
    let connect = || TlsClient::connect(coordinator.address, &config);
    let expires = || coordinator.metric("sluice_certificate_expires_seconds");
    let mut old = connect();
    assert!(old.get("/download/a").starts_with("http/1.1 302"));
    assert_eq!(old.certificate(), first.der());
    let before = expires();

    // What cannot be used leaves all as it is, and is said once.
    let other = authority.issue(30 * DAY);
    coordinator.setting.write_private("server.key", &other.key);
    let refused =
        |line: &serde_json::Value| line["level"] == "ERROR" && text(line).contains("certificate not taken");
    let line = coordinator.log_line(refused);
    assert!(line["error"].as_str().unwrap().contains("does not belong to the first certificate"), "{line}");
    assert_eq!(connect().certificate(), first.der());
    assert_eq!(expires(), before);

    let second = authority.issue(60 * DAY);
    second.install(&coordinator.setting);
    wait_until("the second is served", || connect().certificate() == second.der());
    assert!(old.get("/download/a").starts_with("http/1.1 302"), "the old connection lives on");
    assert!(connect().get("/download/a").starts_with("http/1.1 302"));
    let sooner = before - expires();
    assert!((sooner - 30.0 * DAY.as_secs_f64()).abs() < 60.0, "{sooner}");
    let line = coordinator.log_line(|line| text(line) == "certificate exchanged");
    assert_eq!(line["names"], "127.0.0.1");
    assert!(line["expires"].as_str().unwrap().ends_with('Z'), "{line}");
    assert!(!coordinator.log_text().contains("PRIVATE KEY"));
}

fn text(line: &serde_json::Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[test]
fn a_hangup_rereads_certificate_keys_and_clients_and_ends_nothing() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let coordinator = started(&edge, &authority, "");
    let config = authority.trusted(&TLS13);
    let mut open = TlsClient::connect(coordinator.address, &config);
    assert!(open.get("/download/a").starts_with("http/1.1 302"));
    let next = authority.issue(60 * DAY);
    next.install(&coordinator.setting);
    coordinator.signal(Signal::HUP);
    coordinator.log_line(|line| text(line).contains("need a restart"));
    coordinator.log_line(|line| text(line) == "certificate exchanged");
    let is_of =
        |line: &serde_json::Value, name: &str| line["path"].as_str().is_some_and(|path| path.ends_with(name));
    for name in ["keys.jwks.json", "tickets.jwks.json"] {
        coordinator.log_line(|line| text(line) == "key file reread" && is_of(line, name));
    }
    coordinator.log_line(|line| text(line) == "clients file reread");
    assert_eq!(TlsClient::connect(coordinator.address, &config).certificate(), next.der());
    assert!(open.get("/download/a").starts_with("http/1.1 302"));
}

#[test]
fn a_coordinator_without_tls_survives_a_hangup_as_well() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    coordinator.signal(Signal::HUP);
    coordinator.log_line(|line| text(line).contains("need a restart"));
    assert_eq!(coordinator.request_download("a").status, 200);
    let metrics = support::send(coordinator.admin, "GET", "/metrics", &[]).text();
    assert!(!metrics.contains("sluice_certificate_expires_seconds"), "there is no certificate");
}

#[test]
fn files_that_cannot_be_used_are_refused_at_the_start_and_by_a_check() {
    let edge = Edge::start("edge-1");
    let setting = setting(&[&edge], "");
    let authority = Authority::new();
    let good = || authority.issue(90 * DAY);
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let dated = |from: SystemTime, to: SystemTime| authority.issue_with(|params| date(params, from, to));
    let text_of = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let client_only = authority.issue_with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (expired, early) = (dated(now - 2 * hour, now - hour), dated(now + hour, now + 2 * hour));
    let own = good();
    let garbage = own.cert.replacen("MII", "AAA", 1);
    let in_cert = |parts: [&str; 2]| parts.map(str::to_owned).to_vec();
    let table: Vec<(&str, &str, Vec<String>)> = vec![
        (&expired.cert, &expired.key, in_cert(["server.pem expired at", &text_of(now - hour)])),
        (&early.cert, &early.key, in_cert(["server.pem is not valid before", &text_of(now + hour)])),
        (&client_only.cert, &client_only.key, in_cert(["server.pem is not for servers", "serverAuth"])),
        (&own.cert, &client_only.key, in_cert(["server.key does not belong", "first certificate in"])),
        ("", &own.key, in_cert(["server.pem has no certificate", "-----BEGIN CERTIFICATE-----"])),
        (&garbage, &own.key, in_cert(["certificate 1 in", "write the file anew"])),
        (&own.cert, "garbage", in_cert(["server.key has no private key", "-----BEGIN PRIVATE KEY-----"])),
    ];
    let refused = |expected: &[String]| {
        for arguments in [&["--check"][..], &[]] {
            let complaint = complaint(&setting.run(arguments));
            for part in expected {
                assert!(complaint.contains(part), "{part:?} in {complaint:?}");
            }
        }
        assert!(!setting.files().contains(&"tickets.jwks.json".to_owned()), "nothing was made");
    };
    for (cert, key, expected) in table {
        setting.write_private("server.pem", cert);
        setting.write_private("server.key", key);
        refused(&expected);
    }
    setting.write_private("server.key", &own.key);
    setting.write_private("server.pem", &own.cert);
    setting.set_mode("server.key", 0o640);
    refused(&in_cert(["server.key can be read by others (mode 0640)", "chmod 600"]));
    std::fs::remove_file(setting.path("server.key")).unwrap();
    refused(&in_cert(["server.key does not exist", "mode 0600"]));
    std::fs::remove_file(setting.path("server.pem")).unwrap();
    refused(&in_cert(["server.pem does not exist", "as PEM"]));

    good().install(&setting);
    let output = setting.run(&["--check"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn half_a_section_is_no_plain_listener() {
    let edge = Edge::start("edge-1");
    let setting = setting(&[&edge], "");
    let whole = std::fs::read_to_string(setting.config()).unwrap();
    let (cert, key) = ("cert_file = \"server.pem\"\n", "key_file = \"server.key\"\n");
    let table = [
        (whole.replace(cert, ""), "`tls.cert_file` is missing"),
        (whole.replace(key, ""), "`tls.key_file` is missing"),
        (whole.replace(cert, "").replace(key, ""), "`tls.cert_file` is missing"),
        (whole.replace("key_file", "keyfile"), "keyfile"),
    ];
    for (text, expected) in table {
        setting.write_config(&text);
        let complaint = complaint(&setting.run(&["--check"]));
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn silent_and_unfinished_clients_do_not_hold_up_the_end() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let coordinator = started(&edge, &authority, "");
    let silent = TcpStream::connect(coordinator.address).unwrap();
    let mut half = TcpStream::connect(coordinator.address).unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let config = authority.trusted(&TLS13);
    let mut open = TlsClient::connect(coordinator.address, &config);
    assert!(open.get("/download/a").starts_with("http/1.1 302"));
    let begun = Instant::now();
    coordinator.signal(Signal::TERM);
    assert!(coordinator.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop((silent, half, open));
}

#[test]
fn a_proxy_header_comes_before_the_hello() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let proxied = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";
    let coordinator = started(&edge, &authority, proxied);
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0x30, 0x39, 0, 80];
    let header = [b"\r\n\r\n\0\r\nQUIT\n", &[0x21, 0x11, 0, 12][..], &addresses].concat();
    let config = authority.trusted(&TLS13);
    let mut client = TlsClient::connect_behind(&header, coordinator.address, &config);
    assert!(client.get("/download/a").starts_with("http/1.1 302"));
    let line = coordinator.log_line(|line| line["request_id"] == "tls");
    assert_eq!(line["client"], "203.0.113.9");
    // A hello without the header is nobody's.
    let (talk, written) = curl(&coordinator, &authority, &[]);
    assert_eq!(written, "000 ", "{talk}");
    coordinator.log_line(|line| line["reason"] == "no PROXY v2 header");
}

#[test]
fn the_log_warns_of_an_end_that_is_near_and_of_links_without_tls() {
    let edge = Edge::start("edge-1");
    let authority = Authority::new();
    let setting = setting(&[&edge], "");
    let text_of_config = std::fs::read_to_string(setting.config()).unwrap();
    setting.write_config(&text_of_config.replace("https://127.0.0.1", "http://127.0.0.1"));
    let expires = SystemTime::now() + Duration::from_secs(12);
    authority.issue_with(|params| date(params, SystemTime::now() - DAY, expires)).install(&setting);
    let coordinator = start(setting);
    let warned = |part: &'static str| {
        let date = humantime::format_rfc3339_seconds(expires).to_string();
        coordinator.log_line(|line| {
            line["level"] == "WARN" && text(line).contains(part) && line["expires"] == date.as_str()
        });
    };
    warned("expires within a week");
    warned("has expired");
    coordinator.log_line(|line| line["level"] == "WARN" && text(line).contains("write https://"));
    assert_eq!(coordinator.log_text().matches("expires within a week").count(), 1);
}
