//! What is known of a ledger's records, and what etcd lacks of it: pure, the clock is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LedgerForm;
use crate::cluster::{SkippedRecord, shown};
use crate::etcd::{Contents, Entry};
use crate::revocations::Instant;

/// A record that only takes back is kept so long: an older list that turns up again must not outlive it.
const VOID_KEPT_MS: u64 = 90 * 24 * 3600 * 1000;

pub(super) struct Roll<F: LedgerForm> {
    known: BTreeMap<Arc<str>, F::Record>,
    /// What etcd has now, as it was read; or why it is no record.
    there: BTreeMap<Arc<str>, Result<Said, String>>,
    /// What was last taken in.
    taken: Arc<Contents>,
}

/// As much of a record as says whether another stands in its place.
#[derive(Debug, Clone, Copy)]
struct Said {
    set: Instant,
    is_void: bool,
}

impl Said {
    fn of<F: LedgerForm>(record: &F::Record) -> Self {
        Self { set: F::set(record), is_void: F::is_void(record) }
    }

    fn is_forgotten(self, now: Instant) -> bool {
        self.is_void && self.set.0.saturating_add(VOID_KEPT_MS) < now.0
    }
}

/// What etcd should have otherwise; `found` is the revision that it has there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lack<R> {
    Record { name: Arc<str>, record: R, found: Option<i64> },
    Removal { name: Arc<str>, found: i64 },
}

impl<F: LedgerForm> Default for Roll<F> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), there: BTreeMap::new(), taken: Arc::default() }
    }
}

impl<F: LedgerForm> Roll<F> {
    pub(super) fn known(&self) -> &BTreeMap<Arc<str>, F::Record> {
        &self.known
    }

    /// What is known by a name, and how many names are.
    pub(super) fn look_up(&self, name: &str) -> (Option<F::Record>, usize) {
        (self.known.get(name).cloned(), self.known.len())
    }

    /// Takes in what etcd has, last words included; says whether what is known has changed.
    pub(super) fn take(
        &mut self,
        contents: Arc<Contents>,
        now: Instant,
        read: impl Fn(&str, &[u8]) -> Result<F::Record, F::Fault>,
    ) -> bool {
        let before = std::mem::replace(&mut self.taken, contents);
        let taken = Arc::clone(&self.taken);
        let is_seen = |name: &Arc<str>, entry: &Entry| {
            [&before.entries, &before.removed].into_iter().any(|all| all.get(name) == Some(entry))
        };
        let mut has_changed = false;
        for (name, entry) in taken.entries.iter().chain(&taken.removed) {
            if is_seen(name, entry) {
                continue;
            }
            let said = match read(name, &entry.value) {
                Ok(record) => {
                    let said = Said::of::<F>(&record);
                    has_changed |= !said.is_forgotten(now) && self.know(name, record);
                    Ok(said)
                }
                // What was known by that name stands. Said once for each value.
                Err(fault) => {
                    let fault = shown(&fault);
                    tracing::warn!(
                        key = format!("{}{name}", F::PREFIX),
                        fault,
                        "a record in etcd is skipped"
                    );
                    Err(fault)
                }
            };
            self.there.insert(Arc::clone(name), said);
        }
        self.there.retain(|name, _| taken.entries.contains_key(name));
        let count = self.known.len();
        self.known.retain(|_, record| !Said::of::<F>(record).is_forgotten(now));
        has_changed || self.known.len() != count
    }

    /// Takes a record in, unless a later one is known; says whether it is another than before. Of two that were set at
    /// one time the one that is heard last stands, which is etcd's: everybody comes to the same.
    pub(super) fn know(&mut self, name: &str, record: F::Record) -> bool {
        let stands = |known: &F::Record| *known == record || F::set(known) > F::set(&record);
        if self.known.get(name).is_some_and(stands) {
            return false;
        }
        self.known.insert(name.into(), record);
        true
    }

