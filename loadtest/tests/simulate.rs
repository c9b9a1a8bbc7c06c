//! The simulation: what it writes, and that it can be repeated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn simulate(seed: &str, folder: &Path) -> Value {
    let file = folder.join(format!("{seed}.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-loadtest"));
    command.args(["simulate", "--edges", "40", "--zones", "2", "--rate", "100", "--seconds", "3"]);
    let ended = command.args(["--files", "1000000", "--seed", seed, "--json"]).arg(&file).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8(ended.stdout).unwrap().contains("max/mean"));
    let svg = std::fs::read_to_string(file.with_extension("svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Without what is measured in real time and memory.
fn simulated(mut results: Value) -> Value {
    let measured = ["pick_ns", "build_ms", "rebuild_ms", "rebuild_ms_of_state", "rss_bytes"];
    let fields = results.as_object_mut().unwrap();
    assert!(measured.iter().all(|name| fields.remove(*name).unwrap().as_f64().unwrap() > 0.0));
    results
}

#[test]
fn equal_seeds_give_equal_results_and_files_move_no_more_than_they_must() {
    let folder = tempfile::tempdir().unwrap();
    let one = simulated(simulate("7", folder.path()));
    assert_eq!(one, simulated(simulate("7", folder.path())));
    assert_ne!(one["phases"], simulated(simulate("8", folder.path()))["phases"]);
    let number = |name: &str| one[name].as_f64().unwrap();
    assert!(number("moved_fraction") <= 1.2 * number("ideal_moved_fraction"));
    assert_eq!((number("needlessly_moved_fraction"), number("moved_by_flapping_fraction")), (0.0, 0.0));
    assert!((1.0..1.35).contains(&number("max_over_mean_load")), "{one}");
}
