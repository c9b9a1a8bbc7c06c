//! Downloads that are stuck in the store hold up nobody else: not what is cached, not other files, not other users.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sluice_loadtest::certificates;
use sluice_loadtest::client::Connection;
use sluice_loadtest::faulty_store::{FaultyStore, Which};
use sluice_loadtest::process::Signal;
use sluice_loadtest::settings::Settings;
use sluice_loadtest::{Content, wait_until};
use support::{Hot, MIB, Rig, SLACK, STORAGE_TIMEOUT, expect_refusal};

/// How many downloads are stuck at a time, of files that nobody has asked for before.
const ROUNDS: [std::ops::Range<usize>; 3] = [0..16, 16..144, 144..656];
const HEALTHY: [(&str, u64); 4] =
    [("well/a.bin", 20_000), ("well/b.bin", 3 * MIB + 1), ("well/c.bin", 100_000), ("well/d.bin", 1)];

/// Large and small: whole in memory, one window, several.
fn stuck_size(file: usize) -> u64 {
    match file {
        _ if file.is_multiple_of(16) => 2 * MIB + 4711,
        _ if file.is_multiple_of(2) => 100_000,
        _ => 20_000,
    }
}

fn stuck_name(file: usize) -> String {
    format!("stuck/{file}.bin")
}

/// Room for as many operations as the default allows.
fn roomy(settings: Settings) -> Settings {
    settings.cache("16GiB").toml("limits.storage_concurrency = 512")
}

/// Downloads that get stuck, each of another file and four of each user; all are in the store when this returns.
fn get_stuck(rig: &Rig, files: std::ops::Range<usize>) -> Vec<Connection> {
    let before = rig.store.held();
    let ask = |file| rig.edge.ask(&stuck_name(file), &format!("user-{}", file / 4), "").unwrap();
    let connections = files.clone().map(ask).collect();
    rig.wait_until_held(before + files.len());
    connections
}

fn stuck_downloads_hold_up_nobody(hold: fn(&FaultyStore)) {
    let most = ROUNDS[2].end;
    let files = (0..most).map(|file| (stuck_name(file), stuck_size(file)));
    let rig = Rig::start(files.chain([("hot.bin".to_owned(), 1000)]), roomy);
    let hot = Hot::start(&rig, "hot.bin", 1000);
    rig.wait_until_well();
    let before = rig.edge.descriptors().unwrap();
    for files in ROUNDS {
        let count = files.len();
        hold(&rig.store);
        let began = Instant::now();
        let mut stuck = get_stuck(&rig, files.clone());
        let all_asked = Instant::now();
        hot.goes_on();
        for (name, size) in HEALTHY {
            let name = format!("{count}/{name}");
            rig.publish(&name, &Content::new(&name, size));
            rig.check(&name, size);
        }
        for connection in &mut stuck {
            expect_refusal(connection);
        }
        assert!(began.elapsed() >= STORAGE_TIMEOUT, "{:?}", began.elapsed());
        let late = all_asked.elapsed();
        assert!(late <= STORAGE_TIMEOUT + SLACK, "{count} stuck downloads were answered after {late:?}");
        assert_eq!(rig.store.held(), count, "the store still has them");
        rig.store.release();
        rig.wait_until_well();
        for file in files.take(4) {
            rig.check(&stuck_name(file), stuck_size(file));
        }
    }
    hot.finish();
    // Large files are kept open for the next download, two descriptors each; what was stuck left nothing else.
    let large = (0..most).filter(|file| stuck_size(*file) > 65_536).count() + ROUNDS.len() * 2;
    rig.wait_until_descriptors(before + 2 * large);
}

#[test]
fn downloads_that_are_stuck_in_read_hold_up_nobody() {
    stuck_downloads_hold_up_nobody(|store| store.hold_reads("stuck/"));
}

#[test]
fn downloads_that_are_stuck_in_open_hold_up_nobody() {
    stuck_downloads_hold_up_nobody(|store| store.hold_opens("stuck/"));
}

