//! Servers that say what is not so are caught, each by its lie; one that does not is not blamed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::liar::{Liar, Lie};
use harness::{Ended, Harness};

/// The exit status where a server said what was not so.
const WRONG: Option<i32> = Some(3);
const SIZE: u64 = 300_000;

fn scenario(requests: &str) -> String {
    format!(
        "duration = \"1s\"\nwarm_up = \"0s\"\n[load]\nclients = 4\n\
         [[files]]\nname = \"f/{{n}}.bin\"\ncount = 5\nsize = {SIZE}\n{requests}"
    )
}

/// One client: what it sees is in the order in which the server said it.
fn one_client(requests: &str) -> String {
    scenario(requests).replace("clients = 4", "clients = 1")
}

fn against(lie: Lie, requests: &str) -> Ended {
    let liar = Liar::start(lie, SIZE);
    Harness::run(&["--url", &liar.url()]).scenario(&scenario(requests)).end()
}

const WHOLE: &str = "[[requests]]\nkind = \"whole\"\n";
const RANGE: &str = "[[requests]]\nkind = \"range\"\nbytes = 1000\n";
const RESUME: &str = "[[requests]]\nkind = \"resume\"\nafter = 0.5\n";
const ABORT: &str = "[[requests]]\nkind = \"abort\"\nafter = 0.5\n";

#[test]
fn a_server_that_tells_the_truth_is_believed() {
    let report = against(Lie::None, &[WHOLE, RANGE, RESUME, ABORT].concat()).well();
    let tally = &report["tally"];
    for kind in ["whole", "range", "resume", "abort"] {
        assert!(tally["kinds"][kind].is_array(), "{kind}: {}", tally["kinds"]);
    }
    assert!(tally["resumed"].as_u64().unwrap() > 0);
    assert_eq!(tally["wrong"], 0);
}

#[test]
fn a_server_that_tells_the_truth_in_odd_ways_is_not_blamed() {
    let liar = Liar::start(Lie::OddManners, SIZE);
    let text = scenario(&[WHOLE, RANGE, RESUME].concat()) + "[client]\ntries = 100\npause = \"1ms\"\n";
    let report = Harness::run(&["--url", &liar.url()]).scenario(&text).end().well();
    assert!(report["tally"]["breaks"]["status 503"].as_u64().unwrap() > 0);
    assert!(report["tally"]["kinds"]["resume"].is_array());
}

#[test]
fn a_lie_of_the_warm_up_is_told_and_is_one() {
    let liar = Liar::start(Lie::AtFirst, SIZE);
    let text = scenario(WHOLE).replace("warm_up = \"0s\"", "warm_up = \"1s\"");
    let ended = Harness::run(&["--url", &liar.url()]).scenario(&text).end();
    assert_eq!(ended.code, WRONG, "{}", ended.out);
    let (tally, warm_up) = (&ended.report["tally"], &ended.report["warm_up"]);
    assert_eq!((&tally["wrong"], &warm_up["wrong"]), (&0.into(), &5.into()));
    assert_eq!(warm_up["failures"]["wrong bytes"], 5);
    assert!(ended.out.contains("failed in the warm-up: 5 × wrong bytes"), "{}", ended.out);
    assert!(ended.out.contains("5 ANSWERS WERE WRONG, 5 OF THEM IN THE WARM-UP"), "{}", ended.out);
    assert!(ended.page.contains("in the warm-up: whole of f/"));
}

#[test]
fn one_wrong_byte_of_a_thousand_million_is_found() {
    let every = 1_000_000_000;
    let liar = Liar::start(Lie::OneByteIn(every), 4 << 20);
    let scenario = "duration = \"120s\"\nwarm_up = \"0s\"\n[load]\nclients = 2\n\
                    [[files]]\nname = \"f/{n}.bin\"\ncount = 2\nsize = \"4MiB\"\n";
    let mut running = Harness::new(&["run", "--json-lines", "--report", "{}/report", "--url", &liar.url()])
        .scenario(scenario)
        .start();
    let seen = running.wait_for(|line| line["wrong"].as_u64().is_some_and(|wrong| wrong > 0));
    running.signal(rustix::process::Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, WRONG, "{seen}");
    let fault = ended.report["tally"]["faults"][0].as_str().unwrap();
    assert!(ended.failures("wrong bytes") >= 1 && fault.contains("should be"), "{fault}");
    let received = ended.report["tally"]["bytes"].as_u64().unwrap();
    let wrong = ended.report["tally"]["wrong"].as_u64().unwrap();
    assert!(received > 900_000_000 && wrong <= received / every + 1, "{wrong} wrong in {received}");
}

