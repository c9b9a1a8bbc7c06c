//! The programs that people download with, as they come: over plain HTTP and over TLS, by way of the coordinator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use sluice_loadtest::certificates::AUTHORITY;
use sluice_loadtest::{Cluster, Member, tool, wait_until};

const FILE: &str = "reports/a.bin";
const SIZE: u64 = (30 << 20) + 3;
/// A file whose name is in no code page.
const NAMED: &str = "reports/Übersicht 2026 漢字.bin";
const NAMED_IN_URL: &str = "reports/%C3%9Cbersicht%202026%20%E6%BC%A2%E5%AD%97.bin";
const NAMED_SIZE: u64 = 100_003;

/// Has aria2 ask for the file itself: a name given with `-o` would become the Metalink's.
const PLAIN: &str = "--header=Accept: */*";

/// A cluster, and a folder to download into.
struct Setting {
    cluster: Cluster,
    folder: tempfile::TempDir,
    is_tls: bool,
}

/// Has a claim hold over both.
fn over_both(claim: impl Fn(&Setting) -> anyhow::Result<()>) -> anyhow::Result<()> {
    over_both_mutably(|setting| claim(setting))
}

/// The same for one that does something to the cluster.
fn over_both_mutably(claim: impl Fn(&mut Setting) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for is_tls in [false, true] {
        let builder = Cluster::start().edges(3).file(FILE, SIZE).file(NAMED, NAMED_SIZE);
        // What each program asked for is told by the edges.
        let builder = builder.every_edge(|edge| edge.toml("[log]\naccess_file = \"access.jsonl\""));
        let cluster = if is_tls { builder.tls() } else { builder }.ready()?;
        let mut setting = Setting { cluster, folder: tempfile::tempdir()?, is_tls };
        claim(&mut setting).with_context(|| format!("TLS: {is_tls}"))?;
    }
    Ok(())
}

impl Setting {
    fn out(&self) -> PathBuf {
        self.folder.path().join("a.bin")
    }

    fn url(&self) -> String {
        self.cluster.download_url(FILE)
    }

    fn named_url(&self) -> String {
        self.cluster.download_url(NAMED_IN_URL)
    }

    /// The file to trust, behind the option that says so.
    fn trust(&self, option: &str) -> Vec<String> {
        let authority = self.cluster.folder().join(AUTHORITY);
        if self.is_tls { vec![format!("{option}={}", authority.display())] } else { Vec::new() }
    }

    fn curl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["-fsSL", "-m", "60"]);
        if self.is_tls {
            command.arg("--cacert").arg(self.cluster.folder().join(AUTHORITY));
        }
        command.args(arguments);
        command
    }

    fn wget(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("wget");
        command.args(["-q", "-T", "30", "-t", "1"]).args(self.trust("--ca-certificate")).args(arguments);
        command
    }

    fn aria2(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("aria2c");
        command.args(["--no-conf", "--max-tries=2", "-d"]).arg(self.folder.path());
        command.args(self.trust("--ca-certificate")).args(arguments);
        command
    }

    /// Writes the file's hash beside it, as publishers do; gives it.
    fn write_sidecar(&self) -> anyhow::Result<String> {
        let said = tool::complete(Command::new("sha256sum").arg(self.cluster.root().join(FILE)))?;
        let hash = said.split(' ').next().context("a hash")?.to_owned();
        self.write_sidecar_of(FILE, &hash)?;
        Ok(hash)
    }

    fn write_sidecar_of(&self, file_id: &str, hash: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.cluster.root().join(format!("{file_id}.sha256")), format!("{hash}\n"))?)
    }

    fn check(&self, path: &Path) -> anyhow::Result<()> {
        Ok(self.cluster.content(FILE).check_whole(&fs::read(path)?)?)
    }

    fn check_named(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.path().join(name);
        let bytes = fs::read(&path).with_context(|| {
            let there = fs::read_dir(self.folder.path())
                .map(|all| all.flatten().map(|one| one.file_name()).collect());
            let there: Vec<_> = there.unwrap_or_default();
            format!("{} is not there, but {there:?}", path.display())
        })?;
        Ok(self.cluster.content(NAMED).check_whole(&bytes)?)
    }

    /// The ranges that edges were asked for, as they log them.
    fn ranges(&self) -> anyhow::Result<Vec<String>> {
        let log = fs::read_to_string(self.cluster.folder().join("access.jsonl"))?;
        let lines = log.lines().map(serde_json::from_str::<serde_json::Value>);
        let ranges = lines.map(|line| anyhow::Ok(line?["range"].as_str().map(str::to_owned)));
        Ok(ranges.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Starts a download and kills the program once it has a part of it.
    fn cut_off(&self, mut command: Command, partial: &Path) -> anyhow::Result<()> {
        let mut child = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let has = || fs::metadata(partial).map_or(0, |file| file.len());
        wait_until("a part of the download is there", || {
            ensure!(child.0.try_wait()?.is_none(), "it ended by itself");
            Ok(has() > 1 << 20)
        })?;
        drop(child);
        ensure!(has() < SIZE, "it was cut off in time");
        Ok(())
    }

    /// After a resumption: the file is whole, and some range of it was asked for that does not begin with it.
    fn check_resumed(&self, path: &Path) -> anyhow::Result<()> {
        self.check(path)?;
        wait_until("the resumption is logged", || {
            Ok(self.ranges()?.iter().any(|range| !range.starts_with("0-")))
        })
    }
}

/// Killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn curl_downloads_and_names_by_the_edges_word() -> anyhow::Result<()> {
    over_both(|setting| {
        let (out, url) = (setting.out(), setting.url());
        tool::complete(&mut setting.curl(&["-o", &out.to_string_lossy(), &url]))?;
        setting.check(&out)?;
        let into = setting.folder.path().to_string_lossy();
        tool::complete(&mut setting.curl(&["-OJ", "--output-dir", &into, &setting.named_url()]))?;
        // curl reads `filename` alone, which is of ASCII.
        setting.check_named("_bersicht 2026 __.bin")
    })
}

