//! Claims about who is on the list.

use super::*;
use crate::cluster::Weight;
use crate::etcd::Entry;

const GRACE: Duration = Duration::from_secs(30);

fn rules(patterns: &[&str], weight_sum_max: u32) -> EtcdRegistryRules {
    let allow_urls = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    EtcdRegistryRules { allow_urls, weight_sum_max }
}

fn census() -> Census {
    Census::new(&[], rules(&["http://*.edges.example:9001"], 10_000), GRACE)
}

fn record(id: &str, state: &str) -> String {
    format!(
        r#"{{"id":"{id}","url":"http://{id}.edges.example:9001","admin_url":"http://{id}.edges.example:9101",
            "state":"{state}","instance":"i"}}"#
    )
}

fn contents(records: &[(&str, &str)]) -> Contents {
    let entry =
        |value: &str| Entry { value: value.as_bytes().into(), create_revision: 1, mod_revision: 1, lease: 1 };
    let entries = records.iter().map(|(key, value)| (Arc::from(*key), entry(value))).collect();
    let mut contents = Contents::default();
    (contents.entries, contents.is_known) = (entries, true);
    contents
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    assert!(outcome.edges.is_sorted_by(|a, b| a.id < b.id));
    outcome.edges.iter().map(|edge| edge.id.as_str()).collect()
}

#[test]
fn an_edge_that_says_goodbye_is_gone_at_once() {
    let (mut census, now) = (census(), Instant::now());
    let (one, two) = (record("one", "serving"), record("two", "serving"));
    assert_eq!(ids(&census.take(&contents(&[("one", &one), ("two", &two)]), now)), ["one", "two"]);
    let leaving = record("one", "draining");
    let outcome = census.take(&contents(&[("one", &leaving), ("two", &two)]), now);
    assert_eq!(ids(&outcome), ["two"], "by its word, though its record is there");
    let outcome = census.take(&contents(&[("two", &two)]), now);
    assert_eq!((ids(&outcome), outcome.next), (vec!["two"], None));
    // Said and gone before anybody looked.
    let mut gone = contents(&[]);
    gone.removed = contents(&[("two", &record("two", "draining"))]).entries;
    let outcome = census.take(&gone, now);
    assert!(ids(&outcome).is_empty() && outcome.next.is_none());
}

#[test]
fn edges_that_vanish_without_a_word_stay_for_a_while() {
    let (mut census, now) = (census(), Instant::now());
    let (one, two) = (record("one", "serving"), record("two", "serving"));
    census.take(&contents(&[("one", &one), ("two", &two)]), now);
    // All at once, as when etcd lost its data.
    let outcome = census.take(&contents(&[]), now);
    assert_eq!((ids(&outcome), outcome.next), (vec!["one", "two"], Some(now + GRACE)));
    let outcome = census.take(&contents(&[("one", &one)]), now + GRACE / 2);
    assert_eq!(ids(&outcome), ["one", "two"]);
    let outcome = census.take(&contents(&[("one", &one)]), now + GRACE);
    assert_eq!((ids(&outcome), outcome.next), (vec!["one"], None));
}

#[test]
fn before_etcd_has_answered_only_the_configuration_s_edges_are_known() {
    let fixed = Announcement::parse("fix", record("fix", "serving").as_bytes()).unwrap().record();
    let mut census = Census::new(&[fixed], rules(&["http://*.edges.example:9001"], 10_000), GRACE);
    let (one, fix) = (record("one", "serving"), record("fix", "serving"));
    assert_eq!(ids(&census.take(&Contents::default(), Instant::now())), ["fix"]);
    let outcome = census.take(&contents(&[("one", &one), ("fix", &fix)]), Instant::now());
    assert_eq!(ids(&outcome), ["fix", "one"]);
    assert!(outcome.skipped[0].key == "fix" && outcome.skipped[0].fault.contains("registry.edges"));
}

