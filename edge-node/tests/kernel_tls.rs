//! TLS that the kernel goes on with behind the handshake. Where it has none, all is answered alike, by the process;
//! `make test-ktls` runs these claims where it has.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod encrypted;
mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use encrypted::Fronts;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, default_provider};
use rustls::crypto::cipher::{AeadKey, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::ServerName;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ExtractedSecrets,
    HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};
use support::{LIMIT, content, get_request, wait_for};

const KERNEL_TLS: &str = "sluice_edge_kernel_tls_connections_total ";

/// Whether this machine's kernel has it. Where it has to, the variable says so.
fn kernel_has_tls() -> bool {
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    let has_tls = known.split_whitespace().any(|ulp| ulp == "tls");
    assert!(has_tls || std::env::var_os("GUEST_HAS_KERNEL_TLS").is_none(), "the kernel has no TLS here");
    has_tls
}

/// Whether the kernel takes other keys after the first, as from Linux 6.14 on.
fn kernel_updates_keys() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    let updates = kernel_has_tls() && version >= (6, 14);
    assert!(updates || std::env::var_os("GUEST_UPDATES_KEYS").is_none(), "{release} takes no other keys");
    updates
}

/// Whether a connection goes on though its client updates its key: not with a kernel that takes no other.
fn goes_on() -> bool {
    kernel_updates_keys() || !kernel_has_tls()
}

/// Of `connections`, those that are the kernel's.
fn of_kernel(connections: u32) -> f64 {
    if kernel_has_tls() { f64::from(connections) } else { 0.0 }
}

/// A client whose every byte is the test's.
struct Client {
    tls: ClientConnection,
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn begin(fronts: &Fronts, config: Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(fronts.address).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("edge.example").unwrap();
        Self { tls: ClientConnection::new(config, name).unwrap(), socket, received: Vec::new() }
    }

    fn connect(fronts: &Fronts, config: Arc<ClientConfig>) -> Self {
        let mut client = Self::begin(fronts, config);
        while client.tls.is_handshaking() {
            client.tls.complete_io(&mut client.socket).unwrap();
        }
        client
    }

