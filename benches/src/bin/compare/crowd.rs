//! Clients of our own, for what wrk cannot be: many at a time that wait, that never read, that idle, or that fetch each
//! file once. One thread, sockets that do not block.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address: a source has 28,000 ports to a server's.
const PER_SOURCE: usize = 5_000;
const BUFFER_BYTES: usize = 256 * 1024;
/// How much is read of one client before others have their turn, in buffers.
const READS_A_TURN: usize = 4;
/// What a client receives before it reads: the least that the kernel gives.
const SMALL_BUFFER: usize = 1;
/// A segment of Ethernet's. Loopback's are 64 KiB, of which the kernel lets a server put 2.6 MB into a connection at
/// once: four hundred that stall would fill what it allows TCP in all.
const SEGMENT_BYTES: u32 = 1460;
/// How often whoever waits for clients looks at the time.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Clients, each with a connection on which it asks for one file after the other.
pub(crate) struct Crowd {
    server: SocketAddrV4,
    reading: Reading,
    clients: Vec<Client>,
    queue: VecDeque<String>,
    outcome: Outcome,
}

/// Whether clients are made for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Fast,
    /// They hold the server up at once, as a client far away that does not read.
    Never,
}

/// What a crowd was given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Bodies that came whole.
    pub(crate) answers: u64,
    /// Of those, and of what came of others.
    pub(crate) body_bytes: u64,
    /// Answers that were no 200, or ended short.
    pub(crate) failures: u64,
    pub(crate) seconds: f64,
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
    answer: Answer,
}

enum Answer {
    Head(Vec<u8>),
    Body {
        left: u64,
    },
    /// Nothing more is wanted of this connection.
    Over,
}

/// What a client has come to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Waits,
    Answered,
    Failed,
}

impl Crowd {
    /// Connects one client for each target.
    ///
    /// # Errors
    /// No descriptors or ports.
    pub(crate) fn connect(
        server: SocketAddrV4,
        targets: &[String],
        reading: Reading,
    ) -> anyhow::Result<Self> {
        Self::with_queue(server, targets.len(), targets.iter().cloned().collect(), reading)
    }

    fn with_queue(
        server: SocketAddrV4,
        clients: usize,
        mut queue: VecDeque<String>,
        reading: Reading,
    ) -> anyhow::Result<Self> {
        let connected = (0..clients).map_while(|number| {
            let target = queue.pop_front()?;
            Some(Client::connect(server, number, reading, &target))
        });
        let clients = connected.collect::<io::Result<_>>().context("cannot connect")?;
        Ok(Self { server, reading, clients, queue, outcome: Outcome::default() })
    }

    /// Has every client send its request; none reads. Says how many could: a server that is stuck takes no connection
    /// beyond its backlog.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn ask(&mut self, patience: Duration) -> anyhow::Result<usize> {
        let deadline = Instant::now() + patience;
        loop {
            for client in self.clients.iter_mut().filter(|client| !client.has_asked()) {
                if client.send().is_err() {
                    client.answer = Answer::Over;
                }
            }
            let asked = self.clients.iter().filter(|client| client.has_asked()).count();
            let waits = |client: &&Client| !client.has_asked() && !client.is_over();
            if Instant::now() >= deadline || !self.clients.iter().any(|client| waits(&client)) {
                return Ok(asked);
            }
            let mut waiting: Vec<_> = self.clients.iter().filter(waits).map(Client::interest).collect();
            wait(&mut waiting)?;
        }
    }

    /// Asks and reads until every target was fetched, or patience is over. Connections stay open.
    ///
    /// # Errors
    /// The system's, or the server refuses connections.
    pub(crate) fn fetch(&mut self, patience: Duration) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.clients.iter().any(|client| !client.is_over()) && began.elapsed() < patience {
            let busy: Vec<usize> =
                (0..self.clients.len()).filter(|&at| !self.clients[at].is_over()).collect();
            let mut interests: Vec<_> = busy.iter().map(|&at| self.clients[at].interest()).collect();
            wait(&mut interests)?;
            let ready: Vec<usize> = busy
                .iter()
                .zip(&interests)
                .filter(|(_, interest)| !interest.revents().is_empty())
                .map(|(&at, _)| at)
                .collect();
            for at in ready {
                let step = self.clients[at].step(&mut buffer, &mut self.outcome.body_bytes);
                self.go_on(at, step)?;
            }
        }
        self.outcome.seconds = began.elapsed().as_secs_f64();
        Ok(self.outcome)
    }

    /// Connections that the server has not closed.
    pub(crate) fn open(&self) -> usize {
        let is_open = |client: &&Client| matches!(client.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.clients.iter().filter(is_open).count()
    }

    /// Counts what a client has come to, and gives it the next target if there is one.
    fn go_on(&mut self, at: usize, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Waits => return Ok(()),
            Step::Answered => self.outcome.answers += 1,
            Step::Failed => self.outcome.failures += 1,
        }
        let Some(target) = self.queue.pop_front() else {
            self.clients[at].answer = Answer::Over;
            return Ok(());
        };
        if step == Step::Answered {
            self.clients[at].ask_for(self.server, &target);
        } else {
            self.clients[at] = Client::connect(self.server, at, self.reading, &target)?;
        }
        Ok(())
    }
}

