//! Every target over its corpus, and over some thousand mutations of it, always the same ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sluice_fuzz::{TARGETS, target};

const MUTATIONS: usize = 20_000;

/// Marsaglia's xorshift: a few lines, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One or some small changes; half of them with a piece of another input.
fn mutate(mut bytes: Vec<u8>, other: &[u8], chance: &mut Chance) -> Vec<u8> {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.next().to_le_bytes()[0],
            2 => bytes.insert(at, b"\r\n:,-\"=;.%/\0"[chance.below(12)]),
            3 => drop(bytes.drain(at..(at + chance.below(16)).min(bytes.len()))),
            4 => {
                let from = chance.below(other.len() + 1);
                let piece = other[from..(from + chance.below(64)).min(other.len())].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let piece = bytes[at..(at + chance.below(32)).min(bytes.len())].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

fn check(name: &str) {
    let (target, corpus) = (target(name).unwrap(), corpus(name));
    assert!(!corpus.is_empty(), "{name} has a corpus");
    let judge = |bytes: &[u8]| {
        let judged = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        assert!(judged.is_ok(), "{name} breaks at {:?}", String::from_utf8_lossy(bytes));
    };
    corpus.iter().for_each(|bytes| judge(bytes));
    let mut chance = Chance(0x5eed_0f51_01ce);
    for _ in 0..MUTATIONS {
        let (one, other) = (chance.below(corpus.len()), chance.below(corpus.len()));
        judge(&mutate(corpus[one].clone(), &corpus[other], &mut chance));
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    targets.sort();
    assert_eq!(names, targets);
}

#[test]
fn request_heads_hold() {
    check("head");
}

#[test]
fn ranges_and_parts_hold() {
    check("range");
}

#[test]
fn conditions_hold() {
    check("conditional");
}

#[test]
fn tokens_hold() {
    check("jwe");
}

#[test]
fn claims_hold() {
    check("claims");
}

#[test]
fn timed_links_hold() {
    check("timed");
}

#[test]
fn names_hold() {
    check("names");
}
