//! What a coordinator does for a call besides HTTP: choosing the file's edge, and minting. The calls are made of the same
//! public parts that its handlers are made of, in their order.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_coordinator::routing::{Candidate, Question, Snapshot, place_of};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyRing;
use sluice_shared::query::Query;
use sluice_shared::token::{Claims, NumericDate, SealError, random_id, seal};

use super::{NOW, Operation, Subject, cluster, token};

pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "mint/call",
        beside: Some("seal/sluice"),
        limit: "sealing, half of it; random ids and the claims' texts",
        counted: 2000,
        make: call,
    },
    Subject {
        name: "mint/random-id",
        beside: None,
        limit: "the generator's ChaCha, base64url and one allocation",
        counted: 5000,
        make: || Box::new(|| drop(black_box(random_id()))),
    },
];

const PATH: &str = "reports/2026/annual%20report.pdf";
const QUERY: &str = "user_id=user-4711";

fn call() -> Operation {
    let (_, _, snapshot) = cluster(3);
    let keys = token::key_ring();
    Box::new(move || assert!(black_box(mint(black_box(PATH), black_box(QUERY), &snapshot, &keys)).is_ok()))
}

fn first<'s>(snapshot: &'s Snapshot, file: &FileId<'_>) -> Candidate<'s> {
    let start = snapshot.start(place_of(file), IpAddr::from([192, 0, 2, 1]));
    let question = Question { start, now: NOW, not: None, fan_out: 1, wanted: 1 };
    snapshot.pick(&question).first().expect("there are edges")
}

/// A link's token, as the handler of `/download/` comes to it.
fn mint(path: &str, query: &str, snapshot: &Snapshot, keys: &KeyRing) -> Result<String, SealError> {
    let query = Query::parse(query).expect("a plain query");
    let file_id = FileId::parse_percent_encoded(path).expect("a plain path is a file id");
    let edge = first(snapshot, &file_id).edge();
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
