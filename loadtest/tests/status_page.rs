//! The status page as a browser shows it: live over a real cluster, by keyboard, by day and by night, and asking nobody
//! else for anything. What others chose as names is text there.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::client::{self, Connection, Request};
use sluice_loadtest::{Cluster, tool, wait_until};

const NAME: &str = "reports/secret-name.pdf";
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// A browser, and the page in it.
struct Page {
    browser: Child,
    /// Until it is dropped.
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Page {
    fn browse(url: &str, folder: &Path) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/status_page.py");
        let mut browser = Command::new(tool::python()?)
            .arg(script)
            .arg("chromium")
            .arg(url)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = browser.stdin.take();
        let answers = BufReader::new(browser.stdout.take().context("its output is a pipe")?).lines();
        Ok(Self { browser, commands, answers })
    }

    fn tell(&mut self, command: &Value) -> anyhow::Result<Value> {
        writeln!(self.commands.as_mut().context("its input is a pipe")?, "{command}")?;
        let line = self.answers.next().context("the browser has ended")??;
        Ok(serde_json::from_str::<Value>(&line)?["answer"].take())
    }

    fn open(&mut self, scheme: &str, width: u32) -> anyhow::Result<()> {
        self.tell(&json!({ "do": "open", "scheme": scheme, "width": width }))?;
        self.until("it is live", "document.getElementById('live').textContent === 'live'")
    }

    fn evaluate(&mut self, script: &str) -> anyhow::Result<Value> {
        self.tell(&json!({ "do": "evaluate", "script": script }))
    }

    fn until(&mut self, what: &str, script: &str) -> anyhow::Result<()> {
        let came = self.tell(&json!({ "do": "until", "script": script }))?;
        ensure!(came.as_bool() == Some(true), "{what}: {}", self.text()?);
        Ok(())
    }

    fn key(&mut self, key: &str) -> anyhow::Result<()> {
        self.tell(&json!({ "do": "key", "key": key })).map(drop)
    }

