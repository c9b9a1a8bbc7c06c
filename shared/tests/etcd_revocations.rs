//! Marks that are shared through a real etcd, which loses what it had, and holds what nobody of ours wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use sluice_shared::etcd::Etcd;
use sluice_shared::revocations::{EtcdMarks, Instant, Kind, Mark, RevocationBook, Target};
use support::{EtcdServer, wait_for};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn book() -> Arc<RevocationBook> {
    RevocationBook::open(None).unwrap()
}

fn target(kind: Kind, value: &str) -> Target {
    Target::new(kind, value).unwrap()
}

/// Set some milliseconds from now, for a day.
fn mark(set_in: i64) -> Mark {
    let set = Instant(Instant::now().0.saturating_add_signed(set_in));
    Mark { set, until: Instant(set.0 + DAY_MS), cut: false }
}

async fn in_etcd(etcd: &Etcd, target: &Target) -> Option<Mark> {
    let entry = etcd.get(&target.key()).await.unwrap()?;
    serde_json::from_slice(&entry.value).ok()
}

async fn wait_until_in_etcd(etcd: &Etcd, target: &Target, mark: Mark) {
    wait_for("etcd to have the mark", async || (in_etcd(etcd, target).await == Some(mark)).then_some(()))
        .await;
}

async fn wait_until_known(book: &RevocationBook, target: &Target, mark: Mark) {
    wait_for("the book to have the mark", async || {
        (book.load().mark_on(target) == Some(&mark)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_one_coordinator_marks_everybody_has_and_the_later_mark_stands() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let (one, two, edge) = (book(), book(), book());
    let user = target(Kind::User, "ann");
    let (early, late) = (mark(0), mark(1000));
    // Each comes with a mark of its own, from before there was an etcd.
    one.merge([(user.clone(), late)]);
    two.merge([(user.clone(), early)]);
    let _sharing = [EtcdMarks::share(&etcd, Arc::clone(&one)), EtcdMarks::share(&etcd, Arc::clone(&two))];
    let following = EtcdMarks::follow(&etcd, Arc::clone(&edge));
    for book in [&one, &two, &edge] {
        wait_until_known(book, &user, late).await;
    }
    wait_until_in_etcd(&etcd, &user, late).await;
    wait_for("the edge to know that it knows", async || following.is_known().then_some(())).await;
    // The longest value there is, and the shortest.
    let long = target(Kind::File, &"é".repeat(512));
    let all = target(Kind::Prefix, "");
    let now = mark(0);
    two.merge([(long.clone(), now), (all.clone(), now)]);
    for target in [&long, &all] {
        wait_until_known(&edge, target, now).await;
        wait_until_known(&one, target, now).await;
    }
    // An edge says nothing.
    edge.merge([(target(Kind::User, "bob"), now)]);
    let lifted = Mark { set: Instant(late.set.0 + 1), until: Instant(late.set.0), cut: false };
    one.merge([(user.clone(), lifted)]);
    wait_until_known(&edge, &user, lifted).await;
    assert_eq!(in_etcd(&etcd, &target(Kind::User, "bob")).await, None);
}

#[tokio::test]
async fn what_etcd_lost_is_put_back_and_lifts_nothing() {
    let mut server = EtcdServer::start().await;
    let etcd = server.etcd();
    let (coordinator, edge) = (book(), book());
    let _sharing = EtcdMarks::share(&etcd, Arc::clone(&coordinator));
    let _following = EtcdMarks::follow(&etcd, Arc::clone(&edge));
    // More than are written at a time.
    let links: Vec<_> = (0..300).map(|number| target(Kind::Link, &format!("link-{number}"))).collect();
    let set = mark(0);
    coordinator.merge(links.iter().map(|link| (link.clone(), set)));
    wait_for("the edge to have all", async || (edge.load().len() == links.len()).then_some(())).await;
    server.kill();
    server.wipe(true);
    // Set while etcd is away: in force here at once, elsewhere once etcd is back.
    let user = target(Kind::User, "ann");
    coordinator.merge([(user.clone(), set)]);
    server.run().await;
    // As from a backup: an older mark of what has a later one.
    let older = Mark { set: Instant(set.set.0 - 1000), until: Instant(set.set.0 - 500), cut: false };
    etcd.put(&links[0].key(), &serde_json::to_vec(&older).unwrap()).await.unwrap();
    wait_until_known(&edge, &user, set).await;
    for link in &links {
        wait_until_in_etcd(&etcd, link, set).await;
        assert_eq!(edge.load().mark_on(link), Some(&set));
    }
    assert_eq!(edge.load().len(), links.len() + 1);
    // Removed by hand, one by one.
    etcd.remove(&user.key()).await.unwrap();
    wait_until_in_etcd(&etcd, &user, set).await;
    assert_eq!(edge.load().mark_on(&user), Some(&set));
}

#[tokio::test]
async fn what_is_no_mark_is_passed_over_and_what_is_long_over_removed() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let user = target(Kind::User, "ann");
    let now = Instant::now();
    let over = Mark { set: Instant(now.0 - 9 * DAY_MS), until: Instant(now.0 - 8 * DAY_MS), cut: false };
    let over_for_a_day = Mark { set: over.set, until: Instant(now.0 - DAY_MS), cut: false };
    let (old, recent) = (target(Kind::User, "old"), target(Kind::User, "recent"));
    let link = target(Kind::Link, "recent");
    let good = serde_json::to_vec(&mark(0)).unwrap();
    let value = |mark: &Mark| serde_json::to_vec(mark).unwrap();
    let table = [
        (old.key(), value(&over)),
        (recent.key(), value(&over_for_a_day)),
        (link.key(), value(&over_for_a_day)),
        (user.key(), b"{".to_vec()),
        ("revoked/user/!".to_owned(), good.clone()),
        ("revoked/colour/YQ".to_owned(), good.clone()),
        ("revoked/prefix/YQ".to_owned(), good.clone()),
        ("revoked/user".to_owned(), good.clone()),
        // "..": no file, and no prefix.
        ("blocked/Li4".to_owned(), good.clone()),
        ("revoked/file/Li4".to_owned(), good.clone()),
        (target(Kind::User, "large").key(), vec![b' '; 8 << 10]),
        (target(Kind::User, "list").key(), b"[1,2]".to_vec()),
        (target(Kind::User, "late").key(), br#"{"set":"99999-01-01T00:00:00Z","until":1}"#.to_vec()),
    ];
    for (key, value) in &table {
        etcd.put(key, value).await.unwrap();
    }
    let coordinator = book();
    let sharing = EtcdMarks::share(&etcd, Arc::clone(&coordinator));
    wait_for("the list to be known", async || sharing.is_known().then_some(())).await;
    for gone in [&old, &link] {
        wait_for("the old mark to be removed", async || {
            etcd.get(&gone.key()).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    let known: Vec<_> = coordinator.load().iter().collect();
    assert_eq!(known, [(recent.clone(), over_for_a_day)]);
    assert_eq!(in_etcd(&etcd, &recent).await, Some(over_for_a_day), "kept for a week");
    // Where nonsense is in the way of a mark, the mark wins.
    let set = mark(0);
    coordinator.merge([(user.clone(), set), (target(Kind::User, "large"), set)]);
    wait_until_in_etcd(&etcd, &user, set).await;
    wait_until_in_etcd(&etcd, &target(Kind::User, "large"), set).await;
}