#[test]
fn a_body_that_is_cut_is_found() {
    for requests in [WHOLE, RANGE] {
        let ended = against(Lie::Truncated, requests);
        assert!(ended.failures("body cut short") > 0, "{}", ended.out);
        assert_eq!(ended.report["tally"]["ended"], 0);
    }
}

#[test]
fn a_file_of_another_length_is_found() {
    let ended = against(Lie::Shorter, WHOLE);
    assert_eq!(ended.code, Some(1), "nothing was downloaded: {}", ended.out);
    assert!(ended.failures("wrong length") > 0, "{}", ended.out);
}

#[test]
fn another_range_is_found_whether_it_is_admitted_or_not() {
    for (lie, reason) in
        [(Lie::OtherRange, "wrong range"), (Lie::OtherBytes, "wrong bytes"), (Lie::WholeFile, "wrong status")]
    {
        for requests in [RANGE, RESUME] {
            let ended = against(lie, &[requests, WHOLE].concat());
            assert_eq!(ended.code, WRONG, "{lie:?}: {}", ended.out);
            assert!(ended.failures(reason) > 0, "{lie:?}: {}", ended.out);
        }
    }
}

#[test]
fn an_etag_that_changes_is_found_between_ranges_and_between_downloads() {
    for requests in [RESUME, WHOLE] {
        let liar = Liar::start(Lie::OtherEtag, SIZE);
        let ended = Harness::run(&["--url", &liar.url()]).scenario(&one_client(requests)).end();
        assert!(ended.failures("ETag changed") > 0, "{}", ended.out);
        let fault = ended.report["tally"]["faults"][0].as_str().unwrap();
        assert!(fault.contains("from \"0\" to \"1\""), "{fault}");
    }
}

#[test]
fn what_one_thread_was_told_is_held_against_what_another_is() {
    let liar = Liar::start(Lie::EtagByConnection, SIZE);
    // Each thread has one client, and so one connection.
    let text = scenario(WHOLE).replace("clients = 4", "clients = 2");
    let ended = Harness::run(&["--threads", "2", "--url", &liar.url()]).scenario(&text).end();
    assert!(ended.failures("ETag changed") > 0, "{}", ended.out);
}

#[test]
fn a_manifest_s_hash_is_held_against_what_comes_whole_or_in_parts() {
    use sha2::{Digest as _, Sha256};
    use sluice_loadtest::Content;
    let hash = |name: &str, content: &str| {
        let digest = Sha256::digest(Content::new(content, SIZE).bytes(0..SIZE));
        format!("{}  {name}\n", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let text =
        format!("duration = \"1s\"\nwarm_up = \"0s\"\n[[files]]\nmanifest = \"SHA256SUMS\"\n{WHOLE}{RESUME}");
    for (lie, content, code) in
        [(Lie::None, "a.bin", Some(0)), (Lie::None, "other", Some(1)), (Lie::Empty, "a.bin", Some(1))]
    {
        let liar = Liar::start(lie, SIZE);
        let harness = Harness::run(&["--url", &liar.url()]);
        harness.write("SHA256SUMS", &hash("a.bin", content));
        let ended = harness.scenario(&text).end();
        assert_eq!(ended.code, code, "{lie:?}, {content}: {}", ended.out);
        assert_eq!(ended.failures("wrong SHA-256") > 0, code == Some(1), "{lie:?}, {content}: {}", ended.out);
    }
}

#[test]
fn a_file_of_unknown_size_comes_whole_and_is_held_to_its_hash_whatever_is_asked() {
    let liar = Liar::start(Lie::None, SIZE);
    let harness = Harness::run(&["--url", &liar.url()]);
    harness.write("SHA256SUMS", &format!("{}  a.bin\n", "00".repeat(32)));
    let text =
        format!("duration = \"500ms\"\nwarm_up = \"0s\"\n[[files]]\nmanifest = \"SHA256SUMS\"\n{RANGE}");
    let ended = harness.scenario(&text).end();
    assert!(ended.code == WRONG && ended.failures("wrong SHA-256") > 0, "{}", ended.out);
}

#[test]
fn a_content_that_is_to_stay_the_same_is_held_to_its_first_download() {
    let text = format!(
        "duration = \"1s\"\nwarm_up = \"0s\"\n[load]\nclients = 1\n\
         [[files]]\nname = \"a.bin\"\ncontent = \"constant\"\n{WHOLE}{RANGE}"
    );
    let liar = Liar::start(Lie::OneByteIn(SIZE * 5), SIZE);
    let ended = Harness::run(&["--url", &liar.url()]).scenario(&text).end();
    assert_eq!(ended.code, WRONG, "{}", ended.out);
    assert!(ended.failures("wrong SHA-256") > 0, "{}", ended.out);
    let liar = Liar::start(Lie::None, SIZE);
    Harness::run(&["--url", &liar.url()]).scenario(&text).end().well();
}
