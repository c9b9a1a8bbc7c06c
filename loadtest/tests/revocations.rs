//! What is revoked or blocked at a coordinator is refused by every edge, whatever becomes of etcd and of edges.

#![allow(clippy::print_stdout, reason = "how long it took is worth seeing")]

use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use sluice_loadtest::certificates::AUTHORITY;
use sluice_loadtest::client::{self, Request};
use sluice_loadtest::faulty_store::FaultyStore;
use sluice_loadtest::{Cluster, Content, wait_until, wait_until_within};
use sluice_shared::file_id::FileId;
use sluice_shared::token::{Claims, NumericDate};

/// By when an edge refuses what was revoked. Two seconds are promised; a machine that is busy with other tests may take
/// longer.
const SOON: Duration = Duration::from_secs(10);

fn cluster() -> anyhow::Result<Cluster> {
    Cluster::start().edges(2).etcd(1).file("a.bin", 100_000).file("old/b.bin", 100_000).ready()
}

fn change(cluster: &Cluster, method: &'static str, path: &str, body: &str) -> anyhow::Result<()> {
    let url = format!("{}{path}", cluster.coordinators()[0].admin_url());
    let bearer = format!("Bearer {}", cluster.admin_token()?);
    let answer = Request::new(method, &url).field("Authorization", &bearer).body(body).send()?;
    ensure!(matches!(answer.status(), 201 | 204), "{} {}", answer.status(), answer.text());
    Ok(())
}

fn revoke(cluster: &Cluster, what: &str, value: &str) -> anyhow::Result<()> {
    change(cluster, "POST", "/admin/v1/revocations", &json!({ "what": what, "value": value }).to_string())
}

fn block(cluster: &Cluster, prefix: &str, cut: bool) -> anyhow::Result<()> {
    change(cluster, "POST", "/admin/v1/blocks", &json!({ "prefix": prefix, "cut": cut }).to_string())
}

/// A token that no coordinator would have to be asked for.
fn token(cluster: &Cluster, file: &str, user: &str, link: Option<&str>) -> anyhow::Result<String> {
    let exp = NumericDate::from_system_time(std::time::SystemTime::now() + Duration::from_secs(600));
    let file = FileId::parse(file)?;
    let link = link.map(Into::into);
    cluster.seal(&Claims { user_id: Some(user.into()), lnk: link, ..Claims::new(file, exp) })
}

/// What each edge answers to a token.
fn statuses(cluster: &Cluster, token: &str) -> anyhow::Result<Vec<u16>> {
    let ask = |url: String| Ok(client::get_here(&format!("{url}/download?token={token}"))?.status());
    cluster.edges().iter().map(|edge| ask(edge.url())).collect()
}

/// Waits until every edge refuses a token, and says how long that took.
fn wait_until_refused(cluster: &Cluster, token: &str, since: Instant) -> anyhow::Result<()> {
    wait_until_within(SOON, "every edge refuses it", || {
        Ok(statuses(cluster, token)?.iter().all(|status| *status == 403))
    })?;
    println!("refused everywhere after {:?}", since.elapsed());
    Ok(())
}

#[test]
fn what_is_revoked_or_blocked_is_refused_by_every_edge_until_it_is_lifted() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let others = token(&cluster, "a.bin", "bob", Some("other"))?;
    let table: [(&str, &str, &str, Option<&str>); 4] = [
        ("link", "l-1", "a.bin", Some("l-1")),
        ("user", "ann", "a.bin", None),
        ("file", "a.bin", "a.bin", None),
        ("prefix", "old", "old/b.bin", None),
    ];
    for (what, value, file, link) in table {
        let token = token(&cluster, file, "ann", link)?;
        ensure!(statuses(&cluster, &token)? == [200, 200], "{what}");
        let since = Instant::now();
        if what == "prefix" {
            block(&cluster, value, false)?;
        } else {
            revoke(&cluster, what, value)?;
        }
        wait_until_refused(&cluster, &token, since)?;
        let lift = match what {
            "prefix" => format!("/admin/v1/blocks?prefix={value}"),
            what => format!("/admin/v1/revocations?what={what}&value={value}"),
        };
        change(&cluster, "DELETE", &lift, "")?;
        wait_until_within(SOON, "every edge serves it again", || {
            Ok(statuses(&cluster, &token)? == [200, 200])
        })?;
        ensure!(statuses(&cluster, &others)? == [200, 200], "{what}");
    }
    Ok(())
}

