//! Random changes of random files over a store that is late and fails at random, read in random parts at random times:
//! whatever arrives whole is one version's, and one entity tag stands for one version.
//!
//! A run is told apart by its seed, which a failure names; `LOADTEST_SEED` repeats it, as far as threads allow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sluice_loadtest::client::Answer;
use sluice_loadtest::content::Mismatch;
use sluice_loadtest::faulty_store::{Errno, Manner, Which};
use sluice_loadtest::{Content, wait_until};
use support::{MIB, Rig};

/// Not direct alone: see [`Manner::direct`].
const MANNERS: [Manner; 4] = [
    Manner { direct: false, refuses_direct: false, asynchronous: false },
    Manner { direct: false, refuses_direct: false, asynchronous: true },
    Manner { direct: false, refuses_direct: true, asynchronous: false },
    Manner { direct: true, refuses_direct: false, asynchronous: true },
];

const FILES: usize = 6;
const READERS: u64 = 6;
/// Each run is with a store of another manner.
const RUNS: u64 = 3;
const LASTS: Duration = Duration::from_secs(4);

/// Sizes that the edge treats apart.
fn random_size(random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        0 => random.random_range(0..8192),
        1 => random.random_range(8192..=65_536),
        2 => random.random_range(65_537..2 * MIB),
        _ => random.random_range(2 * MIB..9 * MIB),
    }
}

/// One file: everything that it has ever been.
struct Story {
    name: String,
    /// Number of the content, and its size. A content that is appended to or truncated keeps its number.
    versions: Mutex<Vec<(u64, u64)>>,
    /// Which of them an entity tag was seen with.
    tags: Mutex<HashMap<String, (u64, u64)>>,
}

impl Story {
    fn content(&self, (number, size): (u64, u64)) -> Content {
        Content::version(&self.name, number, size)
    }

    fn latest(&self) -> (u64, u64) {
        *self.versions.lock().unwrap().last().unwrap()
    }

    /// To be told before anybody can see it.
    fn next(&self, version: (u64, u64)) -> Content {
        self.versions.lock().unwrap().push(version);
        self.content(version)
    }

    /// The version that these bytes are a part of; else what is wrong with each that comes into question.
    fn version_of(&self, total: u64, start: u64, bytes: &[u8]) -> Result<(u64, u64), Vec<(u64, Mismatch)>> {
        let versions = self.versions.lock().unwrap().clone();
        let mut faults = Vec::new();
        for version in versions.into_iter().rev().filter(|(_, size)| *size == total) {
            match self.content(version).check(start, bytes) {
                Ok(()) => return Ok(version),
                Err(fault) => faults.push((version.0, fault)),
            }
        }
        Err(faults)
    }

    /// Judges a body that arrived whole.
    fn judge(&self, answer: &Answer, asked: Option<&Range<u64>>) -> Result<(), String> {
        let length = answer.body.len() as u64;
        let (start, total) = match answer.status() {
            200 => (0, length),
            206 => {
                let field = answer.field("content-range").unwrap();
                let (range, total) = field.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
                (range.split_once('-').unwrap().0.parse().unwrap(), total.parse().unwrap())
            }
            other => return Err(format!("status {other}: {}", answer.text())),
        };
        if answer.status() == 206
            && asked.is_none_or(|asked| asked.start != start || asked.end.min(total) != start + length)
        {
            return Err(format!("{asked:?} was asked for, and {length} bytes came from {start} on"));
        }
        let version = self.version_of(total, start, &answer.body).map_err(|faults| {
            format!("{length} bytes from {start} on of {total} are no version's: {faults:?}")
        })?;
        // A few bytes may be those of two versions.
        if length < 16 {
            return Ok(());
        }
        let tag = answer.field("etag").unwrap().to_owned();
        match *self.tags.lock().unwrap().entry(tag.clone()).or_insert(version) {
            known if known == version => Ok(()),
            known => Err(format!("{tag} stands for {known:?} and for {version:?}")),
        }
    }
}

