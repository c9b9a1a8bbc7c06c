//! Faults by what answers: real listeners, one question each; and when a fault is told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use super::*;

const PROBLEM: &str = "content-type: application/problem+json\r\ncontent-length: 0\r\n\r\n";

fn id() -> EdgeId {
    EdgeId::parse("edge-1").unwrap()
}

/// A server that answers its one caller with these bytes; its `host:port`.
fn server(answer: impl Into<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.into();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut some = [0; 4096];
        let _ = stream.read(&mut some);
        let _ = stream.write_all(&answer);
    });
    address.to_string()
}

/// A server that speaks TLS with a certificate of this name, signed by the authority that is given in PEM.
fn tls_server(name: &str) -> (String, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        let mut some = [0; 4096];
        if tls.read(&mut some).is_ok() {
            let _ = tls.write_all(answer("Sluice-Edge: edge-1\r\n").as_bytes());
        }
    });
    (address.to_string(), authority.pem())
}

fn answer(fields: &str) -> String {
    format!("HTTP/1.1 400 Bad Request\r\n{fields}{PROBLEM}")
}

fn visit(trust: EdgeTrust, url: &str) -> Option<Result<(), UrlFault>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let visitor = Visitor::new(trust);
    runtime.block_on(visitor.visit(&id(), &BaseUrl::parse(url).unwrap()))
}

fn kind(url: &str) -> &'static str {
    let outcome = visit(EdgeTrust::load(None).unwrap(), url).unwrap();
    outcome.map_or_else(|fault| fault.kind(), |()| "good")
}

#[test]
fn what_answers_decides_the_fault() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alert = [21, 3, 1, 0, 2, 2, 70];
    let table = [
        (server(answer("Sluice-Edge: edge-1\r\n")), "good"),
        // Of a version that does not name itself; full; draining.
        (server(answer("")), "good"),
        (server(format!("HTTP/1.1 503 Service Unavailable\r\n{PROBLEM}")), "good"),
        (server(answer("Sluice-Edge: edge-2\r\n")), "another-edge"),
        (server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), "not-an-edge"),
        (server("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), "not-an-edge"),
        (server("HTTP/1.1 301 Moved\r\nlocation: http://edge.example/\r\n\r\n"), "not-an-edge"),
        // A coordinator.
        (server(format!("HTTP/1.1 404 Not Found\r\n{PROBLEM}")), "not-an-edge"),
        (server(alert), "not-http"),
        (server(""), "not-http"),
        (server(format!("HTTP/1.1 400 Bad Request\r\nlong: {}\r\n", "x".repeat(1 << 20))), "not-http"),
        (nobody.to_string(), "refused"),
        ("no-such-host.invalid:9001".to_owned(), "name"),
    ];
    for (address, expected) in table {
        assert_eq!(kind(&format!("http://{address}")), expected, "{address}");
    }
}

#[test]
fn who_takes_a_connection_and_says_nothing_is_told_apart() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(kind(&format!("http://{}", silent.local_addr().unwrap())), "timeout");
}

#[test]
fn certificates_are_judged_as_clients_would() {
    let folder = tempfile::tempdir().unwrap();
    let with_own = |pem: &str| {
        let path = folder.path().join("authority.pem");
        std::fs::write(&path, pem).unwrap();
        EdgeTrust::load(Some(&path)).unwrap()
    };
    let judged = |trust: EdgeTrust, address: &str| {
        visit(trust, &format!("https://{address}")).unwrap().map_or_else(|fault| fault.kind(), |()| "good")
    };
    let (address, authority) = tls_server("127.0.0.1");
    assert_eq!(judged(with_own(&authority), &address), "good");
    let (address, authority) = tls_server("edge.example");
    assert_eq!(judged(with_own(&authority), &address), "other-name-certificate");
    let (address, _) = tls_server("127.0.0.1");
    assert_eq!(judged(with_own(&authority), &address), "untrusted-certificate");
    assert_eq!(judged(with_own(&authority), &server(answer(""))), "not-tls");
}

#[test]
fn a_fault_is_told_when_it_is_seen_twice_and_once() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut entrance = Entrance::new(begin);
    assert!(entrance.take_due(begin) && !entrance.take_due(begin), "one question at a time");
    assert_eq!(entrance.learn(Ok(()), begin, 1.0), None);
    assert!(!entrance.take_due(at(59)) && entrance.take_due(at(60)));
    // Once may be a moment's.
    assert_eq!(entrance.learn(Err(UrlFault::Silent), at(60), 1.0), None);
    assert!(entrance.fault().is_none() && entrance.take_due(at(62)));
    assert_eq!(entrance.learn(Ok(()), at(62), 1.0), None);
    assert!(entrance.take_due(at(122)));
    assert_eq!(entrance.learn(Err(UrlFault::Silent), at(122), 1.0), None);
    assert_eq!(entrance.learn(Err(UrlFault::Silent), at(124), 1.0), Some(Change::Faulty));
    assert_eq!(entrance.learn(Err(UrlFault::Silent), at(134), 1.0), None);
    // Another fault is news; its words are not.
    let refused = |cause: &str| Err(UrlFault::Refused(cause.to_owned()));
    assert_eq!(entrance.learn(refused("a"), at(144), 1.0), Some(Change::Faulty));
    assert_eq!(entrance.learn(refused("b"), at(154), 1.0), None);
    assert_eq!(entrance.learn(Ok(()), at(164), 1.2), Some(Change::Mended));
    assert!(entrance.fault().is_none() && !entrance.take_due(at(235)) && entrance.take_due(at(236)));
}

#[test]
fn every_fault_says_what_to_do() {
    let faults = [
        UrlFault::Name("x".into()),
        UrlFault::Refused("x".into()),
        UrlFault::Silent,
        UrlFault::NotTls,
        UrlFault::NotHttp,
        UrlFault::Untrusted("x".into()),
        UrlFault::OtherName,
        UrlFault::NoEdge(StatusCode::OK),
        UrlFault::OtherEdge(id()),
    ];
    for (fault, kind) in faults.iter().zip(UrlFault::KINDS) {
        assert_eq!(fault.kind(), kind);
        assert!(!fault.remedy().is_empty() && !fault.to_string().is_empty());
    }
}