#[test]
fn downloads_that_get_stuck_after_their_head_end_short() {
    const SIZE: u64 = 6 * MIB;
    let files = (0..16).map(|file| (stuck_name(file), SIZE));
    let rig = Rig::start(files.chain([("hot.bin".to_owned(), 1000)]), roomy);
    let hot = Hot::start(&rig, "hot.bin", 1000);
    rig.store.hold_reads(Which::that(|asked| asked.path.starts_with("stuck/") && asked.offset >= 4 * MIB));
    let began = Instant::now();
    let mut stuck: Vec<_> =
        (0..16).map(|file| rig.edge.ask(&stuck_name(file), &stuck_name(file), "").unwrap()).collect();
    thread::scope(|scope| {
        for (file, connection) in stuck.iter_mut().enumerate() {
            scope.spawn(move || {
                let head = connection.read_head().unwrap();
                assert_eq!(head.status, 200);
                assert_eq!(head.field("content-length"), Some(SIZE.to_string().as_str()));
                let bytes = connection.read_to_close().unwrap();
                assert!(bytes.len() as u64 == 4 * MIB, "{} bytes came", bytes.len());
                Content::new(&stuck_name(file), SIZE).check(0, &bytes).unwrap();
            });
        }
    });
    let waited = began.elapsed();
    assert!(waited >= STORAGE_TIMEOUT && waited <= STORAGE_TIMEOUT + SLACK, "{waited:?}");
    hot.goes_on();
    hot.finish();
    rig.store.release();
    rig.wait_until_well();
    rig.check(&stuck_name(3), SIZE);
}

#[test]
fn one_stuck_file_takes_four_operations_however_many_ask() {
    const SIZE: u64 = 64 * MIB;
    let rig = Rig::start([("stuck/a.bin", SIZE), ("stuck/b.bin", 20_000), ("well/a.bin", SIZE)], roomy);
    rig.store.hold_reads("stuck/");
    // Every window is asked for, each by another user; and the small file by all.
    let ranges: Vec<_> = (0..32u64).map(|window| window * 2 * MIB..window * 2 * MIB + 100).collect();
    let mut waiting: Vec<_> = ranges
        .iter()
        .enumerate()
        .flat_map(|(user, range)| {
            let fields = format!("Range: bytes={}-{}\r\n", range.start, range.end - 1);
            let user = format!("user-{user}");
            let large = rig.edge.ask("stuck/a.bin", &user, &fields).unwrap();
            [large, rig.edge.ask("stuck/b.bin", &user, "").unwrap()]
        })
        .collect();
    rig.wait_until_held(5);
    rig.check("well/a.bin", SIZE);
    for connection in &mut waiting {
        expect_refusal(connection);
    }
    assert_eq!((rig.store.held_of("stuck/a.bin"), rig.store.held_of("stuck/b.bin")), (4, 1));
    assert_eq!(rig.store.most_reads_at_once("stuck/a.bin"), 4);
    rig.store.release();
    rig.wait_until_well();
    rig.check("stuck/a.bin", SIZE);
    assert_eq!(rig.store.most_reads_at_once("stuck/a.bin"), 4);
}

#[test]
fn one_users_stuck_downloads_take_a_quarter_of_the_places() {
    const ASKED: usize = 200;
    let files = (0..2 * ASKED).map(|file| (stuck_name(file), stuck_size(file)));
    let rig = Rig::start(files, |settings| settings.cache("16GiB").toml("limits.storage_concurrency = 64"));
    let holds: [fn(&FaultyStore); 2] =
        [|store| store.hold_reads("stuck/"), |store| store.hold_opens("stuck/")];
    for (round, hold) in holds.into_iter().enumerate() {
        hold(&rig.store);
        let ask = |file| rig.edge.ask(&stuck_name(file), "greedy", "").unwrap();
        let mut waiting: Vec<_> = (round * ASKED..(round + 1) * ASKED).map(ask).collect();
        rig.wait_until_held(16);
        for (name, size) in HEALTHY {
            rig.publish(&format!("{round}/{name}"), &Content::new(&format!("{round}/{name}"), size));
        }
        let began = Instant::now();
        for (name, size) in HEALTHY {
            rig.check(&format!("{round}/{name}"), size);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "others waited {took:?}, as long as for what is stuck");
        for connection in &mut waiting {
            expect_refusal(connection);
        }
        assert_eq!(rig.store.held(), 16, "even when what is stuck has been set apart");
        rig.store.release();
        rig.wait_until_well();
    }
    rig.check(&stuck_name(0), stuck_size(0));
}

