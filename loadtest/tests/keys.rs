//! Keys in etcd: exchanged all the time, and nobody is refused because of it.

#![allow(clippy::print_stdout, reason = "how long it took is worth seeing")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::client::{self, Request};
use sluice_loadtest::cluster::token_of;
use sluice_loadtest::wait::LIMIT;
use sluice_loadtest::{Cluster, wait_until, wait_until_within};

/// Keys of a few seconds; what they seal lives for as long as a test takes with them.
const SHORT: &str = "rotate_every = \"3s\"\npropagation = \"1s\"";
const LIVES: &str = "[links]\nttl = \"20s\"\nmax_ttl = \"20s\"\ntoken_ttl = \"8s\"";
/// Two seconds are promised; a machine that is busy with other tests may take longer.
const SOON: Duration = Duration::from_secs(10);

/// The keys of a kind, as the admin API tells them.
fn keys(cluster: &Cluster, kind: &str) -> anyhow::Result<Vec<Value>> {
    let answer = cluster.admin("GET", "/admin/v1/keys")?;
    ensure!(answer.status() == 200, "{}", answer.text());
    let json = answer.json()?;
    let keys = json["keys"].as_array().context("a list")?;
    Ok(keys.iter().filter(|key| key["kind"] == kind).cloned().collect())
}

fn current(cluster: &Cluster, kind: &str) -> anyhow::Result<String> {
    let keys = keys(cluster, kind)?;
    let current = keys.iter().find(|key| key["state"] == "current").context("a current key")?;
    Ok(current["kid"].as_str().context("a kid")?.to_owned())
}

/// The key that a token names.
fn kid_of(token: &str) -> anyhow::Result<String> {
    use base64::Engine as _;
    let head = token.split('.').next().unwrap_or_default();
    let head: Value =
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head)?)?;
    Ok(head["kid"].as_str().context("a kid")?.to_owned())
}

struct Given {
    token: String,
    link: String,
    at: Instant,
}

/// A token of any of the coordinators, and a durable link.
fn give(cluster: &Cluster, turn: usize) -> anyhow::Result<Given> {
    let running = cluster.coordinators();
    let url = running[turn % running.len()].url();
    let answer = client::get_here(&format!("{url}/api/request-download?file_id=a.bin&user_id=ann"))?;
    ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text());
    let json = answer.json()?;
    let token = token_of(json["download_url"].as_str().context("a URL")?)?.to_owned();
    let new = json!({ "file_id": "a.bin" }).to_string();
    let made = Request::new("POST", &format!("{url}/api/links")).body(&new).send()?;
    ensure!(made.status() == 201, "{}", made.text());
    let link = made.json()?["link"].as_str().context("a link")?.to_owned();
    Ok(Given { token, link, at: Instant::now() })
}

/// Asks every edge with a token, and a coordinator with a link, while they live.
fn use_up(cluster: &Cluster, given: &[Given]) -> anyhow::Result<()> {
    // A little less than they live, for the time that asking takes.
    for Given { token, at, .. } in given.iter().filter(|given| given.at.elapsed() < Duration::from_secs(6)) {
        for edge in cluster.edges() {
            let url = format!("{}/download?token={token}", edge.url());
            let answer = client::head_here(&url)?;
            ensure!(
                answer.status() == 200,
                "{} after {:?} with {}",
                answer.status(),
                at.elapsed(),
                kid_of(token)?
            );
        }
    }
    for Given { link, at, .. } in given.iter().filter(|given| given.at.elapsed() < Duration::from_secs(17)) {
        let answer = client::head_here(link)?;
        ensure!(answer.status() == 302, "{} after {:?}: {}", answer.status(), at.elapsed(), answer.text());
    }
    Ok(())
}

