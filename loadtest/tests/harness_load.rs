//! Runs against real edges and coordinators: what a freeze does to percentiles, thousands of slow clients, the forms of
//! output, and what goes wrong before a run begins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::{Harness, at_terminal, quantile};
use rustix::process::Signal;
use serde_json::Value;
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Cluster, Content, SoloEdge, caller, tool};
use tempfile::TempDir;

const SIZE: u64 = 16 << 10;

/// An edge with one file, and the URL of it, token and all.
fn edge_with(limits: &str, size: u64) -> (SoloEdge, TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    Content::new("a.bin", size).write(&root.path().join("a.bin")).unwrap();
    let edge = SoloEdge::start(root.path(), |edge| edge.toml(limits)).unwrap();
    let url = format!("{}{}", edge.url(), edge.target("a.bin", "tester").unwrap());
    (edge, root, url)
}

fn one_file(size: u64, rest: &str) -> String {
    format!("warm_up = \"0s\"\n{rest}\n[[files]]\nname = \"a.bin\"\nsize = {size}\n")
}

#[test]
fn a_second_in_which_the_server_is_frozen_is_in_the_percentiles_of_an_open_loop() {
    const RATE: u64 = 100;
    const SECONDS: u64 = 4;
    let (mut edge, _root, url) = edge_with("", SIZE);
    let load = format!(
        "duration = \"{SECONDS}s\"\n[load]\nmodel = \"open\"\nrate = {RATE}.0\narrivals = \"constant\""
    );
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &url])
        .scenario(&one_file(SIZE, &load))
        .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    edge.member().process().signal(Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    edge.member().process().signal(Signal::CONT).unwrap();
    let report = running.end().well();
    // All that should have begun did, the freeze or not; a tool that waits for answers would have lost a second of them.
    assert_eq!(report["tally"]["begun"], RATE * SECONDS);
    let latency = |part| quantile(&report["tally"]["latency"], part);
    // Of four seconds one was frozen: a quarter of the downloads waited, from nothing to all of it, evenly.
    assert!(latency(1.0) >= 0.9, "{}", latency(1.0));
    assert!(latency(0.99) >= 0.85, "{}", latency(0.99));
    assert!(latency(0.9) >= 0.5, "{}", latency(0.9));
    assert!(latency(0.8) >= 0.1, "{}", latency(0.8));
}

#[test]
fn ten_thousand_slow_downloads_at_once_take_less_than_a_gibibyte() {
    const CLIENTS: u64 = 10_000;
    let limits = "limits.connections_per_address = 20000\nlimits.transfers_per_token = 20000\n\
                  limits.send_rate_min = \"16B\"";
    let size = 128 << 10;
    let (_edge, _root, url) = edge_with(limits, size);
    let text = one_file(size, "duration = \"120s\"\nload.clients = 10000\nclient.connect_timeout = \"60s\"")
        + "[[requests]]\nrate = 2048\n";
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &url])
        .scenario(&text)
        .start();
    // Each has had its second bite, and goes on.
    running.wait_for(|line| {
        assert_eq!(line["failed"].as_u64().unwrap_or(0), 0, "{line}");
        line["under_way"].as_u64() == Some(CLIENTS)
    });
    let mut received = 0;
    running.wait_for(|line| {
        received += line["bytes"].as_u64().unwrap_or(0);
        line["under_way"].as_u64() == Some(CLIENTS) && received >= CLIENTS * 2048
    });
    // By the kernel's word, with all of them under way; the report's own comes at the end.
    let peak = running.memory_peak_bytes();
    assert!(peak <= 1 << 30, "{peak} bytes");
    let interrupted = Instant::now();
    running.signal(Signal::INT);
    let ended = running.end();
    assert!(interrupted.elapsed() < Duration::from_secs(30));
    let report = &ended.report;
    assert_eq!((&report["tally"]["unfinished"], &report["tally"]["failed"]), (&CLIENTS.into(), &0.into()));
    let memory = report["generators"][0]["generator"]["memory_bytes"].as_u64().unwrap();
    // The kernel counts pages by processor, and tells a sum that is some too high or too low.
    let least = peak - (peak >> 6);
    assert!((least..=1 << 30).contains(&memory), "{memory} bytes, {peak} before");
}

