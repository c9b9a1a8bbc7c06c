//! One target under libFuzzer: the one that `FUZZ_TARGET` names.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls functions by their names, which the macro exports")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::{Target, target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let chosen = target(&name).expect("FUZZ_TARGET is the name of a target");
    let _ = CHOSEN.set(chosen);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        (target.run)(data);
    }
});
