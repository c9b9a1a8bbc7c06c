//! What is shipped to operators works with the programs as they are: units, profiles of system calls, configurations,
//! containers' files, and what is installed.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, kill_process};
use serde_json::json;
use sluice_loadtest::process::{Process, Signal, binary, profile_folder};
use sluice_loadtest::{Cluster, client, tool, wait_until};
use sluice_shared::confinement::{Confined, Confinement};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Every file beneath a folder, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[test]
fn systemd_takes_every_unit_without_a_word() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let programs = binary("sluice-edge")?;
    let programs = programs.parent().context("a program is in a folder")?.display();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for unit in files(&deploy().join("systemd"))? {
        if unit.extension().is_some_and(|kind| kind == "conf") {
            continue;
        }
        // Where the programs are now: systemd wants them to be there.
        let text =
            fs::read_to_string(&unit)?.replace("ExecStart=/usr/bin/", &format!("ExecStart={programs}/"));
        let name = unit.file_name().context("a unit has a name")?;
        fs::write(folder.path().join(name), text)?;
        verify.arg(folder.path().join(name));
    }
    let ended = verify.output().context("systemd-analyze is missing; deploy/needs.sh test installs it")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && said.trim().is_empty(), "{}: {said}", ended.status);
    tool::run("systemd-sysusers", &[Path::new("--dry-run"), &deploy().join("systemd/sysusers.conf")])?;
    Ok(())
}

/// All system calls of a set of systemd's, and of the sets in it.
fn calls_of(set: &str) -> anyhow::Result<Vec<String>> {
    let told = tool::run("systemd-analyze", &["syscall-filter", "--no-pager", set])?;
    let mut calls = Vec::new();
    for word in told.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if word.starts_with('@') { calls.extend(calls_of(word)?) } else { calls.push(word.to_owned()) }
    }
    Ok(calls)
}

/// What a unit's filters of system calls come to, as a container runtime would be told it.
fn filter_of(unit: &str) -> anyhow::Result<serde_json::Value> {
    let text = fs::read_to_string(deploy().join("systemd").join(unit))?;
    let mut allowed = Vec::new();
    for filter in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes, words) = filter.strip_prefix('~').map_or((false, filter), |words| (true, words));
        for word in words.split(' ') {
            let calls = if word.starts_with('@') { calls_of(word)? } else { vec![word.to_owned()] };
            if takes { allowed.retain(|call| !calls.contains(call)) } else { allowed.extend(calls) }
        }
    }
    ensure!(!allowed.is_empty(), "{unit} filters nothing");
    let rule = json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" });
    Ok(json!({ "defaultErrnoRet": 1, "syscalls": [rule] }))
}

/// A program of a cluster that may make no system calls but those of a profile.
fn confined(cluster: &Cluster, program: &str, id: &str, profile: &Path) -> anyhow::Result<Process> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/confine.py");
    let config = cluster.folder().join(format!("{id}.toml"));
    let arguments: Vec<OsString> =
        vec![script.into(), profile.into(), binary(program)?.into(), "--config".into(), config.into()];
    let log = cluster.folder().join(format!("{id}-confined.log"));
    // Debian's own, for which it has the library.
    Ok(Process::with_arguments(id, "/usr/bin/python3".into(), arguments, log))
}

