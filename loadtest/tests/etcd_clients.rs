//! Clients in etcd: changed at any coordinator, judged alike by all, and never let in by what etcd lost or got wrong.

#![allow(clippy::print_stdout, reason = "how long it took is worth seeing")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::cluster::{Builder, PREFIX};
use sluice_loadtest::{Cluster, wait_until, wait_until_within};
use sluice_shared::etcd::wrapped::{WrappedError, WrappingKeys};

const MINE: &str = "/api/request-download?file_id=a.bin&user_id=tester";
/// One second is promised; a machine that is busy with other tests may take longer.
const SOON: Duration = Duration::from_secs(10);

fn cluster() -> Builder {
    let usual = "auth.schemes = [\"signature\"]";
    Cluster::start()
        .edges(1)
        .etcd(1)
        .keys_in_etcd("propagation = \"1s\"")
        .coordinator(|coordinator| coordinator.toml(usual))
        .file("a.bin", 1000)
}

fn two_coordinators() -> anyhow::Result<Cluster> {
    cluster().coordinators(2).redis().ready()
}

/// Adds a client at a coordinator; gives its secret.
fn add(cluster: &Cluster, coordinator: usize, name: &str) -> anyhow::Result<String> {
    let new = json!({ "access_key": name, "scheme": "signature", "prefixes": [""], "note": "of a test" });
    secret_of(&cluster.admin_at(coordinator, "POST", "/admin/v1/clients", &new.to_string())?.json()?)
}

fn secret_of(answer: &Value) -> anyhow::Result<String> {
    Ok(answer["secret"].as_str().with_context(|| format!("a secret in {answer}"))?.to_owned())
}

fn change(cluster: &Cluster, coordinator: usize, name: &str, change: &str) -> anyhow::Result<Value> {
    let path = format!("/admin/v1/clients/{name}/{change}");
    let answer = cluster.admin_at(coordinator, "POST", &path, "")?;
    ensure!(matches!(answer.status(), 200 | 204), "{change}: {} {}", answer.status(), answer.text());
    if answer.status() == 200 { answer.json() } else { Ok(Value::Null) }
}

/// What a coordinator answers to a call that is signed with a secret.
fn call(cluster: &Cluster, coordinator: usize, name: &str, secret: &str) -> anyhow::Result<u16> {
    let url = cluster.coordinators()[coordinator].url();
    Ok(Caller::new(&url, name, secret).call("GET", MINE, "").send()?.status())
}

fn wait_for_status(
    cluster: &Cluster,
    at: usize,
    name: &str,
    secret: &str,
    wanted: u16,
) -> anyhow::Result<()> {
    wait_until_within(SOON, &format!("coordinator {at} answers {wanted} to {name}"), || {
        Ok(call(cluster, at, name, secret)? == wanted)
    })
}

fn listed(cluster: &Cluster, coordinator: usize) -> anyhow::Result<Value> {
    cluster.admin_at(coordinator, "GET", "/admin/v1/clients", "")?.json()
}

#[test]
fn a_change_at_one_coordinator_holds_at_all_of_them() -> anyhow::Result<()> {
    let cluster = two_coordinators()?;
    // Its name has to be encoded in a path, and stands as it is in etcd.
    let first = add(&cluster, 0, "AK/1")?;
    ensure!(call(&cluster, 0, "AK/1", &first)? == 200, "at once where it was added");
    wait_for_status(&cluster, 1, "AK/1", &first, 200)?;
    let again = json!({ "access_key": "AK/1", "scheme": "app-jwt", "prefixes": [] }).to_string();
    let refused = cluster.admin_at(1, "POST", "/admin/v1/clients", &again)?;
    ensure!(refused.status() == 409 && refused.text().contains("already"), "{}", refused.text());
    let since = Instant::now();
    change(&cluster, 1, "AK%2F1", "disable")?;
    ensure!(call(&cluster, 1, "AK/1", &first)? == 403);
    wait_for_status(&cluster, 0, "AK/1", &first, 403)?;
    println!("refused everywhere after {:?}", since.elapsed());
    change(&cluster, 0, "AK%2F1", "enable")?;
    wait_for_status(&cluster, 1, "AK/1", &first, 200)?;
    let second = secret_of(&change(&cluster, 1, "AK%2F1", "rotate")?)?;
    ensure!(call(&cluster, 1, "AK/1", &first)? == 401 && call(&cluster, 1, "AK/1", &second)? == 200);
    wait_for_status(&cluster, 0, "AK/1", &second, 200)?;
    wait_for_status(&cluster, 0, "AK/1", &first, 401)?;
    let list = listed(&cluster, 0)?;
    ensure!(
        list["clients"][0]["access_key"] == "AK/1" && list["clients"][0]["note"] == "of a test",
        "{list}"
    );
    ensure!(list["stale_seconds"].as_f64().context("a staleness")? < 30.0, "{list}");
    ensure!(!list.to_string().contains(&second));
    let removed = cluster.admin_at(0, "DELETE", "/admin/v1/clients/AK%2F1", "")?;
    ensure!(removed.status() == 204, "{}", removed.text());
    for coordinator in [0, 1] {
        wait_for_status(&cluster, coordinator, "AK/1", &second, 403)?;
        ensure!(listed(&cluster, coordinator)?["clients"] == json!([]));
    }
    let gone = cluster.admin_at(1, "DELETE", "/admin/v1/clients/AK%2F1", "")?;
    ensure!(gone.status() == 404, "{}", gone.text());
    // The name is free again, for another secret.
    let third = add(&cluster, 1, "AK/1")?;
    wait_for_status(&cluster, 0, "AK/1", &third, 200)?;
    ensure!(call(&cluster, 0, "AK/1", &second)? == 401);
    for (name, log) in cluster.logs()? {
        ensure!(
            ![&first, &second, &third].iter().any(|secret| log.contains(*secret)),
            "{name} logs a secret"
        );
    }
    Ok(())
}

