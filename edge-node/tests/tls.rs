//! TLS: which certificate is served, what becomes of connections when it is exchanged, and what is said of a bad one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encrypted;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use encrypted::{Authority, Fronts, ask_http2, connect, read_http1, run, shake_hands};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{HandshakeKind, ProtocolVersion};
use sluice_shared::token::Claims;
use support::{Edge, content, get_request, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Puts files of a kind into an edge's folder.
type Prepare<'p> = &'p dyn Fn(&Path);

/// The certificate that a connection was served with.
fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn hangup(edge: &Edge) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(edge.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

#[test]
fn without_a_listener_of_its_own_tls_is_what_listen_speaks() {
    let authority = Authority::new();
    let tls = "[tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"";
    let edge = Edge::start_prepared("", "size = \"64MiB\"", tls, |folder| {
        authority.issue(folder, "server", &["edge.example"], |_| ());
    });
    edge.file("a.bin", b"content");
    run(async {
        let config = Arc::new(authority.client(&["http/1.1"]));
        let mut stream = connect(edge.address, config, "edge.example").await.unwrap();
        stream.write_all(get_request(&edge.token("a.bin"), "").as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut stream, false).await.body, b"content");
    });
    let mut plain = edge.connect();
    plain.send(&get_request(&edge.token("a.bin"), ""));
    assert!(plain.try_answer(false).is_err(), "no answer in plain text");
}

#[test]
fn both_versions_of_tls_are_spoken_and_sessions_resumed() {
    let fronts = Fronts::start("", "");
    fronts.edge.file("a.bin", b"content");
    let request = get_request(&fronts.edge.token("a.bin"), "");
    run(async {
        for (version, protocol) in [
            (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
            (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let config = Arc::new(fronts.authority.client_of(&[version]));
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut stream = connect(fronts.address, Arc::clone(&config), "edge.example").await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                assert_eq!(read_http1(&mut stream, false).await.body, b"content");
                let session = stream.get_ref().1;
                assert_eq!(session.protocol_version(), Some(protocol));
                let kind = session.handshake_kind().unwrap();
                // A retry for another group of key exchange is a full handshake too.
                assert_eq!(
                    kind == HandshakeKind::Resumed,
                    expected == HandshakeKind::Resumed,
                    "{protocol:?}"
                );
            }
        }
    });
}

#[test]
fn clients_get_the_certificate_of_the_name_that_they_ask_for() {
    let (authority, address) = (Authority::new(), support::free_address());
    let tls = "[tls]\ncert_file = \"a.pem\"\nkey_file = \"a.key\"\n\
               [[tls.certificates]]\ncert_file = \"b.pem\"\nkey_file = \"b.key\"\n";
    let edge =
        Edge::start_prepared(&format!("tls_listen = \"{address}\""), "size = \"64MiB\"", tls, |folder| {
            authority.issue(folder, "a", &["a.example", "127.0.0.1"], |_| ());
            authority.issue(folder, "b", &["b.example", "*.b.example"], |_| ());
        });
    run(async {
        let mut served = Vec::new();
        // Each is good for the name: a client that is served the other's certificate refuses it.
        for name in ["a.example", "127.0.0.1", "b.example", "x.b.example"] {
            let stream = connect(address, Arc::new(authority.client(&[])), name).await.unwrap();
            served.push(certificate(&stream));
        }
        assert!(served[0] == served[1] && served[2] == served[3] && served[0] != served[2]);
        assert!(connect(address, Arc::new(authority.client(&[])), "c.example").await.is_err());
    });
    drop(edge);
}

#[test]
fn a_certificate_is_exchanged_and_no_connection_lost() {
    let fronts = Fronts::start("", "");
    let bytes = content(30 << 20, 3);
    fronts.edge.file("a.bin", &bytes);
    let request = get_request(&fronts.edge.token("a.bin"), "");
    run(async {
        let mut before = fronts.connect(&[]).await;
        before.write_all(request.as_bytes()).await.unwrap();
        let mut first = vec![0; 1000];
        before.read_exact(&mut first).await.unwrap();
        fronts.authority.issue(fronts.edge.folder.path(), "server", &["edge.example"], |_| ());
        let old = certificate(&before);
        let new = loop {
            let after = fronts.connect(&[]).await;
            if certificate(&after) != old {
                break certificate(&after);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        // The download goes on under the certificate that it began with.
        let mut head_and_body = first.as_slice().chain(&mut before);
        assert!(read_http1(&mut head_and_body, false).await.body == bytes);
        // A pair that does not fit changes nothing, and SIGHUP reads it at once.
        let folder = fronts.edge.folder.path();
        fronts.authority.issue(folder, "other", &["edge.example"], |_| ());
        fs::copy(folder.join("other.key"), folder.join("server.key")).unwrap();
        hangup(&fronts.edge);
        wait_for("a word about the pair that does not fit", || {
            fronts.edge.log().contains("does not belong to the first certificate").then_some(())
        });
        assert!(fronts.edge.log().contains("the one read before stays in use"));
        assert_eq!(certificate(&fronts.connect(&[]).await), new);
        before.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut before, false).await.status, 200);
    });
    assert!(fronts.edge.metric("sluice_certificate_expires_seconds ") > 1.7e9);
}

#[test]
fn certificates_that_clients_refuse_keep_an_edge_from_starting() {
    let authority = Authority::new();
    let table: [(&str, Prepare<'_>); 6] = [
        ("has no serverAuth", &|folder| {
            authority.issue(folder, "server", &["e"], |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            });
        }),
        ("expired at 2020-02-01", &|folder| {
            authority.issue(folder, "server", &["e"], |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2020, 2, 1);
            });
        }),
        ("server.key does not exist", &|folder| {
            authority.issue(folder, "server", &["e"], |_| ());
            fs::remove_file(folder.join("server.key")).unwrap();
        }),
        ("does not belong to the first certificate", &|folder| {
            authority.issue(folder, "other", &["e"], |_| ());
            authority.issue(folder, "server", &["e"], |_| ());
            fs::copy(folder.join("other.key"), folder.join("server.key")).unwrap();
        }),
        ("server.pem does not exist", &|_| ()),
        ("has no certificate", &|folder| {
            authority.issue(folder, "server", &["e"], |_| ());
            fs::write(folder.join("server.pem"), "nonsense").unwrap();
        }),
    ];
    for (expected, prepare) in table {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.toml");
        fs::create_dir(folder.path().join("root")).unwrap();
        sluice_shared::keys::KeyFile::load_or_create(&folder.path().join("keys.jwks.json")).unwrap();
        let (listen, admin) = (support::free_address(), support::free_address());
        let config = format!(
            "id = \"edge-1\"\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"\nroot = \"root\"\n\
             [cache]\nsize = \"64MiB\"\n[keys]\npath = \"keys.jwks.json\"\n\
             [tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\n"
        );
        fs::write(&path, config).unwrap();
        prepare(folder.path());
        for arguments in [&["--check"][..], &[]] {
            let ended = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
                .arg("--config")
                .arg(&path)
                .args(arguments)
                .output()
                .unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(1), "{expected}: {said}");
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}

#[test]
fn who_has_no_place_is_told_so_over_tls() {
    let fronts = Fronts::start("threads = 1", "connections_per_address = 1");
    fronts.edge.file("a.bin", b"content");
    let request = get_request(&fronts.edge.token("a.bin"), "");
    run(async {
        let mut first = fronts.connect(&[]).await;
        first.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut first, false).await.status, 200);
        // Whatever it could speak.
        let mut second = fronts.connect(&["h2", "http/1.1"]).await;
        assert_eq!(second.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        second.write_all(request.as_bytes()).await.unwrap();
        let told = read_http1(&mut second, false).await;
        assert_eq!(told.status, 429);
        assert!(told.fields.contains_key("retry-after"));
        drop(first);
        loop {
            let mut next = fronts.connect(&[]).await;
            next.write_all(request.as_bytes()).await.unwrap();
            if read_http1(&mut next, false).await.status == 200 {
                break;
            }
        }
    });
}