/// Puts both programs of a cluster under a profile each, and downloads through them.
fn downloads_under(coordinator_profile: &Path, edge_profile: &Path) -> anyhow::Result<()> {
    let mut cluster = Cluster::start().file("small.bin", 1000).file("large.bin", 5 << 20).ready()?;
    cluster.coordinator().process().terminate()?;
    cluster.terminate(0)?;
    let mut edge = confined(&cluster, "sluice-edge", "edge-1", edge_profile)?;
    let mut coordinator = confined(&cluster, "sluice-coordinator", "coordinator-1", coordinator_profile)?;
    edge.start()?;
    coordinator.start()?;
    wait_until("both serve under their profiles", || {
        ensure!(edge.is_running()?, "{}", edge.log_tail());
        ensure!(coordinator.is_running()?, "{}", coordinator.log_tail());
        Ok(cluster.coordinators()[0].readiness().is_ok_and(|answer| answer.status() == 200))
    })?;
    for (file, content) in cluster.files() {
        let answer = client::get(&cluster.download_url(file))?;
        ensure!(answer.status() == 200, "{file}: {} {}", answer.status(), answer.text());
        content.check_whole(&answer.body)?;
    }
    // Where this kernel confines anybody, the profile does not keep it from that.
    let is_confined = matches!(Confinement::default().try_out(), Confined::Yes { .. });
    for program in [&edge, &coordinator] {
        ensure!(program.log()?.contains("\"confined: ") == is_confined, "{}", program.log_tail());
    }
    ensure!(edge.terminate()?.success() && coordinator.terminate()?.success(), "both end well");
    Ok(())
}

#[test]
fn programs_work_with_the_system_calls_that_their_units_leave_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |unit: &str| -> anyhow::Result<PathBuf> {
        let path = folder.path().join(format!("{unit}.json"));
        fs::write(&path, filter_of(unit)?.to_string())?;
        Ok(path)
    };
    downloads_under(&write("sluice-coordinator.service")?, &write("sluice-edge.service")?)
}

#[test]
fn programs_work_with_the_system_calls_that_the_container_profile_leaves_them() -> anyhow::Result<()> {
    let profile = deploy().join("container/seccomp.json");
    downloads_under(&profile, &profile)
}

#[test]
fn an_edge_without_io_uring_names_what_to_allow() -> anyhow::Result<()> {
    let cluster = Cluster::start().file("a.bin", 1000).ready()?;
    let mut profile: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(deploy().join("container/seccomp.json"))?)?;
    let names = profile["syscalls"][0]["names"].as_array_mut().context("calls that are allowed")?;
    names.retain(|name| !name.as_str().is_some_and(|name| name.starts_with("io_uring")));
    let path = cluster.folder().join("no-uring.json");
    fs::write(&path, profile.to_string())?;
    let mut edge = confined(&cluster, "sluice-edge", "edge-1", &path)?;
    edge.start()?;
    ensure!(!edge.wait()?.success(), "an edge without io_uring does not run");
    let said = edge.log()?;
    ensure!(said.contains("seccomp profile that permits io_uring_setup"), "{said}");
    Ok(())
}

/// How much locked memory the unit of edges allows for each of 128 workers, and as many of a predecessor's.
fn locked_bytes_of_a_worker() -> anyhow::Result<u64> {
    let unit = fs::read_to_string(deploy().join("systemd/sluice-edge.service"))?;
    let limit = unit.lines().find_map(|line| line.strip_prefix("LimitMEMLOCK=")?.strip_suffix('M'));
    Ok((limit.context("the unit limits locked memory")?.parse::<u64>()? << 20) / 256)
}

#[test]
fn an_edge_of_many_workers_starts_with_the_locked_memory_that_its_unit_leaves_it() -> anyhow::Result<()> {
    const WORKERS: usize = 16;
    let mut cluster = Cluster::start().every_edge(|settings| settings.threads(WORKERS)).ready()?;
    cluster.terminate(0)?;
    let limit = locked_bytes_of_a_worker()? * WORKERS as u64;
    // Root locks as much as it likes, unless that is taken from it.
    let as_any_user = ["setpriv", "--bounding-set=-ipc_lock"];
    let is_root = rustix::process::geteuid().is_root();
    let mut arguments: Vec<OsString> =
        if is_root { as_any_user.map(Into::into).to_vec() } else { Vec::new() };
    arguments.extend(["prlimit".into(), format!("--memlock={limit}:{limit}").into()]);
    arguments.extend([binary("sluice-edge")?.into(), "--config".into()]);
    arguments.push(cluster.folder().join("edge-1.toml").into());
    let log = cluster.folder().join("edge-1-limited.log");
    let mut edge = Process::with_arguments("edge-1", "/usr/bin/env".into(), arguments, log);
    edge.start()?;
    wait_until("the edge is ready with its limit", || {
        ensure!(edge.is_running()?, "{}", edge.log_tail());
        Ok(cluster.edges()[0].readiness().is_ok_and(|answer| answer.status() == 200))
    })
}

