//! Clusters that the harness starts, what happens to them, and several machines that make one run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use harness::liar::{Liar, Lie};
use harness::{Harness, Running, at_terminal, programs_with};
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Cluster, wait_until};

const SCENARIO: &str = "duration = \"7s\"\nwarm_up = \"0s\"\n\
    [load]\nmodel = \"open\"\nrate = 60.0\n\
    [client]\ntries = 200\nsilence_max = \"500ms\"\n\
    [[files]]\nname = \"f/{n}.bin\"\ncount = 40\nsize = [\"1KiB\", \"256KiB\"]\n\
    [[requests]]\nweight = 3\n[[requests]]\nkind = \"range\"\n[[requests]]\nkind = \"renew\"\n";

fn cluster(words: &[&str], faults: &str) -> Harness {
    let harness = Harness::new(&[&["cluster", "--root", "{}/files"], words].concat());
    let (scenario, faults) = (harness.write("scenario.toml", SCENARIO), harness.write("faults.toml", faults));
    let report = harness.folder.path().join("report");
    harness
        .argument("--faults")
        .argument(faults.to_str().unwrap())
        .argument("--")
        .argument("--scenario")
        .argument(scenario.to_str().unwrap())
        .argument("--report")
        .argument(report.to_str().unwrap())
        .argument("--quiet")
}

fn fault(at: &str, action: &str, who: &str) -> String {
    let who = if who.is_empty() { String::new() } else { format!("who = {who:?}\n") };
    format!("[[faults]]\nat = {at:?}\naction = {action:?}\n{who}")
}

/// What was done, without the times.
fn events(report: &Value) -> Vec<String> {
    report["faults"].as_array().unwrap().iter().map(|event| event[1].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_cluster_goes_through_what_is_planned_and_every_download_ends_well() {
    let faults = [
        fault("500ms", "kill", "edge-1"),
        fault("1500ms", "start", "edge-1"),
        fault("2s", "freeze", "edge-2"),
        fault("3s", "thaw", "edge-2"),
        fault("3500ms", "drain", "edge-3"),
        fault("4s", "stick-storage", ""),
        fault("4500ms", "release-storage", ""),
        fault("5s", "rotate-keys", ""),
        fault("5500ms", "kill-etcd-leader", ""),
        fault("6s", "restart-etcd", ""),
        fault("6500ms", "restart-redis", ""),
    ];
    let ended =
        cluster(&["--edges", "3", "--coordinators", "2", "--etcd", "--redis"], &faults.concat()).end();
    let page = ended.page.clone();
    let report = ended.well();
    let done = events(&report);
    assert_eq!(done.len(), faults.len(), "{done:?}");
    assert!(done.iter().all(|event| !event.contains("FAILED")), "{done:?}");
    assert!(page.contains("etcd&#39;s leader killed"));
    assert!(!report["tally"]["breaks"].as_object().unwrap().is_empty(), "nothing broke");
}

#[test]
fn an_edge_that_is_cut_off_costs_no_download() {
    let faults = fault("1s", "cut", "edge-1") + &fault("3s", "mend", "edge-1");
    let ended = cluster(&["--edges", "3"], &faults).end();
    if ended.err.contains("network namespaces are not permitted") {
        let is_known = std::env::var_os("LOADTEST_WITHOUT_NAMESPACES").is_some();
        assert!(is_known, "{}", ended.err);
        return;
    }
    let report = ended.well();
    assert_eq!(events(&report), ["edge-1 cut off", "edge-1 reachable again"]);
}

#[test]
fn faults_that_a_cluster_cannot_have_are_told_before_it_starts() {
    let ended = cluster(&["--edges", "2"], &fault("1s", "kill", "edge-3")).end();
    assert!(ended.code == Some(1) && ended.err.contains("faults.toml:4:7: is none"), "{}", ended.err);
    let ended = cluster(&["--edges", "2"], &fault("7s", "kill", "edge-1")).end();
    assert!(ended.code == Some(1) && ended.err.contains("faults.toml:2:6: comes too late"), "{}", ended.err);
    let ended = cluster(&["--coordinators", "2"], "").end();
    assert!(ended.code == Some(1) && ended.err.contains("--redis"), "{}", ended.err);
}

#[test]
fn a_fault_that_cannot_be_inflicted_is_told_and_fails_the_run() {
    let faults = fault("500ms", "kill", "edge-1") + &fault("1s", "kill", "edge-1");
    let ended = cluster(&["--edges", "2"], &faults).end();
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.err.contains("1 faults could not be inflicted"), "{}", ended.err);
    let told = "edge-1 killed: FAILED: edge-1 does not run";
    assert_eq!(events(&ended.report), ["edge-1 killed", told]);
    assert!(ended.out.contains(" s  edge-1 killed\n") && ended.out.contains(told), "{}", ended.out);
}

/// A conductor of one joiner, and the joiner; both have begun. `target` is whom they ask, as an argument and its value.
fn joined(scenario: &str, target: [&str; 2]) -> (Running, Running) {
    let port = Port::take().unwrap();
    let address = port.address();
    let words =
        ["run", "--json-lines", "--threads", "1", "--report", "{}/report", "--secret-file", "{}/secret"];
    let conductor = Harness::new(&[&words[..], &target, &["--joiners", "1", "--listen", &address]].concat())
        .scenario(scenario);
    conductor.write_secret("secret", "of this run");
    let mut conductor = conductor.start();
    conductor
        .wait_for(|line| line["note"].as_str().is_some_and(|note| note.contains("Waiting for 1 machines")));
    // A stranger is not waited for.
    let stranger = Harness::new(&["run", "--quiet", "--join", &address, "--secret-file", "{}/secret"]);
    stranger.write_secret("secret", "another");
    let ended = stranger.end();
    assert!(ended.code == Some(1) && ended.err.contains("does not know the secret"), "{}", ended.err);
    let joiner =
        Harness::new(&["run", "--quiet", "--threads", "1", "--join", &address, "--secret-file", "{}/secret"]);
    joiner.write_secret("secret", "of this run");
    let joiner = joiner.start();
    conductor.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
    (conductor, joiner)
}

const JOINED: &str = "warm_up = \"0s\"\n[load]\nmodel = \"open\"\nrate = 100.0\narrivals = \"constant\"\n\
                      [[files]]\nname = \"a.bin\"\nsize = 1000\n";

#[test]
fn two_machines_make_one_run_with_one_report() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready().unwrap();
    let (conductor, joiner) =
        joined(&format!("duration = \"2s\"\n{JOINED}"), ["--coordinator", &cluster.coordinator().url()]);
    let report = conductor.end().well();
    assert_eq!(joiner.end().code, Some(0));
    assert_eq!(report["generators"].as_array().unwrap().len(), 2);
    // Together, what the scenario says, and not twice that.
    assert_eq!(report["tally"]["begun"], 200);
    assert_eq!(report["tally"]["ended"], 200);
    assert!(report["lost"].as_object().unwrap().is_empty(), "{}", report["lost"]);
}

