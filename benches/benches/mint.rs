//! What a coordinator does for a call besides HTTP: choosing the file's edge, and minting. The calls are made of the same
//! public parts that its handlers are made of, in their order.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use metrics::Counter;
use sluice_coordinator::routing::ring::Ring;
use sluice_coordinator::routing::{Edge, Snapshot};
use sluice_shared::cluster::{EdgeId, EdgeRecord, Weight};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use sluice_shared::query::Query;
use sluice_shared::token::{Claims, NumericDate, SealError, random_id, seal};
use sluice_shared::units::BaseUrl;

const PATH: &str = "reports/2026/annual%20report.pdf";
const QUERY: &str = "user_id=user-4711";

fn snapshot(edges: usize) -> Snapshot {
    let edge = |number: usize| {
        let url = BaseUrl::parse(&format!("http://edge-{number}.example")).expect("a plain URL");
        let id = EdgeId::parse(&format!("edge-{number}")).expect("a plain id");
        let record =
            EdgeRecord { id, url: url.clone(), admin_url: url, weight: Weight::USUAL, zone: String::new() };
        Arc::new(Edge { record, picks: Counter::noop() })
    };
    Snapshot::build(&mut Ring::default(), (0..edges).map(edge).collect())
}

fn ring_of_keys() -> KeyRing {
    let id = KeyId::parse("2026-11").expect("a date is a key id");
    let key = TokenKey::new(id, KeyState::Current, Secret::new([7; 32]));
    KeyRing::new(vec![key]).expect("one current key is a ring")
}

/// A link's token, as the handler of `/download/` comes to it.
fn mint(path: &str, query: &str, snapshot: &Snapshot, keys: &KeyRing) -> Result<String, SealError> {
    let query = Query::parse(query).expect("a plain query");
    let file_id = FileId::parse_percent_encoded(path).expect("a plain path is a file id");
    let edge = snapshot.candidates(&file_id).first().expect("there are edges");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let issued_at = Duration::from_secs(now.as_secs());
    let date = |since: Duration| NumericDate::from_secs(since.as_secs());
    let request_id = random_id();
    let claims = Claims {
        user_id: query.value("user_id").map(Into::into),
        iat: Some(date(issued_at)),
        jti: Some(random_id().into()),
        rid: Some(request_id.as_str().into()),
        iss: Some("http://127.0.0.1:8080".into()),
        edg: Some(edge.record.id.as_str().into()),
        ..Claims::new(file_id, date(issued_at + Duration::from_secs(900)))
    };
    seal(&claims, keys.current())
}

fn call(c: &mut Criterion) {
    let (snapshot, keys) = (snapshot(3), ring_of_keys());
    c.bench_function("mint/call", |b| {
        b.iter(|| mint(black_box(PATH), black_box(QUERY), &snapshot, &keys));
    });
    c.bench_function("mint/random_id", |b| b.iter(random_id));
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    // Files in turn: one alone would be the same way through the ring each time.
    let names: Vec<String> = (0..1_000).map(|number| format!("reports/2026/{number}.pdf")).collect();
    let parse = |name: &String| FileId::parse(name.clone()).expect("a plain path is a file id");
    let files: Vec<FileId<'_>> = names.iter().map(parse).collect();
    for edges in [3, 100, 300] {
        let snapshot = snapshot(edges);
        let mut turn = files.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(edges), |b| {
            b.iter(|| {
                let file = turn.next().expect("a cycle does not end");
                snapshot.candidates(black_box(file)).first().map(|edge| edge.record.weight)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, call, route);
criterion_main!(benches);