fn is_degraded(rig: &Rig) -> anyhow::Result<bool> {
    let (status, text) = rig.edge.readiness()?;
    let seen = [
        status == 503 && text.contains("degraded"),
        rig.edge.load()?["degraded"].as_bool() == Some(true),
        rig.edge.metric("sluice_edge_degraded")? == 1.0,
    ];
    // They are asked one after the other, and it may change in between.
    Ok(seen == [true; 3])
}

#[test]
fn half_of_the_places_stuck_is_degraded_until_they_are_not() {
    for concurrency in [8, 64] {
        let files = (0..concurrency).map(|file| (stuck_name(file), 20_000));
        let rig = Rig::start(files.chain([("hot.bin".to_owned(), 1000)]), |settings| {
            settings.cache("16GiB").toml(&format!("limits.storage_concurrency = {concurrency}"))
        });
        rig.check("hot.bin", 1000);
        rig.wait_until_well();
        let before = rig.edge.descriptors().unwrap();
        rig.store.hold_reads("stuck/");
        let mut stuck = get_stuck(&rig, 0..concurrency / 4);
        for connection in &mut stuck {
            expect_refusal(connection);
        }
        assert_eq!(rig.edge.metric("sluice_edge_storage_stuck_operations").unwrap(), stuck.len() as f64);
        assert!(!is_degraded(&rig).unwrap(), "a quarter is not half");
        rig.check("hot.bin", 1000);
        // As many as there are places.
        stuck.extend(get_stuck(&rig, concurrency / 4..concurrency));
        wait_until("it is degraded", || is_degraded(&rig)).unwrap();
        rig.check("hot.bin", 1000);
        rig.store.release();
        rig.wait_until_well();
        drop(stuck);
        assert_eq!(rig.edge.metric("sluice_edge_degraded").unwrap(), 0.0);
        assert_eq!(rig.edge.metric("sluice_edge_storage_stuck_operations").unwrap(), 0.0);
        rig.wait_until_descriptors(before);
    }
}

#[test]
fn a_silent_root_alone_is_degraded_until_it_answers() {
    let rig = Rig::start([("a.bin", 1000), ("b.bin", 3 * MIB)], |settings| settings);
    rig.check("a.bin", 1000);
    rig.store.hold_attributes(Which::root());
    wait_until("it is degraded", || is_degraded(&rig)).unwrap();
    assert_eq!(rig.store.held(), 1, "one question at a time");
    rig.check("a.bin", 1000);
    rig.check("b.bin", 3 * MIB);
    rig.store.release();
    rig.wait_until_well();
}

