//! A log line for each call, as the rest of the log has them, gathered and written by a thread of its own: through
//! `tracing` a line costs 3 to 4 µs, a fifth of a redirection, and here 0.5.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::Counter;
use sluice_shared::cluster::EdgeId;
use sluice_shared::shown_address::{Shown, ShownAddress};

/// Lines are gathered for so long before they are written.
const GATHERED_FOR: Duration = Duration::from_millis(10);
/// What waits to be written, at most; further lines are lost, and counted.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// At the end, what is left is written within this time or not at all: a pipe that nobody reads must not keep the
/// program from ending.
const END_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// A line is written here first, so that the lock is held for a copy alone.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// What is said of a call. The path may hold anything; the other texts need no escapes.
pub(crate) struct Line<'a> {
    pub(crate) at: SystemTime,
    /// Of the characters of a token (RFC 9110 §5.6.2).
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// Of `A-Z a-z 0-9 . _ -`.
    pub(crate) request_id: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) edge: Option<&'a EdgeId>,
    /// Why it was refused: one of a few words.
    pub(crate) reason: Option<&'static str>,
    pub(crate) took: Duration,
}

impl Line<'_> {
    fn write_to(&self, shown: ShownAddress, scratch: &mut Scratch) -> io::Result<()> {
        let Scratch { text, second } = scratch;
        text.clear();
        text.extend_from_slice(br#"{"timestamp":""#);
        second.write_time(self.at, text);
        text.extend_from_slice(br#"","level":"INFO","message":"call","method":""#);
        text.extend_from_slice(self.method.as_bytes());
        text.extend_from_slice(br#"","path":"#);
        write_string(self.path, text)?;
        text.extend_from_slice(br#","status":"#);
        write_number(self.status, text);
        text.extend_from_slice(br#","request_id":""#);
        text.extend_from_slice(self.request_id.as_bytes());
        match shown.of(self.client) {
            None => {}
            Some(Shown::Address(address)) => {
                text.extend_from_slice(br#"","client":""#);
                write_address(address, text)?;
            }
            Some(net) => write!(text, r#"","client":"{net}"#)?,
        }
        if let Some(edge) = self.edge {
            text.extend_from_slice(br#"","edge":""#);
            text.extend_from_slice(edge.as_str().as_bytes());
        }
        if let Some(reason) = self.reason {
            text.extend_from_slice(br#"","reason":""#);
            text.extend_from_slice(reason.as_bytes());
        }
        text.extend_from_slice(br#"","micros":"#);
        write_number(u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX), text);
        text.extend_from_slice(concat!(r#","target":""#, module_path!(), "\"}\n").as_bytes());
        Ok(())
    }
}

/// A JSON string. Nearly all are their own escaped form.
fn write_string(value: &str, text: &mut Vec<u8>) -> io::Result<()> {
    let is_special = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if value.bytes().fold(false, |found, byte| found | is_special(byte)) {
        return Ok(serde_json::to_writer(text, value)?);
    }
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
    Ok(())
}

fn write_number(value: impl itoa::Integer, text: &mut Vec<u8>) {
    text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_address(address: IpAddr, text: &mut Vec<u8>) -> io::Result<()> {
    let IpAddr::V4(address) = address else { return write!(text, "{address}") };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        write_number(octet, text);
    }
    Ok(())
}

/// Where a thread writes its lines.
struct Scratch {
    text: Vec<u8>,
    second: Second,
}

impl Scratch {
    const fn new() -> Self {
        Self { text: Vec::new(), second: Second { number: 0, text: String::new() } }
    }
}

/// The second of the last line, which most lines share: its number and text, `2026-01-02T03:04:05`.
struct Second {
    number: u64,
    text: String,
}

impl Second {
    /// Writes a time as RFC 3339 does, in UTC, with its microseconds.
    fn write_time(&mut self, time: SystemTime, text: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.number != since.as_secs() {
            self.number = since.as_secs();
            let whole = UNIX_EPOCH + Duration::from_secs(self.number);
            self.text = humantime::format_rfc3339_seconds(whole).to_string();
            // The time goes on behind its seconds.
            self.text.truncate(self.text.trim_end_matches('Z').len());
        }
        text.extend_from_slice(self.text.as_bytes());
        // A digit is put before, so that none of them is left out.
        let mut micros = itoa::Buffer::new();
        let micros = &micros.format(1_000_000 + since.subsec_micros())[1..];
        text.push(b'.');
        text.extend_from_slice(micros.as_bytes());
        text.push(b'Z');
    }
}

/// Lines go to standard error. Dropping it writes what is left.
pub(crate) struct CallLog {
    waiting: Arc<Waiting>,
    lost: Counter,
    shown: ShownAddress,
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
    pub(crate) fn start(lost: Counter, shown: ShownAddress) -> io::Result<Self> {
        let waiting = Arc::<Waiting>::default();
        let (theirs, failed) = (Arc::clone(&waiting), lost.clone());
        let is_on = tracing::enabled!(tracing::Level::INFO);
        if is_on {
            let write = move || theirs.write_out(&failed, &mut io::stderr());
            thread::Builder::new().name("call-log".to_owned()).spawn(write)?;
        }
        Ok(Self { waiting, lost, shown, is_on })
    }

    /// Takes a line in. It waits for nobody: what comes while too much is unwritten is lost.
    pub(crate) fn write(&self, line: &Line<'_>) {
        if !self.is_on {
            return;
        }
        let taken_in = SCRATCH.with_borrow_mut(|scratch| {
            line.write_to(self.shown, scratch).expect("a vector takes any text");
            self.waiting.take_in(&scratch.text)
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

    fn edge() -> EdgeId {
        EdgeId::parse("edge-1").unwrap()
    }

    fn line<'l>(path: &'l str, edge: &'l EdgeId) -> Line<'l> {
        Line {
            at: UNIX_EPOCH + Duration::from_micros(1_800_000_000_000_017),
            method: "GET",
            path,
            status: 302,
            request_id: "r-1",
            client: "192.0.2.1".parse().unwrap(),
            edge: Some(edge),
            reason: None,
            took: Duration::from_micros(17),
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        for path in ["/download/a.bin", "/\"\\\n\r\u{0}\u{7f}\u{2028}ö", ""] {
            let mut scratch = Scratch::new();
            line(path, &edge()).write_to(ShownAddress::Full, &mut scratch).unwrap();
            let Scratch { text, .. } = scratch;
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
    fn no_more_of_an_address_is_written_than_wanted() {
        let table = [
            (ShownAddress::Full, json!("192.0.2.1")),
            (ShownAddress::Prefix, json!("192.0.2.0/24")),
            (ShownAddress::None, Value::Null),
        ];
        for (shown, expected) in table {
            let mut scratch = Scratch::new();
            line("/", &edge()).write_to(shown, &mut scratch).unwrap();
            let value: Value = serde_json::from_slice(&scratch.text).unwrap();
            assert_eq!((&value["client"], &value["request_id"]), (&expected, &json!("r-1")));
        }
    }

    #[test]
    fn times_are_what_the_library_writes() {
        let mut second = Second { number: 0, text: String::new() };
        for micros in [0, 1, 999_999, 1_000_000, 1_999_999, 1_800_000_000_000_017, 1_800_000_000_100_000, 1] {
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            let mut text = Vec::new();
            second.write_time(time, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), humantime::format_rfc3339_micros(time).to_string());
        }
    }

    #[test]
    fn addresses_are_written_as_they_are_shown() {
        for address in ["192.0.2.1", "0.0.0.0", "255.255.255.255", "::1", "2001:db8::17"] {
            let mut text = Vec::new();
            write_address(address.parse().unwrap(), &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), address);
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
        let log = CallLog { waiting, lost: Counter::noop(), shown: ShownAddress::Full, is_on: true };
        (0..LINES).for_each(|_| log.write(&line("/download/a", &edge())));
        drop(log);
        let written = writer.join().unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), LINES);
    }

    #[test]
    fn what_nobody_writes_is_bounded_and_holds_up_no_end() {
        let waiting = Arc::<Waiting>::default();
        let log = CallLog {
            waiting: Arc::clone(&waiting),
            lost: Counter::noop(),
            shown: ShownAddress::Full,
            is_on: true,
        };
        let long = "x".repeat(100_000);
        (0..200).for_each(|_| log.write(&line(&long, &edge())));
        drop(log);
        let held = waiting.lines().text.len();
        assert!((7 << 20..=WAITING_BYTES_MAX).contains(&held), "{held}");
    }
}