/// What a sample's places are in a folder of this test's, with everything that it names.
struct Places {
    folder: tempfile::TempDir,
    /// A cache wants shared memory.
    cache: tempfile::TempDir,
}

impl Places {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let make = |place: &str| fs::create_dir_all(folder.path().join(place));
        for place in
            ["srv/sluice/files", "var/lib/sluice-coordinator", "var/lib/sluice-edge", "var/log/sluice-edge"]
        {
            make(place)?;
        }
        for secrets in ["etc/sluice/coordinator", "etc/sluice/edge", "etc/sluice/keys"] {
            make(secrets)?;
            // Fernet keys: 32 bytes each.
            let own = folder.path().join(secrets);
            write_private(&own.join("cluster.key"), "Y2x1c3RlcmNsdXN0ZXJjbHVzdGVyY2x1c3RlcmNsdXM=\n")?;
            write_private(&own.join("coordinator.key"), "Y29vcmRpbmF0b3Jjb29yZGluYXRvcmNvb3JkaW5hdG8=\n")?;
            write_private(&own.join("etcd.password"), "secret\n")?;
            write_private(&own.join("redis.url"), "redis://:secret@10.0.0.1:6379\n")?;
        }
        // As an operator copies it from a coordinator that has run.
        let cluster = Cluster::start().file("a.bin", 1000).ready()?;
        fs::copy(cluster.keys_path(), folder.path().join("var/lib/sluice-edge/keys.jwks.json"))?;
        Ok(Self { folder, cache: tempfile::tempdir_in("/dev/shm")? })
    }

    /// Judges a sample by the program that it is for.
    fn check(&self, sample: &Path) -> anyhow::Result<()> {
        let mut text = fs::read_to_string(sample)?;
        for place in ["/etc/sluice/", "/var/lib/", "/var/log/", "/srv/sluice/"] {
            text = text.replace(&format!("\"{place}"), &format!("\"{}{place}", self.folder.path().display()));
        }
        text = text.replace("\"/var/cache/sluice\"", &format!("{:?}", self.cache.path()));
        let name = sample.file_name().and_then(|name| name.to_str()).context("a sample has a name")?;
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        let is_edge = name.starts_with("edge");
        let mut command = Command::new(binary(if is_edge { "sluice-edge" } else { "sluice-coordinator" })?);
        if is_edge {
            // Whatever the machine has for the sample's own.
            command.env("SLUICE_CACHE__SIZE", "32MiB");
        }
        let ended = command.arg("--check").arg("--config").arg(&path).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{}: {said}", sample.display());
        Ok(())
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

#[test]
fn every_configuration_for_operators_is_valid() -> anyhow::Result<()> {
    let places = Places::new()?;
    let samples = ["samples/one-machine", "samples/three-machines", "samples/two-zones", "container"];
    let mut checked = 0;
    for folder in samples {
        for sample in files(&deploy().join(folder))? {
            if sample.extension().is_some_and(|kind| kind == "toml") {
                places.check(&sample)?;
                checked += 1;
            }
        }
    }
    ensure!(checked == 9, "{checked} configurations");
    Ok(())
}

#[test]
fn compose_file_and_chart_are_what_their_readers_take() -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/deployment.py");
    tool::run(tool::python()?, &[script, deploy()])?;
    Ok(())
}

