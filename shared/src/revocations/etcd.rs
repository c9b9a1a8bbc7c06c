//! Marks that programs share through etcd, under `revoked/` and `blocked/`.
//!
//! Edges take them in. Coordinators also put there what their books have later, or etcd lacks: one that was put back to
//! an earlier state, or is new, gets everything back. So nothing is ever taken from a book because etcd has it not, and
//! an older mark never replaces a later one: each is written by comparing revisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::target::{BLOCKED, REVOKED};
use super::{Instant, Kind, Mark, RevocationBook, Target};
use crate::blocking;
use crate::cluster::Freshness;
use crate::etcd::{Contents, Created, Entry, Etcd, EtcdError, Mirror, MirrorRules, Replaced};

/// Far more than operators set by hand. A mark is a hundred bytes; what newer programs add has room.
const RULES: MirrorRules = MirrorRules { keys_max: 200_000, value_bytes_max: 4 << 10 };
/// With as many keys there, no links are added: the rest is for what operators bar.
const KEYS_WITH_LINKS_MAX: usize = 150_000;
/// Written at a time. What is left is looked at anew then, the latest first: a mark that was just set waits for no list.
const WRITTEN_AT_ONCE: usize = 64;
/// After a write that etcd did not take, and after which the mirror shows no change.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Marks grow old without anybody saying so.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Others that write the same key at the same time win so often at most.
const TRIES: usize = 5;
/// Of what is skipped at a time, so many are named; more are only counted.
const SKIPPED_NAMED_MAX: usize = 20;

/// A book that is kept in step with etcd until this is dropped.
pub struct EtcdMarks {
    mirrors: [Arc<Mirror>; 2],
    is_known: Arc<AtomicBool>,
    task: AbortHandle,
}

impl EtcdMarks {
    /// Takes into the book what etcd has. Within a runtime.
    pub fn follow(etcd: &Etcd, book: Arc<RevocationBook>) -> Self {
        Self::start(etcd, book, None)
    }

    /// As [`EtcdMarks::follow`], and puts into etcd what the book has. For coordinators.
    pub fn share(etcd: &Etcd, book: Arc<RevocationBook>) -> Self {
        Self::start(etcd, book, Some(etcd.clone()))
    }

    fn start(etcd: &Etcd, book: Arc<RevocationBook>, writes_to: Option<Etcd>) -> Self {
        let mirrors = [REVOKED, BLOCKED].map(|prefix| Arc::new(Mirror::start(etcd.clone(), prefix, RULES)));
        let is_known = Arc::<AtomicBool>::default();
        let [revoked, blocked] = [0, 1].map(|at| Side::new([REVOKED, BLOCKED][at], mirrors[at].watch()));
        let keeper = Keeper {
            sides: [revoked, blocked],
            book,
            is_known: Arc::clone(&is_known),
            writes_to,
            has_complained: false,
            has_overflowed: false,
        };
        Self { mirrors, is_known, task: tokio::spawn(keeper.keep()).abort_handle() }
    }

    /// Whether the book has had a list of all marks since the start.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// How much the book can be relied on: as little as the worse of its halves, `staleness` being since when nothing
    /// is missing.
    pub fn freshness(&self) -> Freshness {
        let halves = || self.mirrors.iter().map(|mirror| mirror.freshness());
        Freshness {
            staleness: halves().try_fold(Duration::ZERO, |oldest, half| Some(oldest.max(half.staleness?))),
            is_reached: halves().all(|half| half.is_reached),
            is_forbidden: halves().any(|half| half.is_forbidden),
        }
    }
}

impl Drop for EtcdMarks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One prefix, and what was last taken in of it.
struct Side {
    prefix: &'static str,
    mirror: watch::Receiver<Arc<Contents>>,
    taken: Arc<Contents>,
}

struct Keeper {
    sides: [Side; 2],
    book: Arc<RevocationBook>,
    is_known: Arc<AtomicBool>,
    /// There where the book's marks are put into etcd.
    writes_to: Option<Etcd>,
    /// That etcd does not take what it should: said once, until it does.
    has_complained: bool,
    /// That there is no room for what operators bar: likewise.
    has_overflowed: bool,
}