    /// What etcd has and is not taken.
    pub(super) fn skipped(&self) -> Vec<SkippedRecord> {
        let skip = |name: &str, fault: String| SkippedRecord { key: format!("{}{name}", F::PREFIX), fault };
        let refused = self.there.iter().filter_map(|(name, said)| Some((name, said.as_ref().err()?)));
        let refused = refused.map(|(name, fault)| skip(name, fault.clone()));
        refused.chain(self.taken.skipped().map(|(name, why)| skip(name, why.to_string()))).collect()
    }

    /// What etcd should have otherwise, so much of it at most.
    pub(super) fn lacking(&self, now: Instant, count_max: usize) -> Vec<Lack<F::Record>> {
        // Before there was a list, nothing is lacking; in one that is full, nobody would see it.
        let may_create = self.taken.is_known && self.taken.entries.len() < F::RULES.keys_max;
        let records = self.known.iter().filter_map(|(name, record)| {
            let is_lacking = match self.there.get(name) {
                None => may_create,
                Some(Ok(said)) => said.set < F::set(record),
                // Not ours to judge: a newer program may have written it.
                Some(Err(_)) => false,
            };
            let lack =
                || Lack::Record { name: name.clone(), record: record.clone(), found: self.revision(name) };
            is_lacking.then(lack)
        });
        let removals = self.there.iter().filter_map(|(name, said)| {
            let is_over = said.as_ref().is_ok_and(|said| said.is_forgotten(now));
            let found = self.revision(name).filter(|_| is_over && !self.known.contains_key(name))?;
            Some(Lack::Removal { name: name.clone(), found })
        });
        records.chain(removals).take(count_max).collect()
    }