struct World {
    seed: u64,
    manner: Manner,
    rig: Rig,
    stories: Vec<Story>,
    is_over: AtomicBool,
    whole: AtomicU64,
    short: AtomicU64,
    refused: AtomicU64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let manner = MANNERS[random.random_range(0..MANNERS.len())];
        let story = |file| Story {
            name: format!("folder-{}/{file}.bin", file % 2),
            versions: Mutex::new(vec![(0, random_size(&mut random))]),
            tags: Mutex::default(),
        };
        let stories: Vec<_> = (0..FILES).map(story).collect();
        let files = stories.iter().map(|story| (story.name.clone(), story.latest().1));
        let rig = Rig::start_in(manner, files, |settings| {
            settings.cache("32MiB").toml("cache.revalidate = \"20ms\"")
        });
        let (whole, short, refused) = Default::default();
        Self { seed, manner, rig, stories, is_over: AtomicBool::new(false), whole, short, refused }
    }

    fn random(&self, of: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (of << 32))
    }

    fn story(&self, random: &mut StdRng) -> &Story {
        &self.stories[random.random_range(0..FILES)]
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Changes files, each change at once: what a file is between two of its versions is nobody's to see.
    fn change_files(&self) {
        let mut random = self.random(1);
        // Every version has a modification time of its own, as the files of one who waits a tick have.
        let mut modified = SystemTime::now() - Duration::from_secs(100_000);
        while self.goes_on() {
            thread::sleep(Duration::from_millis(random.random_range(5..40)));
            modified += Duration::from_secs(1);
            let story = self.story(&mut random);
            let path = self.rig.source().join(&story.name);
            let (number, size) = story.latest();
            match random.random_range(0..4) {
                0 => {
                    let longer = story.next((number, size + random.random_range(1..100_000)));
                    self.rewrite(&path, size, &longer, modified);
                }
                1 if size > 1 => {
                    let shorter = story.next((number, random.random_range(1..size)));
                    self.rewrite(&path, shorter.size(), &shorter, modified);
                }
                2 => {
                    let other = story.next((number + 1, random_size(&mut random)));
                    self.rewrite(&path, 0, &other, modified);
                }
                _ => {
                    let other = story.next((number + 1, random_size(&mut random)));
                    self.rig.publish(&story.name, &other);
                }
            }
        }
    }

    /// Makes a file another in place, from a place on.
    fn rewrite(&self, path: &PathBuf, from: u64, content: &Content, modified: SystemTime) {
        use std::os::unix::fs::FileExt as _;
        let bytes = content.bytes(from..content.size());
        self.rig.store.change(|| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&bytes, from).unwrap();
            file.set_len(content.size()).unwrap();
            file.set_modified(modified).unwrap();
        });
    }

    /// Holds, delays and spoils what is asked of the store, a little while each.
    fn disturb_store(&self) {
        let (mut random, store) = (self.random(2), &self.rig.store);
        while self.goes_on() {
            thread::sleep(Duration::from_millis(random.random_range(1..30)));
            let name = self.story(&mut random).name.clone();
            let offset = random.random_range(0..4 * MIB);
            let some = Which::that({
                let name = name.clone();
                move |asked| asked.path == name && asked.offset >= offset
            });
            match random.random_range(0..10) {
                0 => store.hold_reads(some),
                1 => store.hold_reads(""),
                2 => store.hold_attributes(name.as_str()),
                3 => store.hold_opens(name.as_str()),
                4 => store.hold_lookups(name.as_str()),
                5 => store.delay(Duration::from_micros(random.random_range(0..4000))),
                6 => store.fail_next_reads(1, some, Errno::EIO),
                7 => store.fail_next_reads(1, some, Errno::ESTALE),
                // What is short in the page cache is filled up with zeros.
                8 if self.manner.direct => {
                    store.shorten_next_reads(1, some, random.random_range(0..50_000));
                }
                _ => {}
            }
            thread::sleep(Duration::from_millis(random.random_range(0..40)));
            for _ in 0..random.random_range(0..4) {
                store.release_one();
            }
            store.release();
        }
        store.release();
        store.delay(Duration::ZERO);
        store.mend();
    }

    fn read_files(&self, reader: u64) {
        let mut random = self.random(10 + reader);
        while self.goes_on() {
            let story = self.story(&mut random);
            let size = story.latest().1;
            let range = random.random_bool(0.7).then(|| {
                let start = random.random_range(0..size.max(1));
                start..start + random.random_range(1..=3 * MIB)
            });
            let Some(answer) = self.read(story, range.as_ref(), None) else { continue };
            // As a client that was cut off goes on.
            let part = random.random_range(0..=answer.body.len()) as u64;
            if answer.status() == 200 && random.random_bool(0.3) && part < answer.body.len() as u64 {
                let tag = answer.field("etag").unwrap();
                self.read(story, Some(&(part..part + 2 * MIB)), Some(tag));
            }
        }
    }

    /// Reads a part and judges it; `None` where it did not arrive whole.
    fn read(&self, story: &Story, range: Option<&Range<u64>>, if_range: Option<&str>) -> Option<Answer> {
        let mut request = self.rig.edge.request(&story.name, "tester").unwrap();
        if let Some(range) = range {
            request = request.range(&format!("{}-{}", range.start, range.end - 1));
        }
        if let Some(tag) = if_range {
            request = request.field("If-Range", tag);
        }
        let answer = match request.send() {
            Ok(answer) => answer,
            // Cut short: nothing is said of what came before.
            Err(_) => {
                self.short.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        if matches!(answer.status(), 416 | 503) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Err(fault) = story.judge(&answer, range) {
            panic!(
                "LOADTEST_SEED={}: {:?}: {}: {fault}; head {:?}",
                self.seed, self.manner, story.name, answer.head
            );
        }
        if answer.status() == 206
            && let Some(tag) = if_range
        {
            assert_eq!(answer.field("etag").unwrap(), tag, "a part of another version than was asked for");
        }
        self.whole.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }
}

fn run(seed: u64) {
    let world = World::new(seed);
    thread::scope(|scope| {
        scope.spawn(|| world.change_files());
        scope.spawn(|| world.disturb_store());
        for reader in 0..READERS {
            let world = &world;
            scope.spawn(move || world.read_files(reader));
        }
        thread::sleep(LASTS);
        world.is_over.store(true, Ordering::Relaxed);
    });
    // Disturbed no more, the edge comes to serve what there is now.
    for story in &world.stories {
        let content = story.content(story.latest());
        wait_until(&format!("the last version of {} is served", story.name), || {
            let answer = world.rig.edge.get(&story.name);
            Ok(answer.is_ok_and(|answer| answer.status() == 200 && content.check_whole(&answer.body).is_ok()))
        })
        .unwrap_or_else(|fault| panic!("LOADTEST_SEED={seed}: {fault}"));
    }
    world.rig.wait_until_well();
    let [whole, short, refused] =
        [&world.whole, &world.short, &world.refused].map(|count| count.load(Ordering::Relaxed));
    let said =
        format!("LOADTEST_SEED={seed}: {whole} bodies came whole, {short} short, {refused} were refused");
    // A fault meets a body before its head or after it, as chance will have it.
    assert!(whole > 200 && short + refused > 0, "{said}: too few to say anything");
    let held = world.rig.edge.load_of("cache_bytes").unwrap();
    assert!(held <= 32 * MIB, "{said}; {held} bytes are cached");
}

#[test]
fn whatever_arrives_whole_is_one_versions() {
    match std::env::var("LOADTEST_SEED") {
        Ok(seed) => run(seed.parse().unwrap()),
        Err(_) => (0..RUNS).for_each(|_| run(rand::rng().random())),
    }
}