#[test]
fn what_edges_know_opens_no_client() -> anyhow::Result<()> {
    let mut cluster = cluster().ready()?;
    caller::wait_for_next_second()?;
    let secret = add(&cluster, 0, "AK1")?;
    let value = cluster.etcd().member(0).value("clients/AK1")?.context("a record")?;
    ensure!(!value.contains(&secret) && !value.contains("signature"), "{value}");
    let keys = |name: &str| -> anyhow::Result<WrappingKeys> {
        Ok(WrappingKeys::parse(&std::fs::read_to_string(cluster.folder().join(name))?)?)
    };
    let path = format!("{PREFIX}clients/AK1");
    let by_edges = keys("cluster.key")?.open::<Value>(&path, value.as_bytes());
    ensure!(by_edges == Err(WrappedError::NotOpened), "{by_edges:?}");
    let by_coordinators = keys("coordinator.key")?.open::<Value>(&path, value.as_bytes())?;
    ensure!(by_coordinators["secret"] == secret.as_str());
    Ok(())
}

#[test]
fn records_that_cannot_be_used_are_named_and_let_nobody_in() -> anyhow::Result<()> {
    let mut cluster = two_coordinators()?;
    let (good, barred) = (add(&cluster, 0, "good")?, add(&cluster, 0, "barred")?);
    change(&cluster, 0, "barred", "disable")?;
    for (name, secret, status) in [("good", &good, 200), ("barred", &barred, 403)] {
        wait_for_status(&cluster, 1, name, secret, status)?;
    }
    let sealed = cluster.etcd().member(0).value("clients/good")?.context("a record")?;
    let key = std::fs::read_to_string(cluster.folder().join("coordinator.key"))?;
    let later = WrappingKeys::parse(&key)?.seal(
        &format!("{PREFIX}clients/later"),
        &json!({ "format": 7 }),
        std::time::SystemTime::now(),
    );
    let hostile = [
        ("clients/good", "\u{1b}[2J".to_owned()),
        ("clients/barred", "garbage".to_owned()),
        // Another's record, moved.
        ("clients/twin", sealed.clone()),
        ("clients/huge", "x".repeat(1_000_000)),
        ("clients/later", later),
        ("clients/\u{1b}[31m", "{}".to_owned()),
    ];
    for (key, value) in &hostile {
        cluster.etcd().member(0).put(key, value)?;
    }
    for coordinator in [0, 1] {
        wait_until("all are named", || {
            Ok(listed(&cluster, coordinator)?["skipped"].as_array().map_or(0, Vec::len) == hostile.len())
        })?;
        ensure!(call(&cluster, coordinator, "good", &good)? == 200, "the record before stands");
        ensure!(call(&cluster, coordinator, "barred", &barred)? == 403, "who was disabled stays so");
        ensure!(call(&cluster, coordinator, "twin", &good)? == 403);
        let log = cluster.coordinators()[coordinator].log()?;
        ensure!(log.contains("clients/twin") && log.contains("sealed for another place"), "{log}");
    }
    let (code, table, named) = cluster.operate(1, &["clients", "list"])?;
    ensure!(code == Some(0) && table.contains("good") && table.lines().count() == 3, "{table}{named}");
    for expected in ["clients/twin", "too large", "format 7", "etcd.coordinator_key"] {
        ensure!(named.contains(expected), "no {expected:?} in {named}");
    }
    ensure!(!named.contains('\u{1b}'), "{named:?}");
    // What cannot be read is not changed, and can be removed.
    let refused = cluster.admin_at(0, "POST", "/admin/v1/clients/barred/enable", "")?;
    ensure!(refused.status() == 409 && refused.text().contains("remove it"), "{}", refused.text());
    ensure!(cluster.admin_at(0, "DELETE", "/admin/v1/clients/good", "")?.status() == 204);
    for coordinator in [0, 1] {
        wait_for_status(&cluster, coordinator, "good", &good, 403)?;
    }
    Ok(())
}

