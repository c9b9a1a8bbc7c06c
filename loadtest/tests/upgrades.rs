//! One process takes over from another under load: nobody is refused, no connection is reset, nothing is counted twice.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use sluice_loadtest::caller::Link;
use sluice_loadtest::client::{Connection, Request, get_here};
use sluice_loadtest::crowd::{Person, request_of, target_of};
use sluice_loadtest::process::{Process, Signal};
use sluice_loadtest::solo_edge::SoloEdge;
use sluice_loadtest::{Cluster, Content, wait_until};

const SMALL: u64 = 9_000;
/// More than sockets hold: it is read on only after the upgrades.
const LARGE: u64 = 96 << 20;
const CLIENTS_OF_A_KIND: usize = 3;
const VISITORS: Person = 3;
/// Between two requests of one client: the machine has other tests.
const PACE: Duration = Duration::from_millis(2);

/// Clients that go on until they are told to stop; the first fault of any is the test's.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    fn new() -> Self {
        Self { stop: Arc::default(), answers: Arc::default(), clients: Vec::new() }
    }

    fn run(&mut self, mut ask: impl FnMut() -> anyhow::Result<()> + Send + 'static) {
        let (stop, answers) = (Arc::clone(&self.stop), Arc::clone(&self.answers));
        self.clients.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                ask()?;
                answers.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PACE);
            }
            Ok(())
        }));
    }

    /// Waits until so many more answers have come, or a client has failed.
    fn go_on_for(&mut self, answers: u64) -> anyhow::Result<()> {
        let from = self.answers.load(Ordering::Relaxed);
        wait_until("clients were answered", || {
            if let Some(ended) = self.clients.iter().position(JoinHandle::is_finished) {
                self.clients.remove(ended).join().expect("a client does not panic")?;
            }
            Ok(self.answers.load(Ordering::Relaxed) >= from + answers)
        })
    }

    fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic")?;
        }
        Ok(())
    }
}

/// Asks on one connection until its server closes it by an answer, then on another.
fn kept(
    address: String,
    target: String,
    check: impl Fn(&[u8]) -> anyhow::Result<()> + Send + 'static,
) -> impl FnMut() -> anyhow::Result<()> + Send {
    let mut connection = None;
    move || {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(&address)?,
        };
        open.send(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let answer = open.read_answer("GET").context("on a kept connection")?;
        ensure!(answer.status() == 200, "status {}: {}", answer.status(), answer.text());
        check(&answer.body)?;
        let is_closed =
            answer.head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        connection = (!is_closed).then_some(open);
        Ok(())
    }
}

#[test]
fn an_edge_is_upgraded_three_times_and_no_client_notices() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let (small, large) = (Content::new("small.bin", SMALL), Content::new("large.bin", LARGE));
    small.write(&root.path().join("small.bin"))?;
    large.write(&root.path().join("large.bin"))?;
    let mut edge = SoloEdge::start(root.path(), |edge| {
        edge.threads(2).toml("control_socket = \"run/edge.sock\"\nlimits.idle_timeout = \"5s\"")
    })?;
    let (head, mut download) = edge.request("large.bin", "ann")?.open()?;
    assert_eq!(head.status, 200);
    let mut begun = vec![0; 1 << 20];
    let mut body = download.body(&head, "GET")?;
    body.read_exact(&mut begun)?;

    let mut load = Load::new();
    let expected = small.bytes(0..SMALL);
    for _ in 0..CLIENTS_OF_A_KIND {
        let (request, bytes) = (edge.request("small.bin", "bob")?, expected.clone());
        load.run(move || {
            let answer = request.send()?;
            ensure!(answer.status() == 200 && answer.body == bytes, "status {}", answer.status());
            Ok(())
        });
        let bytes = expected.clone();
        load.run(kept(edge.address(), edge.target("small.bin", "cy")?, move |body| {
            ensure!(body == bytes, "another body");
            Ok(())
        }));
    }
    // More workers than there are listeners, then fewer.
    let config = edge.keys_path().with_file_name("edge-1.toml");
    let mut predecessors = Vec::new();
    for threads in [4, 1, 2] {
        load.go_on_for(300)?;
        let text: Vec<String> =
            fs::read_to_string(&config)?
                .lines()
                .map(|line| {
                    if line.starts_with("threads") { format!("threads = {threads}") } else { line.to_owned() }
                })
                .collect();
        fs::write(&config, text.join("\n"))?;
        predecessors.push(edge.member().upgrade()?);
    }
    load.go_on_for(300)?;
    load.finish()?;

    let mut first = predecessors.remove(0);
    for mut later in predecessors {
        ensure!(later.wait()?.success(), "a predecessor whose clients have gone ends well");
    }
    ensure!(first.is_running()?, "the download is the first process's");
    body.read_to_end(&mut begun)?;
    large.check_whole(&begun)?;
    drop(download);
    ensure!(first.wait()?.success(), "it ends well after its last client");
    assert_eq!(edge.get("small.bin")?.status(), 200);
    let instance = edge.member().instance()?;
    assert_eq!(edge.load()?["instance"], json!(instance));
    assert!(edge.log()?.contains(&format!("\"instance\":\"{instance}\"")), "the log names it");
    Ok(())
}

