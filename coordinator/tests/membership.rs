//! Which edges get requests: the coordinator's own probes decide.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::{Coordinator, Edge, Mood, Setting, wait_until};

/// Files enough that every edge of three is first for some.
fn placements(coordinator: &Coordinator) -> BTreeMap<String, Vec<String>> {
    let files = (0..60).map(|number| format!("{number}.bin"));
    files.map(|file| (file.clone(), coordinator.candidates(&file))).collect()
}

#[test]
fn a_dead_edges_files_go_to_their_first_alternate_and_come_back() {
    let edges = Edge::several(3);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
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
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    edges[0].script(&[Mood::Draining]);
    coordinator.wait_for_change("edge-1", "up", "draining");
    coordinator.wait_for_change("edge-1", "draining", "up");

    edges[0].set(Mood::Draining);
    wait_until("every file goes to the other edge", || {
        placements(&coordinator).values().all(|c| *c == ["edge-2"])
    });
    assert_eq!(coordinator.state_of("edge-1"), "draining");
    assert_eq!(coordinator.metric("sluice_edges{state=\"draining\"}"), 1.0);
    assert_eq!(coordinator.metric("sluice_ring_share{edge=\"edge-1\"}"), 0.0);
    assert_eq!(coordinator.metric("sluice_ring_share{edge=\"edge-2\"}"), 1.0);
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
fn without_a_live_edge_callers_are_told_to_come_back() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    edge.set(Mood::Dead);
    wait_until("the coordinator is not ready", || coordinator.ready().status == 503);
    assert_eq!(
        coordinator.ready().json(),
        serde_json::json!({ "ready": false, "reasons": ["no live edge"] })
    );
    for target in ["/api/request-download?file_id=a&user_id=u", "/download/a"] {
        let answer = coordinator.get(target);
        assert!(answer.problem(503).contains("Retry-After"));
        let seconds: u8 = answer.field("retry-after").parse().unwrap();
        assert!((1..=5).contains(&seconds));
        assert_eq!(answer.field("cache-control"), "no-store");
    }
    assert_eq!(coordinator.get("/download/..").status, 400, "the caller's faults come first");
    edge.set(Mood::Good);
    wait_until("requests are served again", || coordinator.get("/download/a").status == 302);
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