#[test]
fn clients_of_a_closed_loop_are_shared_out_between_machines() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready().unwrap();
    // Each downloads once.
    let scenario = "duration = \"2s\"\nwarm_up = \"0s\"\ndrain = \"1s\"\n[load]\nclients = 6\nthink = \"1m\"\n\
                    [[files]]\nname = \"a.bin\"\nsize = 1000\n";
    let (conductor, joiner) = joined(scenario, ["--coordinator", &cluster.coordinator().url()]);
    let report = conductor.end().well();
    assert_eq!(joiner.end().code, Some(0));
    assert_eq!(report["generators"].as_array().unwrap().len(), 2);
    assert_eq!(report["tally"]["ended"], 6);
}

#[test]
fn a_machine_that_still_drains_is_waited_for() {
    // The conductor's one download ends at once. The joiner's begins a second later, and ends long after the conductor.
    let liar = Liar::start(Lie::Late(Duration::from_secs(16)), 1000);
    let scenario = "duration = \"2s\"\nwarm_up = \"0s\"\ndrain = \"60s\"\n\
                    [load]\nmodel = \"open\"\nrate = 1.0\narrivals = \"constant\"\n\
                    [[files]]\nname = \"a.bin\"\nsize = 1000\n";
    let (conductor, joiner) = joined(scenario, ["--url", &liar.url()]);
    let report = conductor.end().well();
    assert_eq!(joiner.end().code, Some(0));
    assert!(report["lost"].as_object().unwrap().is_empty(), "{}", report["lost"]);
    assert_eq!(report["tally"]["ended"], 2);
}

#[test]
fn a_machine_that_is_lost_is_named_and_not_waited_for() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready().unwrap();
    let (conductor, mut joiner) =
        joined(&format!("duration = \"2s\"\n{JOINED}"), ["--coordinator", &cluster.coordinator().url()]);
    joiner.child.kill().unwrap();
    joiner.child.wait().unwrap();
    let ended = conductor.end();
    assert!(ended.page.contains("Lost: "), "the page names it");
    let report = ended.well();
    let lost = report["lost"].as_object().unwrap();
    assert!(
        lost.len() == 1 && lost.values().all(|why| why.as_str().unwrap().contains("not heard of")),
        "{lost:?}"
    );
    assert_eq!(report["generators"].as_array().unwrap().len(), 1);
}

