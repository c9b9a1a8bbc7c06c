//! Which edges get requests: the coordinator's own probes decide.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use support::{Coordinator, Edge, Mood, Setting, wait_until};

/// For tests that ask for many files in a moment and want to see the ring alone.
const UNBOUND: &str = "[routing]\nload_bound = 10.0\n";

/// Files enough that every edge of three is first for some.
fn placements(coordinator: &Coordinator) -> BTreeMap<String, Vec<String>> {
    let files = (0..60).map(|number| format!("{number}.bin"));
    files.map(|file| (file.clone(), coordinator.candidates(&file))).collect()
}

#[test]
fn a_dead_edges_files_go_to_their_first_alternate_and_come_back() {
    let edges = Edge::several(3);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let before = placements(&coordinator);
    assert!(edges.iter().all(|edge| before.values().any(|c| c[0] == edge.id)));

    edges[1].set(Mood::Dead);
    coordinator.wait_for_state("edge-2", "down");
    wait_until("no request goes there", || {
        placements(&coordinator).values().all(|c| !c.contains(&edges[1].id))
    });
    for (file, now) in placements(&coordinator) {
        let expected = before[&file].iter().filter(|id| **id != "edge-2");
        assert!(now.iter().eq(expected), "{file}: {now:?} after {:?}", before[&file]);
    }

    edges[1].set(Mood::Good);
    coordinator.wait_for_state("edge-2", "up");
    wait_until("every file is where it was", || placements(&coordinator) == before);
}

#[test]
fn an_edge_is_out_after_three_misses_in_a_row_and_not_before() {
    use Mood::{Dead, Good};

    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let since = coordinator.edge("edge-1")["since"].clone();
    edge.script(&[Dead, Dead, Good, Dead, Good, Dead, Dead, Good]);
    wait_until("the script is over and the next probe made", || {
        assert_eq!(coordinator.request_download("a").status, 200);
        edge.is_script_over()
    });
    let edge_now = coordinator.edge("edge-1");
    assert_eq!((&edge_now["state"], &edge_now["since"]), (&"up".into(), &since), "it was never out");
    edge.script(&[Dead, Dead, Dead]);
    coordinator.wait_for_change("edge-1", "up", "down");
}

#[test]
fn an_edge_is_back_after_two_good_answers_in_a_row() {
    use Mood::{Dead, Good};

    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    edge.set(Dead);
    coordinator.wait_for_state("edge-1", "down");
    assert!(coordinator.edge("edge-1")["misses"].as_u64().unwrap() >= 3);
    let since = coordinator.edge("edge-1")["since"].clone();
    edge.script(&[Good, Dead, Good, Dead]);
    wait_until("the script is over", || edge.is_script_over());
    assert_eq!(coordinator.edge("edge-1")["since"], since, "it was never back");
    edge.script(&[Good, Good]);
    coordinator.wait_for_change("edge-1", "down", "up");
}

#[test]
fn a_draining_edge_is_out_at_its_first_answer() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    edges[0].script(&[Mood::Draining]);
    coordinator.wait_for_change("edge-1", "up", "draining");
    coordinator.wait_for_change("edge-1", "draining", "up");

    edges[0].set(Mood::Draining);
    wait_until("every file goes to the other edge", || {
        placements(&coordinator).values().all(|c| *c == ["edge-2"])
    });
    assert_eq!(coordinator.state_of("edge-1"), "draining");
    assert_eq!(coordinator.metric("sluice_edges{state=\"draining\"}"), 1.0);
    assert_eq!(coordinator.metric("sluice_ring_share_ratio{edge=\"edge-1\"}"), 0.0);
    assert_eq!(coordinator.metric("sluice_ring_share_ratio{edge=\"edge-2\"}"), 1.0);
}

#[test]
fn an_edge_that_hangs_or_fails_is_as_good_as_dead() {
    for mood in [Mood::Silent, Mood::Broken] {
        let edges = Edge::several(2);
        let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
        edges[0].set(mood);
        coordinator.wait_for_state("edge-1", "down");
        let edge = coordinator.edge("edge-1");
        let last_probe_ms = edge["last_probe_ms"].as_f64().unwrap();
        if mood == Mood::Silent {
            assert!(last_probe_ms >= 800.0, "{last_probe_ms}");
        }
        assert_eq!(coordinator.state_of("edge-2"), "up", "one edge never slows another's probes");
        edges[0].set(Mood::Good);
        coordinator.wait_for_state("edge-1", "up");
    }
}

#[test]
fn an_endless_answer_is_not_read() {
    let edge = Edge::start_in("edge-1", Mood::Endless);
    let coordinator = Coordinator::launch(Setting::new(&[&edge], ""));
    wait_until("it was probed three times", || edge.probes() >= 3);
    assert_eq!(coordinator.state_of("edge-1"), "up");
}

