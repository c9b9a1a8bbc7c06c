//! Several hosts on one machine: network namespaces, each joined by a veth pair to a bridge that the tests' own programs
//! are at. Made for a cluster and removed with it; what a test that was killed left behind is removed by the next.
//!
//! Where namespaces are not permitted, hosts are loopback addresses: programs can be killed and frozen, and no host can
//! be cut off from others.
//!
//! Addresses are of the block that is set aside for measurements (RFC 2544, 198.18.0.0/15), which no network routes.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, bail, ensure};

use crate::{lock, tool};

/// Networks of one machine at a time, a lock file each.
const NETWORKS: u8 = 64;
/// The bridge's own address, which is the tests': the network's first. Hosts have those after it.
const FIRST_HOST: u8 = 2;
/// Added first, for only what is there can be deleted (`destroy` is newer than what Debian has).
const NO_CUT: &str = "add table inet cut\ndelete table inet cut\n";

/// A network and its hosts. Dropped after the programs on them.
#[derive(Debug)]
pub struct Hosts {
    /// Where namespaces are not permitted: none.
    bridge: Option<Bridge>,
    taken: u8,
}

/// A network of this machine, ours while the lock is held.
#[derive(Debug)]
struct Bridge {
    number: u8,
    _lock: File,
}

/// Where one program lives.
#[derive(Debug, Clone)]
pub struct Host {
    address: Ipv4Addr,
    /// The name of its namespace; none for a loopback address.
    namespace: Option<String>,
}

/// What does not pass any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What others send to the host.
    Inbound,
    /// What the host sends to others.
    Outbound,
    Both,
}

impl Hosts {
    /// A network without hosts. Says so where namespaces are not permitted.
    ///
    /// # Errors
    /// A tool is missing, or every network is taken.
    pub fn new() -> anyhow::Result<Self> {
        if let Err(error) = permission() {
            let _ = writeln!(
                io::stderr().lock(),
                "network namespaces are not permitted here, so all hosts are loopback addresses and nothing is cut \
                 off: {error}"
            );
            return Ok(Self { bridge: None, taken: 0 });
        }
        Ok(Self { bridge: Some(Bridge::take()?), taken: 0 })
    }

    /// Whether hosts can be cut off from others.
    pub fn are_apart(&self) -> bool {
        self.bridge.is_some()
    }

    /// All addresses of hosts, as a pattern of URLs.
    pub(crate) fn url_pattern(&self) -> String {
        match &self.bridge {
            Some(bridge) => format!("http://198.18.{}.*:*", bridge.number),
            None => "http://127.0.0.*:*".to_owned(),
        }
    }

    /// One more host.
    ///
    /// # Errors
    /// The network is full, or its host cannot be made.
    pub fn add(&mut self) -> anyhow::Result<Host> {
        let number = FIRST_HOST + self.taken;
        ensure!(number < 255, "a network has no more than 250 hosts");
        self.taken += 1;
        match &self.bridge {
            Some(bridge) => bridge.add(number),
            None => Ok(Host { address: Ipv4Addr::new(127, 0, 0, number), namespace: None }),
        }
    }
}

/// Whether this user may make namespaces and links: tried once, whoever asks.
///
/// # Errors
/// They are not permitted; in words.
fn permission() -> Result<(), &'static str> {
    static TRIED: LazyLock<Result<(), String>> =
        LazyLock::new(|| probe().map_err(|error| format!("{error:#}")));
    TRIED.as_ref().copied().map_err(String::as_str)
}

fn probe() -> anyhow::Result<()> {
    // As long as a link's name may be, and no cluster's.
    let name = format!("slprobe{}", std::process::id());
    tool::run("ip", &["netns", "add", &name])?;
    tool::run("ip", &["netns", "delete", &name])?;
    tool::run("ip", &["link", "add", &name, "type", "bridge"])?;
    tool::run("ip", &["link", "delete", &name]).map(drop)
}

impl Bridge {
    fn take() -> anyhow::Result<Self> {
        for number in 0..NETWORKS {
            let Some(lock) = lock::take("networks", &number.to_string())? else { continue };
            let bridge = Self { number, _lock: lock };
            bridge.remove();
            let (name, own) = (bridge.name(), format!("{}/24", bridge.address(1)));
            tool::run("ip", &["link", "add", &name, "type", "bridge"])?;
            tool::run("ip", &["address", "add", &own, "dev", &name])?;
            tool::run("ip", &["link", "set", &name, "up"])?;
            return Ok(bridge);
        }
        bail!("all {NETWORKS} networks of tests are taken")
    }