#[test]
fn ctrl_c_at_the_conductor_ends_the_run_on_all_machines() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready().unwrap();
    let (conductor, joiner) =
        joined(&format!("duration = \"300s\"\n{JOINED}"), ["--coordinator", &cluster.coordinator().url()]);
    conductor.signal(Signal::INT);
    let report = conductor.end().well();
    assert_eq!(joiner.end().code, Some(0));
    assert_eq!(report["generators"].as_array().unwrap().len(), 2);
}

#[test]
fn reports_are_compared_with_intervals() {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready().unwrap();
    let url = cluster.coordinator().url();
    let harness = Harness::run(&["--coordinator", &url]);
    let folder = tempfile::tempdir().unwrap();
    let report = harness.scenario(&format!("duration = \"2s\"\n{JOINED}")).end().well();
    let path = folder.path().join("a.json");
    std::fs::write(&path, report.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let ended = Harness::new(&["compare", path, path]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("downloads/s") && ended.out.contains("1.000"), "{}", ended.out);
    let ended = Harness::new(&["compare", "--output", "json", path, path]).end();
    let comparison: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(comparison["figures"][0]["ratio"], 1.0);
    // What ended after the last second, or was given up, is in no second's times.
    let mut slow = report;
    slow["tally"]["latency"].as_array_mut().unwrap().push(json!([3_000_000, 50]));
    let slow_path = folder.path().join("slow.json");
    std::fs::write(&slow_path, slow.to_string()).unwrap();
    let ended = Harness::new(&["compare", "--output", "json", path, slow_path.to_str().unwrap()]).end();
    let comparison: Value = serde_json::from_str(&ended.out).unwrap();
    for figure in [&comparison["figures"][4], &comparison["figures"][6]] {
        assert!((figure["after"].as_f64().unwrap() - 3.0).abs() < 0.01, "{figure}");
        assert!(figure["ratio"].as_f64().unwrap() > 2.0 && figure["interval"].is_null(), "{figure}");
    }
    std::fs::write(folder.path().join("b.json"), "{\"format\": 99}").unwrap();
    let ended = Harness::new(&["compare", path, folder.path().join("b.json").to_str().unwrap()]).end();
    assert!(ended.code == Some(1) && ended.err.contains("b.json"), "{}", ended.err);
}

/// What is started for a test has this variable, with the test's folder.
const MARK: &str = "HARNESS_TEST";

/// A cluster of one edge that is asked all the time.
fn marked_cluster(form: &[&str]) -> (Harness, String) {
    let words =
        ["cluster", "--root", "{}/files", "--edges", "1", "--", "--report", "{}/report", "--scenario"];
    let mut harness = Harness::new(&[&words[..], &["{}/scenario.toml"], form].concat());
    harness.write("scenario.toml", SCENARIO);
    let mark = harness.folder.path().to_str().unwrap().to_owned();
    harness.command.env(MARK, &mark);
    (harness, mark)
}

#[test]
fn a_signal_ends_a_cluster_with_a_report_and_leaves_nothing_running() {
    use std::os::unix::process::CommandExt as _;
    for signal in [Signal::INT, Signal::TERM] {
        let (mut harness, mark) = marked_cluster(&["--json-lines"]);
        // As a terminal sends it: to all that is in the foreground.
        harness.command.process_group(0);
        let mut running = harness.start();
        running.wait_for(|line| line["ended"].as_u64().is_some_and(|ended| ended > 0));
        assert!(programs_with(MARK, &mark).len() > 2, "the variable is handed on");
        running.signal_group(signal);
        running.end().well();
        assert_eq!(programs_with(MARK, &mark), [""; 0], "{signal:?}");
    }
}

#[test]
fn a_signal_ends_a_cluster_that_is_not_up_yet() {
    for signal in [Signal::INT, Signal::TERM] {
        let (harness, mark) = marked_cluster(&["--json-lines"]);
        let mut running = harness.start();
        running.wait_for(|line| line["note"].as_str().is_some_and(|note| note.contains("Starting")));
        running.signal(signal);
        let ended = running.end();
        assert!(ended.code == Some(1) && ended.err.contains("interrupted before"), "{}", ended.err);
        assert_eq!(programs_with(MARK, &mark), [""; 0], "{signal:?}");
    }
}

#[test]
fn a_terminal_that_is_closed_ends_a_cluster_with_a_report_and_leaves_nothing_running() {
    let (harness, mark) = marked_cluster(&[]);
    let mut terminal = at_terminal(&harness.command).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(terminal.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(shown.any(|line| line.contains("under way")));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("all programs have ended", || Ok(programs_with(MARK, &mark).is_empty())).unwrap();
    let report = std::fs::read_to_string(harness.folder.path().join("report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["tally"]["ended"].as_u64() > Some(0));
    assert!(report["seconds"].as_f64() < report["seconds_wanted"].as_f64());
}
