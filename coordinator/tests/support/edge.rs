//! An edge as the coordinator sees it: an admin port with `/readyz`, in whatever mood the test wants, and `/load`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// How an edge answers its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// 503
    Draining,
    /// 500
    Broken,
    /// 200 with a body that is sent for ever.
    Endless,
    /// Takes the request and says nothing until the mood changes.
    Silent,
    /// Closes every connection, as where the process is gone.
    Dead,
}

pub(crate) struct Edge {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    mood: Mutex<Mood>,
    /// The moods of the next probes, whatever the mood otherwise.
    script: Mutex<VecDeque<Mood>>,
    /// What it says at `/load`: JSON.
    load: Mutex<String>,
    /// Its answers' `Date`, as a field's line; empty for none.
    date: Mutex<String>,
    probes: AtomicUsize,
    connections: AtomicUsize,
    changed: Condvar,
}

impl Edge {
    pub(crate) fn start(id: &str) -> Self {
        Self::start_in(id, Mood::Good)
    }

    pub(crate) fn start_in(id: &str, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            script: Mutex::default(),
            // It was there long before the coordinator.
            load: Mutex::new(r#"{"uptime_seconds":86400}"#.to_owned()),
            date: Mutex::default(),
            probes: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            changed: Condvar::new(),
        });
        let edge =
            Self { id: id.to_owned(), address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                state.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&state);
                thread::spawn(move || state.answer_all(stream));
            }
        });
        edge
    }

    pub(crate) fn several(count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::start(&format!("edge-{number}"))).collect()
    }

    /// The address that clients are sent to: a name that tells edges apart.
    pub(crate) fn url(&self) -> String {
        format!("http://{}.example:9000", self.id)
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
        self.state.changed.notify_all();
    }

    /// What it says at `/load` from now on.
    pub(crate) fn set_load(&self, json: &str) {
        json.clone_into(&mut self.state.load.lock().unwrap());
    }

    /// What its answers say that the time is, from now on.
    pub(crate) fn set_date(&self, date: &str) {
        *self.state.date.lock().unwrap() = format!("Date: {date}\r\n");
    }

    /// Answers the next probes in these moods, then goes on as before.
    pub(crate) fn script(&self, moods: &[Mood]) {
        self.state.script.lock().unwrap().extend(moods);
    }

    /// Whether all scripted probes were made.
    pub(crate) fn is_script_over(&self) -> bool {
        self.state.script.lock().unwrap().is_empty()
    }

    /// Probes seen so far, missed ones included.
    pub(crate) fn probes(&self) -> usize {
        self.state.probes.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl State {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn answer_all(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(target) = read_head(&mut reader) {
            if target == "/load" {
                if self.answer_load(reader.get_mut()).is_none() {
                    return;
                }
                continue;
            }
            assert_eq!(target, "/readyz");
            let scripted = self.script.lock().unwrap().pop_front();
            let mood = scripted.unwrap_or_else(|| self.mood());
            self.probes.fetch_add(1, Ordering::SeqCst);
            if self.answer(reader.get_mut(), mood).is_none() {
                return;
            }
        }
    }

    fn answer_load(&self, stream: &mut TcpStream) -> Option<()> {
        let load = self.load.lock().unwrap().clone();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{load}", load.len()).ok()
    }

    /// `None` where the connection is to be closed.
    fn answer(&self, stream: &mut TcpStream, mood: Mood) -> Option<()> {
        let (status, length) = match mood {
            Mood::Good => ("200 OK", "2"),
            Mood::Draining => ("503 Service Unavailable", "2"),
            Mood::Broken => ("500 Internal Server Error", "2"),
            Mood::Endless => ("200 OK", "1000000000000"),
            Mood::Dead => return None,
            Mood::Silent => {
                let mood = self.mood.lock().unwrap();
                let _mood = self.changed.wait_while(mood, |mood| *mood == Mood::Silent).unwrap();
                return None;
            }
        };
        let date = self.date.lock().unwrap().clone();
        write!(stream, "HTTP/1.1 {status}\r\n{date}Content-Length: {length}\r\n\r\n{{}}").ok()?;
        if mood != Mood::Endless {
            return Some(());
        }
        loop {
            stream.write_all(&[b' '; 4096]).ok()?;
        }
    }
}

/// The target of the next request; `None` at the connection's end.
fn read_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    lines.find(String::is_empty)?;
    Some(target)
}