#[test]
fn keys_are_exchanged_under_load_and_nobody_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::start()
        .edges(2)
        .etcd(1)
        .keys_in_etcd(SHORT)
        .coordinator(|settings| settings.toml(LIVES))
        .file("a.bin", 1000)
        .ready()?;
    let (mut given, mut kids, mut turn) = (Vec::new(), BTreeSet::new(), 0);
    wait_until_within(LIMIT * 2, "three rotations are over", || {
        let new = give(&cluster, turn)?;
        kids.insert(kid_of(&new.token)?);
        turn += 1;
        // Of every age, and not more than can be asked for in a moment.
        if given.len() < 200 || turn % 8 == 0 {
            given.push(new);
        }
        given.retain(|given: &Given| given.at.elapsed() < Duration::from_secs(17));
        let step = given.len().div_ceil(15).max(1);
        let offset = turn % step;
        let sample: Vec<Given> = given
            .iter()
            .skip(offset)
            .step_by(step)
            .map(|given| Given { token: given.token.clone(), link: given.link.clone(), at: given.at })
            .collect();
        use_up(&cluster, &sample)?;
        Ok(kids.len() >= 4)
    })?;
    ensure!(cluster.coordinators()[0].metric("sluice_key_age_seconds")? < 60.0);
    ensure!(cluster.coordinators()[0].metric("sluice_tokens_per_key")? < turn as f64);
    for key in keys(&cluster, "token")? {
        ensure!(
            key.get("k").is_none() && key["fingerprint"].as_str().is_some_and(|text| text.len() == 16),
            "{key}"
        );
    }
    wait_until_within(LIMIT * 2, "what is over is removed", || {
        let known = keys(&cluster, "token")?;
        Ok(!known.iter().any(|key| kids.first().is_some_and(|first| key["kid"] == first.as_str())))
    })
}

#[test]
fn coordinators_that_start_together_have_one_set_and_one_goes_on_where_another_died() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(1)
        .coordinators(2)
        .redis()
        .etcd(1)
        .keys_in_etcd(SHORT)
        .coordinator(|settings| settings.toml(LIVES))
        .file("a.bin", 1000)
        .ready()?;
    let first = current(&cluster, "token")?;
    let given = (0..4).map(|turn| give(&cluster, turn)).collect::<anyhow::Result<Vec<_>>>()?;
    let states = |state: &str| -> anyhow::Result<usize> {
        Ok(keys(&cluster, "token")?.iter().filter(|key| key["state"] == state).count())
    };
    ensure!(states("current")? == 1);
    use_up(&cluster, &given)?;
    // Killed as soon as it has let another key mint, whatever it was to do next.
    wait_until("a rotation is under way", || Ok(current(&cluster, "token")? != first))?;
    let in_office = |cluster: &Cluster, index: usize| -> anyhow::Result<bool> {
        Ok(cluster.coordinators()[index].log()?.contains("keys are exchanged"))
    };
    let holder = usize::from(!in_office(&cluster, 0)?);
    ensure!(in_office(&cluster, holder)?, "one of them exchanges keys");
    let other = 1 - holder;
    cluster.coordinator_at(holder).process().kill()?;
    let url = cluster.coordinators()[other].url();
    let minting = || -> anyhow::Result<String> {
        let answer = client::get_here(&format!("{url}/api/request-download?file_id=a.bin&user_id=ann"))?;
        let json = answer.json()?;
        let token = token_of(json["download_url"].as_str().context("a URL")?)?.to_owned();
        for edge in cluster.edges() {
            let answer = client::head_here(&format!("{}/download?token={token}", edge.url()))?;
            ensure!(answer.status() == 200, "{}", answer.status());
        }
        kid_of(&token)
    };
    let mut kids = BTreeSet::new();
    wait_until_within(LIMIT * 2, "the other goes on", || {
        kids.insert(minting()?);
        Ok(kids.len() >= 3)
    })
}

