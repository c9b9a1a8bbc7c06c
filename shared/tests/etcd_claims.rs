//! Records and offices against a real etcd: kept while their process lives, put back where they vanish, and never taken
//! from who lives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use sluice_shared::etcd::{Election, Entry, Etcd, Record, Registration, Standing};
use support::{EtcdServer, wait_for};

const TTL: Duration = Duration::from_secs(3);
const KEY: &str = "edges/edge-1";

fn value(instance: &str, load: u32) -> Vec<u8> {
    format!(r#"{{"instance":"{instance}","load":{load}}}"#).into_bytes()
}

fn register(etcd: &Etcd, instance: &str) -> Registration {
    register_for(etcd, instance, TTL)
}

fn register_for(etcd: &Etcd, instance: &str, ttl: Duration) -> Registration {
    Registration::start(etcd.clone(), Record::new(KEY, instance, value(instance, 0), ttl))
}

async fn wait_until_value(etcd: &Etcd, expected: &[u8]) -> Entry {
    let what = format!("the record to be {}", String::from_utf8_lossy(expected));
    wait_for(&what, async || {
        let found = etcd.get(KEY).await.ok().flatten();
        found.filter(|entry| &*entry.value == expected)
    })
    .await
}

async fn wait_until_gone(etcd: &Etcd) {
    wait_for("the record to be gone", async || etcd.get(KEY).await.unwrap().is_none().then_some(())).await;
}

/// Ends a claim as a killed process would: nobody says goodbye.
fn die(registration: Registration) {
    drop(registration);
}

#[tokio::test]
async fn a_record_is_kept_changed_and_taken_back() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let registration = register(&etcd, "a");
    let first = wait_until_value(&etcd, &value("a", 0)).await;
    assert_ne!(first.lease, 0);
    assert!(registration.standing().borrow().is_held());
    registration.set(value("a", 7));
    wait_until_value(&etcd, &value("a", 7)).await;
    // Well beyond its TTL: it is renewed.
    let began = tokio::time::Instant::now();
    wait_for("twice the TTL", async || (began.elapsed() > TTL * 2).then_some(())).await;
    let later = etcd.get(KEY).await.unwrap().unwrap();
    assert_eq!((later.lease, &*later.value), (first.lease, &*value("a", 7)));
    let left = tokio::time::Instant::now();
    registration.leave(Some(value("a", 9))).await;
    assert_eq!(etcd.get(KEY).await.unwrap(), None, "gone by the time that leaving returns");
    assert!(left.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_record_of_a_process_that_died_ends_with_its_lease() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let registration = register(&etcd, "a");
    wait_until_value(&etcd, &value("a", 0)).await;
    die(registration);
    wait_until_gone(&etcd).await;
}

#[tokio::test]
async fn a_record_comes_back_where_etcd_lost_it() {
    let mut server = EtcdServer::start().await;
    let etcd = server.etcd();
    let _registration = register(&etcd, "a");
    let first = wait_until_value(&etcd, &value("a", 0)).await;
    // Its lease.
    server.raw().await.lease_revoke(first.lease).await.unwrap();
    let second = wait_until_value(&etcd, &value("a", 0)).await;
    assert_ne!(second.lease, first.lease);
    // The record alone, by hand.
    assert!(etcd.remove(KEY).await.unwrap());
    let third = wait_until_value(&etcd, &value("a", 0)).await;
    assert!(third.create_revision > second.create_revision);
    // Everything.
    server.kill();
    server.wipe(true);
    server.run().await;
    wait_until_value(&etcd, &value("a", 0)).await;
    // And an etcd that was away for longer than any lease, and comes back with what it had.
    server.kill();
    let away = tokio::time::Instant::now();
    wait_for("longer than the TTL", async || (away.elapsed() > TTL + TTL / 2).then_some(())).await;
    server.run().await;
    wait_until_value(&etcd, &value("a", 0)).await;
}

#[tokio::test]
async fn a_change_while_etcd_is_away_arrives_when_it_is_back() {
    let mut server = EtcdServer::start().await;
    let etcd = server.etcd();
    let registration = register(&etcd, "a");
    wait_until_value(&etcd, &value("a", 0)).await;
    server.kill();
    for load in 1..=5 {
        registration.set(value("a", load));
        tokio::task::yield_now().await;
    }
    let mut standing = registration.standing();
    standing.wait_for(|standing| !standing.is_held()).await.unwrap();
    server.run().await;
    wait_until_value(&etcd, &value("a", 5)).await;
}

#[tokio::test]
async fn a_record_frozen_out_of_its_lease_comes_back() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let registration = register(&etcd, "a");
    wait_until_value(&etcd, &value("a", 0)).await;
    server.freeze();
    let mut standing = registration.standing();
    wait_for("the claim to know that it may be lost", async || {
        (!standing.borrow_and_update().is_held()).then_some(())
    })
    .await;
    server.thaw();
    standing.wait_for(Standing::is_held).await.unwrap();
    wait_until_value(&etcd, &value("a", 0)).await;
}

