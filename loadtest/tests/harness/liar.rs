//! A server of generated files that lies in one way.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use sluice_loadtest::Content;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// One byte of so many, over all answers, is another.
    OneByteIn(u64),
    /// Bodies end a byte before they should, and with them their connections.
    Truncated,
    /// `Content-Length` is a byte less than the file has.
    Shorter,
    /// The range begins a byte later than was asked for, and says so.
    OtherRange,
    /// The range begins a byte later, and says that it does not.
    OtherBytes,
    /// A Range is ignored.
    WholeFile,
    /// The second answer for a file and those after it have another ETag.
    OtherEtag,
}

pub struct Liar {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    lie: Lie,
    size: u64,
    bytes: AtomicU64,
    has_ended: AtomicBool,
    contents: Mutex<HashMap<String, Arc<Vec<u8>>>>,
    answers: Mutex<HashMap<String, u64>>,
}

impl Liar {
    /// Serves any name as a file of this size.
    pub fn start(lie: Lie, size: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            lie,
            size,
            bytes: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            contents: Mutex::default(),
            answers: Mutex::default(),
        });
        let of_all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_all.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&of_all);
                // A client that breaks off ends its thread.
                thread::spawn(move || shared.serve(stream.unwrap()));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/{{file}}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let (mut name, mut range) = (String::new(), None);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(rest) = line.strip_prefix("GET /") {
                    name = rest.split(' ').next()?.to_owned();
                } else if let Some(asked) = line.trim_end().strip_prefix("Range: bytes=") {
                    let (first, last) = asked.split_once('-')?;
                    range = Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?));
                } else if line == "\r\n" {
                    break;
                }
            }
            self.answer(reader.get_mut(), &name, range)?;
        }
    }

    fn answer(&self, stream: &mut TcpStream, name: &str, range: Option<(u64, u64)>) -> Option<()> {
        let content = self.content(name);
        let before = {
            let mut answers = self.answers.lock().unwrap();
            let count = answers.entry(name.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        let etag = if self.lie == Lie::OtherEtag { before.min(1) } else { 0 };
        let range = range.filter(|_| self.lie != Lie::WholeFile);
        let (mut first, mut last) = range.unwrap_or((0, self.size - 1));
        if range.is_some() && self.lie == Lie::OtherRange {
            (first, last) = (first + 1, (last + 1).min(self.size - 1));
        }
        let mut head = match range {
            Some(_) => {
                format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {first}-{last}/{}\r\n", self.size)
            }
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        if range.is_some() && self.lie == Lie::OtherBytes {
            (first, last) = (first.saturating_sub(1), last - 1);
        }
        let mut body = content[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec();
        let length = body.len() - usize::from(self.lie == Lie::Shorter);
        head += &format!("ETag: \"{etag}\"\r\nContent-Length: {length}\r\n\r\n");
        let begun = self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if let Lie::OneByteIn(every) = self.lie {
            let wrong = every - 1 - begun % every;
            if let Some(byte) = body.get_mut(usize::try_from(wrong).unwrap()) {
                *byte ^= 0x10;
            }
        }
        stream.write_all(head.as_bytes()).ok()?;
        if self.lie == Lie::Truncated {
            stream.write_all(&body[..length - 1]).ok()?;
            return None;
        }
        stream.write_all(&body[..length]).ok()
    }

    fn content(&self, name: &str) -> Arc<Vec<u8>> {
        let mut contents = self.contents.lock().unwrap();
        let made = || Arc::new(Content::new(name, self.size).bytes(0..self.size));
        Arc::clone(contents.entry(name.to_owned()).or_insert_with(made))
    }
}