#[test]
fn ctrl_c_ends_a_run_with_a_report_of_what_was_measured() {
    let (_edge, _root, url) = edge_with("", SIZE);
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &url])
        .scenario(&one_file(SIZE, "duration = \"300s\"\n[load]\nclients = 2\nthink = \"5ms\""))
        .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    running.signal(Signal::INT);
    let ended = running.end();
    let last: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    assert!(last["figures"]["downloads_per_second"].as_f64().unwrap() > 0.0);
    assert!(ended.page.contains("The run was ended early"), "the page says so");
    let report = ended.well();
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds > 0.9 && seconds < report["seconds_wanted"].as_f64().unwrap(), "{seconds}");
}

#[test]
fn a_terminal_shows_a_run_as_it_goes_and_its_result() {
    let (_edge, _root, url) = edge_with("", SIZE);
    let harness = Harness::new(&["run", "--url", &url, "--scenario", "{}/scenario.toml"]);
    harness.write("scenario.toml", &one_file(SIZE, "duration = \"3s\"\nload.clients = 2"));
    let shown = tool::complete(&mut at_terminal(&harness.command)).unwrap();
    // Each second is written over the one before it.
    assert!(shown.contains("A\x1b[J"), "{shown}");
    for part in ["of 3 s", "under way", "so far   p50", "100.0 % ████", "downloads in 3.0 s", "generator on"]
    {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let (_edge, _root, url) = edge_with("", 1 << 20);
    // More than a thread can check in a second, many times over.
    let text =
        one_file(1 << 20, "duration = \"1s\"\ndrain = \"1s\"\n[load]\nmodel = \"open\"\nrate = 1000000.0");
    let ended = Harness::run(&["--threads", "1", "--url", &url]).scenario(&text).end();
    assert_eq!(ended.report["figures"]["generator_was_the_limit"], true, "{}", ended.out);
    assert!(ended.out.contains("WAS THE LIMIT") && ended.page.contains("The generator was the limit"));
}

#[test]
fn downloads_beyond_the_bound_of_an_open_loop_wait_and_their_waiting_counts() {
    let (mut edge, _root, url) = edge_with("", SIZE);
    let load = "duration = \"2s\"\n[load]\nmodel = \"open\"\nrate = 50.0\nin_flight_max = 2";
    let mut running =
        Harness::new(&["run", "--json-lines", "--report", "{}/report", "--threads", "1", "--url", &url])
            .scenario(&one_file(SIZE, load))
            .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    edge.member().process().signal(Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(500));
    edge.member().process().signal(Signal::CONT).unwrap();
    let report = running.end().well();
    assert!(report["tally"]["held"].as_u64().unwrap() > 0);
    assert!(quantile(&report["tally"]["latency"], 0.9) > 0.1);
    assert!(report["generators"][0]["remarks"].to_string().contains("in_flight_max"));
}

#[test]
fn downloads_that_were_due_and_never_began_are_counted_with_their_age() {
    const RATE: u64 = 50;
    const SECONDS: u64 = 3;
    let (mut edge, _root, url) = edge_with("", SIZE);
    let load = format!(
        "duration = \"{SECONDS}s\"\ndrain = \"0s\"\n[load]\nmodel = \"open\"\nrate = {RATE}.0\n\
         arrivals = \"constant\"\nin_flight_max = 2"
    );
    let mut running =
        Harness::new(&["run", "--json-lines", "--report", "{}/report", "--threads", "1", "--url", &url])
            .scenario(&one_file(SIZE, &load))
            .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    edge.member().process().signal(Signal::STOP).unwrap();
    let ended = running.end();
    edge.member().process().signal(Signal::CONT).unwrap();
    let page = ended.page.clone();
    let report = ended.well();
    let (begun, never) = (&report["tally"]["begun"], report["tally"]["never_begun"].as_u64().unwrap());
    assert!(never > RATE, "{never}");
    assert_eq!(begun.as_u64().unwrap() + never, RATE * SECONDS);
    assert!(quantile(&report["tally"]["latency"], 0.99) > 1.0);
    let remark = format!("{never} downloads were due and had not begun");
    assert!(report["generators"][0]["remarks"].to_string().contains(&remark) && page.contains(&remark));
}

#[test]
fn a_run_that_ends_in_its_warm_up_has_measured_nothing_and_says_so() {
    let (_edge, _root, url) = edge_with("", SIZE);
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &url])
        .scenario("warm_up = \"300s\"\nload.clients = 1\n[[files]]\nname = \"a.bin\"\nsize = \"16KiB\"\n")
        .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    running.signal(Signal::INT);
    let page = running.end().page;
    assert!(page.contains("Nothing was measured") && !page.contains("kept up"), "the page says so");
}