#[test]
fn a_key_that_leaked_is_refused_soon_and_has_a_successor_at_once() -> anyhow::Result<()> {
    let cluster =
        Cluster::start().edges(2).etcd(1).keys_in_etcd("propagation = \"1s\"").file("a.bin", 1000).ready()?;
    wait_until("a key waits", || Ok(keys(&cluster, "token")?.iter().any(|key| key["state"] == "next")))?;
    let leaked = give(&cluster, 0)?;
    use_up(&cluster, std::slice::from_ref(&leaked))?;
    let kid = kid_of(&leaked.token)?;
    let since = Instant::now();
    let answer = cluster.admin("POST", &format!("/admin/v1/keys/{kid}/revoke"))?;
    ensure!(answer.status() == 204, "{}", answer.text());
    // Not for a moment is there no key.
    let new = give(&cluster, 0)?;
    ensure!(kid_of(&new.token)? != kid);
    use_up(&cluster, std::slice::from_ref(&new))?;
    wait_until_within(SOON, "every edge refuses it", || {
        let mut statuses = Vec::new();
        for edge in cluster.edges() {
            statuses.push(
                client::head_here(&format!("{}/download?token={}", edge.url(), leaked.token))?.status(),
            );
        }
        Ok(statuses.iter().all(|status| (400..500).contains(status)))
    })?;
    println!("refused everywhere after {:?}", since.elapsed());
    let renewed =
        client::get_here(&format!("{}/renew?token={}", cluster.coordinators()[0].url(), leaked.token))?;
    ensure!(renewed.status() == 400, "{}", renewed.status());
    wait_until("another waits", || Ok(keys(&cluster, "token")?.iter().any(|key| key["state"] == "next")))?;
    ensure!(!keys(&cluster, "token")?.iter().any(|key| key["kid"] == kid.as_str()));
    // By hand: the next one at once, and the one before it retired.
    wait_until("the next key is known long enough", || {
        Ok(cluster.admin("POST", "/admin/v1/keys/rotate")?.status() == 200)
    })?;
    let old = kid_of(&new.token)?;
    wait_until("another key mints", || Ok(current(&cluster, "token")? != old))?;
    use_up(&cluster, std::slice::from_ref(&new))?;
    wait_until("it is to be retired", || {
        Ok(cluster.admin("POST", &format!("/admin/v1/keys/{old}/retire"))?.status() == 204)
    })?;
    wait_until_within(SOON, "it is retired", || {
        let edge = &cluster.edges()[0];
        Ok(client::head_here(&format!("{}/download?token={}", edge.url(), new.token))?.status() != 200)
    })
}

#[test]
fn keys_that_etcd_lost_are_used_on_and_put_back() -> anyhow::Result<()> {
    let mut cluster =
        Cluster::start().edges(1).etcd(1).keys_in_etcd("propagation = \"1s\"").file("a.bin", 1000).ready()?;
    let kid = current(&cluster, "token")?;
    cluster.etcd().kill_all()?;
    cluster.etcd().wipe()?;
    let given = give(&cluster, 0)?;
    use_up(&cluster, std::slice::from_ref(&given))?;
    cluster.etcd().member(0).start()?;
    wait_until("etcd is followed again", || Ok(cluster.coordinators()[0].metric("sluice_etcd_up")? == 1.0))?;
    // A new edge has nobody but etcd to ask.
    cluster.restart(0)?;
    ensure!(current(&cluster, "token")? == kid);
    cluster.wait_until_up(&[0])?;
    use_up(&cluster, std::slice::from_ref(&give(&cluster, 0)?))
}

#[test]
fn an_edge_with_another_cluster_key_says_so() -> anyhow::Result<()> {
    let mut cluster =
        Cluster::start().edges(1).etcd(1).keys_in_etcd("propagation = \"1s\"").file("a.bin", 1000).ready()?;
    cluster.terminate(0)?;
    std::fs::write(cluster.folder().join("cluster.key"), "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=\n")?;
    cluster.edge(0).process().start()?;
    wait_until("it says what is wrong", || {
        let edge = &cluster.edges()[0];
        Ok(edge
            .readiness()
            .is_ok_and(|answer| answer.text().contains("no key in etcd opens with etcd.cluster_key"))
            && edge.log()?.contains("does not open with `etcd.cluster_key`"))
    })
}
