//! What coordinators have to remember, whoever of them is asked, and whoever was killed meanwhile: nonces, and the counts
//! of links.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_loadtest::caller::{self, Caller, Link};
use sluice_loadtest::client::{self, Request};
use sluice_loadtest::cluster::{Builder, Member};
use sluice_loadtest::crowd::{Crowd, Person, request_of, target_of};
use sluice_loadtest::{Cluster, wait_until};

const CLIENTS: &str =
    "[[clients]]\naccess_key = \"AK\"\nsecret = \"s\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
const MINE: &str = "/api/request-download?file_id=public%2Fa.bin&user_id=tester";
const DOWNLOADS_MAX: usize = 10;
const EVERYBODY: Person = 1000;

fn cluster() -> Builder {
    let usual =
        "public_prefixes = [\"public\"]\ntrusted_proxies = [\"127.0.0.1\"]\nauth.schemes = [\"signature\"]";
    Cluster::start()
        .edges(1)
        .clients(CLIENTS)
        .coordinator(|coordinator| coordinator.toml(usual))
        .file("public/a.bin", 1000)
}

fn caller(coordinator: &Member) -> Caller {
    Caller::new(&coordinator.url(), "AK", "s")
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.coordinators().iter().map(Member::address).collect()
}

fn counted_link(cluster: &Cluster, downloads_max: usize) -> anyhow::Result<Link> {
    let fields = json!({ "file_id": "public/a.bin", "max_downloads": downloads_max });
    caller(&cluster.coordinators()[0]).link(&fields)
}

/// Has people ask, all at once, until each is let in or refused for good, at any of the coordinators; gives those let in.
fn settle(
    cluster: &Cluster,
    link: &Link,
    people: impl IntoIterator<Item = Person>,
) -> anyhow::Result<BTreeSet<Person>> {
    let mut waiting: Vec<Person> = people.into_iter().collect();
    let mut let_in = BTreeSet::new();
    wait_until("everybody has an answer", || {
        let crowd = Crowd::ask(waiting.drain(..), &addresses(cluster), target_of(&link.url)?)?;
        for (person, status) in crowd.statuses() {
            match status {
                Some(302) => drop(let_in.insert(person)),
                Some(403) => {}
                Some(503) | None => waiting.push(person),
                other => anyhow::bail!("person {person} got {other:?}"),
            }
        }
        Ok(waiting.is_empty())
    })?;
    Ok(let_in)
}

/// A thousand people at once open a link for ten exactly ten times, and who has opened it may come back anywhere.
fn ten_of_a_thousand_are_let_in(cluster: &Cluster) -> anyhow::Result<()> {
    let link = counted_link(cluster, DOWNLOADS_MAX)?;
    let let_in = settle(cluster, &link, 0..EVERYBODY)?;
    assert_eq!(let_in.len(), DOWNLOADS_MAX, "{let_in:?}");
    let outsider = (0..EVERYBODY).find(|person| !let_in.contains(person)).unwrap_or_default();
    for coordinator in cluster.coordinators() {
        let url = format!("{}{}", coordinator.url(), target_of(&link.url)?);
        for person in &let_in {
            assert_eq!(request_of(*person, &url).send()?.status(), 302, "person {person} comes back");
        }
        let refused = request_of(outsider, &url).send()?;
        assert_eq!(refused.status(), 403);
        assert!(refused.text().contains("Link has had all its downloads"), "{}", refused.text());
    }
    Ok(())
}

#[test]
fn a_nonce_used_at_one_coordinator_is_refused_at_the_other() -> anyhow::Result<()> {
    let cluster = cluster().coordinators(2).redis().ready()?;
    let [one, other] = [0, 1].map(|index| caller(&cluster.coordinators()[index]));
    let signed = one.sign("GET", MINE, "");
    assert_eq!(one.request("GET", MINE, "", &signed).send()?.status(), 200);
    for caller in [&other, &one] {
        let refused = caller.request("GET", MINE, "", &signed).send()?;
        assert_eq!(refused.status(), 403);
        assert!(refused.text().contains("Specified nonce was used already."), "{}", refused.text());
    }
    assert_eq!(other.call("GET", MINE, "").send()?.status(), 200);
    Ok(())
}

#[test]
fn a_link_for_ten_opens_ten_times_over_two_coordinators() -> anyhow::Result<()> {
    let cluster = cluster().coordinators(2).redis().ready()?;
    ten_of_a_thousand_are_let_in(&cluster)
}

#[test]
fn a_link_for_ten_opens_ten_times_with_embedded_state() -> anyhow::Result<()> {
    let cluster = cluster().ready()?;
    caller::wait_for_next_second()?;
    ten_of_a_thousand_are_let_in(&cluster)
}

/// The sentence of what cannot be remembered, and when to come back.
fn expect_away(request: &Request) -> anyhow::Result<()> {
    let answer = request.send()?;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    let seconds: u64 = answer.field("retry-after")?.parse()?;
    assert!((1..=5).contains(&seconds), "Retry-After: {seconds}");
    assert!(answer.text().contains("what has to be remembered cannot be now"), "{}", answer.text());
    Ok(())
}

