//! A server of generated files that lies in one way, or tells the truth in odd ones.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sluice_loadtest::Content;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// None, in ways that clients seldom meet: interim answers, weak ETags, redirections that are relative, errors in
    /// chunks.
    OddManners,
    /// The first answer for a file has one byte that is another.
    AtFirst,
    /// One byte of so many, over all answers, is another.
    OneByteIn(u64),
    /// Bodies end a byte before they should, and with them their connections.
    Truncated,
    /// `Content-Length` is a byte less than the file has.
    Shorter,
    /// Every file is empty.
    Empty,
    /// The range begins a byte later than was asked for, and says so.
    OtherRange,
    /// The range begins a byte later, and says that it does not.
    OtherBytes,
    /// A Range is ignored.
    WholeFile,
    /// The second answer for a file and those after it have another ETag.
    OtherEtag,
    /// Each connection has ETags of its own.
    EtagByConnection,
    /// The second answer for a file and those after it come so late.
    Late(Duration),
}

pub struct Liar {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    lie: Lie,
    size: u64,
    bytes: AtomicU64,
    connections: AtomicU64,
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
            connections: AtomicU64::new(0),
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

/// What is asked for, and on which connection.
#[derive(Default)]
struct Asked {
    connection: u64,
    name: String,
    range: Option<(u64, u64)>,
    has_if_range: bool,
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        loop {
            let mut asked = Asked { connection, ..Asked::default() };
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(rest) = line.strip_prefix("GET /") {
                    asked.name = rest.split(' ').next()?.to_owned();
                } else if let Some(range) = line.trim_end().strip_prefix("Range: bytes=") {
                    let (first, last) = range.split_once('-')?;
                    asked.range = Some((first.parse().ok()?, last.parse().ok()?));
                } else if line.starts_with("If-Range: ") {
                    asked.has_if_range = true;
                } else if line == "\r\n" {
                    break;
                }
            }
            self.answer(reader.get_mut(), &asked)?;
        }
    }

    fn answer(&self, stream: &mut TcpStream, asked: &Asked) -> Option<()> {
        let before = self.answers_before(&asked.name);
        if let Lie::Late(time) = self.lie
            && before > 0
            && asked.name.ends_with(".bin")
        {
            thread::sleep(time);
        }
        let has_odd_manners = self.lie == Lie::OddManners;
        if has_odd_manners && !asked.name.starts_with("moved/") {
            return busy_or_moved(stream, &asked.name, before);
        }
        let content = self.content(asked.name.trim_start_matches("moved/"));
        let etag = match self.lie {
            Lie::OtherEtag => format!("\"{}\"", before.min(1)),
            Lie::EtagByConnection => format!("\"{}\"", asked.connection),
            Lie::OddManners => "W/\"0\"".to_owned(),
            _ => "\"0\"".to_owned(),
        };
        // A weak ETag is never the one that If-Range needs.
        let is_ignored = self.lie == Lie::WholeFile || (has_odd_manners && asked.has_if_range);
        let range = asked.range.filter(|_| !is_ignored);
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
        if self.lie == Lie::Empty {
            body.clear();
        }
        let length = body.len() - usize::from(self.lie == Lie::Shorter);
        head += &format!("ETag: {etag}\r\nContent-Length: {length}\r\n\r\n");
        let begun = self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if let Lie::OneByteIn(every) = self.lie {
            let wrong = every - 1 - begun % every;
            if let Some(byte) = body.get_mut(usize::try_from(wrong).unwrap()) {
                *byte ^= 0x10;
            }
        }
        if self.lie == Lie::AtFirst && before == 0 {
            body[0] ^= 0x10;
        }
        if has_odd_manners {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: <style.css>\r\n\r\n").ok()?;
        }
        stream.write_all(head.as_bytes()).ok()?;
        if self.lie == Lie::Truncated {
            stream.write_all(&body[..length - 1]).ok()?;
            return None;
        }
        stream.write_all(&body[..length]).ok()
    }

    fn answers_before(&self, name: &str) -> u64 {
        let mut answers = self.answers.lock().unwrap();
        let count = answers.entry(name.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    fn content(&self, name: &str) -> Arc<Vec<u8>> {
        let mut contents = self.contents.lock().unwrap();
        let made = || Arc::new(Content::new(name, self.size).bytes(0..self.size));
        Arc::clone(contents.entry(name.to_owned()).or_insert_with(made))
    }
}

/// An error whose body comes in chunks, and at the next time a redirection that is relative.
fn busy_or_moved(stream: &mut TcpStream, name: &str, before: u64) -> Option<()> {
    let answer = match before % 2 {
        0 => "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n".to_owned(),
        _ => format!("HTTP/1.1 302 Found\r\nLocation: ../moved/{name}\r\nContent-Length: 0\r\n\r\n"),
    };
    stream.write_all(answer.as_bytes()).ok()
}