#[test]
fn where_every_edge_looks_dead_the_ring_is_trusted() {
    let edges = Edge::several(3);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let before = placements(&coordinator);
    edges.iter().for_each(|edge| edge.set(Mood::Dead));
    wait_until("the coordinator is not ready", || coordinator.ready().status == 503);
    let told = coordinator.ready().json();
    let instance = told["instance"].as_str().unwrap();
    assert_eq!(
        told,
        serde_json::json!({ "ready": false, "reasons": ["no live edge"], "notes": [], "instance": instance })
    );
    assert_eq!(placements(&coordinator), before, "the news may be of the coordinator's own network");
    edges.iter().for_each(|edge| edge.set(Mood::Good));
    wait_until("the coordinator is ready", || coordinator.ready().status == 200);
}

#[test]
fn the_sudden_silence_of_most_edges_is_not_believed() {
    let edges = Edge::several(5);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let before = placements(&coordinator);
    edges[..3].iter().for_each(|edge| edge.set(Mood::Dead));
    coordinator.log_line(|line| line["trust"] == "SuddenSilence");
    for id in ["edge-1", "edge-2", "edge-3"] {
        coordinator.wait_for_state(id, "down");
    }
    assert_eq!(placements(&coordinator), before);
}

#[test]
fn an_edge_that_comes_with_an_empty_cache_is_given_its_files_by_and_by() {
    let edges = Edge::several(2);
    let more = format!("{UNBOUND}slow_start = \"1h\"\n");
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), &more);
    let before = placements(&coordinator);
    let firsts = |id: &str| placements(&coordinator).values().filter(|c| c[0] == id).count();
    edges[1].set(Mood::Dead);
    coordinator.wait_for_state("edge-2", "down");
    edges[1].set_load(r#"{"uptime_seconds":0}"#);
    edges[1].set(Mood::Good);
    coordinator.wait_for_state("edge-2", "up");
    wait_until("it is a candidate again", || placements(&coordinator).values().all(|c| c.len() == 2));
    assert!(firsts("edge-2") <= 20, "{} of 60", firsts("edge-2"));

    // One that only could not be reached has its cache.
    edges[1].set(Mood::Dead);
    coordinator.wait_for_state("edge-2", "down");
    edges[1].set_load(r#"{"uptime_seconds":86400}"#);
    edges[1].set(Mood::Good);
    wait_until("it has all its files", || placements(&coordinator) == before);
}

#[test]
fn an_edge_that_reports_too_much_work_passes_files_on() {
    let edges = Edge::several(2);
    let coordinator =
        Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), "[routing]\nload_bound = 1.9\n");
    let before = placements(&coordinator);
    edges[0].set_load(r#"{"uptime_seconds":86400,"in_flight_bytes":100000000000,"a_new_field":[1]}"#);
    wait_until("the other one is first for every file", || {
        placements(&coordinator).values().all(|c| *c == ["edge-2", "edge-1"])
    });
    // What is no report changes nothing, and takes no edge out.
    for load in ["", "[]", "{\"in_flight_bytes\":-1}", "<html>"] {
        edges[1].set_load(load);
        let seen = edges[1].probes();
        wait_until("it was asked twice", || edges[1].probes() >= seen + 2);
        assert_eq!(coordinator.state_of("edge-2"), "up", "{load}");
    }
    edges[0].set_load(r#"{"uptime_seconds":86400,"in_flight_bytes":0}"#);
    wait_until("every file is where it was", || placements(&coordinator) == before);
}

#[test]
fn an_edge_whose_clock_is_off_is_degraded_until_it_is_right() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let date = |time| httpdate::fmt_http_date(time);
    let hour = Duration::from_secs(3600);
    for off in [SystemTime::now() + hour, SystemTime::now() - hour] {
        edges[0].set_date(&date(off));
        coordinator.wait_for_state("edge-1", "degraded");
        let edge = coordinator.edge("edge-1");
        assert_eq!(edge["reason"], "clock");
        let skew = edge["clock_skew_seconds"].as_f64().unwrap();
        assert!((3500.0..3700.0).contains(&skew.abs()), "{skew}");
        let metric = coordinator.metric("sluice_edge_clock_skew_seconds{edge=\"edge-1\"}");
        assert!((3500.0..3700.0).contains(&metric.abs()), "{metric}");
        wait_until("every file goes to the other edge", || {
            placements(&coordinator).values().all(|c| *c == ["edge-2"])
        });
        edges[0].set_date(&date(SystemTime::now() + Duration::from_secs(1)));
        coordinator.wait_for_state("edge-1", "up");
        assert_eq!(coordinator.edge("edge-1")["reason"], serde_json::Value::Null);
        // What it says stands still, so that it must be right again before that counts.
        edges[0].set_date("no date");
    }
    assert_eq!(coordinator.state_of("edge-2"), "up", "one that tells no time is none the worse for it");
}

#[test]
fn where_all_clocks_differ_from_ours_nobody_is_left_out() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let before = placements(&coordinator);
    let off = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    edges.iter().for_each(|edge| edge.set_date(&off));
    edges.iter().for_each(|edge| coordinator.wait_for_state(&edge.id, "degraded"));
    wait_until("every file is where it was", || placements(&coordinator) == before);
}