#[tokio::test]
async fn a_process_that_lives_keeps_its_record_and_the_second_is_told() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let first = register(&etcd, "a");
    wait_until_value(&etcd, &value("a", 0)).await;
    let second = register(&server.etcd(), "b");
    let mut standing = second.standing();
    let told =
        standing.wait_for(|standing| matches!(standing, Standing::Taken { .. })).await.unwrap().clone();
    assert_eq!(told, Standing::Taken { instance: "a".to_owned() });
    let entry = etcd.get(KEY).await.unwrap().unwrap();
    assert_eq!(&*entry.value, &value("a", 0));
    // When the first leaves, the second has it at once: long before a lease would be over.
    first.leave(None).await;
    wait_until_value(&etcd, &value("b", 0)).await;
}

/// A busy edge's record changes more often than it is renewed; that must not pass for silence.
#[tokio::test]
async fn a_record_that_changes_all_the_time_is_renewed_all_the_same() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    // Long enough to see a missed renewal in whole seconds.
    let ttl = TTL * 2;
    let first = register_for(&etcd, "a", ttl);
    let lease = wait_until_value(&etcd, &value("a", 0)).await.lease;
    let second = register_for(&server.etcd(), "b", ttl);
    let mut load = 0;
    let began = tokio::time::Instant::now();
    wait_for("twice the TTL", async || {
        load += 1;
        first.set(value("a", load));
        let entry = etcd.get(KEY).await.unwrap().unwrap();
        assert_eq!(entry.lease, lease, "taken after {:?}", began.elapsed());
        (began.elapsed() > ttl * 2).then_some(())
    })
    .await;
    assert!(!second.standing().borrow().is_held());
}

#[tokio::test]
async fn a_successor_s_record_is_not_its_predecessor_s_to_change_or_remove() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    // The predecessor's way to etcd is cut, for longer than its record lasts.
    let relay = support::Relay::start(server.port()).await;
    let cut_off = Etcd::new(&support::settle(&format!("endpoints = [\"{}\"]", relay.url())));
    let predecessor = register(&cut_off, "old");
    wait_until_value(&etcd, &value("old", 0)).await;
    relay.cut();
    let successor = register(&etcd, "new");
    wait_until_value(&etcd, &value("new", 0)).await;
    predecessor.set(value("old", 1));
    relay.mend();
    let mut standing = predecessor.standing();
    standing.wait_for(|standing| matches!(standing, Standing::Taken { .. })).await.unwrap();
    predecessor.leave(Some(value("old", 2))).await;
    let entry = etcd.get(KEY).await.unwrap().unwrap();
    assert_eq!(&*entry.value, &value("new", 0));
    assert!(successor.standing().borrow().is_held());
}

#[tokio::test]
async fn a_record_whose_holder_is_known_to_be_gone_is_replaced_at_once() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let old = Record::new(KEY, "old", value("old", 0), Duration::from_secs(300));
    let old = Registration::start(etcd.clone(), old);
    wait_until_value(&etcd, &value("old", 0)).await;
    die(old);
    let mut new = Record::new(KEY, "new", value("new", 0), TTL);
    new.is_over = Box::new(|value| value.starts_with(br#"{"instance":"old""#));
    let _new = Registration::start(etcd.clone(), new);
    wait_until_value(&etcd, &value("new", 0)).await;
}

#[tokio::test]
async fn a_record_without_a_lease_is_nobody_s() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    etcd.put(KEY, b"put here by hand").await.unwrap();
    let _registration = register(&etcd, "a");
    let entry = wait_until_value(&etcd, &value("a", 0)).await;
    assert_ne!(entry.lease, 0);
}

#[tokio::test]
async fn of_two_candidates_one_has_the_office_until_it_dies_or_withdraws() {
    let server = EtcdServer::start().await;
    let stand = |id| Election::stand(server.etcd(), "keys", id, TTL);
    let one = stand("one");
    wait_for("the first to win", async || one.is_won().then_some(())).await;
    let two = stand("two");
    let three = stand("three");
    assert_eq!(two.holder().await.unwrap().as_deref(), Some("one"));
    let began = tokio::time::Instant::now();
    wait_for("longer than the TTL", async || {
        assert!(one.is_won() && !two.is_won() && !three.is_won());
        (began.elapsed() > TTL * 2).then_some(())
    })
    .await;
    one.withdraw().await;
    let next = wait_for("another to win", async || {
        assert!(!(two.is_won() && three.is_won()));
        if two.is_won() { Some("two") } else { three.is_won().then_some("three") }
    })
    .await;
    let (winner, other) = if next == "two" { (two, three) } else { (three, two) };
    assert_eq!(other.holder().await.unwrap().as_deref(), Some(next));
    drop(winner);
    wait_for("the last to win", async || other.is_won().then_some(())).await;
}

#[tokio::test]
async fn who_cannot_reach_etcd_is_out_of_office_before_another_is_in() {
    let server = EtcdServer::start().await;
    let relay = support::Relay::start(server.port()).await;
    let cut_off = Etcd::new(&support::settle(&format!("endpoints = [\"{}\"]", relay.url())));
    let one = Election::stand(cut_off, "keys", "one", TTL);
    wait_for("the first to win", async || one.is_won().then_some(())).await;
    let two = Election::stand(server.etcd(), "keys", "two", TTL);
    relay.cut();
    wait_for("the second to win", async || {
        assert!(!(one.is_won() && two.is_won()), "two in one office");
        two.is_won().then_some(())
    })
    .await;
    relay.mend();
    wait_for("the first to see it", async || {
        assert!(!one.is_won());
        let holder = one.holder().await.ok().flatten();
        (holder.as_deref() == Some("two")).then_some(())
    })
    .await;
}
