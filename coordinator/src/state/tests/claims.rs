//! What holds wherever state is kept. Time is told, and told ahead, so that nothing waits for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const PACE: Pace = Pace { per_second: 10.0, burst: 5 };

pub(super) async fn a_nonce_is_fresh_once(state: &dyn State) {
    let now = SystemTime::now();
    let until = now + 5 * MINUTE;
    assert_eq!(state.use_nonce("a", "n", now, until).await, Ok(NonceUse::Fresh));
    assert_eq!(state.use_nonce("a", "n", now, until).await, Ok(NonceUse::Used));
    assert_eq!(state.use_nonce("a", "n", now + 5 * MINUTE, until + 5 * MINUTE).await, Ok(NonceUse::Used));
    assert_eq!(state.use_nonce("a", "", now, until).await, Ok(NonceUse::Fresh));
}

pub(super) async fn clients_have_nonces_of_their_own(state: &dyn State) {
    let now = SystemTime::now();
    for client in ["a", "b", "", "a}b", "ä"] {
        assert_eq!(state.use_nonce(client, "n", now, now + MINUTE).await, Ok(NonceUse::Fresh), "{client}");
        assert_eq!(state.use_nonce(client, "n", now, now + MINUTE).await, Ok(NonceUse::Used), "{client}");
    }
}

pub(super) async fn a_client_with_too_many_nonces_is_refused_until_some_expire(state: &dyn State) {
    let now = SystemTime::now();
    for nonce in 0..NONCES_MAX {
        let nonce = nonce.to_string();
        assert_eq!(state.use_nonce("a", &nonce, now, now + 5 * MINUTE).await, Ok(NonceUse::Fresh));
    }
    assert_eq!(state.use_nonce("a", "more", now, now + 5 * MINUTE).await, Ok(NonceUse::Full));
    assert_eq!(state.use_nonce("a", "0", now, now + 5 * MINUTE).await, Ok(NonceUse::Used), "not evicted");
    assert_eq!(state.use_nonce("b", "more", now, now + 5 * MINUTE).await, Ok(NonceUse::Fresh));
    let later = now + 30 * MINUTE;
    assert_eq!(state.use_nonce("a", "more", later, later + MINUTE).await, Ok(NonceUse::Fresh));
}

pub(super) async fn a_nonce_may_come_again_when_it_has_expired(state: &dyn State) {
    let now = SystemTime::now();
    assert_eq!(state.use_nonce("a", "n", now, now + MINUTE).await, Ok(NonceUse::Fresh));
    // Kept somewhat longer than asked, and not for ever.
    let later = now + 30 * MINUTE;
    assert_eq!(state.use_nonce("a", "n", later, later + MINUTE).await, Ok(NonceUse::Fresh));
    assert_eq!(state.use_nonce("a", "n", later, later + MINUTE).await, Ok(NonceUse::Used));
}

pub(super) async fn a_pace_is_kept_per_client(state: &dyn State) {
    let now = SystemTime::now();
    for remaining in (0..5).rev() {
        assert_eq!(state.throttle("a", PACE, now).await, Ok(Throttled::No { remaining }));
    }
    let retry_after = Duration::from_millis(100);
    assert_eq!(state.throttle("a", PACE, now).await, Ok(Throttled::Yes { retry_after }));
    assert_eq!(state.throttle("b", PACE, now).await, Ok(Throttled::No { remaining: 4 }));
    assert_eq!(state.throttle("a", PACE, now + retry_after).await, Ok(Throttled::No { remaining: 0 }));
}

pub(super) async fn hammering_blocks(state: &dyn State) {
    // In whole microseconds, as it is kept.
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis(SystemTime::now()));
    for call in 0..20 {
        let answer = state.throttle("a", PACE, now).await.unwrap();
        assert!(!matches!(answer, Throttled::Blocked { .. }), "{call}: {answer:?}");
    }
    let until = now + Duration::from_secs(10);
    assert_eq!(state.throttle("a", PACE, now).await, Ok(Throttled::Blocked { until }));
    assert_eq!(state.throttle("a", PACE, now + 9 * MINUTE / 60).await, Ok(Throttled::Blocked { until }));
    assert_eq!(state.throttle("b", PACE, now).await, Ok(Throttled::No { remaining: 4 }));
    assert_eq!(state.throttle("a", PACE, until).await, Ok(Throttled::No { remaining: 4 }));
}

pub(super) async fn visits_join_a_redemption_until_its_window_ends(state: &dyn State) {
    let now = SystemTime::now();
    let who = client_address(1);
    assert_eq!(state.redeem(visit("l", who, 2, now)).await, Ok(Redeemed::Opened));
    for visits in 1..4 {
        // Just before its end each time: joining prolongs nothing.
        let late = now + 15 * MINUTE - Duration::from_millis(1);
        assert_eq!(state.redeem(visit("l", who, 2, late)).await, Ok(Redeemed::Joined { visits }));
    }
    let after = now + 15 * MINUTE;
    assert_eq!(state.redeem(visit("l", who, 2, after)).await, Ok(Redeemed::Opened));
    assert_eq!(state.redeem(visit("l", who, 2, after)).await, Ok(Redeemed::Joined { visits: 1 }));
    let end = after + 15 * MINUTE;
    assert_eq!(state.redeem(visit("l", who, 2, end)).await, Ok(Redeemed::Exhausted));
    assert_eq!(state.redeem(visit("other", who, 2, end)).await, Ok(Redeemed::Opened));
}

