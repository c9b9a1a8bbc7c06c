//! The access log: a JSON line for each request. Never a token in it.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use sluice_shared::file_id::FileId;
pub(crate) use sluice_shared::shown_address::ShownAddress;

use super::file::LogFile;
use crate::authorize::Who;
use crate::head::Content;
use crate::metrics::Counter;
use crate::request::Method;
use crate::worker::Lent;

/// A worker hands its lines over at this size, if not before for their age.
const BATCH_BYTES: usize = 48 * 1024;
/// Batches that wait to be written, of all workers; what comes when so many wait is lost.
const BATCHES_MAX: usize = 256;
/// How soon a rotated file is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Complete,
    /// The client went away.
    Client,
    /// The client took too little.
    Slow,
    /// The store failed or did not answer.
    Storage,
    /// The file was replaced meanwhile.
    Changed,
    /// The edge ended first.
    Draining,
    /// It was revoked meanwhile, and was to be cut.
    Revoked,
    /// The connection's key was used up.
    Key,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Client => "client",
            Self::Slow => "slow",
            Self::Storage => "storage",
            Self::Changed => "changed",
            Self::Draining => "draining",
            Self::Revoked => "revoked",
            Self::Key => "key",
        }
    }
}

/// How a request was answered.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) status: u16,
    pub(crate) method: Method,
    /// Of the file, where a part of it was asked.
    pub(crate) ranges: Option<&'a Content>,
    /// Of the body, as handed to the kernel.
    pub(crate) bytes: u64,
    pub(crate) first_byte: Duration,
    pub(crate) duration: Duration,
    pub(crate) ended: Ended,
}

/// A request that will be logged, and what is known of it so far.
pub(crate) struct Record {
    begun_at: SystemTime,
    /// Members of the line, each with a comma before it.
    members: Lent<Vec<u8>>,
}

impl Record {
    pub(crate) fn new(begun_at: SystemTime, members: Lent<Vec<u8>>) -> Self {
        Self { begun_at, members }
    }

    /// Notes what the token says.
    pub(crate) fn note(&mut self, file_id: &FileId<'_>, who: &Who<'_>) {
        let known = [
            ("id", who.rid.as_deref()),
            ("file", Some(file_id.as_str())),
            ("user", who.user_id.as_deref()),
            ("cid", who.cid.as_deref()),
        ];
        for (name, value) in known.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            write_to(&mut self.members, format_args!(",\"{name}\":"));
            serde_json::to_writer(&mut *self.members, value).expect("a vector takes any text");
        }
    }
}

enum Message {
    Lines {
        text: Vec<u8>,
        lines: u64,
    },
    /// Everything before this is to be written; then tell.
    Flush(Sender<()>),
}

/// The process's access log, written by a thread of its own.
pub(crate) struct AccessLog {
    batches: SyncSender<Message>,
    shown: ShownAddress,
    reopen: Arc<AtomicBool>,
    pub(crate) lost_lines: Arc<Counter>,
}

impl AccessLog {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// The file cannot be written, or there is no thread to be had.
    pub(crate) fn start(path: &Path, shown: ShownAddress) -> io::Result<Arc<Self>> {
        let file = LogFile::open(path)?;
        let (batches, waiting) = sync_channel(BATCHES_MAX);
        let (reopen, lost_lines) = (Arc::<AtomicBool>::default(), Arc::<Counter>::default());
        let writer = Writer { file, reopen: Arc::clone(&reopen), lost_lines: Arc::clone(&lost_lines) };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok(Arc::new(Self { batches, shown, reopen, lost_lines }))
    }

