//! What is shown of edges, of which versions, and how much at most.

use metrics::Counter;
use sluice_shared::cluster::announcement::{AnnouncedLoad, AnnouncedState, FORMAT};
use sluice_shared::cluster::{EdgeRecord, Weight};
use sluice_shared::findings::Level;
use sluice_shared::units::BaseUrl;

use super::*;
use crate::membership::{Answer, Health, Said, UrlFault};
use crate::routing::Edge;

fn status(id: &str, answer: Answer, load: Option<&str>) -> EdgeStatus {
    let url = BaseUrl::parse("http://edge.example:9001").unwrap();
    let record = EdgeRecord {
        id: EdgeId::parse(id).unwrap(),
        url: url.clone(),
        admin_url: url,
        weight: Weight::USUAL,
        zone: "a".to_owned(),
    };
    let mut health = Health::new(UNIX_EPOCH);
    health.observe(answer, UNIX_EPOCH + Duration::from_secs(5));
    EdgeStatus {
        edge: Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() }),
        own_weight: Weight::USUAL,
        health,
        last_probe: None,
        said: load.map(|load| Said::for_test(load, Some(1234.6))),
        url_fault: None,
        skew: None,
        share: 0.123_456,
    }
}

fn announcement(id: &str, load: AnnouncedLoad) -> Announcement {
    Announcement {
        format: FORMAT,
        id: EdgeId::parse(id).unwrap(),
        url: BaseUrl::parse("http://edge.example:9001").unwrap(),
        admin_url: BaseUrl::parse("http://edge.example:9101").unwrap(),
        zone: "a".to_owned(),
        weight: Weight::USUAL,
        state: AnnouncedState::Serving,
        load,
        capacity: None,
        version: "0.0.9".to_owned(),
        instance: "i".to_owned(),
    }
}

fn shown(statuses: &[EdgeStatus], announced: &[Announcement]) -> (Vec<EdgeView>, Totals) {
    edges(statuses, announced, &BTreeMap::new())
}

const TOLD: &str = r#"{"transfers":7,"connections":9,"window_hits":90,"window_misses":10,"storage_stuck":2,
    "version":"0.1.0","body_bytes":5}"#;

#[test]
fn an_edge_tells_of_itself_and_one_that_is_silent_by_its_record() {
    let load =
        AnnouncedLoad { transfers: 3, rate: 50, hits: Some(1), misses: Some(4), ..AnnouncedLoad::default() };
    let announced = [announcement("down", load), announcement("up", load)];
    let statuses = [status("down", Answer::Miss, Some(TOLD)), status("up", Answer::Good, Some(TOLD))];
    let (views, totals) = shown(&statuses, &announced);
    let [down, up] = &views[..] else { panic!("two edges") };
    assert_eq!((up.told_by, up.transfers, up.rate, up.stuck), (Some("edge"), Some(7), Some(1235.0), Some(2)));
    assert_eq!((up.hits, up.misses, up.version.as_deref()), (Some(90), Some(10), Some("0.1.0")));
    assert_eq!((up.share, up.since), (0.1235, 5000));
    assert_eq!(
        (down.told_by, down.transfers, down.rate, down.stuck),
        (Some("record"), Some(3), Some(50.0), None)
    );
    assert_eq!((down.hits, down.connections, down.version.as_deref()), (Some(1), None, Some("0.0.9")));
    assert_eq!((totals.edges, totals.transfers, totals.rate, totals.stuck), (2, 10, 1285.0, 2));
    assert_eq!((totals.states["up"], totals.states["down"], totals.states["draining"]), (1, 1, 0));
}

#[test]
fn what_an_older_edge_does_not_say_is_null_and_not_nothing() {
    let old = r#"{"in_flight_bytes":5}"#;
    let (views, _) =
        shown(&[status("old", Answer::Good, Some(old)), status("silent", Answer::Miss, None)], &[]);
    for view in &views {
        let said = (view.transfers, view.connections, view.hits, view.misses, view.stuck);
        assert_eq!(said, (None, None, None, None, None), "{}", view.id);
        assert_eq!(view.version, None);
    }
    let json = serde_json::to_value(&views[1]).unwrap();
    assert!(json["hits"].is_null() && json["rate"].is_null() && json["told_by"].is_null(), "{json}");
}

#[test]
fn of_thousands_those_that_ail_and_those_with_the_most_to_do_are_shown() {
    let mut statuses: Vec<_> = (0..5000)
        .map(|n| status(&format!("edge-{n:04}"), Answer::Good, Some(&format!("{{\"transfers\":{n}}}"))))
        .collect();
    statuses[17] = status("edge-0017", Answer::Miss, None);
    statuses[18].url_fault = Some(UrlFault::Silent);
    let (views, totals) = shown(&statuses, &[]);
    assert_eq!(views.len(), EDGES_SHOWN_MAX);
    let ids: Vec<&str> = views.iter().map(|view| view.id.as_str()).collect();
    assert_eq!(ids[..3], ["edge-0017", "edge-0018", "edge-4802"]);
    assert!(ids.is_sorted());
    assert_eq!((totals.edges, totals.states["up"], totals.transfers), (5000, 4999, 5000 * 4999 / 2 - 17));
    let bytes = serde_json::to_vec(&views).unwrap().len();
    assert!(bytes < 150_000, "{bytes}");
}

#[test]
fn texts_of_others_are_cut_and_left_as_they_are() {
    let hostile = "<img src=x onerror=alert(1)>";
    let mut edge = status("e", Answer::Good, Some(&format!("{{\"version\":\"{}\"}}", "v".repeat(4000))));
    let mut record = edge.edge.record.clone();
    record.zone = hostile.to_owned();
    edge.edge = Arc::new(Edge { record, picks: Counter::noop(), load: Arc::default() });
    let (views, _) = shown(&[edge], &[]);
    assert_eq!(views[0].zone, hostile, "text is text; the page makes no markup of it");
    assert_eq!(views[0].version.as_ref().unwrap().len(), TEXT_CHARS_MAX);
}

#[test]
fn findings_are_told_the_worst_first_and_so_many() {
    let mut statuses: Vec<_> = (0..200).map(|n| status(&format!("e{n}"), Answer::Miss, None)).collect();
    let mut odd = status("odd", Answer::Good, Some(TOLD));
    odd.url_fault = Some(UrlFault::OtherName);
    let told = findings::of_cluster(&["no live edge"], &["etcd is away"], &[odd], 3);
    let said: Vec<_> = told.iter().map(|finding| (finding.level, finding.found.as_str())).collect();
    assert_eq!(said[0], (Level::Fail, "no live edge"));
    let has = |part: &str| said.iter().any(|(level, found)| *level == Level::Warn && found.contains(part));
    for part in ["etcd is away", "certificate is of another name", "2 operations hang", "3 of them in etcd"] {
        assert!(has(part), "{part} in {said:?}");
    }
    assert!(
        told.iter().filter(|finding| finding.found.contains("odd")).all(|finding| finding.remedy.is_some())
    );
    assert!(findings::of_cluster(&[], &[], &[status("e", Answer::Good, None)], 0).is_empty());
    statuses.push(status("draining", Answer::Draining, None));
    let many = findings::of_cluster(&[], &[], &statuses, 0);
    assert_eq!((many.len(), many.last().unwrap().found.as_str()), (51, "151 findings"));
}