#[test]
fn what_needs_redis_is_refused_while_it_is_away_and_the_rest_goes_on() -> anyhow::Result<()> {
    let mut cluster = cluster().coordinators(2).redis().ready()?;
    let counted = counted_link(&cluster, DOWNLOADS_MAX)?;
    let uncounted = caller(&cluster.coordinators()[0]).link(&json!({ "file_id": "public/a.bin" }))?;
    let early: BTreeSet<Person> = settle(&cluster, &counted, 0..4)?;
    assert_eq!(early.len(), 4);
    let used = caller(&cluster.coordinators()[0]).sign("GET", MINE, "");
    assert_eq!(caller(&cluster.coordinators()[0]).request("GET", MINE, "", &used).send()?.status(), 200);

    cluster.redis().kill()?;
    for coordinator in cluster.coordinators() {
        let notes = || anyhow::Ok(coordinator.readiness()?.json()?["notes"].clone());
        wait_until("the coordinator notices", || Ok(notes()? == json!(["state is away"])))?;
        // What needs no state goes on: no reason for a balancer to turn away.
        assert_eq!(coordinator.readiness()?.status(), 200);
        assert_eq!(coordinator.metric("sluice_state_up")?, 0.0);
        expect_away(&caller(coordinator).call("GET", MINE, ""))?;
        let at = |link: &Link| anyhow::Ok(format!("{}{}", coordinator.url(), target_of(&link.url)?));
        // Those that have redeemed it too: nobody can say here that they have.
        expect_away(&request_of(0, &at(&counted)?))?;
        expect_away(&request_of(9, &at(&counted)?))?;
        for url in [format!("{}/download/public/a.bin", coordinator.url()), at(&uncounted)?] {
            cluster.content("public/a.bin").check_whole(&client::get(&url)?.body)?;
        }
    }

    cluster.redis().start()?;
    for coordinator in cluster.coordinators() {
        wait_until(
            "the coordinator recovers",
            || Ok(coordinator.readiness()?.json()?["notes"] == json!([])),
        )?;
        assert_eq!(coordinator.metric("sluice_state_up")?, 1.0);
        let again = caller(coordinator).request("GET", MINE, "", &used).send()?;
        assert_eq!(again.status(), 403, "a nonce of before: {}", again.text());
        assert_eq!(caller(coordinator).call("GET", MINE, "").send()?.status(), 200);
    }
    assert_eq!(settle(&cluster, &counted, 100..300)?.len(), DOWNLOADS_MAX - early.len());
    assert_eq!(settle(&cluster, &counted, early.clone())?, early, "who redeemed it before comes back");
    Ok(())
}

/// Four people are let in, a crowd asks, and `kill` strikes while it is let in; after `recover`, who got no answer asks
/// again.
fn no_count_is_lost(
    cluster: &mut Cluster,
    kill: impl FnOnce(&mut Cluster) -> anyhow::Result<()>,
    recover: impl FnOnce(&mut Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // So many that it takes a while until all are let in.
    const DOWNLOADS_MAX: usize = 250;
    const FIRST: usize = 20;
    let link = counted_link(cluster, DOWNLOADS_MAX)?;
    let mut let_in = settle(cluster, &link, 0..4)?;
    assert_eq!(let_in.len(), 4);
    let crowd = Crowd::ask(100..400, &addresses(cluster), target_of(&link.url)?)?;
    let statuses = crowd.statuses_while(FIRST, || kill(cluster))?;
    let of =
        |wanted| statuses.iter().filter(move |(_, status)| **status == wanted).map(|(person, _)| *person);
    let_in.extend(of(Some(302)));
    assert!(let_in.len() > 4, "some of the crowd were let in before the end");
    recover(cluster)?;
    let_in.extend(settle(cluster, &link, of(None).chain(of(Some(503))))?);
    // Who got a usable token, and whoever was counted without hearing of it and came back: not one more or less.
    let_in.extend(settle(cluster, &link, 500..600)?);
    assert_eq!(let_in.len(), DOWNLOADS_MAX, "{let_in:?}");
    assert_eq!(settle(cluster, &link, let_in.clone())?, let_in, "who was let in stays so");
    Ok(())
}

#[test]
fn no_count_is_lost_when_redis_is_killed_amid_redemptions() -> anyhow::Result<()> {
    let mut cluster = cluster().coordinators(2).redis().ready()?;
    no_count_is_lost(&mut cluster, |cluster| cluster.redis().kill(), |cluster| cluster.redis().start())
}

#[test]
fn no_count_is_lost_when_a_coordinator_with_embedded_state_is_killed() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    caller::wait_for_next_second()?;
    no_count_is_lost(
        &mut cluster,
        |cluster| cluster.coordinator().process().kill(),
        |cluster| cluster.coordinator().restart(),
    )
}
