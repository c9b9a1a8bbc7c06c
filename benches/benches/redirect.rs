//! One coordinator in this process: a call to `/download/`, answered with a token and a redirection; beside it a bare
//! hyper handler that gives an equal answer, ready-made, each on a runtime of one thread. Sixteen calls go out together.

#![allow(unreachable_pub, dead_code, reason = "`inside` is shared by two benches")]

mod inside;

use std::convert::Infallible;
use std::sync::mpsc;
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inside::Pipeline;
use sluice_coordinator::config::Config;
use sluice_coordinator::service;
use sluice_loadtest::ports::Port;
use sluice_shared::handover::Inherited;
use sluice_shared::telemetry;
use tokio::net::TcpListener;

const CALLS: usize = 16;
const REQUEST: &[u8] =
    b"GET /download/reports/2026.pdf?user_id=user-4711 HTTP/1.1\r\nHost: coordinator\r\n\r\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Its address, with what it needs to live.
fn coordinator(folder: &std::path::Path) -> (String, [Port; 3]) {
    let ports = [(); 3].map(|()| Port::take().expect("a port"));
    let [address, admin, edge] = ports.each_ref().map(Port::address);
    let edge = format!("http://{edge}");
    let (listen, admin_listen, edge) = (address.as_str(), admin.as_str(), edge.as_str());
    let config = toml::toml! {
        id = "coordinator-1"
        listen = listen
        admin_listen = admin_listen
        public_url = "http://coordinator.example"
        admin_token_file = "admin.tokens"
        revocations_file = "revocations.json"
        [keys]
        source = "file"
        path = "keys.jwks.json"
        ticket_path = "tickets.jwks.json"
        [registry]
        source = "static"
        edges = [{ id = "edge-1", url = edge, admin_url = edge, weight = 100, zone = "a" }]
        [state]
        path = "state.redb"
        [auth]
        schemes = ["open"]
        [log]
        filter = "error"
    };
    let path = folder.join("coordinator.toml");
    inside::write(&path, &config);
    thread::spawn(move || {
        let config = Config::load(&path).expect("a plain configuration");
        let _logs = telemetry::start_logs(&config.log_filter).expect("logs");
        let metrics = telemetry::start_metrics().expect("metrics");
        runtime().block_on(service::run(config, metrics, Inherited::default())).expect("it serves");
    });
    // Nobody answers for the edge: where none is up, all get requests.
    inside::until_answered(&format!("http://{address}/download/reports/2026.pdf?user_id=user-4711"), 302);
    (address, ports)
}

/// A handler of nothing but this answer; gives its address.
fn bare(head: String) -> String {
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            say.send(listener.local_addr().expect("an address")).expect("somebody waits");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket without delay");
                let head = head.clone();
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = answer(&head);
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    said.recv().expect("it listens").to_string()
}

fn answer(head: &str) -> Response<Empty<Bytes>> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    // hyper adds these two itself.
    let fields =
        fields.filter(|(name, _)| !["date", "content-length"].contains(&name.to_ascii_lowercase().as_str()));
    let response = fields.fold(Response::builder().status(StatusCode::FOUND), |response, (name, value)| {
        response.header(name, value)
    });
    response.body(Empty::new()).expect("fields that were received")
}

fn redirect(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, _ports) = coordinator(folder.path());
    let mut group = c.benchmark_group("redirect");
    group.throughput(Throughput::Elements(CALLS as u64));
    let requests = REQUEST.repeat(CALLS);
    let mut client = Pipeline::open(&address);
    let head = client.head_of(REQUEST);
    group.bench_function("coordinator/16", |b| b.iter(|| client.ask_heads(&requests, CALLS)));
    let mut client = Pipeline::open(&bare(head));
    group.bench_function("bare-hyper/16", |b| b.iter(|| client.ask_heads(&requests, CALLS)));
    group.finish();
}

criterion_group!(benches, redirect);
criterion_main!(benches);