#[test]
fn what_the_warm_up_took_is_in_no_percentile() {
    let (mut edge, _root, url) = edge_with("", SIZE);
    let load = "warm_up = \"3s\"\nduration = \"1s\"\n[load]\nmodel = \"open\"\nrate = 50.0";
    let text = one_file(SIZE, load).replacen("warm_up = \"0s\"\n", "", 1);
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &url])
        .scenario(&text)
        .start();
    running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    edge.member().process().signal(Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    edge.member().process().signal(Signal::CONT).unwrap();
    let report = running.end().well();
    assert!(report["warm_up"]["ended"].as_u64().unwrap() > 0);
    assert_eq!(report["warm_up"]["latency"], Value::Array(vec![]));
    for times in ["latency", "first_byte"] {
        assert!(quantile(&report["tally"][times], 1.0) < 0.5, "{times}: {}", report["tally"][times]);
    }
}

#[test]
fn every_scheme_and_way_of_asking_is_spoken() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let client = |key: &str, scheme: &str| {
        format!(
            "[[clients]]\naccess_key = {key:?}\nsecret = \"hush\"\nscheme = {scheme:?}\nprefixes = [\"\"]\n"
        )
    };
    let mut cluster = Cluster::start()
        .edges(2)
        .clients(&(client("AK1", "signature") + &client("app", "app-jwt")))
        .coordinator(|coordinator| {
            coordinator.toml(&format!(
                "[auth]\nschemes = [\"signature\", \"app-jwt\", \"sealed\"]\n\
                 [sealed]\nencryption_key = {KEY:?}\napi_secret_key = \"hush\"\n"
            ))
        })
        .file("f/a+b 1.bin", 100_000)
        .ready()
        .unwrap();
    caller::wait_for_next_second().unwrap();
    let url = cluster.coordinator().url();
    for (scheme, via) in [
        ("scheme = \"signature\"\naccess_key = \"AK1\"", "redirect"),
        ("scheme = \"signature\"\naccess_key = \"AK1\"", "api"),
        ("scheme = \"signature\"\naccess_key = \"AK1\"", "link"),
        ("scheme = \"app-jwt\"\naccess_key = \"app\"", "redirect"),
        ("scheme = \"app-jwt\"\naccess_key = \"app\"", "link"),
        ("scheme = \"sealed\"\nencryption_key_file = \"key\"", "api"),
    ] {
        let text = format!(
            "duration = \"500ms\"\nwarm_up = \"0s\"\n[load]\nclients = 2\n[client]\nvia = {via:?}\n\
             [caller]\n{scheme}\nsecret_file = \"secret\"\n\
             [[files]]\nname = \"f/a+b 1.bin\"\nsize = 100_000\n\
             [[requests]]\n[[requests]]\nkind = \"renew\"\n[[requests]]\nkind = \"resume\"\n"
        );
        let harness = Harness::run(&["--coordinator", &url]);
        harness.write_secret("secret", "hush\n");
        harness.write_secret("key", KEY);
        let report = harness.scenario(&text).end().well();
        assert!(report["tally"]["asked"].as_array().is_some_and(|asked| !asked.is_empty()), "{scheme} {via}");
        // What a file has of a caller's secrets stays in its file.
        assert!(!report.to_string().contains("hush"), "{scheme} {via}");
    }
}

/// An authority's certificate, and one of a server at 127.0.0.1 with its key; all PEM.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    server.distinguished_name.push(DnType::CommonName, "coordinator");
    let server = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    (authority_pem, server.pem(), key.serialize_pem())
}

