//! The usage record: how many downloads and bytes each API client had in each minute, as JSON lines.
//!
//! A line is what came since the line before, so that lines of one client and minute add up, whatever happened between
//! them. Nothing is dropped: what cannot be written is kept and added to until it can. A process that is killed loses
//! what it sent in its last seconds.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::file::LogFile;

/// How often what has gathered is written.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// What one client had in one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    downloads: u64,
    bytes: u64,
}

/// Seconds since 1970 at the minute's begin, and the client; tokens without one are counted together.
type Key = (u64, Option<Box<str>>);

#[derive(Default)]
struct Ledger {
    amounts: BTreeMap<Key, Amount>,
    /// Flushes that are asked for, and those that are done.
    asked: u64,
    done: u64,
}

/// The process's usage record.
pub(crate) struct UsageRecord {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    reopen: AtomicBool,
}

#[derive(Serialize)]
struct Line<'a> {
    minute: String,
    cid: Option<&'a str>,
    edge: &'a str,
    downloads: u64,
    bytes: u64,
}

impl UsageRecord {
    /// Opens the file and starts the thread that writes it.
    ///
    /// # Errors
    /// The file cannot be written, or there is no thread to be had.
    pub(crate) fn start(path: &Path, edge: &str) -> io::Result<Arc<Self>> {
        let file = LogFile::open(path)?;
        let record = Arc::new(Self {
            ledger: Mutex::default(),
            changed: Condvar::new(),
            reopen: AtomicBool::new(false),
        });
        let (writer, edge) = (Arc::clone(&record), edge.to_owned());
        thread::Builder::new().name("usage-record".to_owned()).spawn(move || writer.run(file, &edge))?;
        Ok(record)
    }

    /// Has the file opened anew.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits until everything is written, `patience` at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let mut ledger = self.ledger();
        ledger.asked += 1;
        let wanted = ledger.asked;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(ledger, patience, |ledger| ledger.done < wanted);
        drop(waited.expect("nothing panics under this lock"));
    }

    fn run(&self, mut file: LogFile, edge: &str) {
        let mut has_failed = false;
        loop {
            let (amounts, asked) = self.take(has_failed);
            if self.reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = file.reopen()
            {
                tracing::error!(%error, "the usage record cannot be opened anew; the old file is written on");
            }
            let written = write(&mut file, &amounts, edge);
            if let Err(error) = &written
                && !has_failed
            {
                tracing::error!(%error, "the usage record cannot be written; it is kept until it can");
            }
            has_failed = written.is_err();
            let mut ledger = self.ledger();
            match written {
                Ok(()) => ledger.done = asked,
                Err(_) => amounts.into_iter().for_each(|(key, amount)| ledger.add(key, amount)),
            }
            self.changed.notify_all();
        }
    }

    /// Waits for the next turn, or for a flush where the last one did not fail; takes what has gathered.
    fn take(&self, has_failed: bool) -> (BTreeMap<Key, Amount>, u64) {
        let ledger = self.ledger();
        let idle = |ledger: &mut Ledger| has_failed || ledger.asked == ledger.done;
        let waited = self.changed.wait_timeout_while(ledger, WRITE_EVERY, idle);
        let (mut ledger, _) = waited.expect("nothing panics under this lock");
        (std::mem::take(&mut ledger.amounts), ledger.asked)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics under this lock")
    }
}

impl Ledger {
    fn add(&mut self, key: Key, amount: Amount) {
        let sum = self.amounts.entry(key).or_default();
        sum.downloads += amount.downloads;
        sum.bytes += amount.bytes;
    }
}

fn write(file: &mut LogFile, amounts: &BTreeMap<Key, Amount>, edge: &str) -> io::Result<()> {
    if amounts.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for ((minute, cid), Amount { downloads, bytes }) in amounts {
        let minute = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*minute)).to_string();
        let line = Line { minute, cid: cid.as_deref(), edge, downloads: *downloads, bytes: *bytes };
        serde_json::to_writer(&mut text, &line).expect("a vector takes any text");
        text.push(b'\n');
    }
    file.append(&text)?;
    file.sync()
}

/// What one client has had of one worker since the last hand-over.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    downloads: Cell<u64>,
    bytes: Cell<u64>,
}

