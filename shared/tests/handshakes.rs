//! Claims about connections to a listener with TLS that never come to speak it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use metrics::Counter;
use rcgen::{CertificateParams, KeyPair};
use sluice_shared::client_source::ClientSource;
use sluice_shared::serve::{Handshakes, ServeLimits, serve};
use sluice_shared::tls::{HTTP_1_1, RawTls, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// For anything that is bound to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The begin of a TLS 1.2 record that announces 512 bytes of handshake.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

struct Listening {
    address: SocketAddr,
    failures: Arc<AtomicU64>,
    end: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn listen(head_timeout: Duration) -> Listening {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key_file = folder.path().join("key");
    fs::write(folder.path().join("cert"), certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(key_file, Permissions::from_mode(0o600)).unwrap();
    let raw: RawTls = toml::from_str("cert_file = \"cert\"\nkey_file = \"key\"").unwrap();
    let settings = raw.settle(&folder.path().join("x.toml")).unwrap();

    let failures = Arc::new(AtomicU64::new(0));
    let counter = Counter::from_arc(Arc::clone(&failures));
    let handshakes = Handshakes::new(ServerTls::load(&settings, &[HTTP_1_1]).unwrap(), counter);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let serving = tokio::spawn(serve(
        listener,
        Router::new(),
        ServeLimits { head_timeout, ..ServeLimits::default() },
        ClientSource::Connection,
        Some(handshakes),
        async {
            let _ = ended.await;
        },
    ));
    Listening { address, failures, end, serving, _folder: folder }
}

/// All that comes until the connection is closed.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    // A reset closes it as well.
    let _ = read;
    bytes
}

impl Listening {
    async fn wait_for_failures(&self, count: u64) {
        let deadline = Instant::now() + LIMIT;
        while self.failures.load(Ordering::Relaxed) != count {
            assert!(Instant::now() < deadline, "{count} failures, but {:?}", self.failures);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn who_says_nothing_or_half_a_hello_is_cut_after_the_head_timeout() {
    let head_timeout = Duration::from_millis(400);
    let listening = listen(head_timeout).await;
    for (count, bytes) in [(1, &b""[..]), (2, HALF_A_HELLO)] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
        assert!(begun.elapsed() >= head_timeout, "{:?}", begun.elapsed());
        listening.wait_for_failures(count).await;
    }
}

#[tokio::test]
async fn who_dribbles_is_cut_after_the_head_timeout() {
    let listening = listen(Duration::from_millis(400)).await;
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    let dribble = async {
        for byte in HALF_A_HELLO.iter().cycle().take(512) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), dribble).await.expect("it is cut in the middle");
    listening.wait_for_failures(1).await;
}

#[tokio::test]
async fn what_is_no_hello_is_closed_without_an_answer_of_http() {
    let listening = listen(LIMIT).await;
    for (count, bytes) in [(1, &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]), (2, &[0xff; 4096])] {
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let answer = rest(&mut stream).await;
        // An alert (RFC 8446 §6) at most.
        assert!(answer.is_empty() || (answer.len() == 7 && answer[0] == 21), "{answer:02x?}");
        listening.wait_for_failures(count).await;
    }
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_no_failure() {
    let listening = listen(LIMIT).await;
    drop(TcpStream::connect(listening.address).await.unwrap());
    // The next one's failure is counted after it, alone.
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    listening.wait_for_failures(1).await;
    let _ = listening.end.send(());
    timeout(LIMIT, listening.serving).await.unwrap().unwrap();
    assert_eq!(listening.failures.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unfinished_handshake_does_not_hold_up_the_end() {
    let listening = listen(LIMIT * 100).await;
    let mut silent = TcpStream::connect(listening.address).await.unwrap();
    let mut half = TcpStream::connect(listening.address).await.unwrap();
    half.write_all(HALF_A_HELLO).await.unwrap();
    // Accepted in order, so that both are under way once a third has failed.
    let mut third = TcpStream::connect(listening.address).await.unwrap();
    third.write_all(b"no hello").await.unwrap();
    listening.wait_for_failures(1).await;
    let begun = Instant::now();
    listening.end.send(()).unwrap();
    listening.serving.await.unwrap();
    // Sooner than `shutdown_timeout`, which would end it anyway.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!((rest(&mut silent).await, rest(&mut half).await), (vec![], vec![]));
}