    fn name(&self) -> String {
        format!("sluice{}", self.number)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, host)
    }

    /// What the names of its hosts' namespaces begin with.
    fn prefix(&self) -> String {
        format!("sluice{}-", self.number)
    }

    fn add(&self, number: u8) -> anyhow::Result<Host> {
        let host =
            Host { address: self.address(number), namespace: Some(format!("{}{number}", self.prefix())) };
        let name = host.namespace.as_deref().unwrap_or_default();
        // The pair's end at the bridge has the namespace's name.
        tool::run("ip", &["netns", "add", name])?;
        tool::run("ip", &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        tool::run("ip", &["link", "set", name, "master", &self.name(), "up"])?;
        tool::run("ip", &["-n", name, "address", "add", &format!("{}/24", host.address), "dev", "eth0"])?;
        tool::run("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        tool::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Removes everything under its names, which the lock makes ours.
    fn remove(&self) {
        let prefix = self.prefix();
        let listed = |arguments: &[&str]| tool::run("ip", arguments).unwrap_or_default();
        // Pairs by themselves: their names are wanted again, and a namespace, which would take them with it, goes only
        // with the last process that dies in it.
        for name in listed(&["-brief", "link"]).lines().filter_map(|line| line.split(['@', ' ']).next()) {
            if name.starts_with(&prefix) {
                let _ = quietly(&["link", "delete", name]);
            }
        }
        for name in listed(&["netns", "list"]).lines().filter_map(|line| line.split(' ').next()) {
            if name.starts_with(&prefix) {
                let _ = quietly(&["netns", "delete", name]);
            }
        }
        let _ = quietly(&["link", "delete", &self.name()]);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.remove();
    }
}

/// `ip`, where it does not matter whether there was anything to be done.
fn quietly(arguments: &[&str]) -> io::Result<()> {
    Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

impl Host {
    /// This machine itself, by its usual loopback address.
    pub(crate) fn local() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, namespace: None }
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Whether its ports are its own.
    pub(crate) fn is_apart(&self) -> bool {
        self.namespace.is_some()
    }

    /// The command that becomes a program on this host, if it is not there anyway: `nsenter`, which unlike `ip netns exec`
    /// leaves the mounts as they are.
    pub(crate) fn entry(&self) -> Vec<String> {
        let enter = |name: &String| vec!["nsenter".to_owned(), format!("--net=/run/netns/{name}")];
        self.namespace.as_ref().map(enter).unwrap_or_default()
    }

    /// Lets nothing pass any more, silently, as where a cable is cut. Connections stay as they are.
    ///
    /// # Errors
    /// The host is none of its own, or nftables is not there.
    pub fn cut(&self, cut: Cut) -> anyhow::Result<()> {
        self.rule(cut, &[])
    }

    /// The same, for what comes from or goes to some hosts only.
    ///
    /// # Errors
    /// As [`Host::cut`].
    pub fn cut_from(&self, others: &[Ipv4Addr]) -> anyhow::Result<()> {
        self.rule(Cut::Both, others)
    }

    /// Lets everything pass again.
    ///
    /// # Errors
    /// As [`Host::cut`].
    pub fn mend(&self) -> anyhow::Result<()> {
        self.nft(NO_CUT)
    }

    fn rule(&self, cut: Cut, others: &[Ipv4Addr]) -> anyhow::Result<()> {
        let listed = others.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
        let chain = |hook: &str, own: &str, other: &str, is_cut: bool| {
            let which = if others.is_empty() { String::new() } else { format!("ip {other} {{ {listed} }} ") };
            let drop = if is_cut { format!("{which}drop;") } else { String::new() };
            format!(
                "chain {hook} {{ type filter hook {hook} priority 0; policy accept; {own} lo accept; {drop} }}\n"
            )
        };
        let inbound = chain("input", "iif", "saddr", cut != Cut::Outbound);
        let outbound = chain("output", "oif", "daddr", cut != Cut::Inbound);
        self.nft(&format!("{NO_CUT}table inet cut {{\n{inbound}{outbound}}}\n"))
    }

    fn nft(&self, commands: &str) -> anyhow::Result<()> {
        let entry = self.entry();
        let (enter, arguments) = entry.split_first().context("a loopback address cannot be cut off")?;
        let mut child = Command::new(enter)
            .args(arguments)
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run nsenter; deploy/needs.sh test installs what tests need")?;
        child.stdin.take().context("the command has an input")?.write_all(commands.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "nft: {}\n{commands}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::process::Process;
    use crate::wait_until;

    #[test]
    fn a_host_that_is_cut_off_is_silent_until_it_is_mended() -> anyhow::Result<()> {
        let mut hosts = Hosts::new()?;
        if !hosts.are_apart() {
            return Ok(());
        }
        let host = hosts.add()?;
        let folder = tempfile::tempdir()?;
        let arguments = ["-m", "http.server", "8080", "--bind"].map(Into::into).into_iter();
        let arguments = arguments.chain([host.address().to_string().into()]).collect();
        let log = folder.path().join("log");
        let mut server = Process::with_arguments("server", "python3".into(), arguments, log).on(&host);
        server.start()?;
        let address = SocketAddr::from((host.address(), 8080));
        let answers = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok();
        wait_until("the server listens", || Ok(answers()))?;
        for cut in [Cut::Inbound, Cut::Outbound, Cut::Both] {
            host.cut(cut)?;
            ensure!(!answers(), "{cut:?}");
            host.mend()?;
            ensure!(answers(), "after {cut:?}");
        }
        let tests = Ipv4Addr::new(198, 18, host.address().octets()[2], 1);
        host.cut_from(&[Ipv4Addr::new(198, 18, 255, 1)])?;
        ensure!(answers(), "others are cut off");
        host.cut_from(&[tests])?;
        ensure!(!answers());
        // The program is the one that was started, not what entered the namespace for it.
        let name = std::fs::read_to_string(format!("/proc/{}/comm", server.pid().context("it runs")?))?;
        ensure!(name.trim() == "python3", "{name}");
        Ok(())
    }

    #[test]
    fn networks_are_apart_and_nothing_is_left_of_them() -> anyhow::Result<()> {
        let (mut one, mut other) = (Hosts::new()?, Hosts::new()?);
        if !one.are_apart() {
            return Ok(());
        }
        let (host, stranger) = (one.add()?, other.add()?);
        assert_ne!(host.address(), stranger.address());
        let name = host.namespace.clone().context("it is apart")?;
        drop(one);
        ensure!(!tool::run("ip", &["netns", "list"])?.contains(&name));
        ensure!(tool::run("ip", &["link", "show", &name]).is_err());
        Ok(())
    }
}