pub(super) async fn every_address_counts_once_a_window(state: &dyn State) {
    let now = SystemTime::now();
    let of = |address: &str| Subscriber::of(address.parse::<IpAddr>().unwrap());
    let table = [
        ("192.0.2.1", Redeemed::Opened),
        ("192.0.2.2", Redeemed::Opened),
        ("2001:db8::1", Redeemed::Opened),
        ("2001:db8::ffff:1", Redeemed::Joined { visits: 1 }),
        ("2001:db8:0:1::1", Redeemed::Exhausted),
        ("192.0.2.3", Redeemed::Exhausted),
        ("192.0.2.1", Redeemed::Joined { visits: 1 }),
    ];
    for (address, expected) in table {
        assert_eq!(state.redeem(visit("l", of(address), 3, now)).await, Ok(expected), "{address}");
    }
    assert_eq!(state.redeem(visit("none", of("192.0.2.1"), 0, now)).await, Ok(Redeemed::Exhausted));
}

pub(super) async fn of_a_thousand_at_once_as_many_open_as_may(state: &dyn State) {
    let opened = redeem_at_once(&[state], 0..1000, 10).await;
    assert_eq!(opened, 10);
}

/// Visits of so many addresses to a link, spread over some coordinators; how many were opened, and all others refused.
pub(super) async fn redeem_at_once(
    states: &[&dyn State],
    clients: std::ops::Range<u32>,
    downloads_max: u32,
) -> u32 {
    let now = SystemTime::now();
    let opened = AtomicU32::new(0);
    let visits = clients.zip(states.iter().cycle()).map(|(client, state)| {
        let opened = &opened;
        async move {
            match state.redeem(visit("l", client_address(client), downloads_max, now)).await {
                Ok(Redeemed::Opened) => opened.fetch_add(1, Ordering::Relaxed),
                other => {
                    assert_eq!(other, Ok(Redeemed::Exhausted), "{client}");
                    0
                }
            };
        }
    });
    all(visits).await;
    opened.into_inner()
}

/// Runs futures at once, without tasks: they may borrow.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

pub(super) async fn an_owner_revokes_and_nobody_else(state: &dyn State) {
    let now = SystemTime::now();
    for (id, owner) in [("a", Some("A")), ("b", Some("B")), ("nobodys", None), ("nameless", Some(""))] {
        state.create_link(&link(id, owner, now + 60 * MINUTE)).await.unwrap();
    }
    let table = [
        ("a", Some("B"), Revocation::NotYours),
        ("a", None, Revocation::NotYours),
        ("a", Some(""), Revocation::NotYours),
        ("missing", Some("A"), Revocation::NotYours),
        ("missing", None, Revocation::NotYours),
        ("nobodys", Some("A"), Revocation::NotYours),
        ("nobodys", Some(""), Revocation::NotYours),
        ("nameless", None, Revocation::NotYours),
        ("a", Some("A"), Revocation::Revoked),
        ("a", Some("A"), Revocation::Revoked),
        ("a", Some("B"), Revocation::NotYours),
        ("nobodys", None, Revocation::Revoked),
        ("nameless", Some(""), Revocation::Revoked),
    ];
    for (id, owner, expected) in table {
        assert_eq!(state.revoke_link(id, owner, now).await, Ok(expected), "{id} by {owner:?}");
    }
    for (id, expected) in
        [("a", true), ("b", false), ("missing", false), ("nobodys", true), ("nameless", true)]
    {
        assert_eq!(state.is_revoked(id).await, expected, "{id}");
    }
}

pub(super) async fn a_revoked_link_is_refused_everywhere(state: &dyn State) {
    let now = SystemTime::now();
    state.create_link(&link("l", Some("A"), now + 60 * MINUTE)).await.unwrap();
    assert_eq!(state.redeem(visit("l", client_address(1), 5, now)).await, Ok(Redeemed::Opened));
    assert!(!state.is_revoked("l").await);
    assert_eq!(state.revoke_link("l", Some("A"), now).await, Ok(Revocation::Revoked));
    assert!(state.is_revoked("l").await);
    for client in [1, 2] {
        assert_eq!(state.redeem(visit("l", client_address(client), 5, now)).await, Ok(Redeemed::Revoked));
        assert_eq!(state.standing("l", client_address(client)).await, Ok(Standing::Revoked));
    }
    state.create_link(&link("l", Some("A"), now + 60 * MINUTE)).await.unwrap();
    assert!(state.is_revoked("l").await, "for good");
}

pub(super) async fn an_expired_link_is_nobodys(state: &dyn State) {
    let now = SystemTime::now();
    state.create_link(&link("l", Some("A"), now + MINUTE)).await.unwrap();
    assert_eq!(state.revoke_link("l", Some("A"), now + MINUTE).await, Ok(Revocation::NotYours));
    assert_eq!(state.revoke_link("l", Some("A"), now + MINUTE / 2).await, Ok(Revocation::Revoked));
}

pub(super) async fn standing_outlives_the_window(state: &dyn State) {
    let now = SystemTime::now();
    let (first, second) = (client_address(1), client_address(2));
    assert_eq!(state.standing("l", first).await, Ok(Standing::Never));
    let mut over = visit("l", first, 1, now);
    over.open_until = now;
    assert_eq!(state.redeem(over).await, Ok(Redeemed::Opened));
    assert_eq!(state.redeem(over).await, Ok(Redeemed::Exhausted), "its window is over");
    assert_eq!(state.redeem(visit("l", second, 1, now)).await, Ok(Redeemed::Exhausted));
    assert_eq!(state.standing("l", first).await, Ok(Standing::Redeemed));
    assert_eq!(state.standing("l", second).await, Ok(Standing::Never));
    assert_eq!(state.standing("other", first).await, Ok(Standing::Never));
}
