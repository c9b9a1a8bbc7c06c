//! The same cut with nginx over the same mount, to show that it is the edge that makes the difference and not a mount
//! that is kind: `sendfile` of a file that is wholly in memory asks the server, and waits for it.
//!
//! The kernel's NFS client believes a file's attributes for 3 s when it is new to it, twice as long each time they were
//! found unchanged, up to a minute (`acregmin`, `acregmax`). So the files are new ones: those of a day ago would put
//! nginx's end off, and not change it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sluice_loadtest::client::get_here;
use sluice_loadtest::ports::Port;
use sluice_loadtest::wait_until;

use crate::edge::Edge;
use crate::files::{Stored, fetch_all};
use crate::report::passed;
use crate::store::{MOUNT, Store};

const AWAY: Duration = Duration::from_secs(20);
/// From here on nginx serves nothing: the kernel asks the server for new files' attributes after 3 to 6 s.
const NOTHING_FROM: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(250);
const FILES: usize = 10;
const BYTES: u64 = 200_000;

/// Asks both servers for cached files, again and again, while the store's server is away.
pub(crate) fn compare(folder: &Path, edge: &Edge, store: &Store) -> anyhow::Result<()> {
    let files: Vec<_> = (0..FILES).map(|number| Stored::new(format!("new-{number:02}.bin"), BYTES)).collect();
    for stored in &files {
        store.publish(stored)?;
    }
    let nginx = Nginx::start(folder, &files[0])?;
    fetch_all(edge, &files)?;
    // Often, so that each of its workers has them open.
    for stored in [&files, &files, &files].into_iter().flatten() {
        let answer = get_here(&nginx.url(&stored.name))?;
        stored.content.check_whole(&answer.body).context("nginx, before the cut")?;
    }
    let asked = AWAY.as_millis() / ASK_EVERY.as_millis();
    let cut = store.cut()?;
    let since = cut.since;
    let (of_nginx, of_edge) = thread::scope(|scope| {
        let mut clients = Vec::new();
        for (number, stored) in (0..u32::try_from(asked)?).zip(files.iter().cycle()) {
            thread::sleep((since + ASK_EVERY * number).saturating_duration_since(Instant::now()));
            let urls = [nginx.url(&stored.name), edge.url(&stored.name)?];
            clients.push(urls.map(|url| scope.spawn(move || served_after(&url, stored, since))));
        }
        thread::sleep((since + AWAY).saturating_duration_since(Instant::now()));
        cut.end()?;
        // Its workers would otherwise answer, late, those who still wait.
        drop(nginx);
        let mut served = (Vec::new(), Vec::new());
        for [of_nginx, of_edge] in clients {
            served.0.extend(of_nginx.join().map_err(|_| anyhow!("a client panicked"))?);
            served.1.extend(of_edge.join().map_err(|_| anyhow!("a client panicked"))?);
        }
        anyhow::Ok(served)
    })?;
    let until = |end: Duration, served: &[Duration]| served.iter().filter(|after| **after < end).count();
    let (early, all) = (until(NOTHING_FROM, &of_nginx), until(AWAY, &of_nginx));
    let last = of_nginx.iter().filter(|after| **after < AWAY).max().copied().unwrap_or_default();
    let measured = format!("{all} of {asked} requests in {AWAY:?}, the last {last:.1?} after the cut");
    ensure!(all == early, "nginx goes on without the store's server, so the cut shows nothing: {measured}");
    passed("nginx serves nothing of what it had fetched", &measured)?;
    let edge_served = until(AWAY + Duration::from_secs(1), &of_edge);
    let measured = format!("{edge_served} of {asked} requests");
    ensure!(edge_served as u128 == asked, "the edge left some unanswered: {measured}");
    passed("the edge serves all of it in the same seconds", &measured)
}

/// How long after the cut a file came whole, if it did.
fn served_after(url: &str, stored: &Stored, cut: Instant) -> Option<Duration> {
    let answer = get_here(url).ok()?;
    let came = cut.elapsed();
    (answer.status() == 200 && stored.content.check_whole(&answer.body).is_ok()).then_some(came)
}

/// A running nginx, which a careful operator set up: `sendfile`, files kept open and looked at once a second.
struct Nginx {
    master: Child,
    port: Port,
}

impl Nginx {
    fn start(folder: &Path, file: &Stored) -> anyhow::Result<Self> {
        let port = Port::take()?;
        let (own, address) = (folder.display(), port.address());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {own}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nuser www-data;\nworker_processes 2;\npid {own}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n    sendfile on;\n    \
             tcp_nopush on;\n{temporary}    open_file_cache max=1000 inactive=60s;\n    \
             open_file_cache_valid 1s;\n    server {{ listen {address}; root {MOUNT}; }}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, config)?;
        let log = File::create(folder.join("nginx.log"))?;
        let master = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run nginx")?;
        let nginx = Self { master, port };
        let url = nginx.url(&file.name);
        wait_until("nginx serves", || Ok(get_here(&url).is_ok_and(|answer| answer.status() == 200)))?;
        Ok(nginx)
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.port.url())
    }
}

impl Drop for Nginx {
    /// Killed, workers too: asked to stop, those that wait for the store would first wait on.
    fn drop(&mut self) {
        let master = self.master.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let _ = self.master.kill();
        let _ = self.master.wait();
        for worker in children.unwrap_or_default().split_whitespace() {
            if let Some(worker) = worker.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(worker, Signal::KILL);
            }
        }
    }
}
