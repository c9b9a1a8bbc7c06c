//! What a program may still open once it runs. Landlock (Linux 5.13) has the kernel refuse all other files, whoever runs
//! the program and whatever a fault in it makes of it; and that it, or what it starts, gets more rights than it has, is
//! refused as well.
//!
//! A thread is bound, and with it every thread and ring that it makes from then on; those that are there already are not.
//! So a program binds itself before it starts any, and once it knows its configuration: what that names is what may be
//! opened. What is open stays open. Looking at a file's attributes is bound by nothing.
//!
//! What may be opened is said by folder, so that a file which is renamed over another can be read like that one. A mount
//! that comes later covers the folder that it is mounted on, and with it what was said of that.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::findings::Findings;

/// What is held to: all that Linux 6.10 knows of files. Older kernels hold to what they know.
const HELD: ABI = ABI::V5;
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Files that are there.
const CHANGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});
/// Files that are made, replaced and taken away.
const KEEP: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile});
const LISTEN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | RemoveFile});

/// Libraries, and what they are configured by; certificates that the system trusts; sources of chance.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    // What a backtrace looks at, and who counts processors.
    "/proc/self",
    "/sys/fs/cgroup",
];
/// What the C library reads when it looks up names: files of `/etc` that others replace, and what they link to.
const NAMES: [&str; 1] = ["/etc"];
const RESOLVER: &str = "/etc/resolv.conf";

/// Refuses this process, and all that it starts, rights that it does not have: of set-uid programs, above all.
///
/// # Errors
/// None that Linux has had since 3.5.
pub fn refuse_new_rights() -> std::io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// What may be opened. What is not there when it is said stays closed.
#[derive(Default)]
pub struct Confinement {
    rules: Vec<Rule>,
}

struct Rule {
    place: OwnedFd,
    allowed: BitFlags<AccessFs>,
    shown: PathBuf,
    /// Where the place itself can be in no rule, it can be opened without one: a pipe, by its number.
    is_optional: bool,
}

/// What has come of it.
#[derive(Debug)]
pub enum Confined {
    Yes {
        /// This kernel holds to all that is asked of it.
        wholly: bool,
        /// Folders and files that may be read, and those that may be written too.
        reads: String,
        writes: String,
        /// Something was said of `/`.
        reads_everything: bool,
    },
    No(NotConfined),
    /// The configuration says so.
    Unwanted,
}

/// Why the kernel holds this process to nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotConfined {
    #[error("this kernel has landlock, and it is switched off")]
    SwitchedOff,
    #[error(
        "there is no landlock here: an older kernel, one that is built without, or a filter of system calls"
    )]
    Missing,
    #[error("landlock fails: {0}")]
    Fails(#[from] RulesetError),
}

impl NotConfined {
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::SwitchedOff => {
                "put landlock first into lsm= on the kernel's command line (what is on: /sys/kernel/security/lsm); or \
                 set confine = false"
            }
            Self::Missing | Self::Fails(_) => {
                "run Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and in containers a seccomp profile that permits \
                 landlock_create_ruleset, landlock_add_rule and landlock_restrict_self; or set confine = false"
            }
        }
    }
}

impl Confinement {
    /// What every program needs.
    pub fn of_program() -> Self {
        let mut this = Self::default();
        SYSTEM.iter().for_each(|place| this.reads(Path::new(place)));
        // For a backtrace.
        if let Ok(program) = std::env::current_exe() {
            this.reads(&program);
        }
        this
    }

    /// Names of hosts are looked up.
    pub fn looks_up_names(&mut self) {
        NAMES.iter().for_each(|place| self.reads(Path::new(place)));
        self.reads_what_is_linked(Path::new(RESOLVER));
    }

    /// A file, or all beneath a folder.
    pub fn reads(&mut self, place: &Path) {
        self.allow(place, READ);
    }

    /// A file that is read again when it changes, also where it is a link to another; with all beneath their folders.
    pub fn rereads(&mut self, file: &Path) {
        self.reads(folder_of(file));
        self.reads_what_is_linked(file);
    }

    fn reads_what_is_linked(&mut self, file: &Path) {
        if let Ok(linked) = fs::canonicalize(file) {
            self.reads(folder_of(&linked));
        }
    }

