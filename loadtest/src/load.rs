//! Constant load: clients that fetch files at random through the coordinators, follow redirects, and go back to a
//! coordinator with a Range when a transfer breaks, until they are stopped. Every byte is compared with what it should be.
//!
//! What a client meets on its way is no failure: connections refused, silence, bodies cut short, 503. A failure is a
//! wrong byte, or a download that does not end in time.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::client::{Body, Head, Request};
use crate::cluster::{Cluster, Member};
use crate::wait::wait_until;

/// Sizes of the files: this, and each twice the one before, up to 8 MiB.
const SIZE_MIN: u64 = 1 << 10;
const SIZES: usize = 14;
/// A whole download, whatever breaks on its way. Twice as long as anything should last.
const COMPLETE_WITHIN: Duration = Duration::from_secs(60);
/// A server that says nothing for so long is left.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Between two tries of one download.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two downloads of a client: the cores are the programs', too.
const PACE: Duration = Duration::from_millis(10);
/// A transfer is under way, for who waits for one, while this much of it is to come.
const LEFT_MIN: usize = 1 << 20;
/// Edge, coordinator, and so on: more than the hops that a token has.
const REDIRECTS_MAX: usize = 12;

/// Names and sizes of `count` files, of 1 KiB to 8 MiB.
pub fn files(count: usize) -> impl Iterator<Item = (String, u64)> {
    (0..count).map(|number| (format!("load/{number}.bin"), SIZE_MIN << (number % SIZES)))
}

/// A client was sent to an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// When the answer came that says so.
    pub at: Instant,
    /// Counted from 0.
    pub edge: usize,
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Report {
    /// That ended well.
    pub downloads: u64,
    /// Of those, the ones that went on with a Range after a break.
    pub resumed: u64,
    /// Tries that broke, before or amid bytes.
    pub breaks: u64,
    pub failures: Vec<String>,
}

/// Clients at work. Dropping it stops them.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// `http://host:port`
    coordinators: Vec<String>,
    edges: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    stop: AtomicBool,
    downloads: AtomicU64,
    resumed: AtomicU64,
    breaks: AtomicU64,
    failures: Mutex<Vec<String>>,
    redirects: Mutex<Vec<Redirect>>,
    /// Transfers under way, by edge.
    under_way: Vec<AtomicU64>,
}

impl Load {
    /// So many clients, over all coordinators, each of which begins at another; for the files the cluster was started with.
    pub fn start(cluster: &Cluster, clients: usize) -> Self {
        let everywhere: Vec<usize> = (0..cluster.coordinators().len()).collect();
        Self::start_at(cluster, clients, &everywhere)
    }

