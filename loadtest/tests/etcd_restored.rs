//! An etcd that is restored from an older backup: what was revoked, disabled or ordered since stays so, and keys do not go
//! back to one that tokens are no longer opened with.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::caller::Caller;
use sluice_loadtest::cluster::token_of;
use sluice_loadtest::{Cluster, client, wait_until, wait_until_within};

const MINE: &str = "/api/request-download?file_id=a.bin&user_id=tester";
/// Both coordinators have to notice the loss, and each member its leases.
const RIGHTED: Duration = Duration::from_secs(90);

fn post(cluster: &Cluster, path: &str, body: &Value) -> anyhow::Result<Value> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = cluster.admin_at(0, "POST", &format!("/admin/v1/{path}"), &text)?;
    ensure!((200..300).contains(&answer.status()), "{path}: {} {}", answer.status(), answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
}

/// The ids of keys in a state, as a coordinator tells them.
fn keys(cluster: &Cluster, coordinator: usize, state: &str) -> anyhow::Result<BTreeSet<String>> {
    let keys = cluster.admin_at(coordinator, "GET", "/admin/v1/keys", "")?.json()?;
    let keys = keys["keys"].as_array().context("a list")?.iter();
    let of_state = keys.filter(|key| key["kind"] == "token" && key["state"] == state);
    Ok(of_state.filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
}

/// A token of a client's.
fn give(cluster: &Cluster, secret: &str, user: &str) -> anyhow::Result<String> {
    let target = format!("/api/request-download?file_id=a.bin&user_id={user}");
    let answer =
        Caller::new(&cluster.coordinators()[0].url(), "AK1", secret).call("GET", &target, "").send()?;
    ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text());
    Ok(token_of(answer.json()?["download_url"].as_str().context("a URL")?)?.to_owned())
}

/// What each edge answers to a token.
fn statuses(cluster: &Cluster, token: &str) -> anyhow::Result<BTreeSet<u16>> {
    let ask = |url: String| Ok(client::get_here(&format!("{url}/download?token={token}"))?.status());
    cluster.edges()[..2].iter().map(|edge| ask(edge.url())).collect()
}

/// What a coordinator answers to the client.
fn call(cluster: &Cluster, coordinator: usize, secret: &str) -> anyhow::Result<u16> {
    let url = cluster.coordinators()[coordinator].url();
    Ok(Caller::new(&url, "AK1", secret).call("GET", MINE, "").send()?.status())
}

#[test]
fn nothing_that_was_taken_back_since_the_backup_comes_back() -> anyhow::Result<()> {
    let usual = "auth.schemes = [\"signature\"]";
    let mut cluster = Cluster::start()
        .edges(3)
        .edges_waiting(1)
        .coordinators(2)
        .redis()
        .etcd(3)
        .keys_in_etcd("propagation = \"1s\"")
        .coordinator(|coordinator| coordinator.toml(usual))
        .file("a.bin", 1000)
        .ready()?;
    let client = json!({ "access_key": "AK1", "scheme": "signature", "prefixes": [""] });
    let secret = post(&cluster, "clients", &client)?["secret"].as_str().context("a secret")?.to_owned();
    wait_until("both let the client in", || {
        Ok(call(&cluster, 0, &secret)? == 200 && call(&cluster, 1, &secret)? == 200)
    })?;
    let old = give(&cluster, &secret, "ann")?;
    let snapshot = cluster.folder().join("snapshot.db");
    cluster.etcd().save(&snapshot)?;

    // Of all this the backup knows nothing.
    post(&cluster, "revocations", &json!({ "what": "user", "value": "ann" }))?;
    post(&cluster, "clients/AK1/disable", &Value::Null)?;
    post(&cluster, "edges/edge-2/drain", &Value::Null)?;
    let before = keys(&cluster, 0, "current")?;
    wait_until("the next key may mint", || {
        Ok(cluster.admin("POST", "/admin/v1/keys/rotate")?.status() == 200)
    })?;
    wait_until("it does, at both", || {
        Ok([0, 1]
            .iter()
            .all(|at| keys(&cluster, *at, "current").is_ok_and(|now| now != before && now.len() == 1)))
    })?;
    let leaked = before.first().context("a key")?.clone();
    post(&cluster, &format!("keys/{leaked}/revoke"), &Value::Null)?;
    let current = keys(&cluster, 0, "current")?;
    wait_until("edges refuse what the old key sealed", || Ok(!statuses(&cluster, &old)?.contains(&200)))?;
    wait_until("the other refuses the client", || Ok(call(&cluster, 1, &secret)? == 403))?;

    cluster.etcd().restore(&snapshot)?;
    let mut seen = BTreeSet::new();
    wait_until_within(RIGHTED, "etcd has all of it again", || {
        ensure!(
            call(&cluster, 0, &secret)? == 403 && call(&cluster, 1, &secret)? == 403,
            "the client is let in again"
        );
        ensure!(!statuses(&cluster, &old)?.contains(&200), "the old token is served again");
        for at in [0, 1] {
            let now = keys(&cluster, at, "current")?;
            ensure!(!now.contains(&leaked), "the key that was revoked mints again");
            seen.extend(now);
        }
        let mut has = |key: &str| -> anyhow::Result<bool> {
            Ok(cluster.etcd().member(0).value(key).ok().flatten().is_some())
        };
        let order = has("orders/edge-2")?;
        Ok(order
            && has(&format!("keys/{}", current.first().context("a key")?))?
            && !has(&format!("keys/{leaked}"))?)
    })?;
    ensure!(seen == current, "no other key has minted: {seen:?} and {current:?}");

    whoever_starts_now_knows_it(&mut cluster, &secret, &old)?;
    post(&cluster, "clients/AK1/enable", &Value::Null)?;
    wait_until("what is changed holds again", || Ok(call(&cluster, 1, &secret)? == 200))
}

/// They have only etcd to ask.
fn whoever_starts_now_knows_it(cluster: &mut Cluster, secret: &str, old: &str) -> anyhow::Result<()> {
    cluster.restart(2)?;
    let edge = &cluster.edges()[2];
    let answer = client::get_here(&format!("{}/download?token={old}", edge.url()))?;
    ensure!((400..500).contains(&answer.status()), "{}", answer.status());
    cluster.coordinator_at(1).process().kill()?;
    cluster.coordinator_at(1).restart()?;
    wait_until("a coordinator that starts now knows it, too", || {
        let edges = cluster.admin_at(1, "GET", "/admin/v1/edges", "")?.json()?;
        let edges = edges["edges"].as_array().context("a list")?;
        let is_drained = |edge: &Value| edge["id"] == "edge-2" && edge["order"]["drain"] == true;
        Ok(edges.iter().any(is_drained) && call(cluster, 1, secret)? == 403)
    })
}