#[test]
fn handshakes_and_heads_over_tls_have_their_time() {
    let fronts = Fronts::start("", "head_timeout = \"500ms\"\nidle_timeout = \"500ms\"");
    fronts.edge.file("a.bin", b"content");
    run(async {
        let mut silent = TcpStream::connect(fronts.address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 10]).await.unwrap(), 0, "closed without a handshake");
        let mut slow = fronts.connect(&[]).await;
        slow.write_all(b"GET /download").await.unwrap();
        assert_eq!(read_http1(&mut slow, false).await.status, 408);
        let mut idle = fronts.connect(&[]).await;
        idle.write_all(get_request(&fronts.edge.token("a.bin"), "").as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut idle, false).await.status, 200);
        // A clean end: TLS says that it is one.
        assert_eq!(idle.read(&mut [0; 10]).await.unwrap(), 0);
    });
    assert!(fronts.edge.metric("sluice_tls_handshake_failures_total ") >= 1.0);
}

#[test]
fn a_rate_is_kept_over_tls() {
    let fronts = Fronts::start("", "rate = \"400kB\"");
    fronts.edge.file("a.bin", &content(300_000, 1));
    let request = get_request(&fronts.edge.token("a.bin"), "");
    run(async {
        let began = std::time::Instant::now();
        let mut stream = fronts.connect(&[]).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut stream, false).await.body.len(), 300_000);
        assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
    });
}

