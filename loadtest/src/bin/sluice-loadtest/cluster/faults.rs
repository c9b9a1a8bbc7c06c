//! What is to happen to a cluster, and when: a list in TOML, proven before anything starts.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::config::{self, ConfigError};
use sluice_shared::units::Span;
use toml::Spanned;

use crate::arguments::Cluster;

/// A fault at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Since the run's start.
    pub(super) at: Duration,
    pub(super) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Of(Deed, Who),
    OnAll(Event),
}

/// What is done to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Deed {
    /// SIGKILL
    Kill,
    /// SIGSTOP
    Freeze,
    /// SIGCONT
    Thaw,
    /// Its host's network gone,
    Cut,
    /// and back.
    Mend,
    /// SIGTERM, which an edge drains at.
    Drain,
    Start,
}

/// What happens to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    StickStorage,
    ReleaseStorage,
    RotateKeys,
    KillEtcdLeader,
    RestartEtcd,
    RestartRedis,
}

/// Counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Edge(usize),
    Coordinator(usize),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFaults {
    #[serde(default)]
    faults: Vec<RawFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    at: Spanned<Span>,
    action: Spanned<RawAction>,
    who: Option<Spanned<String>>,
}

/// The names of both are one list to those who write it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "is none of kill, freeze, thaw, cut, mend, drain, start, stick-storage, release-storage, \
                               rotate-keys, kill-etcd-leader, restart-etcd, restart-redis"
)]
enum RawAction {
    Deed(Deed),
    Event(Event),
}

/// What a cluster has to have for its faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Programs that can be cut off.
    pub(super) hosts: bool,
    pub(super) store: bool,
    /// Keys in etcd.
    pub(super) rotation: bool,
}

impl Needs {
    pub(super) fn of(faults: &[Fault]) -> Self {
        let any = |is: fn(&Action) -> bool| faults.iter().any(|fault| is(&fault.action));
        Self {
            hosts: any(|action| matches!(action, Action::Of(Deed::Cut | Deed::Mend, _))),
            store: any(|action| matches!(action, Action::OnAll(Event::StickStorage | Event::ReleaseStorage))),
            rotation: any(|action| matches!(action, Action::OnAll(Event::RotateKeys))),
        }
    }
}

/// Reads a list of faults for a cluster, in the order of their times. `end` is when nothing begins any more, which they have
/// to come before.
///
/// # Errors
/// What is wrong, with its line and key.
pub(super) fn load(path: &Path, cluster: &Cluster, end: Duration) -> Result<Vec<Fault>, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &text, cluster, end)
}

fn parse(path: &Path, text: &str, cluster: &Cluster, end: Duration) -> Result<Vec<Fault>, ConfigError> {
    let raw: RawFaults = config::parse(path, text)?;
    let mut faults = Vec::new();
    for raw in raw.faults {
        let fault = |key: std::ops::Range<usize>, what: &str| ConfigError::at(path, text, key.start, what);
        let at = raw.at.get_ref().0;
        if at >= end {
            let what = format!(
                "comes too late: warm-up and duration of the run are over after {}",
                humantime::format_duration(end)
            );
            return Err(fault(raw.at.span(), &what));
        }
        let who = || {
            let key = raw.who.as_ref();
            let key = key.ok_or_else(|| fault(raw.action.span(), "needs `who`, as \"edge-1\""))?;
            let what = "is none of the cluster's edge-1, …, coordinator-1, …";
            Who::parse(key.get_ref(), cluster).ok_or_else(|| fault(key.span(), what))
        };
        let action = match *raw.action.get_ref() {
            RawAction::Deed(deed) => Action::Of(deed, who()?),
            RawAction::Event(event) => match event.lacks(cluster) {
                Some(flag) => {
                    return Err(fault(raw.action.span(), &format!("needs a cluster with {flag}")));
                }
                None => Action::OnAll(event),
            },
        };
        faults.push(Fault { at, action });
    }
    faults.sort_by_key(|fault| fault.at);
    Ok(faults)
}

