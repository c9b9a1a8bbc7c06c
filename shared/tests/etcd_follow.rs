//! A mirror of a prefix against a real etcd, which is restarted, emptied, compacted and frozen under it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, LeaseGrantOptions, PutOptions};
use sluice_shared::etcd::{Contents, Created, Etcd, EtcdError, Mirror, MirrorRules, Replaced, Skip};
use support::{EtcdServer, settle, wait_for};

/// Keys and values, as text.
fn shown(contents: &Contents) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    contents.entries.iter().map(|(key, entry)| (key.to_string(), text(&entry.value))).collect()
}

async fn wait_until(mirror: &Mirror, expected: &[(&str, &str)]) -> Arc<Contents> {
    let wanted: Vec<_> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    wait_for(&format!("the mirror to have {expected:?}"), async || {
        let contents = mirror.contents();
        (contents.is_known && shown(&contents) == wanted).then_some(contents)
    })
    .await
}

fn follow(etcd: &Etcd) -> Mirror {
    Mirror::start(etcd.clone(), "edges/", MirrorRules::default())
}

async fn put(etcd: &Etcd, key: &str, value: &str) {
    etcd.put(key, value.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn keys_are_made_replaced_and_removed_by_comparison() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    assert_eq!(etcd.get("a").await.unwrap(), None);
    let Created::Created(revision) = etcd.create("a", b"1").await.unwrap() else {
        panic!("it was not there")
    };
    let Created::Exists(entry) = etcd.create("a", b"2").await.unwrap() else { panic!("it is there") };
    assert_eq!((&*entry.value, entry.mod_revision), (&b"1"[..], revision));
    let Replaced::Replaced(newer) = etcd.replace("a", revision, b"3").await.unwrap() else {
        panic!("it had not changed")
    };
    let Replaced::Changed(Some(entry)) = etcd.replace("a", revision, b"4").await.unwrap() else {
        panic!("it had changed")
    };
    assert_eq!((&*entry.value, entry.mod_revision), (&b"3"[..], newer));
    assert!(etcd.remove("a").await.unwrap() && !etcd.remove("a").await.unwrap());
    assert_eq!(etcd.replace("a", newer, b"5").await.unwrap(), Replaced::Changed(None));
    assert_eq!(etcd.path("a"), "/sluice/a");
}

#[tokio::test]
async fn what_is_put_and_removed_is_seen() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    put(&etcd, "edges/one", "1").await;
    put(&etcd, "edgesque", "no").await;
    put(&etcd, "clients/x", "no").await;
    let mirror = follow(&etcd);
    assert!(!mirror.contents().is_known);
    wait_until(&mirror, &[("one", "1")]).await;
    put(&etcd, "edges/two", "2").await;
    put(&etcd, "edges/one", "1b").await;
    wait_until(&mirror, &[("one", "1b"), ("two", "2")]).await;
    etcd.remove("edges/one").await.unwrap();
    wait_until(&mirror, &[("two", "2")]).await;
    // A key whose lease ends is removed like any other.
    let mut raw = server.raw().await;
    let lease = raw.lease_grant(60, Some(LeaseGrantOptions::new())).await.unwrap().id();
    raw.put("/sluice/edges/three", "3", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    wait_until(&mirror, &[("three", "3"), ("two", "2")]).await;
    raw.lease_revoke(lease).await.unwrap();
    let contents = wait_until(&mirror, &[("two", "2")]).await;
    assert_eq!(&*contents.removed["three"].value, b"3", "the last word of what is gone");
    assert!(mirror.is_reached());
}

#[tokio::test]
async fn quiet_contents_stay_confirmed() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let mirror = follow(&etcd);
    assert_eq!(mirror.staleness(), None);
    wait_until(&mirror, &[]).await;
    // Nothing changes: only by asking does the mirror know that it is up to date.
    let before = tokio::time::Instant::now();
    wait_for("confirmation without news", async || (before.elapsed() > Duration::from_secs(4)).then_some(()))
        .await;
    let staleness = mirror.staleness().unwrap();
    assert!(staleness < Duration::from_secs(4) && mirror.is_reached(), "{staleness:?}");
}