    fn revision(&self, name: &str) -> Option<i64> {
        self.taken.entries.get(name).map(|entry| entry.mod_revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::MirrorRules;

    const LONG_AGO: Instant = Instant(1_000_000);
    const NOW: Instant = Instant(LONG_AGO.0 + VOID_KEPT_MS + 1);

    /// `SET:TEXT`; without a text it is void.
    #[derive(Debug)]
    struct Words;

    #[derive(Debug, thiserror::Error)]
    #[error("no words")]
    struct NoWords;

    impl LedgerForm for Words {
        type Record = (u64, String);
        type Fault = NoWords;

        const PREFIX: &'static str = "words/";
        const RULES: MirrorRules = MirrorRules { keys_max: 3, value_bytes_max: 100 };

        fn read(&self, _: &str, _: &str, value: &[u8]) -> Result<(u64, String), NoWords> {
            read("", value)
        }

        fn write(&self, _: &str, (set, text): &(u64, String)) -> Vec<u8> {
            format!("{set}:{text}").into_bytes()
        }

        fn set(record: &(u64, String)) -> Instant {
            Instant(record.0)
        }

        fn is_void(record: &(u64, String)) -> bool {
            record.1.is_empty()
        }

        fn take(&self, _: &BTreeMap<Arc<str>, (u64, String)>) {}
    }

    fn read(_: &str, value: &[u8]) -> Result<(u64, String), NoWords> {
        let (set, text) =
            std::str::from_utf8(value).ok().and_then(|text| text.split_once(':')).ok_or(NoWords)?;
        Ok((set.parse().map_err(|_| NoWords)?, text.to_owned()))
    }

    /// A list of etcd; each key's revision is its place.
    fn list(entries: &[(&str, &str)]) -> Arc<Contents> {
        let mut contents = Contents::default();
        for ((name, value), revision) in entries.iter().zip(1..) {
            let entry = Entry {
                value: value.as_bytes().into(),
                create_revision: 1,
                mod_revision: revision,
                lease: 0,
            };
            contents.entries.insert(Arc::from(*name), entry);
        }
        contents.is_known = true;
        Arc::new(contents)
    }

    fn known(roll: &Roll<Words>) -> String {
        let shown = roll.known.iter().map(|(name, (set, text))| format!("{name}={set}:{text}"));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// What is lacking, in words: a name, with the revision that it has.
    fn lacking(roll: &Roll<Words>) -> Vec<String> {
        let shown = |lack: &Lack<(u64, String)>| match lack {
            Lack::Record { name, record, found } => format!("{name}={}:{} {found:?}", record.0, record.1),
            Lack::Removal { name, found } => format!("-{name} {found}"),
        };
        roll.lacking(NOW, 10).iter().map(shown).collect()
    }

    #[test]
    fn the_later_record_stands_and_an_older_list_undoes_nothing() {
        let mut roll = Roll::<Words>::default();
        assert!(lacking(&roll).is_empty());
        assert!(roll.take(list(&[("a", "5:on"), ("b", "5:on")]), NOW, read));
        assert!(roll.know("a", (7, "off".into())));
        assert!(!roll.know("a", (6, "on".into())));
        // An earlier state of etcd: one record is older, one is not there.
        assert!(!roll.take(list(&[("a", "5:on")]), NOW, read));
        assert_eq!(known(&roll), "a=7:off b=5:on");
        assert_eq!(lacking(&roll), ["a=7:off Some(1)", "b=5:on None"]);
        assert_eq!(roll.lacking(NOW, 1).len(), 1);
        assert!(!roll.take(list(&[("a", "7:off"), ("b", "5:on")]), NOW, read));
        assert!(lacking(&roll).is_empty());
        // Of one time, etcd's.
        assert!(roll.take(list(&[("a", "7:other"), ("b", "5:on")]), NOW, read));
        assert_eq!(known(&roll), "a=7:other b=5:on");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_keeps_what_was_known() {
        let mut roll = Roll::<Words>::default();
        roll.take(list(&[("a", "5:on")]), NOW, read);
        assert!(!roll.take(list(&[("a", "garbage"), ("c", "garbage")]), NOW, read));
        assert_eq!(known(&roll), "a=5:on");
        assert!(lacking(&roll).is_empty(), "it is not overwritten");
        let named: Vec<_> = roll.skipped().into_iter().map(|skipped| (skipped.key, skipped.fault)).collect();
        let expected = ["words/a", "words/c"].map(|key| (key.to_owned(), "no words".to_owned()));
        assert_eq!(named, expected);
        roll.take(list(&[("a", "6:off")]), NOW, read);
        assert!(roll.skipped().is_empty());
        assert_eq!(known(&roll), "a=6:off");
    }

    #[test]
    fn a_last_word_is_heard_though_its_key_is_gone() {
        let mut roll = Roll::<Words>::default();
        roll.take(list(&[("a", "5:on")]), NOW, read);
        let mut gone = Contents::clone(&list(&[]));
        gone.removed = Contents::clone(&list(&[("a", "6:off")])).entries;
        assert!(roll.take(Arc::new(gone), NOW, read));
        assert_eq!(known(&roll), "a=6:off");
        assert_eq!(lacking(&roll), ["a=6:off None"]);
    }

    #[test]
    fn what_took_back_is_forgotten_after_a_long_time() {
        let mut roll = Roll::<Words>::default();
        let (early, late) = (format!("{}:", LONG_AGO.0), format!("{}:", LONG_AGO.0 + 1));
        roll.take(list(&[("a", &early), ("b", &late), ("c", "1:on")]), LONG_AGO, read);
        assert_eq!(roll.known.len(), 3);
        assert!(roll.take(list(&[("a", &early), ("b", &late), ("c", "1:on")]), NOW, read));
        assert_eq!(known(&roll), format!("b={late} c=1:on"));
        assert_eq!(lacking(&roll), ["-a 1"]);
        // To whoever starts now it says nothing.
        let mut roll = Roll::<Words>::default();
        roll.take(list(&[("a", &early)]), NOW, read);
        assert_eq!((known(&roll), lacking(&roll)), (String::new(), vec!["-a 1".to_owned()]));
    }

    #[test]
    fn nothing_is_put_into_a_list_that_is_full() {
        let mut roll = Roll::<Words>::default();
        roll.take(list(&[("a", "1:x"), ("b", "1:x"), ("c", "1:x")]), NOW, read);
        roll.know("d", (2, "y".into()));
        roll.know("a", (2, "y".into()));
        assert_eq!(lacking(&roll), ["a=2:y Some(1)"]);
    }
}