#[test]
fn a_demo_that_is_ended_before_its_checks_are_over_has_not_passed() -> anyhow::Result<()> {
    let target = tempfile::tempdir()?;
    symlink(profile_folder()?, target.path().join("release"))?;
    let mut demo = Command::new(deploy().join("demo.sh"))
        .arg("--once")
        .env("CARGO_TARGET_DIR", target.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(demo.stdout.take().context("it has an output")?).lines();
    ensure!(said.any(|line| line.is_ok_and(|line| line.starts_with("Sample files"))), "it does not begin");
    kill_process(Pid::from_child(&demo), Signal::TERM)?;
    let said: Vec<String> = said.collect::<Result<_, _>>()?;
    let ended = demo.wait()?;
    ensure!(ended.code() == Some(143), "{ended}: {said:?}");
    Ok(())
}

#[test]
fn what_is_installed_is_all_there_and_points_at_itself() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let programs = binary("sluice-edge")?;
    let ended = Command::new("make")
        .args(["--no-print-directory", "install"])
        .current_dir(deploy().join(".."))
        .env("DESTDIR", root.path())
        .env("PREFIX", "/opt/sluice")
        .env("PROGRAMS", programs.parent().context("a program is in a folder")?)
        .output()?;
    ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let at = |path: &str| root.path().join(path);
    for program in ["sluice-coordinator", "sluice-edge", "sluicectl"] {
        tool::run(at("opt/sluice/bin").join(program), &["--version"])?;
    }
    for program in ["coordinator", "edge"] {
        let unit =
            fs::read_to_string(at(&format!("opt/sluice/lib/systemd/system/sluice-{program}.service")))?;
        ensure!(unit.contains(&format!("ExecStart=/opt/sluice/bin/sluice-{program} ")), "{unit}");
        let paper = unit.lines().find_map(|line| line.strip_prefix("Documentation=file:///"));
        ensure!(at(paper.context("a unit names its paper")?).is_file(), "{unit}");
    }
    for file in [
        "opt/sluice/share/man/man1/sluice-coordinator.1",
        "opt/sluice/share/man/man1/sluice-edge.1",
        "opt/sluice/share/man/man1/sluicectl-clients-import.1",
        "opt/sluice/share/bash-completion/completions/sluicectl",
        "opt/sluice/share/zsh/site-functions/_sluicectl",
        "opt/sluice/share/fish/vendor_completions.d/sluice-edge.fish",
        "opt/sluice/lib/sysusers.d/sluice.conf",
        "opt/sluice/lib/tmpfiles.d/sluice.conf",
        "etc/logrotate.d/sluice",
    ] {
        ensure!(at(file).is_file(), "{file} is not installed");
    }
    let completion = at("opt/sluice/share/bash-completion/completions/sluicectl");
    let tried = ". \"$0\" && COMP_WORDS=(sluicectl cli) && COMP_CWORD=1 && _sluicectl sluicectl cli sluicectl && \
                 echo \"${COMPREPLY[*]}\"";
    let offered = Command::new("bash").args(["-c", tried]).arg(&completion).output()?;
    ensure!(offered.stdout == b"clients\n", "{offered:?}");
    let page = fs::read_to_string(at("opt/sluice/share/man/man1/sluicectl.1"))?;
    ensure!(page.contains("Exit codes") && page.contains("status"), "{page}");
    Ok(())
}

#[test]
fn a_release_is_the_same_each_time_and_says_what_is_in_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // What is packed is not looked into: small programs are packed soon.
    let programs = folder.path().join("programs");
    fs::create_dir(&programs)?;
    for program in ["sluice-coordinator", "sluice-edge", "sluicectl"] {
        // Each writes its papers, as it would.
        let papers = format!("for f in man1/{program}.1 bash/{program} zsh/_{program} fish/{program}.fish");
        let script = format!("#!/bin/sh\n{papers}; do install -D /dev/null \"$2/$f\"; done\n");
        fs::write(programs.join(program), script)?;
        fs::set_permissions(programs.join(program), Permissions::from_mode(0o755))?;
    }
    let release = |target: &str| -> anyhow::Result<(PathBuf, String)> {
        let target = folder.path().join(target);
        let ended = Command::new(deploy().join("dist.sh"))
            .env("CARGO_TARGET_DIR", &target)
            .env("PROGRAMS", &programs)
            .env("SOURCE_DATE_EPOCH", "1764115200")
            .output()?;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Ok((target.join("dist"), fs::read_to_string(target.join("dist/SHA256SUMS"))?))
    };
    let (dist, sums) = release("one")?;
    let (_, again) = release("other")?;
    ensure!(sums == again, "{sums} and then {again}");
    let checked =
        Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&dist).status()?;
    ensure!(checked.success(), "checksums are of other files: {sums}");
    let bill: serde_json::Value = serde_json::from_str(&fs::read_to_string(dist.join("sbom.json"))?)?;
    let components = bill["components"].as_array().context("a release is made of something")?;
    let names: Vec<&str> = components.iter().filter_map(|component| component["name"].as_str()).collect();
    for (name, is_linked) in
        [("sluice-shared", true), ("aes-gcm", true), ("tokio-uring", true), ("proptest", false)]
    {
        ensure!(names.contains(&name) == is_linked, "{name}: {is_linked} is expected of {names:?}");
    }
    Ok(())
}