impl Meter {
    /// Counts a download that begins.
    pub(crate) fn begin(&self) {
        self.downloads.set(self.downloads.get() + 1);
    }

    /// Counts bytes as they go.
    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }
}

/// One worker's meters, one for each client that is being served.
pub(crate) struct Meters {
    record: Arc<UsageRecord>,
    named: RefCell<HashMap<Box<str>, Rc<Meter>, foldhash::fast::RandomState>>,
    unnamed: Rc<Meter>,
}

impl Meters {
    pub(crate) fn new(record: Arc<UsageRecord>) -> Self {
        Self { record, named: RefCell::default(), unnamed: Rc::default() }
    }

    /// The meter of an API client.
    pub(crate) fn of(&self, cid: Option<&str>) -> Rc<Meter> {
        let Some(cid) = cid else { return Rc::clone(&self.unnamed) };
        if let Some(meter) = self.named.borrow().get(cid) {
            return Rc::clone(meter);
        }
        let meter = Rc::default();
        self.named.borrow_mut().insert(cid.into(), Rc::clone(&meter));
        meter
    }

    /// Hands over what has gathered, as of now; forgets clients that are not being served.
    pub(crate) fn hand_over(&self, now: SystemTime) {
        let secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let minute = secs / 60 * 60;
        let mut named = self.named.borrow_mut();
        let meters = named.iter().map(|(cid, meter)| (Some(cid.clone()), meter));
        let gathered = meters.chain([(None, &self.unnamed)]).filter_map(|(cid, meter)| {
            let amount = Amount { downloads: meter.downloads.take(), bytes: meter.bytes.take() };
            (amount != Amount::default()).then_some(((minute, cid), amount))
        });
        let gathered: Vec<_> = gathered.collect();
        named.retain(|_, meter| Rc::strong_count(meter) > 1);
        drop(named);
        if !gathered.is_empty() {
            let mut ledger = self.record.ledger();
            gathered.into_iter().for_each(|(key, amount)| ledger.add(key, amount));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_of_a_client_and_minute_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage");
        let record = UsageRecord::start(&path, "edge-1").unwrap();
        let meters = Meters::new(Arc::clone(&record));
        let at = |secs: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + secs);
        for (cid, bytes, secs) in
            [(Some("AK1"), 10, 0), (None, 5, 1), (Some("AK1"), 20, 59), (Some("AK1"), 40, 61)]
        {
            let meter = meters.of(cid);
            meter.begin();
            meter.sent(bytes);
            meters.hand_over(at(secs));
            record.flush(Duration::from_secs(10));
        }
        let mut sums = BTreeMap::new();
        for line in lines(&path) {
            assert_eq!(line["edge"], "edge-1");
            let key = (line["minute"].as_str().unwrap().to_owned(), line["cid"].as_str().map(str::to_owned));
            let sum: &mut (u64, u64) = sums.entry(key).or_default();
            sum.0 += line["downloads"].as_u64().unwrap();
            sum.1 += line["bytes"].as_u64().unwrap();
        }
        let sums: Vec<_> =
            sums.iter().map(|((minute, cid), sum)| (&**minute, cid.as_deref(), *sum)).collect();
        assert_eq!(
            sums,
            [
                ("2027-01-15T08:00:00Z", None, (1, 5)),
                ("2027-01-15T08:00:00Z", Some("AK1"), (2, 30)),
                ("2027-01-15T08:01:00Z", Some("AK1"), (1, 40))
            ]
        );
        meters.hand_over(at(62));
        assert!(meters.named.borrow().is_empty(), "who is not being served is forgotten");
    }

    #[test]
    fn what_cannot_be_written_is_kept_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let record = UsageRecord::start(&path, "edge-1").unwrap();
        let meters = Meters::new(Arc::clone(&record));
        for _ in 0..3 {
            meters.of(Some("AK1")).sent(7);
            meters.hand_over(SystemTime::UNIX_EPOCH);
            record.flush(Duration::from_millis(50));
        }
        fs::remove_file(&path).unwrap();
        record.reopen();
        record.flush(Duration::from_secs(10));
        let bytes: u64 = lines(&path).iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
        assert_eq!(bytes, 21);
    }
}