#[test]
fn a_successor_that_cannot_start_leaves_everything_as_it_was() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    Content::new("small.bin", SMALL).write(&root.path().join("small.bin"))?;
    let mut edge = SoloEdge::start(root.path(), |edge| edge.toml("control_socket = \"run/edge.sock\""))?;
    let before = edge.member().instance()?;
    let mut load = Load::new();
    let request = edge.request("small.bin", "bob")?;
    load.run(move || {
        let answer = request.send()?;
        ensure!(answer.status() == 200, "status {}", answer.status());
        Ok(())
    });
    let config = edge.keys_path().with_file_name("edge-1.toml");
    let text = fs::read_to_string(&config)?;
    // Found out only once it has the listeners: it listens where its predecessor does not.
    let elsewhere = text.replacen("127.0.0.1", "127.0.0.2", 1);
    for changed in [text.replace("64MiB", "1MiB"), elsewhere] {
        ensure!(changed != text, "the configuration is changed");
        fs::write(&config, changed)?;
        let mut running = edge.member().process().start_beside()?;
        ensure!(!edge.member().process().wait()?.success(), "the successor ends with an error");
        ensure!(running.is_running()?);
        *edge.member().process() = running;
        load.go_on_for(50)?;
    }
    assert_eq!(edge.member().instance()?, before);
    let log = edge.log()?;
    assert!(log.contains("listens on 127.0.0.1:"), "{log}");
    fs::write(&config, text)?;
    let mut predecessor = edge.member().upgrade()?;
    load.go_on_for(50)?;
    load.finish()?;
    ensure!(predecessor.wait()?.success());
    Ok(())
}

#[test]
fn a_predecessor_that_is_killed_leaves_its_queue_to_the_next() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    Content::new("small.bin", SMALL).write(&root.path().join("small.bin"))?;
    let mut edge = SoloEdge::start(root.path(), |edge| edge.toml("control_socket = \"run/edge.sock\""))?;
    edge.member().process().kill()?;
    // What it left in the file system keeps nobody from starting.
    edge.member().restart()?;
    assert_eq!(edge.get("small.bin")?.status(), 200);
    // It still can be taken over from.
    let mut predecessor = edge.member().upgrade()?;
    ensure!(predecessor.wait()?.success());
    assert_eq!(edge.get("small.bin")?.status(), 200);
    Ok(())
}

/// People who come for one counted link, each once, for as long as the load runs; says how many it let through.
fn visit(load: &mut Load, link: &str) -> Arc<AtomicU64> {
    let let_through = Arc::new(AtomicU64::new(0));
    for first in 0..VISITORS {
        let (link, let_through) = (link.to_owned(), Arc::clone(&let_through));
        let mut person = first;
        load.run(move || {
            let answer = request_of(person, &link).send().with_context(|| format!("person {person}"))?;
            match answer.status() {
                302 => let_through.fetch_add(1, Ordering::Relaxed),
                403 => 0,
                status => bail!("person {person}: {status} {}", answer.text()),
            };
            person += VISITORS;
            Ok(())
        });
    }
    let_through
}

fn upgrade_coordinators(mut cluster: Cluster) -> anyhow::Result<()> {
    const DOWNLOADS_MAX: u64 = 150;
    let url = cluster.coordinator().url();
    let body = json!({ "file_id": "a.bin", "max_downloads": DOWNLOADS_MAX }).to_string();
    let link = Link::of(&Request::new("POST", &format!("{url}/api/links")).body(&body))?;
    let mut load = Load::new();
    let let_through = visit(&mut load, &link.url);
    let question = format!("{url}/api/request-download?file_id=a.bin&user_id=ann");
    for _ in 0..CLIENTS_OF_A_KIND {
        let (address, target) = (cluster.coordinator().address(), target_of(&question)?.to_owned());
        load.run(kept(address, target, |_| Ok(())));
        let question = question.clone();
        load.run(move || {
            let answer = get_here(&question)?;
            ensure!(answer.status() == 200, "status {}: {}", answer.status(), answer.text());
            Ok(())
        });
    }
    let mut predecessors: Vec<Process> = Vec::new();
    for _ in 0..3 {
        load.go_on_for(100)?;
        predecessors.push(cluster.coordinator().upgrade()?);
    }
    wait_until("the link is used up", || Ok(let_through.load(Ordering::Relaxed) >= DOWNLOADS_MAX))?;
    load.go_on_for(100)?;
    load.finish()?;
    assert_eq!(let_through.load(Ordering::Relaxed), DOWNLOADS_MAX);
    for mut predecessor in predecessors {
        ensure!(predecessor.wait()?.success(), "a predecessor ends well");
    }
    cluster.coordinator().process().signal(Signal::TERM)?;
    ensure!(cluster.coordinator().process().wait()?.success(), "the last one ends as ever");
    Ok(())
}

const COORDINATOR: &str = "control_socket = \"run/coordinator.sock\"\ntrusted_proxies = [\"127.0.0.1\"]";

#[test]
fn a_coordinator_with_a_state_file_is_upgraded_and_no_call_fails() -> anyhow::Result<()> {
    let start = Cluster::start().coordinator(|coordinator| coordinator.toml(COORDINATOR));
    upgrade_coordinators(start.file("a.bin", 1000).ready()?)
}

#[test]
fn a_coordinator_with_redis_is_upgraded_and_no_call_fails() -> anyhow::Result<()> {
    let start = Cluster::start().redis().coordinator(|coordinator| coordinator.toml(COORDINATOR));
    upgrade_coordinators(start.file("a.bin", 1000).ready()?)
}
