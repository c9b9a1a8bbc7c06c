//! Clients' manners: how fast they take, how often they ask, and what they do when they break off.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::Harness;
use harness::liar::{Liar, Lie};
use serde_json::Value;
use sluice_loadtest::Cluster;

fn scenario(size: u64, rest: &str) -> String {
    format!("warm_up = \"0s\"\n[[files]]\nname = \"a.bin\"\nsize = {size}\n{rest}")
}

/// Whose server tells the truth, and at once.
fn report(size: u64, arguments: &[&str], rest: &str) -> Value {
    let liar = Liar::start(Lie::None, size);
    let url = liar.url();
    Harness::run(&[&["--url", &url], arguments].concat()).scenario(&scenario(size, rest)).end().well()
}

#[test]
fn a_slow_client_takes_what_its_rate_gives() {
    const RATE: u64 = 50_000;
    // It breaks off, so that some have ended.
    let requests = format!("[[requests]]\nkind = \"abort\"\nafter = 0.125\nrate = {RATE}\n");
    let report = report(1 << 20, &["--clients", "4", "--duration", "4s"], &requests);
    let rate = report["figures"]["bytes_per_second"].as_f64().unwrap() / 4.0;
    // The first bite comes at once, and nobody waits after the last.
    assert!((0.8..1.5).contains(&(rate / RATE as f64)), "{rate} bytes a second");
}

#[test]
fn a_client_that_thinks_asks_no_more_often() {
    let report = report(1000, &["--duration", "2s"], "[load]\nclients = 2\nthink = \"200ms\"\n");
    let begun = report["tally"]["begun"].as_u64().unwrap();
    // Two clients, each ten times at most.
    assert!((14..=20).contains(&begun), "{begun}");
}

#[test]
fn small_files_too_are_broken_off_where_they_are_to() {
    let report = report(1000, &["--duration", "500ms"], "[[requests]]\nkind = \"abort\"\nafter = 0.5\n");
    let (ended, bytes) = (&report["tally"]["ended"], report["tally"]["bytes"].as_u64().unwrap());
    // What was under way at the end may have come, too.
    let most = (ended.as_u64().unwrap() + 16) * 500;
    assert!((ended.as_u64().unwrap() * 500..=most).contains(&bytes), "{bytes} bytes of {ended}");
}

#[test]
fn a_renewal_has_the_coordinator_exchange_the_token() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 16 << 10).ready().unwrap();
    let url = cluster.coordinator().url();
    let text = scenario(16 << 10, "[[requests]]\nkind = \"renew\"\nafter = 0.5\n");
    let report = Harness::run(&["--coordinator", &url, "--duration", "500ms"]).scenario(&text).end().well();
    let series = "sluice_coordinator_requests_total{endpoint=\"renew\",status=\"302\"}";
    let renewed = cluster.coordinator().metric(series).unwrap();
    let resumed = report["tally"]["resumed"].as_u64().unwrap();
    assert!(resumed > 0 && renewed >= resumed as f64, "{renewed} renewed, {resumed} resumed");
}

#[test]
fn renewals_without_a_coordinator_are_refused() {
    let text = scenario(1000, "[[requests]]\nkind = \"renew\"\n");
    let ended = Harness::run(&["--url", "http://127.0.0.1:1/"]).scenario(&text).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("`kind = \"renew\"`") && ended.err.contains("--url"), "{}", ended.err);
}