    /// Has the file opened anew.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits until what was handed over is written, `patience` at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let (done, written) = channel();
        if self.batches.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

struct Writer {
    file: LogFile,
    reopen: Arc<AtomicBool>,
    lost_lines: Arc<Counter>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Message>) {
        let mut has_failed = false;
        loop {
            let message = waiting.recv_timeout(LOOK_EVERY);
            if self.reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = self.file.reopen()
            {
                tracing::error!(%error, "the access log cannot be opened anew; the old file is written on");
            }
            match message {
                Ok(Message::Lines { text, lines }) => {
                    let written = self.file.append(&text);
                    if written.is_err() {
                        self.lost_lines.add(lines);
                    }
                    if let Err(error) = &written
                        && !has_failed
                    {
                        tracing::error!(%error, "the access log cannot be written; lines are lost");
                    }
                    has_failed = written.is_err();
                }
                Ok(Message::Flush(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// One worker's lines that are not handed over yet.
pub(crate) struct WorkerLog {
    log: Arc<AccessLog>,
    edge: Box<str>,
    text: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

impl WorkerLog {
    pub(crate) fn new(log: Arc<AccessLog>, edge: &str) -> Self {
        let edge = serde_json::to_string(edge).expect("a text is JSON").into();
        Self { log, edge, text: RefCell::default(), lines: Cell::new(0) }
    }

    /// Writes a request's line.
    pub(crate) fn write(&self, record: &Record, client: IpAddr, outcome: &Outcome<'_>) {
        let mut text = self.text.borrow_mut();
        let begun_at = humantime::format_rfc3339_millis(record.begun_at);
        write_to(&mut text, format_args!("{{\"time\":\"{begun_at}\""));
        text.extend_from_slice(&record.members);
        let method = match outcome.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            // A client's own words are not repeated here.
            Method::Other => "other",
        };
        let Outcome { status, bytes, first_byte, duration, ended, .. } = outcome;
        let (first_byte, duration) = (first_byte.as_secs_f64(), duration.as_secs_f64());
        write_to(&mut text, format_args!(",\"method\":\"{method}\",\"status\":{status},\"bytes\":{bytes}"));
        if let Some(content) = outcome.ranges {
            write_ranges(&mut text, content);
        }
        if let Some(address) = self.log.shown.of(client) {
            write_to(&mut text, format_args!(",\"client\":\"{address}\""));
        }
        let (edge, ended) = (&self.edge, ended.as_str());
        write_to(
            &mut text,
            format_args!(
                ",\"edge\":{edge},\"first_byte_seconds\":{first_byte:.6},\"seconds\":{duration:.6},\
                 \"ended\":\"{ended}\"}}\n"
            ),
        );
        self.lines.set(self.lines.get() + 1);
        if text.len() >= BATCH_BYTES {
            drop(text);
            self.hand_over();
        }
    }

    /// Hands over what has gathered; without waiting, so it may be lost.
    pub(crate) fn hand_over(&self) {
        let lines = self.lines.replace(0);
        if lines > 0 {
            let text = self.text.take();
            if self.log.batches.try_send(Message::Lines { text, lines }).is_err() {
                self.log.lost_lines.add(lines);
            }
        }
    }
}

/// What was sent of a file, as a `Range` field would ask for it.
fn write_ranges(text: &mut Vec<u8>, content: &Content) {
    let range = |text: &mut Vec<u8>, lead: &str, range: &Range<u64>| {
        write_to(text, format_args!("{lead}{}-{}", range.start, range.end - 1));
    };
    match content {
        Content::Range(only) => range(text, ",\"range\":\"", only),
        Content::Parts(multipart) => {
            for (place, part) in multipart.parts.iter().enumerate() {
                range(text, if place == 0 { ",\"range\":\"" } else { "," }, &part.range);
            }
        }
    }
    text.push(b'"');
}

fn write_to(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a vector takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_counted() {
        let log = AccessLog::start(Path::new("/dev/full"), ShownAddress::None).unwrap();
        let worker = WorkerLog::new(Arc::clone(&log), "edge-1");
        let pool = crate::worker::Pool::default();
        let record = Record::new(SystemTime::now(), pool.take());
        let outcome = Outcome {
            status: 200,
            method: Method::Get,
            ranges: None,
            bytes: 1,
            first_byte: Duration::ZERO,
            duration: Duration::ZERO,
            ended: Ended::Complete,
        };
        for _ in 0..3 {
            worker.write(&record, "192.0.2.1".parse().unwrap(), &outcome);
        }
        worker.hand_over();
        log.flush(Duration::from_secs(10));
        assert_eq!(log.lost_lines.value(), 3);
    }
}