    fn text(&mut self) -> anyhow::Result<String> {
        Ok(self.evaluate("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Of an edge's row, the text of a column counted from 0, as it is shown.
    fn until_edge(&mut self, id: &str, column: usize, text: &str) -> anyhow::Result<()> {
        let row = format!(
            "[...document.querySelectorAll('#edges-body tr')].find(row => row.firstChild.firstChild.textContent === {id:?})"
        );
        let script = format!("Boolean({row}?.children[{column}].textContent.includes({text:?}))");
        self.until(&format!("{id} shows {text:?}"), &script)
    }

    /// Takes a picture; to be looked at by whoever wants to.
    fn shoot(&mut self, folder: &Path, name: &str) -> anyhow::Result<()> {
        self.tell(&json!({ "do": "shoot", "name": name }))?;
        let picture = fs::read(folder.join(name))?;
        ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{name} shows something");
        if let Some(kept) = std::env::var_os("LOADTEST_PICTURES") {
            fs::copy(folder.join(name), Path::new(&kept).join(name))?;
        }
        Ok(())
    }

    /// Nothing was asked of anybody else, and the console is quiet: a policy that was broken would be told there.
    fn check_quiet(&mut self, origin: &str) -> anyhow::Result<()> {
        let said = self.tell(&json!({ "do": "said" }))?;
        let requests = said["requests"].as_array().context("a list")?;
        let is_own = |url: &Value| url.as_str().is_some_and(|url| url.starts_with(origin));
        ensure!(requests.len() >= 4 && requests.iter().all(is_own), "asked for {requests:?}");
        ensure!(said["console"] == json!([]), "the console says {}", said["console"]);
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // With its input at an end it ends the browser; killed, it would leave that behind.
        drop(self.commands.take());
        let _ = self.browser.wait();
    }
}

/// By the WCAG: how much two colours differ, from 1 to 21.
const CONTRAST: &str = r#"
(() => {
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const shown = [...document.querySelectorAll("body *")].filter(
    (element) => element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()),
  );
  const contrasts = shown.map((element) => {
    const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    return { text: element.textContent, contrast: (pair[0] + 0.05) / (pair[1] + 0.05) };
  });
  return contrasts.sort((a, b) => a.contrast - b.contrast)[0];
})()
"#;
const NOTE_TAGS: &str = r##"
window.tags = new Set();
new MutationObserver(() => {
  document.querySelectorAll("#hot code").forEach((code) => window.tags.add(code.textContent));
}).observe(document.getElementById("hot"), { childList: true, subtree: true });
"##;
const IS_DARK: &str =
    "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 60)";
const BEYOND: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
const FOCUSED: &str =
    "(() => { const at = document.activeElement; return at.id || at.textContent.trim(); })()";

fn cluster() -> anyhow::Result<Cluster> {
    Cluster::start()
        .edges(3)
        .etcd(1)
        .keys_in_etcd("")
        .edge(1, |settings| settings.toml(&format!("zone = {HOSTILE:?}")))
        .file(NAME, 3 << 20)
        .ready()
}

fn download(cluster: &Cluster, times: usize) -> anyhow::Result<()> {
    for _ in 0..times {
        let answer = client::get(&cluster.download_url(NAME))?;
        ensure!(answer.status() == 200, "{}", answer.text());
    }
    Ok(())
}

#[test]
fn the_page_shows_a_cluster_as_it_changes_and_asks_nobody_else() -> anyhow::Result<()> {
    let mut cluster = cluster()?;
    let folder = tempfile::tempdir()?;
    let origin = cluster.coordinators()[0].admin_url();
    let mut page = Page::browse(&format!("{origin}/"), folder.path())?;
    page.open("light", 1200)?;
    for edge in ["edge-1", "edge-2", "edge-3"] {
        page.until_edge(edge, 1, "up")?;
    }
    page.evaluate("window.isTheSame = true")?;
    // What edges send is seen, and whose redirects there are.
    download(&cluster, 20)?;
    page.until(
        "throughput is drawn",
        "document.querySelector('#charts .line').getAttribute('d').includes('L')",
    )?;
    page.until("hits are told", "[...document.querySelectorAll('#edges-body tr')].some(row => /[1-9]\\d* %/.test(row.children[8].textContent))")?;
    page.until("a version is told", "document.querySelector('#edges-body').textContent.includes('0.1.0')")?;
    page.until(
        "the coordinator names itself",
        "document.getElementById('coordinators').textContent.includes('coordinator-1 (this one)')",
    )?;
    page.until("etcd answers", "document.getElementById('stores').textContent.includes('etcdanswers')")?;
    page.until("keys have ages", "/current\\d+ (s|min)/.test(document.getElementById('keys').textContent)")?;
    // Refused calls by their reason.
    let answer = client::get_here(&format!("{}/download/../x", cluster.coordinators()[0].url()))?;
    ensure!(answer.status() >= 400);
    page.until("refusals are counted", "/\\d/.test(document.getElementById('refusals').textContent)")?;
    // Names of files are for who has a token. What is asked for no more is soon gone from the page, so that what was there
    // is noted.
    page.evaluate(NOTE_TAGS)?;
    let mut named = String::new();
    wait_until("the file is named", || {
        download(&cluster, 5)?;
        let (code, out, said) = cluster.operate(0, &["hot"])?;
        ensure!(code == Some(0), "{said}");
        named = out;
        Ok(named.contains(NAME))
    })?;
    let line = named.lines().find(|line| line.contains(NAME)).context("the file's line")?;
    let tag = line.split_whitespace().next().context("the file's tag")?;
    page.until("its tag is on the page", &format!("window.tags.has({tag:?})"))?;
    ensure!(!page.text()?.contains("secret-name"), "a file's name is on the page");
    let unasked = client::get_here(&format!("{origin}/admin/v1/hot-files"))?;
    ensure!(unasked.status() == 401 && !unasked.text().contains("secret"), "{}", unasked.text());
    // A hostile zone is text.
    page.until_edge("edge-2", 2, HOSTILE)?;
    ensure!(page.evaluate("document.images.length")? == 0, "it became markup");
    // Drained by an operator, and killed: without a reload.
    let (code, _, said) = cluster.operate(0, &["edges", "drain", "edge-1"])?;
    ensure!(code == Some(0), "{said}");
    page.until_edge("edge-1", 1, "drained")?;
    cluster.kill(2)?;
    page.until_edge("edge-3", 1, "down")?;
    page.until(
        "it is said to who cannot see",
        "document.getElementById('said').textContent.includes('edge-3 is down')",
    )?;
    page.until(
        "it is a finding",
        "document.getElementById('findings').textContent.includes('edge-3 does not answer')",
    )?;
    ensure!(page.evaluate("window.isTheSame")? == true, "it was loaded anew");
    page.shoot(folder.path(), "status-light.png")?;
    page.check_quiet(&origin)
}

#[test]
fn the_page_can_be_used_by_keyboard_and_read_by_day_by_night_and_on_a_telephone() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let folder = tempfile::tempdir()?;
    let origin = cluster.coordinators()[0].admin_url();
    let mut page = Page::browse(&format!("{origin}/"), folder.path())?;
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 380), ("dark", 380)] {
        page.open(scheme, width)?;
        page.until_edge("edge-3", 1, "up")?;
        download(&cluster, 3)?;
        page.until(
            "throughput is drawn",
            "document.querySelector('#charts .line').getAttribute('d').includes('L')",
        )?;
        ensure!(page.evaluate(IS_DARK)? == (scheme == "dark"), "{scheme}");
        let least = page.evaluate(CONTRAST)?;
        ensure!(least["contrast"].as_f64() > Some(4.5), "{scheme}: {least}");
        ensure!(page.evaluate(BEYOND)? == 0, "wider than {width}");
        page.shoot(folder.path(), &format!("status-{scheme}-{width}.png"))?;
        page.check_quiet(&origin)?;
    }
    page.open("light", 1200)?;
    page.until_edge("edge-3", 1, "up")?;
    let mut reached = Vec::new();
    for _ in 0..14 {
        page.key("Tab")?;
        let focused = page.evaluate(FOCUSED)?.as_str().unwrap_or_default().to_owned();
        let outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")?;
        ensure!(outline == "solid", "nobody sees that {focused:?} has the focus");
        reached.push(focused);
    }
    let wanted = ["Skip to edges", "pause", "filter"];
    ensure!(reached[..3] == wanted, "{reached:?}");
    for column in ["Edge", "State", "Zone", "Sent now", "Redirects", "Cache hits", "Stuck", "Version"] {
        ensure!(reached.iter().any(|name| name == column), "{column} in {reached:?}");
    }
    // Sorted by a column's button, as a key presses it.
    page.evaluate("document.querySelector('#edges-head button').focus()")?;
    page.key("Enter")?;
    page.until(
        "the last is first",
        "document.querySelector('#edges-body tr').textContent.startsWith('edge-3')",
    )?;
    ensure!(
        page.evaluate("document.querySelector('#edges-head th').getAttribute('aria-sort')")? == "descending"
    );
    page.evaluate("document.getElementById('filter').focus()")?;
    page.tell(&json!({ "do": "type", "text": "edge-2" }))?;
    page.until("one is left", "document.querySelectorAll('#edges-body tr').length === 1")?;
    page.evaluate("document.getElementById('pause').focus()")?;
    page.key("Space")?;
    page.until("it stands still", "document.getElementById('live').textContent === 'paused'")?;
    page.key("Space")?;
    page.until("it goes on", "document.getElementById('live').textContent === 'live'")?;
    page.check_quiet(&origin)
}