#[test]
fn the_tokens_of_a_link_that_its_owner_takes_back_are_refused() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let coordinator = &cluster.coordinators()[0];
    let new = json!({ "file_id": "a.bin", "user_id": "ann" }).to_string();
    let made = Request::new("POST", &format!("{}/api/links", coordinator.url())).body(&new).send()?.json()?;
    let (link, id) = (made["link"].as_str().context("a link")?, made["id"].as_str().context("an id")?);
    let token = {
        let answer = client::get_here(link)?;
        sluice_loadtest::cluster::token_of(answer.field("location")?)?.to_owned()
    };
    ensure!(statuses(&cluster, &token)? == [200, 200]);
    let since = Instant::now();
    let url = format!("{}/api/links/{id}", coordinator.url());
    ensure!(Request::new("DELETE", &url).send()?.status() == 204);
    wait_until_refused(&cluster, &token, since)?;
    ensure!(Request::new("DELETE", &url).send()?.status() == 204, "as often as one likes");
    Ok(())
}

#[test]
fn a_block_drops_what_is_cached_and_cuts_transfers_only_where_asked_to() -> anyhow::Result<()> {
    let cluster = Cluster::start().edges(1).etcd(1).file("old/big.bin", 64 << 20);
    let log = "log.access_file = \"access.jsonl\"";
    let cluster = cluster.every_edge(|edge| edge.toml(log)).ready()?;
    let edge = &cluster.edges()[0];
    let url = format!("{}/download?token={}", edge.url(), token(&cluster, "old/big.bin", "ann", None)?);
    let cached = || edge.metric("sluice_edge_cache_bytes");
    ensure!(client::get_here(&url)?.status() == 200);
    ensure!(cached()? > 0.0, "the file is cached");
    // Slow readers: of what they are sent, a part only fits the sockets.
    let (head, mut first) = Request::new("GET", &url).open()?;
    ensure!(head.status == 200);
    block(&cluster, "old", false)?;
    wait_until_within(SOON, "the edge refuses it", || Ok(client::get_here(&url)?.status() == 403))?;
    let mut body = Vec::new();
    first.body(&head, "GET")?.read_to_end(&mut body).context("a transfer under way goes on")?;
    cluster.content("old/big.bin").check_whole(&body)?;
    wait_until_within(SOON, "nothing of it is cached", || Ok(cached()? == 0.0))?;
    change(&cluster, "DELETE", "/admin/v1/blocks?prefix=old", "")?;
    wait_until_within(SOON, "the edge serves it again", || Ok(client::head_here(&url)?.status() == 200))?;
    let (head, mut second) = Request::new("GET", &url).open()?;
    ensure!(head.status == 200);
    block(&cluster, "old", true)?;
    wait_until_within(SOON, "the transfer is over", || Ok(edge.metric("sluice_edge_transfers")? == 0.0))?;
    let mut body = Vec::new();
    ensure!(second.body(&head, "GET")?.read_to_end(&mut body).is_err(), "it is cut");
    ensure!(body.len() < 64 << 20);
    wait_until("the log says why", || {
        Ok(fs::read_to_string(cluster.folder().join("access.jsonl"))?.contains("\"ended\":\"revoked\""))
    })
}

/// It is not among the transfers yet, and was judged before.
#[test]
fn what_waits_for_the_store_obeys_a_revocation() -> anyhow::Result<()> {
    const SIZE: u64 = 4 << 20;
    let (source, mount) = (tempfile::tempdir()?, tempfile::tempdir()?);
    sluice_loadtest::settings::mark_store(source.path())?;
    Content::new("cold.bin", SIZE).write(&source.path().join("cold.bin"))?;
    let store = FaultyStore::mount(source.path(), mount.path())?;
    let root = format!("root = {:?}", mount.path());
    let cluster = Cluster::start().edges(1).every_edge(|edge| edge.toml(&root)).etcd(1).ready()?;
    // The store goes first when all is dropped, so that the edge can end.
    let (store, cluster) = &(store, cluster);
    let url = |file: &str, user: &str| -> anyhow::Result<String> {
        let token = token(cluster, file, user, None)?;
        Ok(format!("{}/download?token={token}", cluster.edges()[0].url()))
    };
    store.hold_reads("cold.bin");
    let (anns, bobs, none) = (url("cold.bin", "ann")?, url("cold.bin", "bob")?, url("none.bin", "ann")?);
    std::thread::scope(|scope| {
        let waiting = [&anns, &bobs].map(|url| scope.spawn(move || client::get_here(url)));
        wait_until("the store is asked", || Ok(store.held() > 0))?;
        revoke(cluster, "user", "ann")?;
        wait_until_within(SOON, "the edge refuses her", || Ok(client::get_here(&none)?.status() == 403))?;
        store.release();
        let statuses = waiting.map(|waiting| Ok(waiting.join().expect("it asks")?.status()));
        let statuses = statuses.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(statuses == [403, 200], "{statuses:?}");
        Ok(())
    })
}