#[test]
fn evidence_against_an_edge_has_it_probed_at_once_and_counts_for_nothing_else() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let answer = coordinator.get("/download/a");
    let token = support::token_of(answer.field("location"));
    let at = coordinator.claims(&token).edg.unwrap().into_owned();
    let (named, other) = if at == edges[0].id { (&edges[0], &edges[1]) } else { (&edges[1], &edges[0]) };
    let since = coordinator.edge(&at)["since"].clone();
    let renew = |not: &str| {
        let answer = coordinator.get(&format!("/renew?token={token}&not={not}"));
        assert_eq!(answer.status, 302);
    };
    // Far more probes than there would be by themselves, and by no call more than one in a tenth of a second.
    let (begun, before) = (Instant::now(), named.probes());
    wait_until("twenty probes", || {
        renew(&at);
        named.probes() >= before + 20
    });
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1800), "20 probes in {took:?}");
    assert!(took < Duration::from_secs(10), "20 probes in {took:?}: as many as without evidence");
    let edge = coordinator.edge(&at);
    assert_eq!((&edge["state"], &edge["since"]), (&"up".into(), &since), "callers' word ejects nobody");

    // Who is excluded without having been the token's edge is not suspected, nor is one that nobody knows.
    let (begun, before) = (Instant::now(), other.probes());
    while begun.elapsed() < Duration::from_secs(2) {
        renew(&other.id);
        renew("edge-9");
    }
    let probed = other.probes() - before;
    assert!(probed <= 4, "{probed} probes in two seconds and no evidence");
}

#[test]
fn evidence_ejects_an_edge_no_sooner_than_probes_do() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start_with(&edges.iter().collect::<Vec<_>>(), UNBOUND);
    let answer = coordinator.get("/download/a");
    let token = support::token_of(answer.field("location"));
    let at = coordinator.claims(&token).edg.unwrap().into_owned();
    let named = edges.iter().find(|edge| edge.id == at).unwrap();
    let begun = Instant::now();
    named.set(Mood::Dead);
    wait_until("the edge is down", || {
        assert_eq!(coordinator.get(&format!("/renew?token={token}&not={at}")).status, 302);
        coordinator.state_of(&at) == "down"
    });
    // Three misses, each nine tenths of a second after the one before, at least.
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn without_another_edge_callers_are_told_to_come_back() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let answer = coordinator.get("/download/a");
    let token = support::token_of(answer.field("location"));
    let answer = coordinator.get(&format!("/renew?token={token}&not=edge-1"));
    assert!(answer.problem(503).contains("Retry-After"));
    let seconds: u8 = answer.field("retry-after").parse().unwrap();
    assert!((1..=5).contains(&seconds));
    assert_eq!(answer.field("cache-control"), "no-store");
    assert_eq!(coordinator.get("/download/..").status, 400, "the caller's faults come first");
}

#[test]
fn the_first_answer_of_an_edge_decides_at_once() {
    let edge = Edge::start("edge-1");
    let late = Edge::start_in("edge-2", Mood::Dead);
    let coordinator = Coordinator::launch(Setting::new(&[&edge, &late], ""));
    wait_until("the coordinator is ready", || coordinator.ready().status == 200);
    coordinator.wait_for_change("edge-1", "unknown", "up");
    assert_eq!(coordinator.state_of("edge-2"), "down");
    assert_eq!(coordinator.candidates("a"), ["edge-1"]);

    late.set(Mood::Good);
    let seen = late.probes();
    coordinator.wait_for_state("edge-2", "up");
    assert!(late.probes() - seen <= 2, "an edge without a history needs one answer");
}

#[test]
fn before_the_first_probes_are_done_the_coordinator_is_not_ready() {
    let edge = Edge::start_in("edge-1", Mood::Silent);
    let good = Edge::start("edge-2");
    let coordinator = Coordinator::launch(Setting::new(&[&edge, &good], ""));
    wait_until("the silent edge is being asked", || edge.probes() == 1);
    let answer = coordinator.ready();
    // The probe's 900 ms may be over where this machine is slow; then nothing is to be seen.
    if coordinator.state_of("edge-1") == "unknown" {
        assert_eq!(answer.status, 503);
        let reasons = answer.json()["reasons"].clone();
        assert!(reasons.as_array().unwrap().contains(&"first probes not done".into()), "{reasons}");
    }
    wait_until("missing an edge is an answer too", || coordinator.ready().status == 200);
}

#[test]
fn edges_are_probed_about_once_a_second_over_one_connection() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let (begun, seen) = (Instant::now(), edge.probes());
    wait_until("six probes", || edge.probes() >= seen + 6);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(4400), "{took:?}");
    // One, unless this machine stood still for longer than a probe waits.
    assert!(edge.connections() < edge.probes() / 2, "{}", edge.connections());
    assert_eq!(coordinator.state_of("edge-1"), "up");
}