#[test]
fn what_is_cached_is_served_without_the_store_until_it_is_too_old() {
    const STALE_LIMIT: Duration = Duration::from_secs(5);
    const FILES: [(&str, u64); 3] = [("small.bin", 5000), ("middle.bin", 50_000), ("large.bin", 5 * MIB + 3)];
    let rig = Rig::start(FILES.into_iter().chain([("cold.bin", 1000)]), |settings| {
        settings
            .toml("cache.revalidate = \"500ms\"")
            .toml("cache.stale_limit = \"5s\"")
            .toml("limits.storage_timeout = \"1s\"")
    });
    for (name, size) in FILES {
        rig.check(name, size);
    }
    rig.store.hold_all();
    let held = Instant::now();
    while held.elapsed() < STALE_LIMIT - Duration::from_secs(1) {
        for (name, size) in FILES {
            let asked = Instant::now();
            rig.check(name, size);
            let range = rig.edge.request(name, "tester").unwrap().range("1000-2999").send().unwrap();
            assert_eq!((range.status(), range.body.len()), (206, 2000));
            Content::new(name, size).check(1000, &range.body).unwrap();
            assert!(asked.elapsed() < Duration::from_secs(1), "{name} took {:?}", asked.elapsed());
        }
    }
    wait_until("the edge is degraded", || is_degraded(&rig)).unwrap();
    for (name, _) in FILES {
        wait_until("it is too old", || Ok(rig.edge.get(name)?.status() == 503)).unwrap();
    }
    assert!(held.elapsed() >= STALE_LIMIT, "refused after {:?}", held.elapsed());
    expect_refusal(&mut rig.edge.ask("cold.bin", "tester", "").unwrap());
    rig.store.release();
    let released = Instant::now();
    for (name, size) in FILES {
        rig.check(name, size);
    }
    rig.check("cold.bin", 1000);
    assert!(released.elapsed() < Duration::from_secs(1), "served after {:?}", released.elapsed());
    rig.wait_until_well();
}

#[test]
fn a_client_that_leaves_a_stuck_download_leaves_nothing() {
    let files = (0..64).map(|file| (stuck_name(file), stuck_size(file)));
    let rig = Rig::start(files.chain([("well.bin".to_owned(), 3 * MIB)]), roomy);
    rig.check("well.bin", 3 * MIB);
    let before = rig.edge.descriptors().unwrap();
    rig.store.hold_reads("stuck/");
    drop(get_stuck(&rig, 0..64));
    rig.check("well.bin", 3 * MIB);
    rig.store.release();
    rig.wait_until_well();
    let large = (0..64).filter(|file| stuck_size(*file) > 65_536).count();
    rig.wait_until_descriptors(before + 2 * large);
    let mut connection = rig.edge.ask(&stuck_name(0), "tester", "").unwrap();
    let head = connection.read_head().unwrap();
    let mut bytes = Vec::new();
    connection.body(&head, "GET").unwrap().read_to_end(&mut bytes).unwrap();
    Content::new(&stuck_name(0), stuck_size(0)).check_whole(&bytes).unwrap();
}

#[test]
fn cached_files_that_cannot_be_confirmed_keep_no_others_from_being_confirmed() {
    const STUCK: usize = 100;
    let files = (0..STUCK).map(|file| (stuck_name(file), 5000));
    let rig = Rig::start(files.chain([("well.bin".to_owned(), 5000)]), |settings| {
        roomy(settings).toml("cache.revalidate = \"100ms\"")
    });
    let get_all_stuck = || {
        thread::scope(|scope| {
            for file in 0..STUCK {
                let rig = &rig;
                scope.spawn(move || rig.check(&stuck_name(file), 5000));
            }
        });
    };
    get_all_stuck();
    rig.check("well.bin", 5000);
    rig.store.hold_lookups("stuck/");
    // All on one user's account; each is served, and asked for in the store.
    wait_until("all are being confirmed", || {
        get_all_stuck();
        Ok(rig.store.held() == STUCK)
    })
    .unwrap_or_else(|fault| panic!("{fault}: {} are", rig.store.held()));
    let new = Content::version("well.bin", 1, 6000);
    rig.publish("well.bin", &new);
    let published = Instant::now();
    wait_until("the new version is served", || Ok(new.check_whole(&rig.edge.get("well.bin")?.body).is_ok()))
        .unwrap();
    let took = published.elapsed();
    assert!(took < STORAGE_TIMEOUT, "noticed after {took:?}");
    rig.store.release();
    rig.wait_until_well();
    get_all_stuck();
}