/// A change to be made in etcd; `found` is the revision that it has there.
enum Write {
    Put { target: Target, mark: Mark, found: Option<i64> },
    Remove { key: String, found: i64 },
}

impl Keeper {
    /// Until a mirror is gone.
    async fn keep(mut self) {
        let mut changes = self.book.changes();
        loop {
            changes.mark_unchanged();
            self.take().await;
            let writes = if self.writes_to.is_some() { self.writes() } else { Vec::new() };
            let again = if writes.is_empty() { LOOK_EVERY } else { AGAIN_AFTER };
            self.write(writes).await;
            let [revoked, blocked] = &mut self.sides;
            let is_over = tokio::select! {
                changed = revoked.mirror.changed() => changed.is_err(),
                changed = blocked.mirror.changed() => changed.is_err(),
                changed = changes.changed(), if self.writes_to.is_some() => changed.is_err(),
                () = tokio::time::sleep(again) => false,
            };
            if is_over {
                return;
            }
        }
    }

    /// Takes into the book what the mirrors have.
    async fn take(&mut self) {
        let news: Vec<_> = self.sides.iter_mut().flat_map(Side::news).collect();
        self.book.merge(news);
        let is_known = self.sides.iter().all(|side| side.taken.is_known);
        if is_known && !self.is_known.swap(true, Ordering::AcqRel) {
            // Also where there are none: a file that says so is what a start without etcd goes by.
            let book = Arc::clone(&self.book);
            if let Err(error) = blocking::run(move || book.save()).await {
                tracing::error!(%error, "revocations are in force, and lost at a restart");
            }
        }
    }

    /// What etcd should have otherwise, links last and else the latest first, and not all at once.
    fn writes(&mut self) -> Vec<Write> {
        let now = Instant::now();
        let mut overflow = 0;
        let mut removals = Vec::new();
        let mut known: [BTreeMap<&str, (Option<Mark>, i64)>; 2] = Default::default();
        for (side, known) in self.sides.iter().zip(&mut known) {
            for (name, entry) in &side.taken.entries {
                let mark = parse(&entry.value);
                if let Some(mark) = mark.filter(|mark| !mark.is_in_force(now)) {
                    let key = format!("{}{name}", side.prefix);
                    let kind = Target::parse_key(&key).map(|target| target.kind());
                    if kind.is_some_and(|kind| mark.is_forgotten(kind, now)) {
                        removals.push(Write::Remove { key, found: entry.mod_revision });
                    }
                }
                known.insert(name, (mark, entry.mod_revision));
            }
        }
        let mut lacking: Vec<(Target, Mark, Option<i64>)> = Vec::new();
        for (target, mark) in self.book.load().iter() {
            if mark.is_forgotten(target.kind(), now) {
                continue;
            }
            let key = target.key();
            let at = usize::from(key.starts_with(BLOCKED));
            let (side, name) = (&self.sides[at], &key[[REVOKED, BLOCKED][at].len()..]);
            match known[at].get(name) {
                Some((Some(there), _)) if !mark.supersedes(there) => {}
                Some((_, revision)) => lacking.push((target, mark, Some(*revision))),
                // Before there was a list, nothing is lacking.
                None if !side.taken.is_known => {}
                None => {
                    let (is_link, count) = (target.kind() == Kind::Link, side.taken.entries.len());
                    // In a list that is full, nobody would see it.
                    if count < if is_link { KEYS_WITH_LINKS_MAX } else { RULES.keys_max } {
                        lacking.push((target, mark, None));
                    } else if !is_link {
                        overflow += 1;
                    }
                }
            }
        }
        if overflow > 0 && !self.has_overflowed {
            tracing::error!(
                overflow,
                "etcd has no room for revocations; they are in force at this coordinator alone"
            );
        }
        self.has_overflowed = overflow > 0;
        lacking.sort_by_key(|(target, mark, _)| (target.kind() == Kind::Link, std::cmp::Reverse(mark.set)));
        // Half of each turn is for what is over, where there is as much: else it would stay while there is more to put.
        let puts_max = WRITTEN_AT_ONCE - removals.len().min(WRITTEN_AT_ONCE / 2);
        let puts = lacking.into_iter().map(|(target, mark, found)| Write::Put { target, mark, found });
        puts.take(puts_max).chain(removals).take(WRITTEN_AT_ONCE).collect()
    }

