//! Servers in this process, on threads of their own, and a client that asks them: nothing is built or started besides the
//! bench itself. They end with the process.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sluice_loadtest::{client, wait_until};

/// Waits until a server answers so.
pub(crate) fn until_answered(url: &str, status: u16) {
    wait_until("it answers", || Ok(client::get_here(url).is_ok_and(|answer| answer.status() == status)))
        .expect("it answers");
}

/// TOML, written where a program reads it.
pub(crate) fn write(path: &Path, table: &toml::Table) {
    std::fs::write(path, toml::to_string(table).expect("a table is TOML"))
        .expect("the folder can be written");
}

/// Requests that go out together, on one connection, and the bytes of their answers.
pub(crate) struct Pipeline {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Pipeline {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_nodelay(true).expect("a socket without delay");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket with a deadline");
        Self { stream, received: vec![0; 256 << 10] }
    }

    /// The head of the answer to a request; its content is still to come.
    pub(crate) fn head_of(&mut self, request: &[u8]) -> String {
        self.stream.write_all(request).expect("it is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head of plain text")
    }

    /// How many bytes the answer to this request has, which has to be a file.
    pub(crate) fn length_of(&mut self, request: &[u8]) -> usize {
        let head = self.head_of(request).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        self.skip(length);
        head.len() + length
    }

    /// Sends requests, and reads as much as their answers have.
    pub(crate) fn ask(&mut self, requests: &[u8], bytes: usize) {
        self.stream.write_all(requests).expect("they are sent");
        self.skip(bytes);
    }

    /// Sends requests, and reads until so many heads without content have ended.
    pub(crate) fn ask_heads(&mut self, requests: &[u8], count: usize) {
        self.stream.write_all(requests).expect("they are sent");
        let (mut ends, mut ended) = (HeadEnds::default(), 0);
        while ended < count {
            let received = self.stream.read(&mut self.received).expect("an answer in time");
            assert!(received > 0, "{ended} of {count} answers came");
            ended += ends.count(&self.received[..received]);
        }
    }

    fn skip(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let wanted = left.min(self.received.len());
            let received = self.stream.read(&mut self.received[..wanted]).expect("an answer in time");
            assert!(received > 0, "{left} of {bytes} bytes are missing");
            left -= received;
        }
    }
}

/// Answers every request with this, ready-made, without looking at it; gives the address.
pub(crate) fn bare(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

/// Until the client has gone.
fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut bytes, mut ends) = ([0; 64 << 10], HeadEnds::default());
    loop {
        let received = stream.read(&mut bytes)?;
        if received == 0 {
            return Ok(());
        }
        for _ in 0..ends.count(&bytes[..received]) {
            stream.write_all(answer)?;
        }
    }
}

/// Counts the ends of heads in bytes as they come.
#[derive(Default)]
struct HeadEnds(u8);

impl HeadEnds {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut ended = 0;
        for byte in bytes {
            self.0 = match (self.0, byte) {
                (0 | 2, b'\r') | (1, b'\n') => self.0 + 1,
                (3, b'\n') => {
                    ended += 1;
                    0
                }
                (_, b'\r') => 1,
                _ => 0,
            };
        }
        ended
    }
}