#[test]
fn an_edge_that_ends_while_reads_are_stuck_gives_up_its_ports_and_its_clients() {
    let files = (0..16).map(|file| (stuck_name(file), stuck_size(file)));
    let mut rig = Rig::start(files, |settings| {
        roomy(settings).toml("limits.drain_grace = \"100ms\"").toml("limits.drain_timeout = \"1s\"")
    });
    rig.store.hold_reads("stuck/");
    let mut stuck = get_stuck(&rig, 0..16);
    let edge = rig.edge.member();
    let admin = edge.admin_url();
    let addresses = [edge.address(), admin.trim_start_matches("http://").to_owned()];
    edge.process().signal(Signal::TERM).unwrap();
    // As its successor would.
    for address in addresses {
        wait_until(&format!("{address} can be listened on"), || Ok(TcpListener::bind(&address).is_ok()))
            .unwrap();
    }
    assert!(edge.process().is_running().unwrap(), "the kernel waits for what is stuck");
    assert_eq!(rig.store.held(), 16);
    for connection in &mut stuck {
        assert_eq!(connection.read_to_close().unwrap(), b"", "closed, and not when the process is gone");
    }
    rig.store.release();
    assert!(rig.edge.member().process().wait().unwrap().success());
}

/// Opened and reset, a stream is none of a hundred any more to HTTP/2; what it asked for has to be over, too.
#[test]
fn who_takes_requests_back_while_the_store_hangs_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    certificates::write(folder.path(), certificates::USUAL).unwrap();
    let file = |name| folder.path().join(name);
    let (cert, key) = (file(certificates::SERVER), file(certificates::SERVER_KEY));
    let tls = format!("tls.cert_file = {cert:?}\ntls.key_file = {key:?}");
    let rig = Rig::start([("stuck.bin", MIB)], |settings| settings.toml(&tls));
    let target = rig.edge.target("stuck.bin", "ann").unwrap();
    rig.store.hold_reads("");
    let began = Instant::now();
    let mut client = Http2::connect(&rig.edge.address(), &file(certificates::AUTHORITY)).unwrap();
    let asked =
        (0..1000).take_while(|asked| client.asks_and_takes_back(2 * asked + 1, &target).is_ok()).count();
    assert!(asked < 1000 && began.elapsed() < STORAGE_TIMEOUT, "{asked} in {:?}", began.elapsed());
    assert_eq!(client.farewell, Some(11), "ENHANCE_YOUR_CALM, after {asked}");
    rig.store.release();
    rig.wait_until_well();
}

/// HTTP/2 (RFC 9113) whose every frame is the test's.
struct Http2 {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// The code of the server's GOAWAY.
    farewell: Option<u32>,
}

impl Http2 {
    fn connect(address: &str, authority: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = StreamOwned::new(tls, socket);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut client = Self { stream, farewell: None };
        client.say(4, 0, 0, &[])?;
        Ok(client)
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame)
    }

    /// HEADERS, and RST_STREAM once that has been read.
    fn asks_and_takes_back(&mut self, stream: u32, target: &str) -> std::io::Result<()> {
        let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "e"), (":path", target)];
        let head: Vec<u8> =
            fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
        self.say(1, 5, stream, &head)?;
        self.say(6, 0, 0, &[0; 8])?;
        loop {
            let mut header = [0; 9];
            self.stream.read_exact(&mut header)?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload)?;
            match header[3] {
                7 => self.farewell = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
                6 if header[4] & 1 != 0 => return self.say(3, 0, stream, &8_u32.to_be_bytes()),
                _ => {}
            }
        }
    }
}

/// A text as HPACK writes it (RFC 7541 §5.2).
fn text(text: &str) -> Vec<u8> {
    let (length, mut bytes) = (text.len(), Vec::new());
    match length.checked_sub(127) {
        None => bytes.push(u8::try_from(length).unwrap()),
        Some(mut left) => {
            bytes.push(127);
            while left >= 128 {
                bytes.push(u8::try_from(left % 128 + 128).unwrap());
                left /= 128;
            }
            bytes.push(u8::try_from(left).unwrap());
        }
    }
    [&bytes, text.as_bytes()].concat()
}