#[test]
fn records_that_are_not_taken_are_named_and_harm_no_other() {
    let mut census = census();
    let elsewhere = record("two", "serving").replace("two.edges.example:9001", "evil.example:9001");
    let inside = record("three", "serving").replace("three.edges.example:9101", "169.254.169.254");
    let huge = record("four", "serving")
        .replace("\"instance\":\"i\"", &format!("\"instance\":\"{}\"", "x".repeat(99)));
    let quoting = record("five", "serving").replace("\"id\":\"five\"", "\"id\":\"\\u001b[31m\"");
    let one = record("one", "serving");
    let outcome = census.take(
        &contents(&[
            ("one", &one),
            ("two", &elsewhere),
            ("three", &inside),
            ("four", &huge),
            ("five", &quoting),
            ("six", &one),
            ("seven", "[]"),
        ]),
        Instant::now(),
    );
    assert_eq!(ids(&outcome), ["one"]);
    let fault = |key: &str| &outcome.skipped.iter().find(|skipped| skipped.key == key).unwrap().fault;
    assert!(fault("two").contains("http://evil.example:9001 matches no pattern of registry.allow_urls"));
    assert!(fault("three").contains("admin_url http://169.254.169.254"));
    assert!(fault("four").contains("its instance"));
    assert!(fault("five").chars().all(|character| !character.is_control()));
    assert!(fault("six").contains("of 'one'"));
    assert!(fault("seven").contains("no record"));
    assert_eq!(outcome.skipped.len(), 6);
}

#[test]
fn without_patterns_nobody_is_taken() {
    let mut census = Census::new(&[], rules(&[], 10_000), GRACE);
    let one = record("one", "serving");
    assert!(ids(&census.take(&contents(&[("one", &one)]), Instant::now())).is_empty());
}

#[test]
fn weights_beyond_the_bound_are_left_out_by_name() {
    let mut census = Census::new(&[], rules(&["http://*.edges.example:9001"], 250), GRACE);
    let records = ["a", "b", "c"].map(|id| record(id, "serving"));
    let all: Vec<_> = ["a", "b", "c"].into_iter().zip(records.iter().map(String::as_str)).collect();
    let outcome = census.take(&contents(&all), Instant::now());
    assert_eq!(ids(&outcome), ["a", "b"]);
    assert!(outcome.skipped[0].fault.contains("weight of 100"), "{}", outcome.skipped[0].fault);
    assert_eq!(outcome.edges[0].weight, Weight::USUAL);
}

#[test]
fn each_zone_has_a_bound_of_its_own() {
    let zones = ["x", "x", "x", "y", "y", "y"];
    let ids_of_all = ["a", "b", "c", "d", "e", "f"];
    let records: Vec<_> = std::iter::zip(ids_of_all, zones)
        .map(|(id, zone)| record(id, "serving").replace('}', &format!(r#","zone":"{zone}"}}"#)))
        .collect();
    let all: Vec<_> = ids_of_all.into_iter().zip(records.iter().map(String::as_str)).collect();
    let mut fixed = Announcement::parse("a", records[0].as_bytes()).unwrap().record();
    fixed.id = EdgeId::parse("fixed").unwrap();
    let mut census = Census::new(&[fixed], rules(&["http://*.edges.example:9001"], 250), GRACE);
    let outcome = census.take(&contents(&all), Instant::now());
    assert_eq!(ids(&outcome), ["a", "d", "e", "fixed"]);
}

#[test]
fn a_record_that_goes_bad_takes_its_edge_off_and_one_that_mends_brings_it_back() {
    let (mut census, now) = (census(), Instant::now());
    let one = record("one", "serving");
    census.take(&contents(&[("one", &one)]), now);
    let outcome = census.take(&contents(&[("one", "{}")]), now);
    assert!(ids(&outcome).is_empty() && outcome.skipped.len() == 1);
    let outcome = census.take(&contents(&[("one", &one)]), now);
    assert!(ids(&outcome) == ["one"] && outcome.skipped.is_empty());
}
