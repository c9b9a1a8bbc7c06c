//! What a token costs: sealing it at the coordinator, opening it at the edge, and the same by josekit for scale. josekit
//! is spared the claims: it takes and gives their JSON text.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use josekit::jwe::{Dir, JweHeader, deserialize_compact, serialize_compact};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use sluice_shared::token::{Claims, NumericDate, Scratch, open, random_id, seal};

const KEY: [u8; 32] = [7; 32];

/// The claims that a coordinator fills in.
fn claims(now: SystemTime) -> Claims<'static> {
    let file_id = FileId::parse("reports/2026/annual-report.pdf").expect("a plain path is a file id");
    // Whole seconds, as a coordinator mints them.
    let date = |time: SystemTime| {
        NumericDate::from_secs(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    };
    Claims {
        user_id: Some("user-4711".into()),
        iat: Some(date(now)),
        jti: Some(random_id().into()),
        rid: Some(random_id().into()),
        iss: Some("http://127.0.0.1:8080".into()),
        edg: Some("edge-1".into()),
        ..Claims::new(file_id, date(now + Duration::from_secs(900)))
    }
}

fn token(c: &mut Criterion) {
    let id = KeyId::parse("2026-11").expect("a date is a key id");
    let key = TokenKey::new(id, KeyState::Current, Secret::new(KEY));
    let ring = KeyRing::new(vec![key]).expect("one current key is a ring");
    let now = SystemTime::now();
    let claims = claims(now);
    let text = serde_json::to_vec(&claims).expect("claims always serialize");
    let sealed = seal(&claims, ring.current()).expect("a usual token is short");

    let mut header = JweHeader::new();
    header.set_content_encryption("A256GCM");
    header.set_key_id("2026-11");
    let encrypter = Dir.encrypter_from_bytes(KEY).expect("32 bytes are a key");
    let decrypter = Dir.decrypter_from_bytes(KEY).expect("32 bytes are a key");

    let mut group = c.benchmark_group("seal");
    group.bench_function("sluice", |b| b.iter(|| seal(black_box(&claims), ring.current())));
    group.bench_function("josekit", |b| {
        b.iter(|| serialize_compact(black_box(&text), &header, &encrypter));
    });
    group.finish();

    let mut group = c.benchmark_group("open");
    let date = NumericDate::from_system_time(now);
    let mut scratch = Scratch::default();
    group.bench_function("sluice", |b| {
        b.iter(|| open(black_box(sealed.as_bytes()), &ring, date, &mut scratch).is_ok());
    });
    group.bench_function("josekit", |b| {
        b.iter(|| deserialize_compact(black_box(&sealed), &decrypter));
    });
    group.finish();
}

criterion_group!(benches, token);
criterion_main!(benches);
