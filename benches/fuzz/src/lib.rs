//! Fuzz targets: what strangers' bytes go through first. A target takes any bytes, and panics where what came of them
//! breaks a promise. `src/main.rs` runs one under libFuzzer (`make fuzz`), `tests/smoke.rs` all of them over the corpus
//! and over mutations of it (`make test`).

#![allow(clippy::panic, reason = "what is found is told by panicking")]

mod conditional;
mod head;
mod names;
mod range;
mod token;

/// A way in for strangers' bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of its folder in the corpus, too.
    pub name: &'static str,
    /// # Panics
    /// A promise is broken: a fault was found.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "head", run: head::run },
    Target { name: "range", run: range::run },
    Target { name: "conditional", run: conditional::run },
    Target { name: "jwe", run: token::jwe },
    Target { name: "claims", run: token::claims },
    Target { name: "timed", run: token::timed },
    Target { name: "names", run: names::run },
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