    /// All that TLS has to say, and does not say.
    fn unsaid(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn send(&mut self, text: &str) {
        self.tls.writer().write_all(text.as_bytes()).unwrap();
        let bytes = self.unsaid();
        self.socket.write_all(&bytes).unwrap();
    }

    /// Reads some more; nothing at the end that the server told of. One that it did not tell of is an error.
    fn read(&mut self) -> io::Result<usize> {
        let mut room = [0; 65_536];
        loop {
            match self.tls.reader().read(&mut room) {
                Ok(count) => {
                    self.received.extend_from_slice(&room[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.tls.read_tls(&mut self.socket)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// One answer: its head, its body.
    fn answer(&mut self) -> (String, Vec<u8>) {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read().unwrap() > 0, "ended in the head");
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.unwrap().parse().unwrap();
        while self.received.len() < length {
            assert!(self.read().unwrap() > 0, "ended after {} bytes of {length}", self.received.len());
        }
        (head, self.received.drain(..length).collect())
    }

    /// Asks for a range of a file, and says whether it came.
    fn gets(&mut self, token: &str, content: &[u8], range: std::ops::Range<usize>) -> bool {
        self.send(&get_request(token, &format!("Range: bytes={}-{}\r\n", range.start, range.end - 1)));
        let (head, body) = self.answer();
        head.starts_with("HTTP/1.1 206") && body == content[range]
    }
}

fn of_version(fronts: &Fronts, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    Arc::new(fronts.authority.client_of(&[version]))
}

/// Clients whose records are made by the test.
fn giving_secrets(fronts: &Fronts) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(of_suite(fronts, CipherSuite::TLS13_AES_256_GCM_SHA384));
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn of_suite(fronts: &Fronts, suite: CipherSuite) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    Arc::new(fronts.authority.client_with(provider, rustls::ALL_VERSIONS))
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// The suites that a certificate of ECDSA goes with.
fn suites() -> impl Iterator<Item = CipherSuite> {
    let suites = ALL_CIPHER_SUITES.iter().map(|suite| suite.suite());
    suites
        .filter(|suite| !format!("{suite:?}").contains("RSA_WITH") || format!("{suite:?}").contains("ECDSA"))
}

/// What the kernel counts of all connections ever.
fn kernel_count(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    count.unwrap_or(0)
}

#[test]
fn every_cipher_serves_small_and_large_files() {
    let fronts = Fronts::start("", "");
    let before = kernel_count("TlsTxSw");
    let files: Vec<_> = [1000, 20_000, (3 << 20) + 7].map(|size| (size, content(size, 3))).into();
    for (size, bytes) in &files {
        fronts.edge.file(&format!("{size}.bin"), bytes);
    }
    let mut connections = 0;
    for suite in suites() {
        let mut client = Client::connect(&fronts, of_suite(&fronts, suite));
        connections += 1;
        for (size, bytes) in &files {
            let token = fronts.edge.token(&format!("{size}.bin"));
            client.send(&get_request(&token, ""));
            let (head, body) = client.answer();
            assert!(head.starts_with("HTTP/1.1 200") && body == *bytes, "{suite:?} {size} {head}");
            assert!(client.gets(&token, bytes, 1..2), "{suite:?} {size}");
            assert!(client.gets(&token, bytes, size / 2 - 5..size - 1), "{suite:?} {size}");
        }
    }
    assert_eq!(connections, 6);
    assert_eq!(fronts.edge.metric(KERNEL_TLS), of_kernel(connections));
    if kernel_has_tls() {
        // Other tests may run beside this one.
        assert!(kernel_count("TlsTxSw") - before >= u64::from(connections));
        assert!(fronts.edge.log().contains("the kernel goes on with TLS"), "{}", fronts.edge.log());
    } else {
        assert!(fronts.edge.log().contains("TLS stays in the process"), "{}", fronts.edge.log());
    }
}

#[test]
fn who_does_not_want_it_has_none() {
    let fronts = Fronts::start("kernel_tls = false\n", "");
    let bytes = content(100_000, 5);
    fronts.edge.file("a.bin", &bytes);
    let mut client = Client::connect(&fronts, of_version(&fronts, &rustls::version::TLS13));
    assert!(client.gets(&fronts.edge.token("a.bin"), &bytes, 5..70_000));
    assert_eq!(fronts.edge.metric(KERNEL_TLS), 0.0);
    assert!(!fronts.edge.log().contains("the kernel goes on with TLS"), "{}", fronts.edge.log());
}

#[test]
fn a_kernel_without_tls_is_at_fault_only_where_it_is_asked_for() {
    for (top, is_asked_for) in [("", false), ("kernel_tls = true\n", true)] {
        let fronts = Fronts::start(top, "");
        let output = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
            .args(["--check", "--findings", "--config"])
            .arg(fronts.edge.folder.path().join("edge.toml"))
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap();
        let level = findings.iter().find(|finding| finding["what"] == "kernel TLS").unwrap()["level"].clone();
        assert_eq!(level, if is_asked_for && !kernel_has_tls() { "warn" } else { "ok" }, "{top}");
    }
}

/// Drives a handshake up to the client's last words, which are given instead of said.
fn up_to_finished(client: &mut Client) -> Vec<u8> {
    let hello = client.unsaid();
    client.socket.write_all(&hello).unwrap();
    loop {
        client.tls.read_tls(&mut client.socket).unwrap();
        client.tls.process_new_packets().unwrap();
        // Of TLS 1.2, the last words come with the first that are encrypted; the server's come after.
        if client.tls.wants_write() {
            return client.unsaid();
        }
    }
}

/// What the other end has received and not read (`/proc/net/tcp`).
fn unread(socket: &TcpStream) -> u64 {
    let ends = [socket.peer_addr(), socket.local_addr()].map(|end| format!(":{:04X}", end.unwrap().port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = ends.iter().all(|end| fields.next().is_some_and(|field| field.ends_with(end)));
        is_it.then(|| fields.nth(1)).flatten()
    });
    u64::from_str_radix(queues.unwrap().split_once(':').unwrap().1, 16).unwrap()
}

#[test]
fn requests_that_come_with_the_end_of_the_handshake_are_answered() {
    let fronts = Fronts::start("", "");
    let bytes = content(2 << 20, 9);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    // All at once, and cut anywhere: in the record of the handshake, in a request's, in its header.
    let mut cuts: Vec<usize> = vec![usize::MAX, 1, 5, 6, 40, 74, 78, 79, 80, 81, 85, 90, 150, 300];
    cuts.push(1000);
    let mut connections = 0.0;
    for cut in &cuts {
        let mut client = Client::begin(&fronts, of_version(&fronts, &rustls::version::TLS13));
        let mut last_words = up_to_finished(&mut client);
        for range in ["0-9", "100-109", "1048570-1048589"] {
            client
                .tls
                .writer()
                .write_all(get_request(&token, &format!("Range: bytes={range}\r\n")).as_bytes())
                .unwrap();
        }
        last_words.extend(client.unsaid());
        let (first, rest) = last_words.split_at((*cut).min(last_words.len()));
        client.socket.write_all(first).unwrap();
        connections += 1.0;
        // As much as there is, or the kernel has the connection, and reads no part of a record.
        wait_for("the edge to take what there is", || {
            let is_kernel_s = || fronts.edge.metric(KERNEL_TLS) == connections;
            (unread(&client.socket) == 0 || is_kernel_s()).then_some(())
        });
        client.socket.write_all(rest).unwrap();
        for start in [0, 100, 1_048_570] {
            let (head, body) = client.answer();
            assert!(head.starts_with("HTTP/1.1 206"), "{cut}: {head}");
            assert!(body == bytes[start..start + body.len()] && body.len() >= 10, "{cut}");
        }
    }
    assert_eq!(fronts.edge.metric(KERNEL_TLS), of_kernel(u32::try_from(cuts.len()).unwrap()));
}

#[test]
fn sessions_are_resumed() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    for version in VERSIONS {
        let config = of_version(&fronts, version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut client = Client::connect(&fronts, Arc::clone(&config));
            assert!(client.gets(&token, &bytes, 10..49_000));
            // HelloRetryRequest has a kind of its own.
            let is_resumed = client.tls.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(is_resumed, kind == HandshakeKind::Resumed, "{version:?}");
        }
    }
    assert_eq!(fronts.edge.metric(KERNEL_TLS), of_kernel(6));
}

#[test]
fn both_ends_are_told_when_a_connection_ends() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    for version in VERSIONS {
        let mut client = Client::connect(&fronts, of_version(&fronts, version));
        client.send(&get_request(&token, "Connection: close\r\n"));
        assert!(client.answer().1 == bytes);
        assert_eq!(client.read().unwrap(), 0, "the server says that it ends");

        let mut client = Client::connect(&fronts, of_version(&fronts, version));
        assert!(client.gets(&token, &bytes, 0..100));
        client.tls.send_close_notify();
        let farewell = client.unsaid();
        client.socket.write_all(&farewell).unwrap();
        assert_eq!(client.read().unwrap(), 0, "the server ends, too");

        // Without a word, in the middle of a request.
        let mut client = Client::connect(&fronts, of_version(&fronts, version));
        client.send("GET /download");
        client.socket.shutdown(Shutdown::Write).unwrap();
        let _ = client.read();
    }
    wait_for("all connections to be over", || {
        (fronts.edge.metric("sluice_edge_connections ") == 0.0).then_some(())
    });
}

#[test]
fn an_alert_ends_a_connection() {
    let fronts = Fronts::start("", "");
    let mut client = Client::connect(&fronts, of_version(&fronts, &rustls::version::TLS13));
    // A record that cannot be decrypted.
    client.socket.write_all(b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let _ = client.read();
    wait_for("the connection to be over", || {
        (fronts.edge.metric("sluice_edge_connections ") == 0.0).then_some(())
    });
}

/// A kernel that takes no other keys ends the connection in peace, and the client comes again.
#[test]
fn who_updates_its_keys_is_served_or_sent_away() {
    let fronts = Fronts::start("", "");
    let bytes = content(3 << 20, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let before = [kernel_count("TlsTxRekeyOk"), kernel_count("TlsRxRekeyOk")];
    for suite in suites().filter(|suite| format!("{suite:?}").starts_with("TLS13")) {
        let mut client = Client::connect(&fronts, of_suite(&fronts, suite));
        assert!(client.gets(&token, &bytes, 0..2_000_000));
        // Behind a request: that one is answered yet.
        for round in 0..3 {
            client
                .tls
                .writer()
                .write_all(get_request(&token, "Range: bytes=5-1999999\r\n").as_bytes())
                .unwrap();
            client.tls.refresh_traffic_keys().unwrap();
            client.send(&get_request(&token, "Range: bytes=6-2000\r\n"));
            assert!(client.answer().1 == bytes[5..2_000_000], "{suite:?} {round}");
            if !goes_on() {
                assert_eq!(client.read().unwrap(), 0, "the server says that it ends");
                break;
            }
            assert!(client.answer().1 == bytes[6..2001], "{suite:?} {round}");
        }
        assert!(!goes_on() || client.gets(&token, &bytes, 7..2_000_000), "{suite:?}");
        let mut again = Client::connect(&fronts, of_suite(&fronts, suite));
        assert!(again.gets(&token, &bytes, 6..2001));
    }
    if kernel_updates_keys() {
        // Three suites, three times; ours as well, for it was asked for.
        assert!(kernel_count("TlsTxRekeyOk") >= before[0] + 9);
        assert!(kernel_count("TlsRxRekeyOk") >= before[1] + 9);
    }
}

#[test]
fn key_updates_of_a_session_that_is_resumed_are_followed() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let config = of_version(&fronts, &rustls::version::TLS13);
    for is_resumed in [false, true] {
        let mut client = Client::connect(&fronts, Arc::clone(&config));
        assert!(client.gets(&token, &bytes, 10..49_000));
        assert_eq!(client.tls.handshake_kind() == Some(HandshakeKind::Resumed), is_resumed);
        if goes_on() {
            client.tls.refresh_traffic_keys().unwrap();
            assert!(client.gets(&token, &bytes, 11..49_000));
        }
    }
}

/// While the socket is full of an answer that nobody takes, there is no room to tell of ours: it goes later.
#[test]
fn key_updates_between_requests_that_wait_are_all_followed() {
    let fronts = Fronts::start("", "");
    let bytes = content((8 << 20) + 5, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let mut client = Client::connect(&fronts, of_version(&fronts, &rustls::version::TLS13));
    let rounds = if goes_on() { 4 } else { 1 };
    for _ in 0..rounds {
        client.tls.writer().write_all(get_request(&token, "").as_bytes()).unwrap();
        client.tls.refresh_traffic_keys().unwrap();
    }
    client.send("");
    wait_for("the edge to send", || {
        (fronts.edge.metric("sluice_edge_body_bytes_total ") > 0.0).then_some(())
    });
    for round in 0..rounds {
        assert!(client.answer().1 == bytes, "{round}");
    }
}

/// Who sends nothing but key updates has so many, whoever encrypts.
#[test]
fn a_flood_of_key_updates_ends_a_connection() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    for (updates, is_borne) in [(32, true), (33, false)] {
        let mut client = Client::connect(&fronts, of_version(&fronts, &rustls::version::TLS13));
        assert!(client.gets(&token, &bytes, 0..9));
        for _ in 0..updates {
            client.tls.refresh_traffic_keys().unwrap();
        }
        client.send(&get_request(&token, "Range: bytes=5-9\r\n"));
        if is_borne && goes_on() {
            assert!(client.answer().1 == bytes[5..10]);
        } else {
            assert!(!matches!(client.read(), Ok(1..)), "{updates}");
        }
    }
}

/// Encrypts a record as a client does whose keys these are.
fn sealed(secrets: &ExtractedSecrets, after: u64, kind: ContentType, content: &[u8]) -> Vec<u8> {
    let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = &secrets.tx else {
        panic!("of AES-256-GCM")
    };
    let suite = TLS13_AES_256_GCM_SHA384.tls13().unwrap();
    let key = AeadKey::from(<[u8; 32]>::try_from(key.as_ref()).unwrap());
    let mut encrypter = suite.aead_alg.encrypter(key, Iv::copy(iv.as_ref()));
    let payload = OutboundChunks::Single(content);
    let plain = OutboundPlainMessage { typ: kind, version: ProtocolVersion::TLSv1_2, payload };
    encrypter.encrypt(plain, sequence + after).unwrap().encode()
}

#[test]
fn what_is_no_key_update_ends_a_connection_that_is_the_kernel_s() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let config = giving_secrets(&fronts);
    let handshake = ContentType::Handshake;
    let table: [(ContentType, &[u8], &str); 9] = [
        (handshake, &[24, 0, 0, 1, 2], "neither asked for nor not"),
        (handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], "two in a record"),
        (handshake, &[24, 0, 0, 1, 0, 0], "with something behind it"),
        (handshake, &[24, 0, 0, 2, 0, 0], "too long"),
        (handshake, &[24, 0, 0, 1], "its begin"),
        (handshake, &[4, 0, 0, 1, 0], "a ticket"),
        (handshake, &[1, 0, 0, 1, 0], "a greeting"),
        (handshake, &[], "nothing"),
        (ContentType::Heartbeat, &[1, 0, 0], "of no kind that there is"),
    ];
    // rustls thinks nothing of the last of a handshake.
    let is_borne = |kind, content: &[u8]| kind == handshake && content.is_empty() && !kernel_has_tls();
    for (kind, content, what) in table.into_iter().filter(|(kind, content, _)| !is_borne(*kind, content)) {
        let mut client = Client::connect(&fronts, Arc::clone(&config));
        assert!(client.gets(&token, &bytes, 0..9));
        let Client { tls, mut socket, .. } = client;
        let secrets = tls.dangerous_extract_secrets().unwrap();
        socket.write_all(&sealed(&secrets, 0, kind, content)).unwrap();
        // A process that encrypts by itself may wait for the rest.
        let request = get_request(&token, "");
        let _ = socket.write_all(&sealed(&secrets, 1, ContentType::ApplicationData, request.as_bytes()));
        let mut received = Vec::new();
        let _ = socket.read_to_end(&mut received);
        assert!(received.len() < bytes.len(), "{what}: {} bytes", received.len());
    }
    wait_for("all connections to be over", || {
        (fronts.edge.metric("sluice_edge_connections ") == 0.0).then_some(())
    });
}

#[test]
fn empty_records_are_passed_over() {
    let fronts = Fronts::start("", "");
    let bytes = content(50_000, 2);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let mut client = Client::connect(&fronts, giving_secrets(&fronts));
    assert!(client.gets(&token, &bytes, 0..9));
    let Client { tls, mut socket, .. } = client;
    let secrets = tls.dangerous_extract_secrets().unwrap();
    let mut all = Vec::new();
    for record in 0..32 {
        all.extend(sealed(&secrets, record, ContentType::ApplicationData, b""));
    }
    let request = get_request(&token, "Connection: close\r\n");
    all.extend(sealed(&secrets, 32, ContentType::ApplicationData, request.as_bytes()));
    socket.write_all(&all).unwrap();
    let mut received = Vec::new();
    socket.read_to_end(&mut received).unwrap();
    assert!(received.len() > bytes.len(), "{}", received.len());
}

#[test]
fn the_last_answer_is_whole_however_slowly_it_is_taken() {
    let fronts = Fronts::start("", "");
    let bytes = content((6 << 20) + 11, 8);
    fronts.edge.file("a.bin", &bytes);
    let request = get_request(&fronts.edge.token("a.bin"), "Connection: close\r\n");
    let clients = VERSIONS.map(|version| {
        let mut client = Client::connect(&fronts, of_version(&fronts, version));
        client.send(&request);
        client
    });
    // What must not happen has had its time: a connection lingers for less whose last answer is sent.
    std::thread::sleep(Duration::from_secs(3));
    for mut client in clients {
        assert!(client.answer().1 == bytes);
        assert_eq!(client.read().unwrap(), 0);
    }
}

/// Neither client nor edge has said that there will be no other request.
#[test]
fn an_answer_is_whole_though_its_connection_is_closed_behind_it() {
    for (limits, drains) in [("idle_timeout = \"500ms\"", false), ("", true)] {
        let mut fronts = Fronts::start("", limits);
        let bytes = content((6 << 20) + 11, 8);
        fronts.edge.file("a.bin", &bytes);
        let request = get_request(&fronts.edge.token("a.bin"), "");
        let clients = VERSIONS.map(|version| {
            let mut client = Client::connect(&fronts, of_version(&fronts, version));
            client.send(&request);
            // The head: it has been answered.
            assert!(client.read().unwrap() > 0);
            client
        });
        if drains {
            fronts.edge.terminate();
        }
        // What must not happen has had its time.
        std::thread::sleep(Duration::from_secs(3));
        for mut client in clients {
            assert!(client.answer().1 == bytes, "drains: {drains}");
            assert_eq!(client.read().unwrap(), 0, "drains: {drains}");
        }
    }
}

#[test]
fn at_a_rate_all_arrives() {
    let fronts = Fronts::start("", "rate = \"2MiB\"");
    let bytes = content((3 << 20) + 11, 8);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let mut client = Client::connect(&fronts, of_version(&fronts, &rustls::version::TLS13));
    assert!(client.gets(&token, &bytes, 3..3 << 20));
    client.send(&get_request(&token, "Range: bytes=0-9,1500000-2500000\r\n"));
    let (head, body) = client.answer();
    assert!(head.contains("multipart/byteranges"), "{head}");
    assert!(body.windows(64).any(|part| part == &bytes[1_500_000..1_500_064]));
}

#[test]
fn curl_gets_files_of_every_size_over_both_versions() {
    let fronts = Fronts::start("", "");
    let bytes = content((30 << 20) + 5, 4);
    fronts.edge.file("a.bin", &bytes);
    let port = fronts.address.port();
    let url = format!("https://edge.example:{port}/download?token={}", fronts.edge.token("a.bin"));
    for (least, most) in [("--tlsv1.2", "1.2"), ("--tlsv1.3", "1.3")] {
        let curl = |more: &[&str]| {
            let output = Command::new("curl")
                .args([
                    "--silent",
                    "--show-error",
                    "--fail",
                    "--http1.1",
                    "--insecure",
                    least,
                    "--tls-max",
                    most,
                ])
                .args(["--resolve", &format!("edge.example:{port}:{}", fronts.address.ip())])
                .args(more)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert_eq!(Sha256::digest(curl(&[&url])), Sha256::digest(&bytes));
        // On one connection, one after the other.
        let several = curl(&["--range", "1000-1999", &url, &url, "--range", "1000-1999", &url]);
        assert!(several == [&bytes[1000..2000], &bytes[1000..2000], &bytes[1000..2000]].concat());
    }
    assert_eq!(fronts.edge.metric(KERNEL_TLS), of_kernel(4));
}

/// Key updates by a client that asks for ours as well (`K`), and by one that does not (`k`).
#[test]
fn openssl_updates_its_keys_and_is_served_or_sent_away() {
    let fronts = Fronts::start("", "");
    let bytes = content(300_000, 4);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    for command in ["k\n", "K\n"] {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-no_ign_eof", "-tls1_3", "-connect", &fronts.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its end would be the connection's.
        let mut said = child.stdin.take().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut received = child.stdout.take().unwrap();
        // It knows its keys once the answer is there.
        said.write_all(get_request(&token, "Range: bytes=5-9\r\n").as_bytes()).unwrap();
        let mut text = Vec::new();
        while !text.ends_with(&bytes[5..10]) {
            let mut room = [0; 1000];
            let count = received.read(&mut room).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&room[..count]);
        }
        said.write_all(command.as_bytes()).unwrap();
        // It says so behind what it says of the certificate.
        assert!(told.any(|line| line.unwrap() == "KEYUPDATE"), "{command}");
        if goes_on() {
            said.write_all(get_request(&token, "Connection: close\r\n").as_bytes()).unwrap();
        }
        text.clear();
        received.read_to_end(&mut text).unwrap();
        assert_eq!(text.ends_with(&bytes), goes_on(), "{command} {}", text.len());
        child.wait().unwrap();
    }
}
