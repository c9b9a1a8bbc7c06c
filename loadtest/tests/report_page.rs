//! The report as a browser shows it: whole without a network, quiet, and readable by day, by night and on a telephone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::Harness;
use serde_json::Value;
use sluice_loadtest::tool;

/// A cluster that something happens to, so that the page has everything that a page can have.
const SCENARIO: &str = "duration = \"4s\"\nwarm_up = \"500ms\"\n[load]\nmodel = \"open\"\nrate = 50.0\n\
    [client]\ntries = 100\nsilence_max = \"500ms\"\n\
    [[files]]\nname = \"f/{n}.bin\"\ncount = 20\nsize = [\"1KiB\", \"256KiB\"]\n\
    [[requests]]\nweight = 3\n[[requests]]\nkind = \"range\"\n[[requests]]\nkind = \"abort\"\n";
const FAULTS: &str = "[[faults]]\nat = \"1s\"\naction = \"freeze\"\nwho = \"edge-1\"\n\
    [[faults]]\nat = \"2s\"\naction = \"thaw\"\nwho = \"edge-1\"\n";

/// Light and dark, as one number each.
fn brightness(colour: &Value) -> f64 {
    let text = colour.as_str().unwrap();
    let numbers = text.trim_start_matches("rgb(").trim_end_matches(')').split(", ");
    numbers.map(|number| number.parse::<f64>().unwrap()).sum::<f64>() / 3.0
}

#[test]
fn the_report_is_shown_without_a_network_by_day_and_by_night() {
    let harness =
        Harness::new(&["cluster", "--root", "{}/files", "--edges", "2", "--faults", "{}/faults.toml"])
            .argument("--")
            .argument("--quiet");
    let path = |name: &str| harness.folder.path().join(name).to_str().unwrap().to_owned();
    let (scenario, report) = (path("scenario.toml"), path("report"));
    harness.write("scenario.toml", SCENARIO);
    harness.write("faults.toml", FAULTS);
    let ended =
        harness.argument("--scenario").argument(&scenario).argument("--report").argument(&report).end();
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    std::fs::write(&page, &ended.page).unwrap();
    ended.well();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/page.py");
    let mut command = Command::new(tool::python().unwrap());
    command.arg(script).arg("chromium").arg(format!("file://{}", page.display())).arg(folder.path());
    let said = tool::complete(&mut command).unwrap();
    let seen: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 2, "{said}");
    for page in &seen {
        assert_eq!(page["requests"], Value::Array(vec![]), "it asks for nothing besides itself");
        assert_eq!(page["console"], Value::Array(vec![]), "the console is quiet");
        assert_eq!(page["beyond"], 0, "nothing is wider than a telephone");
        let contrast = (brightness(&page["background"]) - brightness(&page["text"])).abs();
        assert!(contrast > 150.0, "the text can be read: {page}");
    }
    assert!(brightness(&seen[0]["background"]) > 200.0, "light: {}", seen[0]);
    assert!(brightness(&seen[1]["background"]) < 60.0, "dark: {}", seen[1]);
    for scheme in ["light.png", "dark.png"] {
        let picture = std::fs::read(folder.path().join(scheme)).unwrap();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{scheme} shows something");
        // To be looked at by whoever wants to.
        if let Some(kept) = std::env::var_os("LOADTEST_PICTURES") {
            std::fs::copy(folder.path().join(scheme), Path::new(&kept).join(scheme)).unwrap();
        }
    }
}