#[test]
fn while_etcd_is_away_the_last_clients_go_on_and_whoever_starts_lets_nobody_in() -> anyhow::Result<()> {
    let mut cluster = two_coordinators()?;
    let secret = add(&cluster, 0, "AK1")?;
    wait_for_status(&cluster, 1, "AK1", &secret, 200)?;
    cluster.etcd().kill_all()?;
    wait_until("it shows", || {
        let readiness = cluster.coordinators()[0].readiness()?;
        ensure!(readiness.status() == 200, "{}", readiness.text());
        let stale = cluster.coordinators()[0].metric("sluice_clients_stale_seconds")?;
        Ok(readiness.text().contains("etcd is away") && stale > 16.0)
    })?;
    ensure!(call(&cluster, 0, "AK1", &secret)? == 200 && call(&cluster, 1, "AK1", &secret)? == 200);
    let refused = cluster.admin_at(0, "POST", "/admin/v1/clients/AK1/disable", "")?;
    ensure!(refused.status() == 503 && refused.text().contains("etcd"), "{}", refused.text());
    let (_, table, told) = cluster.operate(0, &["clients", "list"])?;
    ensure!(table.contains("AK1") && told.contains("what was last known"), "{table}{told}");
    // One that starts now cannot say who is a client, and does not say that somebody is none.
    let second = cluster.coordinator_at(1).process();
    second.kill()?;
    second.start()?;
    wait_until("it says why it is not ready", || {
        let readiness = cluster.coordinators()[1].readiness();
        Ok(readiness
            .is_ok_and(|answer| answer.status() == 503 && answer.text().contains("clients not known")))
    })?;
    let url = cluster.coordinators()[1].url();
    let refused = Caller::new(&url, "AK1", &secret).call("GET", MINE, "").send()?;
    ensure!(refused.status() == 503 && refused.field("retry-after").is_ok(), "{}", refused.text());
    ensure!(cluster.admin_at(1, "GET", "/admin/v1/clients", "")?.status() == 503);
    cluster.etcd().start_all()?;
    wait_for_status(&cluster, 1, "AK1", &secret, 200)?;
    wait_until("changes are made again", || {
        Ok(cluster.admin_at(0, "POST", "/admin/v1/clients/AK1/disable", "")?.status() == 204)
    })?;
    wait_for_status(&cluster, 1, "AK1", &secret, 403)
}

#[test]
fn of_two_who_change_a_client_at_once_the_loser_is_told() -> anyhow::Result<()> {
    let cluster = two_coordinators()?;
    add(&cluster, 0, "AK1")?;
    wait_until("the second knows it", || Ok(listed(&cluster, 1)?["clients"][0]["access_key"] == "AK1"))?;
    let mut has_lost = false;
    wait_until("somebody has lost", || {
        let rotate = |coordinator| cluster.admin_at(coordinator, "POST", "/admin/v1/clients/AK1/rotate", "");
        let answers = thread::scope(|scope| {
            let tasks = [0, 1].map(|coordinator| scope.spawn(move || rotate(coordinator)));
            tasks.map(|task| task.join().expect("asking does not panic"))
        });
        let mut secrets = Vec::new();
        for answer in answers {
            let answer = answer?;
            match answer.status() {
                200 => secrets.push(secret_of(&answer.json()?)?),
                409 => {
                    ensure!(answer.text().contains("at the same time"), "{}", answer.text());
                    has_lost = true;
                }
                status => anyhow::bail!("{status} {}", answer.text()),
            }
        }
        // One of those that were given is good, at both, and no other.
        wait_until_within(SOON, "one secret is good everywhere", || {
            let mut good = Vec::new();
            for coordinator in [0, 1] {
                for (at, secret) in secrets.iter().enumerate() {
                    if call(&cluster, coordinator, "AK1", secret)? == 200 {
                        good.push(at);
                    }
                }
            }
            Ok(good.len() == 2 && good[0] == good[1])
        })?;
        Ok(has_lost)
    })
}