#[test]
fn curl_resumes_after_it_was_killed() -> anyhow::Result<()> {
    over_both(|setting| {
        let (out, url) = (setting.out(), setting.url());
        let resuming = |more: &[&str]| {
            let out = out.to_string_lossy().into_owned();
            setting.curl(&[more, &["-C", "-", "-o", &out, &url]].concat())
        };
        setting.cut_off(resuming(&["--limit-rate", "8M"]), &out)?;
        tool::complete(&mut resuming(&[]))?;
        setting.check_resumed(&out)
    })
}

#[test]
fn curl_speaks_http2_where_it_may() -> anyhow::Result<()> {
    over_both(|setting| {
        for (option, version) in [("--http2", if setting.is_tls { "2" } else { "1.1" }), ("--http1.1", "1.1")]
        {
            let (out, url) = (setting.out(), setting.url());
            let arguments = [option, "-w", "%{http_version}", "-o", &out.to_string_lossy(), &url];
            let said = tool::complete(&mut setting.curl(&arguments))?;
            ensure!(said == version, "{option} became {said}");
            setting.check(&out)?;
        }
        Ok(())
    })
}

#[test]
fn curl_gets_several_ranges_by_one_request() -> anyhow::Result<()> {
    over_both(|setting| {
        let (out, url) = (setting.out(), setting.url());
        tool::complete(&mut setting.curl(&[
            "-r",
            "20000000-20000009,5-6",
            "-o",
            &out.to_string_lossy(),
            &url,
        ]))?;
        let body = fs::read(&out)?;
        for range in [20_000_000..20_000_010, 5..7] {
            let bytes = setting.cluster.content(FILE).bytes(range.clone());
            ensure!(body.windows(bytes.len()).any(|part| part == bytes), "{range:?} is not in the answer");
        }
        ensure!(body.len() < 1000, "{} bytes for twelve", body.len());
        Ok(())
    })
}

#[test]
fn wget_downloads_and_resumes_after_it_was_killed() -> anyhow::Result<()> {
    over_both(|setting| {
        let (out, url) = (setting.out(), setting.url());
        let resuming = |more: &[&str]| {
            let out = out.to_string_lossy().into_owned();
            setting.wget(&[more, &["-c", "-O", &out, &url]].concat())
        };
        setting.cut_off(resuming(&["--limit-rate=8m"]), &out)?;
        tool::complete(&mut resuming(&[]))?;
        setting.check_resumed(&out)?;
        let into = setting.folder.path().to_string_lossy();
        tool::complete(&mut setting.wget(&[
            "--content-disposition",
            "--restrict-file-names=nocontrol",
            "-P",
            &into,
            &setting.named_url(),
        ]))?;
        // Debian's wget reads `filename*`.
        setting.check_named("Übersicht 2026 漢字.bin")
    })
}