#[test]
fn the_page_guards_itself() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1).ready()?;
    let origin = cluster.coordinators()[0].admin_url();
    for path in ["/", "/status/page.js", "/status/page.css", "/status/icon.svg"] {
        let answer = client::get_here(&format!("{origin}{path}"))?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        let policy = answer.field("content-security-policy")?;
        ensure!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        ensure!(!policy.contains("unsafe"), "{policy}");
        ensure!(answer.field("x-content-type-options")? == "nosniff", "{path}");
        ensure!(under_another_name(&origin, path)? == 403, "{path} answers under any name");
        let posted = Request::new("POST", &format!("{origin}{path}")).send()?;
        ensure!(posted.status() == 405, "{path}: {}", posted.status());
    }
    let events = format!("{origin}/status/events");
    ensure!(under_another_name(&origin, "/status/events")? == 403, "events are told under any name");
    let foreign = Request::new("GET", &events).field("Sec-Fetch-Site", "cross-site").send()?;
    ensure!(foreign.status() == 403, "events are told to another site's page: {}", foreign.status());
    // No more watchers than may be; and those that there are go on, and end with the coordinator.
    let mut watching = Vec::new();
    let refused = loop {
        let (head, connection) = Request::new("GET", &events).open()?;
        if head.status != 200 {
            break head;
        }
        ensure!(head.field("content-type") == Some("text/event-stream"), "{head:?}");
        watching.push(connection);
        ensure!(watching.len() <= 100, "there is no end to them");
    };
    ensure!(refused.status == 503 && refused.field("retry-after").is_some(), "{refused:?}");
    ensure!(watching.len() == 32, "{} watch", watching.len());
    // They keep no coordinator from its end.
    let status = cluster.coordinator().process().terminate()?;
    ensure!(status.success() && !cluster.coordinators()[0].log()?.contains("second signal"), "{status}");
    Ok(())
}

/// The status of an answer to who was led here by a name that is not ours.
fn under_another_name(origin: &str, path: &str) -> anyhow::Result<u16> {
    let address = origin.trim_start_matches("http://");
    let mut connection = Connection::open(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    connection.send(request.as_bytes())?;
    Ok(connection.read_answer("GET")?.status())
}