    /// Writes them side by side; what is not written is tried again.
    async fn write(&mut self, writes: Vec<Write>) {
        let Some(etcd) = &self.writes_to else { return };
        let mut tasks = JoinSet::new();
        for write in writes {
            let (etcd, book) = (etcd.clone(), Arc::clone(&self.book));
            tasks.spawn(async move { carry_out(&etcd, &book, write).await });
        }
        let done = tasks.join_all().await;
        match done.into_iter().find_map(Result::err) {
            None => self.has_complained = false,
            Some(error) if self.has_complained => tracing::debug!(%error, "etcd still takes no revocations"),
            Some(error) => {
                self.has_complained = true;
                tracing::warn!(%error, "revocations are in force here, and not in etcd yet");
            }
        }
    }
}

async fn carry_out(etcd: &Etcd, book: &RevocationBook, write: Write) -> Result<(), EtcdError> {
    match write {
        Write::Remove { key, found } => etcd.remove_unchanged(&key, found).await.map(drop),
        Write::Put { target, mark, found } => put(etcd, book, &target, mark, found).await,
    }
}

/// Puts a mark there, unless a later one is: that is taken into the book.
async fn put(
    etcd: &Etcd,
    book: &RevocationBook,
    target: &Target,
    mark: Mark,
    mut found: Option<i64>,
) -> Result<(), EtcdError> {
    let (key, value) = (target.key(), serde_json::to_vec(&mark).expect("times and a flag are JSON"));
    for _ in 0..TRIES {
        let there: Option<Entry> = match found {
            None => match etcd.create(&key, &value).await? {
                Created::Created(_) => return Ok(()),
                Created::Exists(entry) => Some(entry),
            },
            Some(revision) => match etcd.replace(&key, revision, &value).await? {
                Replaced::Replaced(_) => return Ok(()),
                Replaced::Changed(there) => there,
            },
        };
        let later = there.as_ref().and_then(|entry| parse(&entry.value));
        if let Some(there) = later.filter(|there| !mark.supersedes(there)) {
            book.merge([(target.clone(), there)]);
            return Ok(());
        }
        found = there.map(|entry| entry.mod_revision);
    }
    // Whoever changes it all the time is heard of by the mirror.
    Ok(())
}

impl Side {
    fn new(prefix: &'static str, mirror: watch::Receiver<Arc<Contents>>) -> Self {
        Self { prefix, mirror, taken: Arc::default() }
    }

    /// The marks that were not there before, in this form; what is no mark is named.
    fn news(&mut self) -> Vec<(Target, Mark)> {
        let now = self.mirror.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.taken, now);
        let is_new = |(name, entry): &(&Arc<str>, &Entry)| {
            before.entries.get(*name).or_else(|| before.removed.get(*name)) != Some(entry)
        };
        // Also what was removed since: that a mark is gone lifts nothing.
        let entries = self.taken.entries.iter().chain(&self.taken.removed).filter(is_new);
        let (mut marks, mut skipped) = (Vec::new(), 0);
        for (name, entry) in entries {
            let key = format!("{}{name}", self.prefix);
            if let Some(mark) = Target::parse_key(&key).zip(parse(&entry.value)) {
                marks.push(mark);
                continue;
            }
            skipped += 1;
            if skipped <= SKIPPED_NAMED_MAX {
                tracing::warn!(key, "what etcd has there is no revocation; it is skipped");
            }
        }
        if skipped > SKIPPED_NAMED_MAX {
            tracing::warn!(prefix = self.prefix, skipped, "more in etcd is no revocation, and skipped");
        }
        marks
    }
}

fn parse(value: &[u8]) -> Option<Mark> {
    serde_json::from_slice(value).ok()
}