    /// A file that is made, read, written and replaced by another; with all beneath its folder.
    pub fn keeps(&mut self, file: &Path) {
        self.allow(folder_of(file), KEEP);
        if let Ok(linked) = fs::canonicalize(file) {
            self.allow(folder_of(&linked), KEEP);
        }
    }

    /// A file that is appended to, and made anew when it was moved away; or a pipe, or a device.
    pub fn appends(&mut self, file: &Path) {
        match fs::metadata(file) {
            Ok(found) if !found.is_file() => self.allow(file, CHANGE),
            _ => match fs::canonicalize(file) {
                Ok(linked) => self.allow(folder_of(&linked), KEEP),
                Err(_) => self.allow(folder_of(file), KEEP),
            },
        }
    }

    /// A socket that is made, and put in the place of another.
    pub fn listens(&mut self, socket: &Path) {
        self.allow(folder_of(socket), LISTEN);
    }

    /// A folder whose files have no names.
    pub fn keeps_nameless(&mut self, folder: impl AsFd, shown: &Path) {
        if let Ok(place) = folder.as_fd().try_clone_to_owned() {
            self.push(place, CHANGE, shown);
        }
    }

    fn allow(&mut self, place: &Path, allowed: BitFlags<AccessFs>) {
        if let Ok(opened) = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            self.push(opened, allowed, place);
        }
    }

    fn push(&mut self, place: OwnedFd, allowed: BitFlags<AccessFs>, shown: &Path) {
        let kind = fstat(&place).map(|found| FileType::from_raw_mode(found.st_mode));
        let allowed =
            if kind == Ok(FileType::Directory) { allowed } else { allowed & AccessFs::from_file(HELD) };
        let is_optional = matches!(kind, Ok(FileType::Fifo | FileType::Socket));
        self.rules.push(Rule { place, allowed, shown: shown.to_owned(), is_optional });
    }

    /// Binds this thread and all that it starts. Call it before others are started.
    pub fn bind(self) -> Confined {
        let (reads, writes) = (self.shown(false), self.shown(true));
        let reads_everything = self.rules.iter().any(|rule| rule.shown == Path::new("/"));
        match self.apply() {
            Err(fault) => Confined::No(fault.into()),
            Ok(status) => match (status.ruleset, status.landlock) {
                (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                    Confined::No(NotConfined::SwitchedOff)
                }
                (RulesetStatus::NotEnforced, _) => Confined::No(NotConfined::Missing),
                (ruleset, _) => {
                    let wholly = ruleset == RulesetStatus::FullyEnforced;
                    Confined::Yes { wholly, reads, writes, reads_everything }
                }
            },
        }
    }

    /// What would come of it, by a thread that binds itself and ends.
    pub fn try_out(self) -> Confined {
        let tried = thread::spawn(|| self.bind()).join();
        tried.unwrap_or(Confined::No(NotConfined::Missing))
    }

    fn apply(self) -> Result<RestrictionStatus, RulesetError> {
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(HELD))?.create()?;
        for rule in self.rules {
            let added = (&mut ruleset).add_rule(PathBeneath::new(rule.place, rule.allowed)).map(drop);
            if !rule.is_optional {
                added?;
            }
        }
        ruleset.restrict_self()
    }

    fn shown(&self, written: bool) -> String {
        let changes = |rule: &&Rule| rule.allowed.intersects(AccessFs::from_write(HELD)) == written;
        let mut places: Vec<_> = self.rules.iter().filter(changes).map(|rule| &rule.shown).collect();
        places.sort_unstable();
        places.dedup();
        places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Confined {
    /// Says it in the log.
    pub fn log(&self) {
        match self {
            Self::Yes { wholly, reads, writes, .. } => {
                tracing::info!(
                    wholly,
                    reads,
                    writes,
                    "confined: the kernel lets this process open nothing else"
                );
            }
            Self::No(reason) => {
                tracing::warn!(%reason, remedy = reason.remedy(), "not confined: a fault could open any file of this user's");
            }
            Self::Unwanted => tracing::info!("not confined, for confine = false"),
        }
    }

    /// The kernel does not do what is wanted.
    pub fn is_amiss(&self) -> bool {
        matches!(self, Self::No(_))
    }

    /// Says it to who checks.
    pub fn find(&self, findings: &mut Findings) {
        const WHAT: &str = "confinement";
        match self {
            Self::Yes { reads_everything: true, .. } => findings.warn(
                WHAT,
                "the program may read every file of its user's: a file that it needs, or a mount that may come, is in /",
                "move it into a folder of its own, as in /srv/sluice/files",
            ),
            Self::Yes { wholly: true, .. } => findings.ok(WHAT, "landlock binds the program to its own files"),
            Self::Yes { .. } => findings.ok(
                WHAT,
                "landlock binds the program to its own files, as far as this kernel has it (Linux 6.10 has all of it)",
            ),
            Self::No(reason) => findings.warn(WHAT, reason, reason.remedy()),
            Self::Unwanted => findings.ok(WHAT, "not wanted: confine = false"),
        }
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes { .. } => formatter.write_str("confined by landlock"),
            Self::No(reason) => write!(formatter, "not confined: {reason}; {}", reason.remedy()),
            Self::Unwanted => formatter.write_str("not confined, for confine = false"),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::private_file;

    /// Does something in a thread that is bound; `false` where this kernel binds nobody.
    fn bound(said: impl FnOnce(&mut Confinement), act: impl FnOnce() + Send) -> bool {
        let mut confinement = Confinement::default();
        said(&mut confinement);
        let bind = || matches!(confinement.bind(), Confined::Yes { .. });
        thread::scope(|scope| {
            scope.spawn(|| bind().then(act).is_some()).join().expect("nothing panics in the thread")
        })
    }

    #[test]
    fn what_was_not_said_is_refused_and_what_was_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for place in ["read", "kept", "else", "linked"] {
            fs::create_dir(at(place)).unwrap();
            fs::write(at(place).join("file"), place).unwrap();
        }
        symlink(at("linked/file"), at("read/link")).unwrap();
        let refused = |found: std::io::Result<()>| found.unwrap_err().kind() == PermissionDenied;
        let said = |confinement: &mut Confinement| {
            confinement.rereads(&at("read/link"));
            confinement.keeps(&at("kept/file"));
            confinement.listens(&at("kept/socket"));
            confinement.appends(Path::new("/dev/null"));
        };
        let is_bound = bound(said, || {
            assert_eq!(fs::read_to_string(at("read/link")).unwrap(), "linked");
            assert!(refused(fs::write(at("read/file"), "")));
            assert!(refused(File::create(at("read/new")).map(drop)));
            assert!(refused(fs::read(at("else/file")).map(drop)));
            assert!(refused(fs::read_dir(at("else")).map(drop)));
            private_file::replace(&at("kept/file"), "new").unwrap();
            assert_eq!(fs::read_to_string(at("kept/file")).unwrap(), "new\n");
            drop(UnixListener::bind(at("kept/socket")).unwrap());
            fs::remove_file(at("kept/socket")).unwrap();
            assert!(refused(symlink("file", at("kept/link"))));
            assert!(refused(fs::create_dir(at("kept/folder"))));
            File::options().append(true).open("/dev/null").unwrap();
            assert!(refused(std::process::Command::new("/bin/true").status().map(drop)));
        });
        if !is_bound {
            return;
        }
        // Nobody else is bound by that thread.
        assert_eq!(fs::read_to_string(at("else/file")).unwrap(), "else");
    }

    #[test]
    fn a_file_that_is_renamed_over_one_that_is_reread_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&file, "old").unwrap();
        fs::write(&other, "new").unwrap();
        let (rename, renamed) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                rename.wait();
                fs::rename(&other, &file).unwrap();
                renamed.wait();
            });
            let reading = || {
                rename.wait();
                renamed.wait();
                assert_eq!(fs::read_to_string(&file).unwrap(), "new");
            };
            if !bound(|confinement| confinement.rereads(&file), reading) {
                rename.wait();
                renamed.wait();
            }
        });
    }

    #[test]
    fn it_says_what_may_be_opened_and_when_that_is_everything() {
        let mut confinement = Confinement::default();
        confinement.reads(Path::new("/usr"));
        confinement.keeps(Path::new("/tmp/file"));
        confinement.reads(Path::new("/nowhere"));
        assert_eq!((confinement.shown(false), confinement.shown(true)), ("/usr".into(), "/tmp".into()));
        confinement.rereads(Path::new("/server.pem"));
        if let Confined::Yes { reads_everything, .. } = confinement.try_out() {
            assert!(reads_everything);
        }
    }
}
