//! The names of the files that are asked for most, for as long as an operator looks at them. Rates are those that routing
//! counts anyway; what is kept here is which names are behind them. Where nobody looks, a call reads one number.
//!
//! Who may see the status page need not know what files there are: it has a file's tag, which is another one in each
//! process, and a name is told for a token alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sluice_shared::file_id::FileId;

use crate::routing::hot::HotFiles;

/// Files that are noted at a time. Of more, those that are asked for least are let go.
const NOTED_MAX: usize = 64;
/// Where there is no place left, who is asked for less in a second takes nobody's.
const RATE_TO_REPLACE: f64 = 2.0;
/// Names are noted for so long after somebody looked.
const NOTED_FOR: Duration = Duration::from_secs(10);
const TAG_BYTES: usize = 4;

/// A file that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PopularFile {
    /// Names the file on the status page, until this process ends.
    pub(crate) tag: String,
    pub(crate) file_id: Box<str>,
    /// Requests in the last second, about.
    pub(crate) rate: f64,
    /// How many edges share it.
    pub(crate) edges: u32,
}

/// Names of files, by what routing counts them under: a file that is asked for in several zones has a key in each.
pub(crate) struct Popular {
    secret: [u8; 32],
    /// Until when names are noted, in milliseconds of routing's time.
    until: AtomicU64,
    noted: Mutex<Vec<Noted>>,
}

struct Noted {
    key: u64,
    file_id: Box<str>,
}

impl Default for Popular {
    fn default() -> Self {
        Self { secret: rand::random(), until: AtomicU64::new(0), noted: Mutex::default() }
    }
}

impl Popular {
    /// Somebody looks: names are noted for a while. Says whether they were already.
    pub(crate) fn look(&self, now: Duration) -> bool {
        self.until.swap(millis(now + NOTED_FOR), Ordering::Relaxed) > millis(now)
    }

    /// A file was asked for, and counted under the key. Waits for nobody: what another thread has in its hands is noted
    /// at its next request.
    pub(crate) fn note(&self, key: u64, file: &FileId<'_>, hot: &HotFiles, now: Duration) {
        if self.until.load(Ordering::Relaxed) <= millis(now) {
            return;
        }
        let Ok(mut noted) = self.noted.try_lock() else { return };
        if noted.iter().any(|known| known.key == key) {
            return;
        }
        let one = || Noted { key, file_id: file.as_str().into() };
        if noted.len() < NOTED_MAX {
            return noted.push(one());
        }
        let rate = hot.rate(key, now);
        if rate < RATE_TO_REPLACE {
            return;
        }
        let rates = noted.iter().map(|known| hot.rate(known.key, now)).enumerate();
        if let Some((least, _)) = rates.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|least| least.1 < rate) {
            noted[least] = one();
        }
    }

    /// The files that are asked for most, at most `count`, and what is asked for no more forgotten.
    pub(crate) fn list(&self, count: usize, hot: &HotFiles, now: Duration) -> Vec<PopularFile> {
        let mut noted = self.noted();
        noted.retain(|known| hot.rate(known.key, now) > 0.0);
        let mut files: Vec<PopularFile> = Vec::new();
        for known in noted.iter() {
            let (rate, edges) = (hot.rate(known.key, now), hot.fan_out(known.key, now));
            match files.iter_mut().find(|file| file.file_id == known.file_id) {
                // In another zone.
                Some(file) => (file.rate, file.edges) = (file.rate + rate, file.edges + edges),
                None => {
                    let (tag, file_id) = (self.tag(&known.file_id), known.file_id.clone());
                    files.push(PopularFile { tag, file_id, rate, edges });
                }
            }
        }
        drop(noted);
        files.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.tag.cmp(&b.tag)));
        files.truncate(count);
        files
    }

    /// Short, and of no use to who guesses names: the secret is this process's alone.
    fn tag(&self, file_id: &str) -> String {
        let digest = Sha256::new().chain_update(self.secret).chain_update(file_id).finalize();
        digest.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Noted>> {
        self.noted.lock().expect("nobody panics while holding names")
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::place_of;

    struct Calls {
        popular: Popular,
        hot: HotFiles,
    }

    impl Calls {
        fn new() -> Self {
            Self { popular: Popular::default(), hot: HotFiles::new(100.0) }
        }

        fn ask(&self, name: &str, times: u32, now: Duration) {
            let file = FileId::parse(name).unwrap();
            let key = place_of(&file);
            for _ in 0..times {
                self.hot.observe(key, now);
                self.popular.note(key, &file, &self.hot, now);
            }
        }

        fn names(&self, now: Duration) -> Vec<String> {
            let listed = self.popular.list(10, &self.hot, now);
            listed.into_iter().map(|file| file.file_id.into()).collect()
        }
    }

    #[test]
    fn names_are_noted_only_while_somebody_looks() {
        let (calls, at) = (Calls::new(), Duration::from_secs(5));
        calls.ask("a", 50, at);
        assert_eq!(calls.names(at), [""; 0]);
        assert!(!calls.popular.look(at) && calls.popular.look(at));
        calls.ask("a", 5, at);
        calls.ask("b", 9, at);
        assert_eq!(calls.names(at), ["a", "b"], "by rate: 55 and 9");
        // Forgotten once nobody asks for them.
        assert_eq!(calls.names(Duration::from_secs(8)), [""; 0]);
        calls.ask("c", 5, Duration::from_secs(16));
        assert_eq!(calls.names(Duration::from_secs(16)), [""; 0], "nobody looked for ten seconds");
    }

    #[test]
    fn what_is_asked_for_more_takes_the_place_of_what_is_asked_for_least() {
        let (calls, at) = (Calls::new(), Duration::from_secs(5));
        calls.popular.look(at);
        for n in 0..200 {
            calls.ask(&format!("cold-{n}"), 1, at);
        }
        calls.ask("hot", 40, at);
        assert_eq!(calls.names(at)[0], "hot");
        assert!(calls.popular.noted().len() == NOTED_MAX);
        assert_eq!(calls.popular.list(3, &calls.hot, at).len(), 3);
    }

    #[test]
    fn a_tag_is_of_one_process_and_says_nothing_of_the_name() {
        let (one, other) = (Popular::default(), Popular::default());
        assert_eq!((one.tag("a"), one.tag("a").len()), (one.tag("a"), 8));
        assert!(one.tag("a") != one.tag("b") && one.tag("a") != other.tag("a"));
    }
}
