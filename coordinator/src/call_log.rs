//! A log line for each call, as the rest of the log has them, gathered and written by a thread of its own: through
//! `tracing` a line costs 3 to 4 µs, a fifth of a redirection, and here 0.5.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

use metrics::Counter;

/// Lines are gathered for so long before they are written.
const GATHERED_FOR: Duration = Duration::from_millis(10);
/// What waits to be written, at most; further lines are lost, and counted.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// At the end, what is left is written within this time or not at all: a pipe that nobody reads must not keep the
/// program from ending.
const END_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// A line is written here first, so that the lock is held for a copy alone.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is said of a call. Texts may hold anything.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) request_id: &'a str,
    pub(crate) client: Option<IpAddr>,
    pub(crate) edge: Option<&'a str>,
    pub(crate) took: Duration,
}

impl Line<'_> {
    fn write_to(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let Line { status, .. } = self;
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        write!(text, r#"{{"timestamp":"{now}","level":"INFO","message":"call","method":"#)?;
        serde_json::to_writer(&mut *text, self.method)?;
        text.extend_from_slice(br#","path":"#);
        serde_json::to_writer(&mut *text, self.path)?;
        write!(text, r#","status":{status},"request_id":"#)?;
        serde_json::to_writer(&mut *text, self.request_id)?;
        if let Some(client) = self.client {
            write!(text, r#","client":"{client}""#)?;
        }
        if let Some(edge) = self.edge {
            text.extend_from_slice(br#","edge":"#);
            serde_json::to_writer(&mut *text, edge)?;
        }
        let micros = self.took.as_micros();
        writeln!(text, r#","micros":{micros},"target":"{}"}}"#, module_path!())
    }
}

/// Lines go to standard error. Dropping it writes what is left.
pub(crate) struct CallLog {
    waiting: Arc<Waiting>,
    lost: Counter,
    /// Whether anybody writes.
    is_on: bool,
}

#[derive(Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// The first of several lines came, or all is over.
    changed: Condvar,
    /// The last line was written.
    ended: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
    is_over: bool,
    has_ended: bool,
}

impl CallLog {
    /// Starts the thread; where the log's filter wants no such lines, there is none and every line is dropped.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(lost: Counter) -> io::Result<Self> {
        let waiting = Arc::<Waiting>::default();
        let (theirs, failed) = (Arc::clone(&waiting), lost.clone());
        let is_on = tracing::enabled!(tracing::Level::INFO);
        if is_on {
            let write = move || theirs.write_out(&failed, &mut io::stderr());
            thread::Builder::new().name("call-log".to_owned()).spawn(write)?;
        }
        Ok(Self { waiting, lost, is_on })
    }

    /// Takes a line in. It waits for nobody: what comes while too much is unwritten is lost.
    pub(crate) fn write(&self, line: &Line<'_>) {
        if !self.is_on {
            return;
        }
        let taken_in = SCRATCH.with_borrow_mut(|text| {
            text.clear();
            line.write_to(text).expect("a vector takes any text");
            self.waiting.take_in(text)
        });
        if !taken_in {
            self.lost.increment(1);
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        let mut lines = self.waiting.lines();
        lines.is_over = true;
        self.waiting.changed.notify_one();
        if self.is_on {
            let unended = |lines: &mut Lines| !lines.has_ended;
            drop(self.waiting.ended.wait_timeout_while(lines, END_PATIENCE, unended));
        }
    }
}

impl Waiting {
    /// Says whether there was room.
    fn take_in(&self, line: &[u8]) -> bool {
        let mut lines = self.lines();
        if lines.text.len() + line.len() > WAITING_BYTES_MAX {
            return false;
        }
        lines.text.extend_from_slice(line);
        lines.count += 1;
        let is_first = lines.count == 1;
        drop(lines);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    fn write_out(&self, lost: &Counter, out: &mut impl io::Write) {
        let mut text = Vec::new();
        loop {
            let idle = |lines: &mut Lines| lines.count == 0 && !lines.is_over;
            let lines = self.changed.wait_while(self.lines(), idle).expect("nothing panics under this lock");
            let gathering = self.changed.wait_timeout_while(lines, GATHERED_FOR, |lines| !lines.is_over);
            let (mut lines, _) = gathering.expect("nothing panics under this lock");
            text.clear();
            std::mem::swap(&mut text, &mut lines.text);
            let (count, is_over) = (std::mem::take(&mut lines.count), lines.is_over);
            drop(lines);
            if out.write_all(&text).is_err() {
                lost.increment(count);
            }
            if is_over {
                self.lines().has_ended = true;
                self.ended.notify_all();
                return;
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(path: &str) -> Line<'_> {
        Line {
            method: "GET",
            path,
            status: 302,
            request_id: "r-1",
            client: Some("192.0.2.1".parse().unwrap()),
            edge: Some("edge-1"),
            took: Duration::from_micros(17),
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        for path in ["/download/a.bin", "/\"\\\n\r\u{0}\u{7f}\u{2028}ö", ""] {
            let mut text = Vec::new();
            line(path).write_to(&mut text).unwrap();
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
            let value: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                (&value["path"], &value["status"], &value["micros"]),
                (&json!(path), &json!(302), &json!(17))
            );
            assert_eq!((&value["client"], &value["edge"]), (&json!("192.0.2.1"), &json!("edge-1")));
        }
    }

    #[test]
    fn every_line_is_written_before_the_end() {
        const LINES: usize = 10_000;
        let waiting = Arc::<Waiting>::default();
        let theirs = Arc::clone(&waiting);
        let writer = thread::spawn(move || {
            let mut written = Vec::new();
            theirs.write_out(&Counter::noop(), &mut written);
            written
        });
        let log = CallLog { waiting, lost: Counter::noop(), is_on: true };
        (0..LINES).for_each(|_| log.write(&line("/download/a")));
        drop(log);
        let written = writer.join().unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), LINES);
    }

    #[test]
    fn what_nobody_writes_is_bounded_and_holds_up_no_end() {
        let waiting = Arc::<Waiting>::default();
        let log = CallLog { waiting: Arc::clone(&waiting), lost: Counter::noop(), is_on: true };
        let long = "x".repeat(100_000);
        (0..200).for_each(|_| log.write(&line(&long)));
        drop(log);
        let held = waiting.lines().text.len();
        assert!((7 << 20..=WAITING_BYTES_MAX).contains(&held), "{held}");
    }
}
