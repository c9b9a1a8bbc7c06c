use std::collections::BTreeMap;

use super::*;
use crate::generator::Generator;
use crate::histogram::Times;
use crate::machine::Machine;
use crate::summary::{FORMAT, Figures, Interval, Part, Stretch};
use crate::tally::{Server, Tally};

const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{202e}\x1b[2J";

fn summary() -> Summary {
    let latency = Times::of_pairs((1..=1000).map(|n| (n * 37, 1)));
    let tally = Tally {
        ended: 1000,
        failed: 7,
        latency: latency.clone(),
        first_byte: latency.clone(),
        failures: BTreeMap::from([(HOSTILE.to_owned(), 7)]),
        faults: vec![HOSTILE.to_owned()],
        servers: BTreeMap::from([
            (HOSTILE.to_owned(), Server { ended: 400, failed: 7, latency: latency.clone() }),
            ("127.0.0.1:9001".to_owned(), Server { ended: 600, failed: 0, latency: latency.clone() }),
        ]),
        kinds: BTreeMap::from([("whole".to_owned(), latency.clone()), (HOSTILE.to_owned(), latency.clone())]),
        ..Tally::default()
    };
    let interval = |at: u32, stretch| Interval {
        stretch,
        from: f64::from(at),
        seconds: 1.0,
        begun: 500,
        ended: 500 - u64::from(at) * 10,
        failed: u64::from(at),
        bytes: 1 << 20,
        latency: latency.clone(),
        servers: BTreeMap::new(),
    };
    let mut summary = Summary {
        format: FORMAT,
        began: "2026-11-25T03:36:12Z".to_owned(),
        target: vec![format!("http://{HOSTILE}")],
        server_version: Some(HOSTILE.to_owned()),
        scenario: format!("# {HOSTILE}\nduration = \"2s\"\n"),
        said: vec![HOSTILE.to_owned()],
        seconds_wanted: 2.0,
        seconds: 2.0,
        figures: Figures::default(),
        generators: vec![Part::new(
            Machine { name: HOSTILE.to_owned(), cores: 2, ..Machine::default() },
            Generator { busiest: 0.99, threads: 2, ..Generator::default() },
            &tally,
        )],
        lost: BTreeMap::from([(HOSTILE.to_owned(), HOSTILE.to_owned())]),
        faults: vec![(1.5, HOSTILE.to_owned())],
        intervals: vec![
            interval(0, Stretch::WarmUp),
            interval(1, Stretch::Measured),
            interval(2, Stretch::Measured),
            interval(3, Stretch::Drain),
        ],
        tally,
        warm_up: Tally {
            failed: 3,
            wrong: 3,
            failures: BTreeMap::from([("wrong bytes".to_owned(), 3)]),
            faults: vec![HOSTILE.to_owned()],
            ..Tally::default()
        },
    };
    summary.figure();
    summary
}

/// Every tag that is opened is closed in its order, as far as HTML asks for it.
fn assert_is_balanced(page: &str) {
    let mut open = Vec::new();
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    for (at, _) in page.match_indices('<').filter(|(at, _)| !style.contains(at) || *at == style.start) {
        let tag = &page[at + 1..at + page[at..].find('>').unwrap()];
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        match tag {
            _ if matches!(name, "!doctype" | "meta" | "circle" | "polyline" | "rect") => {}
            _ if tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "at {}", &page[at..at + 40]),
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_is_whole_and_what_is_hostile_is_only_text() {
    let page = html::page(&summary());
    assert_is_balanced(&page);
    assert!(!page.contains("<script") && !page.contains('\x1b') && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    // Nothing is fetched.
    for word in ["src=", "href=", "url(", "@import", "<link"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf "));
    for what in ["The generator was the limit", "p99.9", "Throughput over time", "prefers-color-scheme: dark"]
    {
        assert!(page.contains(what), "{what}");
    }
}

#[test]
fn a_run_in_which_nothing_happened_is_a_page_too() {
    let mut empty = summary();
    (empty.tally, empty.intervals) = (Tally::default(), Vec::new());
    empty.figure();
    let page = html::page(&empty);
    assert_is_balanced(&page);
    assert!(page.contains("No download ended well") && !page.contains("NaN"));
}

#[test]
fn a_terminal_is_told_nothing_that_moves_its_cursor() {
    let told = text(&summary());
    assert!(told.contains("WAS THE LIMIT"), "{told}");
    assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
}

#[test]
fn a_rate_is_of_the_downloads_that_are_named_beside_it() {
    let told = text(&summary());
    assert!(told.contains("970 downloads in 2.0 s: 485/s") && told.contains("30 more ended"), "{told}");
}

#[test]
fn what_went_wrong_in_the_warm_up_is_told_as_such() {
    let (told, page) = (text(&summary()), html::page(&summary()));
    assert!(told.contains("failed in the warm-up: 3 × wrong bytes"), "{told}");
    assert!(told.contains("3 ANSWERS WERE WRONG, 3 OF THEM IN THE WARM-UP"), "{told}");
    assert!(page.contains("3 answers were wrong</strong>, 3 of them in the warm-up"));
    assert!(page.contains("wrong bytes</th><td>0</td><td>0</td><td>3</td>"));
}

#[test]
fn each_machine_is_late_by_itself() {
    let mut whole = summary();
    let tally = Tally { lateness: Times::of_pairs([(7_000, 10)]), ..Tally::default() };
    whole.generators.push(Part::new(Machine::default(), Generator::default(), &tally));
    whole.tally.lateness = tally.lateness;
    let page = html::page(&whole);
    assert_eq!(page.matches("<td>7.00 ms</td></tr>").count(), 1);
}

#[test]
fn a_generator_that_measured_nothing_did_not_keep_up() {
    let mut empty = summary();
    empty.generators = vec![Part::new(Machine::default(), Generator::default(), &Tally::default())];
    empty.figure();
    let (told, page) = (text(&empty), html::page(&empty));
    assert!(told.contains("measured nothing") && page.contains("Nothing was measured"), "{told}");
    assert!(!told.contains("kept up") && !page.contains("kept up"), "{told}");
}

#[test]
fn what_is_written_is_read_back() {
    let (folder, summary) = (tempfile::tempdir().unwrap(), summary());
    write(&summary, folder.path()).unwrap();
    let json = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert_eq!(Summary::parse(&json).unwrap(), summary);
    let other = json.replace("{\"format\":1,", "{\"format\":2,");
    assert!(Summary::parse(&other).unwrap_err().to_string().contains("format"));
}

#[test]
fn parts_of_a_run_add_up() {
    let (mut whole, part) = (summary(), summary());
    whole.add(&part);
    assert_eq!((whole.tally.ended, whole.tally.latency.count()), (2000, 2000));
    assert_eq!((whole.generators.len(), whole.intervals.len()), (2, 4));
    assert!((whole.figures.downloads_per_second - 2.0 * part.figures.downloads_per_second).abs() < 1e-9);
    assert_eq!(whole.figures.latency, part.figures.latency);
}