#[test]
fn aria2_downloads_over_eight_connections() -> anyhow::Result<()> {
    over_both(|setting| {
        let url = setting.url();
        tool::complete(&mut setting.aria2(&[PLAIN, "-x8", "-s8", "-k1M", "-o", "a.bin", &url]))?;
        setting.check(&setting.out())?;
        wait_until("its ranges are logged", || Ok(setting.ranges()?.len() >= 7))
    })
}

#[test]
fn aria2_resumes_after_it_was_killed() -> anyhow::Result<()> {
    over_both(|setting| {
        let url = setting.url();
        let resuming = |rate: &str| {
            let rate = format!("--max-overall-download-limit={rate}");
            let splitting = ["-c", "-x8", "-s8", "-k1M", "--auto-save-interval=1"];
            setting.aria2(&[&splitting[..], &[PLAIN, &rate, "-o", "a.bin", &url]].concat())
        };
        // It writes at many places at once: the file is as long as what it has begun.
        let control = setting.folder.path().join("a.bin.aria2");
        let mut child = Ended(resuming("4M").stdout(Stdio::null()).spawn()?);
        wait_until("it has noted what it has", || {
            ensure!(child.0.try_wait()?.is_none(), "it ended by itself");
            Ok(control.exists())
        })?;
        drop(child);
        tool::complete(&mut resuming("0"))?;
        setting.check(&setting.out())?;
        ensure!(!control.exists(), "it is done");
        Ok(())
    })
}

#[test]
fn aria2_takes_the_edges_of_a_metalink_in_turn_where_one_is_dead() -> anyhow::Result<()> {
    over_both_mutably(|setting| {
        let hash = setting.write_sidecar()?;
        let list = setting.folder.path().join("list.meta4");
        let (out, url) = (list.to_string_lossy().into_owned(), setting.url());
        let accept = "Accept: application/metalink4+xml";
        tool::complete(&mut setting.curl(&["-H", accept, "-o", &out, &url]))?;
        let text = fs::read_to_string(&list)?;
        for expected in [format!("<size>{SIZE}</size>"), format!("<hash type=\"sha-256\">{hash}</hash>")] {
            ensure!(text.contains(&expected), "no {expected} in {text}");
        }
        let first = text.split("<url priority=\"1\">").nth(1).context("a first edge")?;
        let is_first = |edge: &Member| first.contains(&format!("//{}/", edge.address()));
        let dead = setting.cluster.edges().iter().position(is_first).context("the first is an edge")?;
        setting.cluster.kill(dead)?;
        let said = tool::complete(&mut setting.aria2(&["-x8", "-s8", "-k1M", "-M", &out]))?;
        ensure!(said.contains("Verification finished successfully"), "the hash was not looked at: {said}");
        setting.check(&setting.out())
    })
}

#[test]
fn aria2_asks_for_a_metalink_by_itself_and_refuses_what_has_another_hash() -> anyhow::Result<()> {
    over_both_mutably(|setting| {
        let hash = setting.write_sidecar()?;
        let url = setting.url();
        tool::complete(&mut setting.aria2(&["-x8", "-s8", "-k1M", &url]))?;
        setting.check(&setting.out())?;
        ensure!(setting.folder.path().join("a.bin.meta4").exists(), "the list has a name of its own");
        // Another file, whose sidecar lies.
        setting.write_sidecar_of(NAMED, &hash)?;
        let ended = setting.aria2(&[&setting.named_url()]).output()?;
        // aria2's manual: 32 is a checksum that failed.
        ensure!(ended.status.code() == Some(32), "{ended:?}");
        Ok(())
    })
}

#[test]
fn axel_downloads_over_eight_connections() -> anyhow::Result<()> {
    over_both(|setting| {
        let (out, url) = (setting.out(), setting.url());
        let mut command = Command::new("axel");
        command.args(["-q", "-n", "8", "-o"]).arg(&out);
        // It compares names alone, and these edges have addresses.
        command.args(setting.is_tls.then_some("--insecure"));
        tool::complete(command.arg(&url))?;
        setting.check(&out)?;
        wait_until("its ranges are logged", || Ok(setting.ranges()?.len() >= 7))
    })
}

#[test]
fn python_requests_downloads_whole_in_parts_and_again() -> anyhow::Result<()> {
    over_both(|setting| {
        let authority = setting.cluster.folder().join(AUTHORITY);
        let mut command = Command::new(tool::python()?);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/download.py");
        command.arg(script).args([setting.url().into(), setting.out().into_os_string()]);
        command.args(setting.is_tls.then_some(authority));
        tool::complete(&mut command)?;
        setting.check(&setting.out())
    })
}