#[tokio::test]
async fn an_etcd_that_is_restarted_is_followed_on() {
    let mut server = EtcdServer::start().await;
    let etcd = server.etcd();
    put(&etcd, "edges/one", "1").await;
    put(&etcd, "edges/two", "2").await;
    let mirror = follow(&etcd);
    wait_until(&mirror, &[("one", "1"), ("two", "2")]).await;
    server.kill();
    wait_for("the loss to be noticed", async || (!mirror.is_reached()).then_some(())).await;
    assert_eq!(shown(&mirror.contents()).len(), 2, "the last state stands");
    server.run().await;
    etcd.remove("edges/one").await.unwrap();
    put(&etcd, "edges/three", "3").await;
    wait_until(&mirror, &[("three", "3"), ("two", "2")]).await;
    assert!(mirror.is_reached());
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_taken_as_it_is() {
    for is_same_cluster in [true, false] {
        let mut server = EtcdServer::start().await;
        let etcd = server.etcd();
        for n in 0..20 {
            put(&etcd, "edges/one", &n.to_string()).await;
        }
        let mirror = follow(&etcd);
        let before = wait_until(&mirror, &[("one", "19")]).await;
        server.kill();
        server.wipe(is_same_cluster);
        server.run().await;
        let after = wait_until(&mirror, &[]).await;
        assert_eq!(after.cluster == before.cluster, is_same_cluster);
        // From a revision that the old one had passed long ago.
        put(&etcd, "edges/two", "2").await;
        wait_until(&mirror, &[("two", "2")]).await;
    }
}

#[tokio::test]
async fn a_silent_etcd_is_noticed_and_left_and_found_again() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    put(&etcd, "edges/one", "1").await;
    let mirror = follow(&etcd);
    wait_until(&mirror, &[("one", "1")]).await;
    server.freeze();
    let began = tokio::time::Instant::now();
    wait_for("the silence to be noticed", async || (!mirror.is_reached()).then_some(())).await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let asked = tokio::time::Instant::now();
    let error = etcd.get("edges/one").await.unwrap_err();
    assert!(matches!(error, EtcdError::Silent(_) | EtcdError::Away(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(8), "a call has a deadline: {:?}", asked.elapsed());
    assert_eq!(shown(&mirror.contents()).len(), 1, "the last state stands");
    let stale = mirror.staleness().unwrap();
    server.thaw();
    put(&server.etcd(), "edges/two", "2").await;
    wait_until(&mirror, &[("one", "1"), ("two", "2")]).await;
    assert!(mirror.staleness().unwrap() < stale && mirror.is_reached());
}

#[tokio::test]
async fn what_was_compacted_while_nobody_watched_is_listed() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    put(&etcd, "edges/one", "1").await;
    put(&etcd, "edges/two", "2").await;
    let relay = support::Relay::start(server.port()).await;
    let through = Etcd::new(&settle(&format!("endpoints = [\"{}\"]", relay.url())));
    let mirror = follow(&through);
    wait_until(&mirror, &[("one", "1"), ("two", "2")]).await;
    relay.cut();
    wait_for("the loss to be noticed", async || (!mirror.is_reached()).then_some(())).await;
    let mut revision = 0;
    for n in 0..5 {
        let put = server.raw().await.put("/sluice/edges/one", n.to_string(), None).await.unwrap();
        revision = put.header().unwrap().revision();
    }
    etcd.remove("edges/two").await.unwrap();
    server.raw().await.compact(revision + 1, None).await.unwrap();
    relay.mend();
    wait_until(&mirror, &[("one", "4")]).await;
}

#[tokio::test]
async fn a_member_that_is_dead_is_passed_over() {
    let server = EtcdServer::start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    for first in [dead, silent_at] {
        // Begun at a member by chance: several times, so that both are.
        for _ in 0..4 {
            let text = format!("endpoints = [\"http://{first}\", \"{}\"]", server.url());
            let etcd = Etcd::new(&settle(&text));
            assert_eq!(etcd.get("a").await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn hostile_keys_and_values_are_skipped_and_named() {
    let server = EtcdServer::start().await;
    let (etcd, mut raw) = (server.etcd(), server.raw().await);
    put(&etcd, "edges/good", "1").await;
    raw.put("/sluice/edges/huge", "x".repeat(1_400_000), None).await.unwrap();
    raw.put(b"/sluice/edges/\xff\n".to_vec(), "x", None).await.unwrap();
    // The prefix itself: the shortest name there is, and for whoever reads it to judge.
    raw.put("/sluice/edges/", "no name", None).await.unwrap();
    let mirror = follow(&etcd);
    let contents = wait_until(&mirror, &[("", "no name"), ("good", "1")]).await;
    let skipped: Vec<_> = contents.skipped().collect();
    assert_eq!(skipped, [("\\xff\\n", Skip::Name), ("huge", Skip::ValueTooLarge)]);
    // One that becomes hostile is dropped, one that mends is taken, both by news alone.
    raw.put("/sluice/edges/good", "x".repeat(100_000), None).await.unwrap();
    raw.put("/sluice/edges/huge", "small", None).await.unwrap();
    let contents = wait_until(&mirror, &[("", "no name"), ("huge", "small")]).await;
    assert!(contents.skipped().any(|(key, why)| key == "good" && why == Skip::ValueTooLarge));
    raw.delete("/sluice/edges/good", None).await.unwrap();
    wait_for("the removed key to be named no more", async || {
        (!mirror.contents().skipped().any(|(key, _)| key == "good")).then_some(())
    })
    .await;
}

async fn fill(raw: &mut Client, count: usize, bytes: usize) {
    for n in 0..count {
        raw.put(format!("/sluice/edges/k{n:04}"), "x".repeat(bytes), None).await.unwrap();
    }
}

#[tokio::test]
async fn many_keys_and_large_pages_are_listed_whole() {
    let server = EtcdServer::start().await;
    let mut raw = server.raw().await;
    // More than a page, and in bytes more than a message.
    fill(&mut raw, 1100, 20_000).await;
    let mirror = follow(&server.etcd());
    wait_for("all keys", async || (mirror.contents().entries.len() == 1100).then_some(())).await;
}

#[tokio::test]
async fn keys_beyond_the_bound_are_left_out() {
    let server = EtcdServer::start().await;
    let mut raw = server.raw().await;
    fill(&mut raw, 12, 1).await;
    let rules = MirrorRules { keys_max: 10, value_bytes_max: 100 };
    let mirror = Mirror::start(server.etcd(), "edges/", rules);
    wait_for("the first keys", async || (mirror.contents().entries.len() == 10).then_some(())).await;
    raw.put("/sluice/edges/z", "1", None).await.unwrap();
    wait_for("the key too many to be named", async || {
        mirror.contents().skipped().any(|(key, why)| key == "z" && why == Skip::TooMany).then_some(())
    })
    .await;
    raw.put("/sluice/edges/k0001", "new", None).await.unwrap();
    wait_for("a known key to change all the same", async || {
        (&*mirror.contents().entries["k0001"].value == b"new").then_some(())
    })
    .await;
}