impl Event {
    /// The flag that a cluster has to be started with for it, where this one was not.
    fn lacks(self, cluster: &Cluster) -> Option<&'static str> {
        let (is_there, flag) = match self {
            Self::StickStorage | Self::ReleaseStorage => return None,
            Self::RotateKeys | Self::KillEtcdLeader | Self::RestartEtcd => (cluster.etcd, "--etcd"),
            Self::RestartRedis => (cluster.redis, "--redis"),
        };
        (!is_there).then_some(flag)
    }

    /// As the report tells it.
    fn told(self) -> &'static str {
        match self {
            Self::StickStorage => "storage hangs",
            Self::ReleaseStorage => "storage answers again",
            Self::RotateKeys => "keys rotated",
            Self::KillEtcdLeader => "etcd's leader killed",
            Self::RestartEtcd => "etcd started again, what of it does not run",
            Self::RestartRedis => "Redis killed and started again",
        }
    }
}

impl Deed {
    fn told(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Freeze => "frozen",
            Self::Thaw => "goes on",
            Self::Cut => "cut off",
            Self::Mend => "reachable again",
            Self::Drain => "told to end",
            Self::Start => "started again",
        }
    }
}

impl Who {
    fn parse(text: &str, cluster: &Cluster) -> Option<Self> {
        let (kind, number) = text.rsplit_once('-')?;
        let number: u32 = number.parse().ok()?;
        let index = |of: u32| usize::try_from((1..=of).contains(&number).then(|| number - 1)?).ok();
        match kind {
            "edge" => index(cluster.edges).map(Self::Edge),
            "coordinator" => index(cluster.coordinators).map(Self::Coordinator),
            _ => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(index) => write!(f, "edge-{}", index + 1),
            Self::Coordinator(index) => write!(f, "coordinator-{}", index + 1),
        }
    }
}

/// What was done, for the report.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Of(deed, who) => write!(f, "{who} {}", deed.told()),
            Action::OnAll(event) => f.write_str(event.told()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a run with its usual times.
    const END: Duration = Duration::from_secs(32);

    fn cluster(etcd: bool, redis: bool) -> Cluster {
        Cluster {
            root: "files".into(),
            edges: 3,
            coordinators: 1,
            etcd,
            redis,
            faults: None,
            run: Vec::new(),
        }
    }

    #[test]
    fn the_sample_has_every_action() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/faults.toml");
        let faults = load(&path, &cluster(true, true), END).unwrap();
        let done = |fault: &Fault| match fault.action {
            Action::Of(deed, _) => deed.told(),
            Action::OnAll(event) => event.told(),
        };
        let mut actions: Vec<_> = faults.iter().map(done).collect();
        actions.dedup();
        for (at, action) in actions.iter().enumerate() {
            assert!(!actions[..at].contains(action), "twice");
        }
        assert_eq!(actions.len(), 13);
        assert!(faults.is_sorted_by_key(|fault| fault.at));
        let needs = Needs::of(&faults);
        assert!(needs.hosts && needs.store && needs.rotation);
    }

    #[test]
    fn faults_of_the_list_name_line_and_key() {
        let said = |text: &str| {
            parse(Path::new("faults.toml"), text, &cluster(false, false), END).unwrap_err().to_string()
        };
        let first = "[[faults]]\nat = \"1s\"\n";
        for (text, place, named) in [
            ("action = \"explode\"", "faults.toml:3:", "`action`"),
            ("action = \"kill\"", ":3:10: needs `who`", "`action`"),
            ("action = \"kill\"\nwho = \"edge-4\"", ":4:7: is none", "`who`"),
            ("action = \"kill\"\nwho = \"edge-0\"", ":4:7: is none", "`who`"),
            ("action = \"rotate-keys\"", ":3:10: needs a cluster with --etcd", "`action`"),
            ("action = \"restart-redis\"", ":3:10: needs a cluster with --redis", "`action`"),
            ("actions = \"kill\"", ":3:1: unknown field", "`actions`"),
        ] {
            let fault = said(&format!("{first}{text}"));
            assert!(fault.contains(place) && fault.contains(named), "{fault}");
        }
        for (at, is_late) in [("31999ms", false), ("32s", true), ("1h", true)] {
            let text = format!("[[faults]]\naction = \"stick-storage\"\nat = {at:?}");
            let parsed = parse(Path::new("faults.toml"), &text, &cluster(false, false), END);
            assert_eq!(parsed.is_err(), is_late, "{at}");
            if let Err(fault) = parsed {
                let fault = fault.to_string();
                assert!(fault.contains(":3:6: comes too late") && fault.contains("32s"), "{fault}");
            }
        }
    }
}