/// Fetches every target once over so many connections, for `patience` at most.
///
/// # Errors
/// As [`Crowd::fetch`].
pub(crate) fn fetch_each(
    server: SocketAddrV4,
    targets: Vec<String>,
    connections: usize,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    Crowd::with_queue(server, connections, targets.into(), Reading::Fast)?.fetch(patience)
}

impl Client {
    fn connect(server: SocketAddrV4, number: usize, reading: Reading, target: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if reading == Reading::Never {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            socket.set_tcp_mss(SEGMENT_BYTES)?;
        }
        // Closed, it keeps no port waiting: the next crowd comes before a minute has gone.
        socket.set_linger(Some(Duration::ZERO))?;
        let source = u8::try_from(2 + number / PER_SOURCE).map_err(io::Error::other)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, source), 0).into())?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let mut client = Self { stream, request: Vec::new(), sent: 0, answer: Answer::Over };
        client.ask_for(server, target);
        Ok(client)
    }

    fn ask_for(&mut self, server: SocketAddrV4, target: &str) {
        self.request = format!("GET {target} HTTP/1.1\r\nHost: {server}\r\n\r\n").into_bytes();
        self.sent = 0;
        self.answer = Answer::Head(Vec::new());
    }

    fn has_asked(&self) -> bool {
        self.sent == self.request.len()
    }

    fn is_over(&self) -> bool {
        matches!(self.answer, Answer::Over)
    }

    fn interest(&self) -> PollFd<'_> {
        let wanted = if self.has_asked() { PollFlags::IN } else { PollFlags::OUT };
        PollFd::new(&self.stream, wanted)
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.has_asked() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                // Not connected yet, or the server takes no more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends and reads what can be without waiting.
    fn step(&mut self, buffer: &mut [u8], body_bytes: &mut u64) -> Step {
        if self.send().is_err() {
            return Step::Failed;
        }
        for _ in 0..READS_A_TURN {
            match self.stream.read(buffer) {
                Ok(0) => return Step::Failed,
                Ok(count) => match self.take(&buffer[..count], body_bytes) {
                    Ok(true) => return Step::Answered,
                    Ok(false) => {}
                    Err(_) => return Step::Failed,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                Err(_) => return Step::Failed,
            }
        }
        Step::Waits
    }

    /// Takes received bytes in; says whether the answer is whole.
    fn take(&mut self, bytes: &[u8], body_bytes: &mut u64) -> anyhow::Result<bool> {
        let mut of_body = bytes.len() as u64;
        if let Answer::Head(head) = &mut self.answer {
            head.extend_from_slice(bytes);
            let Some((head_bytes, left)) = body_of(head)? else { return Ok(false) };
            of_body = (head.len() - head_bytes) as u64;
            self.answer = Answer::Body { left };
        }
        let Answer::Body { left } = &mut self.answer else { bail!("bytes that nobody asked for") };
        ensure!(of_body <= *left, "more than the answer");
        *left -= of_body;
        *body_bytes += of_body;
        Ok(*left == 0)
    }
}

/// Of a head that has come whole: its own length and its body's.
///
/// # Errors
/// It is no 200, or no head.
fn body_of(bytes: &[u8]) -> anyhow::Result<Option<(usize, u64)>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
    ensure!(response.code == Some(200), "answered {:?}", response.code);
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("no Content-Length")?;
    Ok(Some((head_bytes, std::str::from_utf8(length.value)?.parse()?)))
}

/// Waits until one of them is ready, or a little while.
fn wait(interests: &mut [PollFd<'_>]) -> io::Result<()> {
    match poll(interests, Some(&LOOK_EVERY)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Answers so many connections, each until it ends, with what `answer` gives for a target.
    fn serve(connections: usize, answer: fn(&str) -> String) -> SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    let mut line = String::new();
                    while stream.read_line(&mut line).unwrap_or(0) > 0 {
                        if let Some(target) =
                            line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next())
                        {
                            stream.get_mut().write_all(answer(target).as_bytes()).unwrap();
                        }
                        line.clear();
                    }
                });
            }
        });
        address
    }

    fn body(bytes: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
    }

    #[test]
    fn every_target_is_fetched_once_and_whole() {
        let server = serve(3, |target| body(target.len() * 100_000));
        let targets: Vec<String> = (0..20).map(|number| format!("/{number:04}")).collect();
        let fetched = fetch_each(server, targets, 3, PATIENCE).unwrap();
        assert_eq!((fetched.answers, fetched.body_bytes, fetched.failures), (20, 20 * 500_000, 0));
    }

    #[test]
    fn what_is_refused_or_ends_short_is_a_failure() {
        let server = serve(4, |target| match target {
            "/refused" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/long" => body(10) + "y",
            _ => body(10),
        });
        let targets = ["/a", "/refused", "/b", "/long", "/c"].map(str::to_owned);
        let fetched = fetch_each(server, targets.into(), 1, PATIENCE).unwrap();
        assert_eq!((fetched.answers, fetched.failures), (3, 2));
    }

    #[test]
    fn a_crowd_that_asks_and_waits_stays_connected() {
        let server = serve(5, |_| body(10));
        let targets = vec!["/a".to_owned(); 5];
        let mut crowd = Crowd::connect(server, &targets, Reading::Never).unwrap();
        assert_eq!(crowd.ask(PATIENCE).unwrap(), 5);
        let fetched = crowd.fetch(PATIENCE).unwrap();
        assert_eq!((fetched.answers, crowd.open()), (5, 5));
    }
}