#[test]
fn who_takes_nothing_over_tls_is_cut() {
    let fronts = Fronts::start("", "send_timeout = \"1s\"");
    fronts.edge.file("a.bin", &content(60 << 20, 1));
    let request = get_request(&fronts.edge.token("a.bin"), "");
    run(async {
        let mut stream = fronts.connect(&[]).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        wait_for("the client to be cut", || {
            (fronts.edge.metric("sluice_edge_slow_clients_total ") == 1.0).then_some(())
        });
        assert_eq!(fronts.edge.metric("sluice_edge_in_flight_bytes "), 0.0);
        // What had come is there, and no end that says it were all.
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    });
}

#[test]
fn a_proxy_says_whose_a_connection_is_before_its_handshake() {
    let fronts = Fronts::start("trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true", "");
    fronts.edge.file("a.bin", b"content");
    let bound = |address: &'static str| {
        let claims = Claims { ip: Some(address.into()), ..fronts.edge.claims("a.bin") };
        get_request(&fronts.edge.seal(&claims), "")
    };
    // PROXY v2: signature, version and command, family, length; from 192.0.2.7:1000 to 192.0.2.1:443.
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x03\xe8\x01\xbb";
    run(async {
        for protocols in [&["http/1.1"][..], &["h2"]] {
            let mut stream = TcpStream::connect(fronts.address).await.unwrap();
            stream.write_all(header).await.unwrap();
            let config = Arc::new(fronts.authority.client(protocols));
            let mut stream = shake_hands(stream, config, "edge.example").await.unwrap();
            if protocols == ["h2"] {
                let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                for (address, status) in [("192.0.2.7", 200), ("127.0.0.1", 403)] {
                    let request = bound(address);
                    let target = request.split(' ').nth(1).unwrap();
                    assert_eq!(ask_http2(&mut send, "GET", target, &[]).await.status, status);
                }
                continue;
            }
            for (address, status) in [("192.0.2.7", 200), ("127.0.0.1", 403)] {
                stream.write_all(bound(address).as_bytes()).await.unwrap();
                assert_eq!(read_http1(&mut stream, false).await.status, status);
            }
        }
        // Without its header a connection is none.
        let mut bare = TcpStream::connect(fronts.address).await.unwrap();
        bare.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\0\0\0\0").await.unwrap();
        assert!(matches!(bare.read(&mut [0; 10]).await, Ok(0) | Err(_)));
    });
}

#[test]
fn an_upgrade_hands_the_listener_of_tls_on_too() {
    let mut fronts = Fronts::start("control_socket = \"run/edge.sock\"", "");
    let bytes = content(60 << 20, 1);
    fronts.edge.file("a.bin", &bytes);
    let token = fronts.edge.token("a.bin");
    let target = format!("/download?token={token}");
    let instance = |edge: &Edge| {
        let (_, text) = edge.admin_get("/readyz").ok()?;
        Some(text.split("\"instance\":\"").nth(1)?.split('"').next()?.to_owned())
    };
    let before = instance(&fronts.edge).unwrap();
    let mut successor = run(async {
        let mut download = fronts.connect(&["http/1.1"]).await;
        download.write_all(get_request(&token, "").as_bytes()).await.unwrap();
        let mut begun = vec![0; 1000];
        download.read_exact(&mut begun).await.unwrap();
        let stream = fronts.connect(&["h2"]).await;
        let (mut kept, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        assert_eq!(ask_http2(&mut kept, "HEAD", &target, &[]).await.status, 200);

        let successor = Command::new(env!("CARGO_BIN_EXE_sluice-edge"))
            .arg("--config")
            .arg(fronts.edge.folder.path().join("edge.toml"))
            .stderr(fs::File::create(fronts.edge.folder.path().join("successor.log")).unwrap())
            .spawn()
            .unwrap();
        wait_for("the successor to answer", || instance(&fronts.edge).filter(|now| *now != before));
        let mut new = fronts.connect(&["http/1.1"]).await;
        new.write_all(get_request(&token, "Range: bytes=0-9\r\n").as_bytes()).await.unwrap();
        assert_eq!(read_http1(&mut new, false).await.body, bytes[..10]);
        // A kept connection has its next answer, and is told that it was the last.
        assert_eq!(ask_http2(&mut kept, "GET", &target, &[("range", "bytes=0-9")]).await.status, 206);
        drop(kept);
        // Both say that nothing more comes, and who is second may find nobody.
        if let Err(error) = connection.await.unwrap() {
            assert!(error.is_io(), "{error}");
        }
        assert!(read_http1(&mut begun.as_slice().chain(&mut download), false).await.body == bytes);
        successor
    });
    assert_eq!(fronts.edge.exit_code(), 0);
    successor.kill().unwrap();
    successor.wait().unwrap();
}