/// Makes the packages of the programs that the tests have; gives the folder that they are in, and their checksums.
fn packages(target: &Path) -> anyhow::Result<(PathBuf, String)> {
    let programs = binary("sluice-edge")?;
    let ended = Command::new(deploy().join("deb.sh"))
        .env("CARGO_TARGET_DIR", target)
        .env("PROGRAMS", programs.parent().context("a program is in a folder")?)
        .env("SOURCE_DATE_EPOCH", "1764115200")
        .env("COMPRESSION", "none")
        .output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && said.is_empty(), "{}: {said}", ended.status);
    Ok((target.join("dist"), fs::read_to_string(target.join("dist/SHA256SUMS"))?))
}

#[test]
fn packages_are_the_same_each_time_and_share_no_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (dist, sums) = packages(&folder.path().join("one"))?;
    let (_, again) = packages(&folder.path().join("other"))?;
    ensure!(sums == again, "{sums} and then {again}");
    let mut all = Vec::new();
    let expected = [
        ("sluice-coordinator", "/usr/lib/systemd/system/sluice-coordinator.socket", "passwd"),
        ("sluice-edge", "/usr/lib/systemd/system/var-cache-sluice.mount", "passwd"),
        ("sluicectl", "/usr/share/man/man1/sluicectl-check.1.gz", "libc6"),
    ];
    for (package, file, needed) in expected {
        let made = files(&dist)?.into_iter().find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&format!("{package}_")))
        });
        let made = made.with_context(|| format!("there is no package {package}"))?;
        let tree = folder.path().join(package);
        tool::run("dpkg-deb", &[Path::new("--raw-extract"), &made, &tree])?;
        let control = fs::read_to_string(tree.join("DEBIAN/control"))?;
        ensure!(control.contains(&format!("Package: {package}\n")), "{control}");
        let depends = control.lines().find_map(|line| line.strip_prefix("Depends: "));
        ensure!(depends.is_some_and(|depends| depends.contains(needed)), "{control}");
        let conffiles = fs::read_to_string(tree.join("DEBIAN/conffiles")).unwrap_or_default();
        ensure!(conffiles == if package == "sluice-edge" { "/etc/logrotate.d/sluice\n" } else { "" });
        for script in ["postinst", "prerm", "postrm"].map(|name| tree.join("DEBIAN").join(name)) {
            if script.exists() {
                tool::run("sh", &[Path::new("-n"), &script])?;
                tool::run("shellcheck", &[&script])?;
                let text = fs::read_to_string(&script)?;
                ensure!(!text.contains('@'), "{}: {text}", script.display());
            }
        }
        fs::remove_dir_all(tree.join("DEBIAN"))?;
        let own = files(&tree)?.into_iter().map(|path| path.strip_prefix(&tree).map(Path::to_owned));
        let own: Vec<PathBuf> = own.collect::<Result<_, _>>()?;
        for file in [file, &format!("/usr/bin/{package}"), &format!("/usr/share/doc/{package}/copyright")] {
            ensure!(own.iter().any(|path| Path::new("/").join(path) == Path::new(file)), "{file}: {own:?}");
        }
        all.extend(own);
    }
    all.sort();
    ensure!(all.windows(2).all(|pair| pair[0] != pair[1]), "a file is in two packages: {all:?}");
    Ok(())
}