#[test]
fn an_etcd_that_comes_back_empty_brings_nothing_back_into_use() -> anyhow::Result<()> {
    let mut cluster = cluster()?;
    let (ann, bob) = (token(&cluster, "a.bin", "ann", None)?, token(&cluster, "a.bin", "bob", None)?);
    revoke(&cluster, "user", "ann")?;
    wait_until_refused(&cluster, &ann, Instant::now())?;
    cluster.etcd().kill_all()?;
    cluster.etcd().wipe()?;
    // While etcd is away, what an operator revokes holds at the coordinator at once.
    revoke(&cluster, "user", "bob")?;
    let answer = client::get_here(&cluster.download_url("a.bin").replace("tester", "bob"))?;
    ensure!(answer.status() == 403, "{}", answer.text());
    cluster.etcd().member(0).start()?;
    wait_until("edges hear of it", || {
        ensure!(statuses(&cluster, &ann)? == [403, 403], "ann is served again");
        Ok(statuses(&cluster, &bob)? == [403, 403])
    })?;
    // One that knows nothing yet hears all of it: the coordinator has put it back.
    cluster.terminate(1)?;
    std::fs::remove_file(cluster.folder().join("edge-2.revocations.json"))?;
    cluster.restart(1)?;
    ensure!(statuses(&cluster, &ann)? == [403, 403], "ready, and it does not know");
    Ok(())
}

#[test]
fn an_edge_that_starts_without_etcd_refuses_what_it_refused_or_is_not_ready() -> anyhow::Result<()> {
    let mut cluster = cluster()?;
    let ann = token(&cluster, "a.bin", "ann", None)?;
    revoke(&cluster, "user", "ann")?;
    wait_until_refused(&cluster, &ann, Instant::now())?;
    wait_until("the edge has written it down", || {
        let path = cluster.folder().join("edge-1.revocations.json");
        Ok(std::fs::read_to_string(path).is_ok_and(|text| text.contains("revoked/user/")))
    })?;
    cluster.etcd().kill_all()?;
    cluster.restart(0)?;
    ensure!(statuses(&cluster, &ann)? == [403, 403]);
    // Without a file there is nothing to go by.
    cluster.terminate(1)?;
    std::fs::remove_file(cluster.folder().join("edge-2.revocations.json"))?;
    cluster.edge(1).process().start()?;
    let readiness = |cluster: &Cluster| cluster.edges()[1].readiness();
    wait_until("the edge says why it is not ready", || {
        Ok(readiness(&cluster)
            .is_ok_and(|answer| answer.status() == 503 && answer.text().contains("revocations not known")))
    })?;
    cluster.etcd().member(0).start()?;
    wait_until("the edge is ready", || Ok(readiness(&cluster)?.status() == 200))?;
    ensure!(statuses(&cluster, &ann)? == [403, 403]);
    Ok(())
}

#[test]
fn a_cut_ends_transfers_over_tls_and_http2_as_well() -> anyhow::Result<()> {
    let builder =
        Cluster::start().edges(1).etcd(1).tls().file("one/a.bin", 60 << 20).file("two/a.bin", 60 << 20);
    let cluster = builder.every_edge(|edge| edge.toml("limits.rate = \"2MB\"")).ready()?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    for (option, prefix) in [("--http1.1", "one"), ("--http2", "two")] {
        let mut curl = Command::new("curl")
            .args(["-sSL", "-m", "60", option, "--cacert"])
            .arg(cluster.folder().join(AUTHORITY))
            .arg("-o")
            .arg(&out)
            .arg(cluster.download_url(&format!("{prefix}/a.bin")))
            .spawn()?;
        wait_until(
            "a part of it has come",
            || Ok(fs::metadata(&out).is_ok_and(|file| file.len() > 1 << 20)),
        )?;
        block(&cluster, prefix, true)?;
        wait_until_within(SOON, "the transfer is cut", || Ok(curl.try_wait()?.is_some()))?;
        ensure!(!curl.wait()?.success() && fs::metadata(&out)?.len() < 60 << 20, "{option}: it ended short");
        fs::remove_file(&out)?;
    }
    Ok(())
}