    /// The same, by some of the coordinators only.
    pub fn start_at(cluster: &Cluster, clients: usize, coordinators: &[usize]) -> Self {
        let at = |index: &usize| cluster.coordinators()[*index].url();
        let files = cluster.files().iter();
        let shared = Arc::new(Shared {
            coordinators: coordinators.iter().map(at).collect(),
            edges: cluster.edges().iter().map(Member::url).collect(),
            files: files.map(|(name, content)| (name.clone(), content.bytes(0..content.size()))).collect(),
            stop: AtomicBool::new(false),
            downloads: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
            failures: Mutex::default(),
            redirects: Mutex::default(),
            under_way: cluster.edges().iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let client = |number: usize| {
            let client = Client { shared: Arc::clone(&shared), number, coordinator: number };
            thread::spawn(move || client.run())
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// Downloads that have ended well so far.
    pub fn downloads(&self) -> u64 {
        self.shared.downloads.load(Ordering::Relaxed)
    }

    /// Where clients were sent from a moment on.
    pub fn redirects_since(&self, moment: Instant) -> Vec<Redirect> {
        let redirects = self.shared.redirects();
        redirects[redirects.partition_point(|redirect| redirect.at < moment)..].to_vec()
    }

    /// Waits until so many more downloads have ended well, and fails where one has failed.
    ///
    /// # Errors
    /// They do not come, or a download failed.
    pub fn wait_for(&self, more: u64) -> anyhow::Result<()> {
        let wanted = self.downloads() + more;
        wait_until(&format!("{more} more downloads have ended"), || {
            let failures = self.shared.failures();
            ensure!(failures.is_empty(), "downloads failed: {failures:#?}");
            Ok(self.downloads() >= wanted)
        })
    }

    /// Waits until clients are sent to an edge.
    ///
    /// # Errors
    /// They are not.
    pub fn wait_for_redirect_to(&self, edge: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        wait_until(&format!("clients are sent to edge {edge} again"), || {
            Ok(self.redirects_since(begun).iter().any(|redirect| redirect.edge == edge))
        })
    }

    /// Waits until an edge is amid a transfer that will go on for a while.
    ///
    /// # Errors
    /// It is never.
    pub fn wait_for_transfer_at(&self, edge: usize) -> anyhow::Result<()> {
        wait_until(&format!("edge {edge} is amid a transfer"), || {
            Ok(self.shared.under_way[edge].load(Ordering::Relaxed) > 0)
        })
    }

    /// Lets every client end what it has begun.
    ///
    /// # Errors
    /// A download failed, or there was none.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.stop();
        let shared = &self.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let report = Report {
            downloads: count(&shared.downloads),
            resumed: count(&shared.resumed),
            breaks: count(&shared.breaks),
            failures: std::mem::take(&mut *shared.failures()),
        };
        ensure!(report.failures.is_empty(), "downloads failed: {report:#?}");
        ensure!(report.downloads > 0, "nothing was downloaded: {report:#?}");
        Ok(report)
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            if client.join().is_err() {
                self.shared.failures().push("a client panicked".to_owned());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn failures(&self) -> MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redirects(&self) -> MutexGuard<'_, Vec<Redirect>> {
        self.redirects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a client is sent, and gives the edge, if it is to one. The time is taken under the lock, so that all are in order.
    fn note(&self, location: &str) -> Option<usize> {
        let is_at =
            |url: &String| location.strip_prefix(url.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let edge = self.edges.iter().position(is_at)?;
        let mut redirects = self.redirects();
        redirects.push(Redirect { at: Instant::now(), edge });
        Some(edge)
    }
}

/// A transfer under way, counted until this is dropped.
struct UnderWay<'c>(&'c AtomicU64);

impl<'c> UnderWay<'c> {
    fn begin(counter: &'c AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Client {
    shared: Arc<Shared>,
    /// Each is a user of its own: no user has all of an edge's places in the store.
    number: usize,
    /// The one to be asked next; any number.
    coordinator: usize,
}

/// A download under way.
struct Progress<'f> {
    name: &'f str,
    expected: &'f [u8],
    received: usize,
    etag: String,
}

/// Why a try ended short.
enum Broken {
    /// As networks and servers break.
    Again(anyhow::Error),
    /// As nothing may.
    Wrong(anyhow::Error),
}

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Self::Again(error)
    }
}

impl Client {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::Relaxed) {
            let (name, expected) = &shared.files[rand::random_range(0..shared.files.len())];
            let mut progress = Progress { name, expected, received: 0, etag: String::new() };
            match self.download(&mut progress) {
                Ok(()) => drop(shared.downloads.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    let received = progress.received;
                    shared.failures().push(format!("{name}, after {received} bytes: {error:#}"));
                }
            }
            thread::sleep(PACE);
        }
    }

    fn download(&mut self, progress: &mut Progress<'_>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut is_resumed = false;
        loop {
            let fault = match self.attempt(progress) {
                Ok(()) => break,
                Err(Broken::Wrong(error)) => return Err(error),
                Err(Broken::Again(error)) => error,
            };
            self.shared.breaks.fetch_add(1, Ordering::Relaxed);
            is_resumed |= progress.received > 0;
            if begun.elapsed() > COMPLETE_WITHIN {
                return Err(fault.context(format!("not complete within {COMPLETE_WITHIN:?}")));
            }
            // Another coordinator may know better, or live.
            self.coordinator += 1;
            thread::sleep(PAUSE);
        }
        self.coordinator += 1;
        self.shared.resumed.fetch_add(u64::from(is_resumed), Ordering::Relaxed);
        Ok(())
    }

    /// From a coordinator to the bytes that are missing.
    fn attempt(&self, progress: &mut Progress<'_>) -> Result<(), Broken> {
        let coordinators = &self.shared.coordinators;
        let coordinator = &coordinators[self.coordinator % coordinators.len()];
        let mut url = format!("{coordinator}/download/{}?user_id=load-{}", progress.name, self.number);
        let mut edge = None;
        for _ in 0..REDIRECTS_MAX {
            let mut request = Request::new("GET", &url).patience(SILENCE_MAX);
            if progress.received > 0 {
                let from = format!("{}-", progress.received);
                request = request.range(&from).field("If-Range", &progress.etag);
            }
            let (head, mut connection) = request.open()?;
            if head.status == 302 {
                head.field("location").context("a redirect without Location")?.clone_into(&mut url);
                edge = self.shared.note(&url);
                continue;
            }
            if !matches!(head.status, 200 | 206) {
                return Err(Broken::Again(anyhow::anyhow!("status {} at {url}", head.status)));
            }
            progress.begin(&head).map_err(Broken::Wrong)?;
            let edge = edge.context("bytes from who is no edge").map_err(Broken::Wrong)?;
            let body = connection.body(&head, "GET").map_err(Broken::Wrong)?;
            return progress.read(body, &self.shared.under_way[edge]);
        }
        Err(Broken::Again(anyhow::anyhow!("more than {REDIRECTS_MAX} redirects, the last to {url}")))
    }
}

impl Progress<'_> {
    /// Judges an answer's head against what was received before it.
    fn begin(&mut self, head: &Head) -> anyhow::Result<()> {
        let etag = head.field("etag").context("an answer without ETag")?;
        if self.received == 0 {
            ensure!(head.status == 200, "status {} for a plain GET", head.status);
            etag.clone_into(&mut self.etag);
            return Ok(());
        }
        ensure!(etag == self.etag, "the ETag changed from {} to {etag}", self.etag);
        let range = head.field("content-range").unwrap_or_default();
        let expected = format!("bytes {}-", self.received);
        if head.status != 206 || !range.starts_with(&expected) {
            bail!("status {} with Content-Range {range:?} for {expected:?}", head.status);
        }
        Ok(())
    }

    fn read(&mut self, mut body: Body<'_>, counter: &AtomicU64) -> Result<(), Broken> {
        let mut buffer = vec![0; 64 << 10];
        let mut under_way = None;
        loop {
            let count = body.read(&mut buffer).map_err(|error| Broken::Again(error.into()))?;
            if count == 0 {
                break;
            }
            let end = self.received + count;
            if self.expected.get(self.received..end) != Some(&buffer[..count]) {
                let fault = anyhow::anyhow!("bytes {}..{end} are not the file's", self.received);
                return Err(Broken::Wrong(fault));
            }
            self.received = end;
            if self.expected.len() - end < LEFT_MIN {
                under_way = None;
            } else if under_way.is_none() {
                under_way = Some(UnderWay::begin(counter));
            }
        }
        if self.received < self.expected.len() {
            let fault = anyhow::anyhow!("{} bytes, and the answer is complete", self.received);
            return Err(Broken::Wrong(fault));
        }
        Ok(())
    }
}
