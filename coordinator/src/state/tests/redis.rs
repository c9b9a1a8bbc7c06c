//! Claims about a Redis that is shared, and that goes away.

use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::server::RedisServer;
use super::*;
use crate::state::throttle::{Meter, Terms, micros};

/// As a coordinator that has been up for a moment.
pub(super) async fn connect(server: &RedisServer) -> Arc<Redis> {
    connect_to(&server.url()).await
}

async fn connect_to(url: &str) -> Arc<Redis> {
    let state = Redis::connect(url, NONCES_MAX).unwrap();
    eventually("a connection", async || state.is_well()).await;
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_count_together() {
    let server = RedisServer::start();
    let (one, other) = (connect(&server).await, connect(&server).await);
    assert_eq!(claims::redeem_at_once(&[&*one, &*other], 0..1000, 10).await, 10);
    let now = SystemTime::now();
    let until = now + Duration::from_secs(60);
    assert_eq!(one.use_nonce("a", "n", now, until).await, Ok(NonceUse::Fresh));
    assert_eq!(other.use_nonce("a", "n", now, until).await, Ok(NonceUse::Used));
    one.create_link(&link("l", None, until)).await.unwrap();
    assert_eq!(other.revoke_link("l", None, now).await, Ok(Revocation::Revoked));
    assert!(one.is_revoked("l").await);
    assert_eq!(one.remembers_since(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_redis_and_nothing_is_answered_without_it() {
    let mut server = RedisServer::start();
    let (state, other) = (connect(&server).await, connect(&server).await);
    let now = SystemTime::now();
    let until = now + Duration::from_secs(3600);
    for id in ["gone", "kept"] {
        state.create_link(&link(id, None, until)).await.unwrap();
    }
    assert_eq!(state.revoke_link("gone", None, now).await, Ok(Revocation::Revoked));
    assert_eq!(state.redeem(visit("l", client_address(1), 2, now)).await, Ok(Redeemed::Opened));
    assert_eq!(state.use_nonce("a", "n", now, until).await, Ok(NonceUse::Fresh));
    // The one that revoked it knows at once, the other within a second or so.
    eventually("known to others", async || other.knows_revoked("gone")).await;

    server.kill();
    assert_eq!(state.redeem(visit("l", client_address(2), 2, now)).await, Err(StateError::Away));
    assert_eq!(state.use_nonce("a", "m", now, until).await, Err(StateError::Away));
    assert_eq!(state.throttle("a", Pace { per_second: 1.0, burst: 1 }, now).await, Err(StateError::Away));
    assert_eq!(state.standing("l", client_address(1)).await, Err(StateError::Away));
    assert_eq!(state.create_link(&link("new", None, until)).await, Err(StateError::Away));
    assert_eq!(state.revoke_link("kept", None, now).await, Err(StateError::Away));
    for coordinator in [&state, &other] {
        assert!(coordinator.is_revoked("gone").await && !coordinator.is_revoked("kept").await);
        eventually("unwell", async || !coordinator.is_well()).await;
    }

    server.start_again();
    for coordinator in [&state, &other] {
        eventually("well again", async || coordinator.is_well()).await;
        assert!(coordinator.is_revoked("gone").await && !coordinator.is_revoked("kept").await);
    }
    assert_eq!(state.redeem(visit("l", client_address(1), 2, now)).await, Ok(Redeemed::Joined { visits: 1 }));
    assert_eq!(state.redeem(visit("l", client_address(2), 2, now)).await, Ok(Redeemed::Opened));
    assert_eq!(other.redeem(visit("l", client_address(3), 2, now)).await, Ok(Redeemed::Exhausted));
    assert_eq!(other.use_nonce("a", "n", now, until).await, Ok(NonceUse::Used));
    assert_eq!(other.standing("gone", client_address(1)).await, Ok(Standing::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_come_later_than_the_coordinator() {
    let mut server = RedisServer::start();
    server.kill();
    let state = Redis::connect(&server.url(), NONCES_MAX).unwrap();
    let now = SystemTime::now();
    assert_eq!(state.use_nonce("a", "n", now, now).await, Err(StateError::Away));
    assert!(!state.is_well() && !state.is_revoked("l").await);
    server.start_again();
    eventually("well", async || state.is_well()).await;
    assert_eq!(state.use_nonce("a", "n", now, now + Duration::from_secs(60)).await, Ok(NonceUse::Fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_away_within_its_time() {
    let server = RedisServer::start();
    let state = connect(&server).await;
    let now = SystemTime::now();
    server.stop();
    let begun = Instant::now();
    assert!(!state.is_revoked("l").await);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(state.redeem(visit("l", client_address(1), 1, now)).await, Err(StateError::Away));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    eventually("unwell", async || !state.is_well()).await;
    server.go_on();
    eventually("well again", async || state.is_well()).await;
    // The visit that nobody answered may have been counted: then it is joined.
    let again = state.redeem(visit("l", client_address(1), 1, now)).await.unwrap();
    assert!(matches!(again, Redeemed::Opened | Redeemed::Joined { .. }), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_is_away_and_not_well() {
    let server = RedisServer::start();
    let state = connect(&server).await;
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut limit = |bytes: u32| {
        let set: String =
            ::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query(&mut connection).unwrap();
        assert_eq!(set, "OK");
    };
    limit(1);
    let now = SystemTime::now();
    let until = now + Duration::from_secs(60);
    assert_eq!(state.use_nonce("a", "n", now, until).await, Err(StateError::Away));
    eventually("unwell", async || !state.is_well()).await;
    limit(0);
    eventually("well again", async || state.is_well()).await;
    assert_eq!(state.use_nonce("a", "n", now, until).await, Ok(NonceUse::Fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_used_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let url = format!("{}?pass=hunter2", server.url());
    let state = connect_to(&url).await;
    assert!(!format!("{state:?}").contains("hunter2"));
    let without = Redis::connect(&server.url(), NONCES_MAX).unwrap();
    let now = SystemTime::now();
    assert_eq!(without.use_nonce("a", "n", now, now).await, Err(StateError::Away));
    for url in ["http://u:hunter2@h", "rediss://:hunter2@h", "redis://:hunter2@h/x", "redis:hunter2", ""] {
        let error = Redis::connect(url, 1).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_of_a_client_or_a_link_expires() {
    let server = RedisServer::start();
    let state = Redis::connect_under("other:", &server.url(), NONCES_MAX).unwrap();
    eventually("a connection", async || state.is_well()).await;
    let now = SystemTime::now();
    let until = now + Duration::from_secs(3600);
    state.create_link(&link("l", None, until)).await.unwrap();
    state.redeem(visit("l", client_address(1), 1, now)).await.unwrap();
    state.revoke_link("l", None, now).await.unwrap();
    state.use_nonce("a", "n", now, until).await.unwrap();
    state.throttle("a", Pace { per_second: 0.01, burst: 1 }, now).await.unwrap();
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in keys {
        let left_ms: i64 = ::redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        let lasts = ["other:revoked", "other:revoked-version"].contains(&key.as_str());
        assert!(key.starts_with("other:") && (lasts == (left_ms == -1)), "{key}: {left_ms}");
        assert!(left_ms < 86_500_000, "{key}: {left_ms}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_counts_as_the_meter_does() {
    let server = RedisServer::start();
    let state = connect(&server).await;
    let mut random = StdRng::seed_from_u64(7);
    let paces =
        [(10.0, 3), (3.0, 7), (0.7, 1), (1000.0, 50)].map(|(per_second, burst)| Pace { per_second, burst });
    for client in ["a", "b", "c"] {
        let mut meter = Meter::default();
        let mut pace = paces[0];
        // Ahead of the server's clock, which must not expire a meter in between.
        let mut now = SystemTime::now() + Duration::from_secs(1_000_000);
        for call in 0..3000 {
            now = match random.random_range(0..1000) {
                0 => now + Duration::from_secs(random.random_range(0..8000)),
                1 => now - Duration::from_secs(random.random_range(0..60)),
                2..50 => now + Duration::from_millis(random.random_range(0..2000)),
                50..500 => now + Duration::from_micros(random.random_range(0..50_000)),
                _ => now,
            };
            if random.random_range(0..20) == 0 {
                pace = paces[random.random_range(0..paces.len())];
            }
            let expected = meter.count(Terms::of(pace), micros(now));
            assert_eq!(state.throttle(client, pace, now).await, Ok(expected), "call {call} of {client}");
        }
    }
}
