//! What is known of a file without reading it: asked of its edges, and remembered for a moment.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::asking::Asker;
use crate::routing::Edge;

/// All that is asked for one answer has this long, and one edge of several this long.
const ASKING_MAX: Duration = Duration::from_millis(500);
const EDGE_MAX: Duration = Duration::from_millis(250);
/// Questions at a time; who comes when all are under way gets an answer without.
const QUESTIONS_MAX: usize = 64;
/// As long as an edge believes a file to be what it was, twice: what is older could be of a file that was replaced.
const KEPT: Duration = Duration::from_secs(2);
const KEPT_MAX: usize = 4096;

/// A file's size in bytes, and its hash where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) size: u64,
    pub(crate) sha256: Option<[u8; 32]>,
}

/// An answer that was had then, none included: an edge that hangs is not asked for each caller.
#[derive(Clone, Copy)]
struct Kept {
    since: Instant,
    fact: Option<Fact>,
}

/// Facts of files, by id.
pub(crate) struct Facts {
    asker: Asker,
    questions: Semaphore,
    kept: Mutex<HashMap<Box<str>, Kept>>,
}

impl Facts {
    pub(crate) fn new(asker: Asker) -> Self {
        Self { asker, questions: Semaphore::new(QUESTIONS_MAX), kept: Mutex::default() }
    }

    /// Asks the edges one after the other, with a token that is good for HEAD, until one tells.
    pub(crate) async fn of(
        &self,
        file_id: &str,
        edges: &[&Edge],
        token: impl FnOnce() -> Option<String>,
    ) -> Option<Fact> {
        let now = Instant::now();
        if let Some(kept) = self.kept().get(file_id).filter(|kept| now - kept.since < KEPT) {
            return kept.fact;
        }
        let _question = self.questions.try_acquire().ok()?;
        let token = token()?;
        let asking = async {
            for edge in edges {
                if let Ok(Some(fact)) = timeout(EDGE_MAX, self.asker.ask(&edge.record.url, &token)).await {
                    return Some(fact);
                }
            }
            None
        };
        let fact = timeout(ASKING_MAX, asking).await.ok().flatten();
        self.keep(file_id, fact);
        fact
    }

    fn keep(&self, file_id: &str, fact: Option<Fact>) {
        let mut kept = self.kept();
        let since = Instant::now();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, kept| since - kept.since < KEPT);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(file_id.into(), Kept { since, fact });
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Box<str>, Kept>> {
        self.kept.lock().expect("nobody panics while holding facts")
    }
}