#[test]
fn a_coordinator_that_speaks_tls_is_believed_only_with_a_certificate() {
    let (authority, certificate, key) = certificates();
    let folder = tempfile::tempdir().unwrap();
    let private = |name: &str, text: &str| {
        let path = folder.path().join(name);
        sluice_shared::private_file::write_new(&path, text).unwrap();
        path
    };
    let (certificate, key) = (private("server.pem", &certificate), private("server.key", &key));
    let tls = format!(
        "public_url = \"https://127.0.0.1:1\"\n[tls]\ncert_file = {certificate:?}\nkey_file = {key:?}"
    );
    let mut cluster = Cluster::start()
        .edges(1)
        .coordinator(|coordinator| coordinator.toml(&tls))
        .file("a.bin", SIZE)
        .ready()
        .unwrap();
    let url = format!("https://{}", cluster.coordinator().address());
    let text = one_file(SIZE, "duration = \"500ms\"\nload.clients = 4\nclient.ca_file = \"ca.pem\"");
    let harness = Harness::run(&["--coordinator", &url]);
    harness.write("ca.pem", &authority);
    harness.scenario(&text).end().well();
    let (stranger, _, _) = certificates();
    let harness = Harness::run(&["--coordinator", &url]);
    harness.write("ca.pem", &stranger);
    let ended = harness.scenario(&text).end();
    assert!(ended.code == Some(1) && ended.err.contains("TLS: invalid peer certificate"), "{}", ended.err);
}

#[test]
fn a_ramp_brings_more_and_more_clients_and_reused_urls_spare_the_coordinator() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", SIZE).ready().unwrap();
    let url = cluster.coordinator().url();
    let load = "duration = \"3s\"\n[load]\nclients = 1\nthink = \"20ms\"\nthink_times = \"exponential\"\n\
                [[load.stages]]\nfor = \"3s\"\nto = 9\n[client]\nreuse = \"1m\"";
    let report = Harness::run(&["--coordinator", &url]).scenario(&one_file(SIZE, load)).end().well();
    let begun = |at: usize| report["intervals"][at]["begun"].as_u64().unwrap();
    assert!(begun(2) > begun(0), "{} {}", begun(2), begun(0));
    let asked: u64 =
        report["tally"]["asked"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).sum();
    let workers = report["generators"][0]["generator"]["threads"].as_u64().unwrap();
    // Clients of one worker that begin at the same time may each ask.
    assert!((1..=workers * 9).contains(&asked) && begun(2) > asked, "{asked}");
}

#[test]
fn a_wrong_scenario_is_told_with_its_line_and_key() {
    let text = one_file(SIZE, "[load]\nmodel = \"open\"\nrats = 5");
    let ended = Harness::run(&["--url", "http://127.0.0.1:1/"]).scenario(&text).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("scenario.toml:4:1:") && ended.err.contains("`rats`"), "{}", ended.err);
    let ended = Harness::run(&["--url", "http://127.0.0.1:1/", "--scenario", "missing.toml"]).end();
    assert!(ended.code == Some(1) && ended.err.contains("missing.toml"), "{}", ended.err);
}

#[test]
fn a_coordinator_that_is_not_there_or_never_answers_is_a_clear_error() {
    let free = Port::take().unwrap();
    let ended = Harness::run(&["--coordinator", &free.url()]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(&format!("no coordinator answers at {}", free.address())), "{}", ended.err);
    // Connects, for the kernel does that, and is never answered.
    let silent = std::net::TcpListener::bind(free.address()).unwrap();
    let begun = Instant::now();
    let ended = Harness::run(&["--coordinator", &free.url()]).end();
    assert!(ended.code == Some(1) && ended.err.contains("no coordinator answers"), "{}", ended.err);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(silent);
    for url in ["127.0.0.1:80", "ftp://127.0.0.1"] {
        let ended = Harness::run(&["--coordinator", url]).end();
        assert!(ended.code == Some(1) && ended.err.contains("is no URL"), "{}", ended.err);
    }
}

#[test]
fn a_store_without_the_scenario_s_files_is_told_how_to_have_them() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", SIZE).ready().unwrap();
    let url = cluster.coordinator().url();
    let ended = Harness::run(&["--coordinator", &url, "--duration", "300ms"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.failures("status 404") > 0, "{}", ended.out);
    assert!(ended.err.contains("sluice-loadtest files --root"), "{}", ended.err);
}
