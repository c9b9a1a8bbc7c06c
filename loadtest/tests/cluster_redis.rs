//! Redis that is cut off under constant load: what has to be counted or remembered is refused with a time to come back,
//! all else goes on, and it comes right by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use sluice_loadtest::caller::{Caller, Link};
use sluice_loadtest::client::{Answer, Request};
use sluice_loadtest::crowd::{request_of, target_of};
use sluice_loadtest::hosts::Cut;
use sluice_loadtest::load::{self, Load};
use sluice_loadtest::{Cluster, wait_until};

const CLIENTS: &str =
    "[[clients]]\naccess_key = \"AK\"\nsecret = \"s\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
const MINE: &str = "/api/request-download?file_id=load%2F0.bin&user_id=tester";
const DOWNLOADS_MAX: u32 = 10;
/// Nobody waits for a Redis that says nothing for longer than this, on a machine that is busy.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

fn caller(cluster: &Cluster, coordinator: usize) -> Caller {
    Caller::new(&cluster.coordinators()[coordinator].url(), "AK", "s")
}

fn redeem(cluster: &Cluster, coordinator: usize, link: &Link, person: u32) -> anyhow::Result<Answer> {
    let url = format!("{}{}", cluster.coordinators()[coordinator].url(), target_of(&link.url)?);
    request_of(person, &url).send()
}

/// What cannot be remembered is refused soon, and says when to come back.
fn expect_away(ask: impl FnOnce() -> anyhow::Result<Answer>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let answer = ask()?;
    ensure!(answer.status() == 503, "{} {}", answer.status(), answer.text());
    ensure!(answer.text().contains("what has to be remembered cannot be now"), "{}", answer.text());
    let seconds: u64 = answer.field("retry-after")?.parse()?;
    ensure!((1..=5).contains(&seconds), "Retry-After: {seconds}");
    ensure!(begun.elapsed() < ANSWERED_WITHIN, "after {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn what_needs_redis_is_refused_while_it_is_cut_off_and_nobody_else_notices() -> anyhow::Result<()> {
    let usual = "public_prefixes = [\"load\"]\ntrusted_proxies = [\"127.0.0.0/8\", \"198.18.0.0/16\"]\n\
                 auth.schemes = [\"signature\"]";
    let cluster = Cluster::start().hosts().edges(3).coordinators(2).redis().etcd(3).clients(CLIENTS);
    let cluster = load::files(28).fold(cluster, |cluster, (name, size)| cluster.file(&name, size));
    let mut cluster = cluster.coordinator(|coordinator| coordinator.toml(usual)).ready()?;
    if !cluster.can_be_cut()? {
        return Ok(());
    }
    let load = Load::start(&cluster, 6);
    load.wait_for(20)?;
    let counted =
        caller(&cluster, 0).link(&json!({ "file_id": "load/0.bin", "max_downloads": DOWNLOADS_MAX }))?;
    let uncounted = caller(&cluster, 0).link(&json!({ "file_id": "load/0.bin" }))?;
    for person in 0..4 {
        ensure!(redeem(&cluster, 0, &counted, person)?.status() == 302);
    }
    let used = caller(&cluster, 0).sign("GET", MINE, "");
    ensure!(caller(&cluster, 0).request("GET", MINE, "", &used).send()?.status() == 200);

    let host = cluster.redis().host().context("Redis has a host")?.clone();
    host.cut(Cut::Both)?;
    for coordinator in [0, 1] {
        expect_away(|| caller(&cluster, coordinator).call("GET", MINE, "").send())?;
        expect_away(|| redeem(&cluster, coordinator, &counted, 4))?;
        expect_away(|| redeem(&cluster, coordinator, &counted, 0))?;
        let answer = redeem(&cluster, coordinator, &uncounted, 4)?;
        ensure!(answer.status() == 302, "{} {}", answer.status(), answer.text());
        wait_until("it says so, and stays ready", || {
            let readiness = cluster.coordinators()[coordinator].readiness()?;
            ensure!(readiness.status() == 200, "{}", readiness.text());
            let is_well = cluster.coordinators()[coordinator].metric("sluice_state_up")?;
            Ok(readiness.text().contains("state is away") && is_well == 0.0)
        })?;
    }
    load.wait_for(50)?;

    host.mend()?;
    for coordinator in [0, 1] {
        wait_until("it is back by itself", || {
            let answer = caller(&cluster, coordinator).call("GET", MINE, "").send()?;
            Ok(answer.status() == 200)
        })?;
        let refused: Request = caller(&cluster, coordinator).request("GET", MINE, "", &used);
        ensure!(refused.send()?.status() == 403, "a nonce that was used stays so");
    }
    for person in 0..DOWNLOADS_MAX {
        ensure!(redeem(&cluster, 1, &counted, person)?.status() == 302, "person {person}");
    }
    ensure!(redeem(&cluster, 0, &counted, DOWNLOADS_MAX)?.status() == 403, "not one more");
    load.wait_for(20)?;
    let report = load.finish()?;
    ensure!(report.breaks == 0, "{report:?}");
    Ok(())
}
