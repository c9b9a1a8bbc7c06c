//! Opening a token allocates nothing: an edge does it on every request.

mod counting;

use std::time::{Duration, UNIX_EPOCH};

use counting::allocations_of;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use sluice_shared::token::{Claims, NumericDate, Scratch, TokenError, open, random_id, seal};

const NOW_SECONDS: u64 = 1_800_000_000;

fn key(id: &str, byte: u8, state: KeyState) -> TokenKey {
    TokenKey::new(KeyId::parse(id).expect("a plain id"), state, Secret::new([byte; 32]))
}

/// Every claim that a coordinator may put in.
fn claims(exp_seconds: u64) -> Claims<'static> {
    let file_id = FileId::parse("reports/2026/annual.pdf").expect("a plain path is a file id");
    Claims {
        user_id: Some("user-4711".into()),
        cid: Some("AK1".into()),
        iat: Some(NumericDate::from_secs(NOW_SECONDS)),
        nbf: Some(NumericDate::from_secs(NOW_SECONDS)),
        jti: Some(random_id().into()),
        rid: Some(random_id().into()),
        iss: Some("https://c.example".into()),
        lnk: Some(random_id().into()),
        lxp: Some(NumericDate::from_secs(NOW_SECONDS + 3600)),
        ip: Some("192.0.2.0/24".into()),
        r#fn: Some("Jahresbericht für Müller.pdf".into()),
        rate: Some(1_000_000),
        edg: Some("edge-1".into()),
        hop: 1,
        head: true,
        ..Claims::new(file_id, NumericDate::from_secs(exp_seconds))
    }
}

#[test]
fn opening_a_token_allocates_nothing() {
    let (old, new) = (key("2026-10", 1, KeyState::Previous), key("2026-11", 2, KeyState::Current));
    let by_old = key("2026-10", 1, KeyState::Current);
    let sealed = |exp, key: &TokenKey| seal(&claims(exp), key).unwrap();
    let good = sealed(NOW_SECONDS + 900, &new);
    let by_old = sealed(NOW_SECONDS + 900, &by_old);
    let expired = sealed(NOW_SECONDS - 1, &new);
    let mut forged = good.clone().into_bytes();
    let middle = good.len() - 10;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let ring = KeyRing::new(vec![new, old]).unwrap();
    let now = NumericDate::from_system_time(UNIX_EPOCH + Duration::from_secs(NOW_SECONDS));
    let mut scratch = Scratch::default();

    let table: [(&str, &[u8], Result<(), TokenError>); 4] = [
        ("good", good.as_bytes(), Ok(())),
        ("sealed with the previous key", by_old.as_bytes(), Ok(())),
        ("expired", expired.as_bytes(), Err(TokenError::Expired)),
        ("forged", &forged, Err(TokenError::Authentication)),
    ];
    // The first one may find out what the processor can do.
    let _ = open(good.as_bytes(), &ring, now, &mut scratch);
    for (name, token, expected) in table {
        let (count, opened) = allocations_of(|| open(token, &ring, now, &mut scratch).map(drop));
        assert_eq!(opened, expected, "{name}");
        assert_eq!(count, 0, "{name}: allocations");
    }
}

#[test]
fn allocations_are_seen() {
    let (count, text) = allocations_of(|| String::from("something"));
    assert_eq!((count, text.len()), (1, 9));
}
