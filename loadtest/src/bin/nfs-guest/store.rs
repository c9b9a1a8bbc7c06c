//! Both ends of the store: the folder that the server exports, the mount that the edge has, and the cable between.
//! But for [`Store::take_delegation`] nothing here looks at the mount itself: with the server away, that would hang.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use sluice_loadtest::{Content, tool};

use crate::files::Stored;

/// Where the guest mounts it.
pub(crate) const MOUNT: &str = "/mnt/nfs";
const EXPORT: &str = "/srv/nfs";
const CABLE: &str = "veth0";
/// What the kernel of the guest was told at its start (`loadtest/guest/run.sh`).
const GUEST: &str = "init=/init-of-guest";

/// The mounted store.
pub(crate) struct Store {
    /// How it is mounted, in the kernel's words.
    pub(crate) mounted: String,
}

impl Store {
    /// # Errors
    /// This is not the guest, or the mount is not what operators are told to have: read-only NFS.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Elsewhere it would cut somebody's network.
        let booted = fs::read_to_string("/proc/cmdline")?;
        ensure!(booted.contains(GUEST), "this runs in the guest only: make test-nfs");
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let found = mounts.lines().find(|line| line.split(' ').nth(1) == Some(MOUNT));
        let mounted =
            found.with_context(|| format!("nothing is mounted on {MOUNT}: this runs in the guest"))?;
        let fields: Vec<&str> = mounted.split(' ').collect();
        ensure!(fields[2].starts_with("nfs"), "{MOUNT} is no NFS mount: {mounted}");
        ensure!(fields[3].split(',').any(|option| option == "ro"), "{MOUNT} is not read-only: {mounted}");
        Ok(Self { mounted: mounted.to_owned() })
    }

    /// The server's path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(EXPORT).join(name)
    }

    /// Puts a file in place as publishers should: written beside it, then renamed.
    pub(crate) fn publish(&self, stored: &Stored) -> anyhow::Result<()> {
        self.publish_content(&stored.name, &stored.content)
    }

    pub(crate) fn publish_content(&self, name: &str, content: &Content) -> anyhow::Result<()> {
        let beside = self.path(&format!(".{name}.new"));
        content.write(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
        fs::set_permissions(&beside, Permissions::from_mode(0o644))?;
        fs::rename(&beside, self.path(name))?;
        Ok(())
    }

    /// Has the server give delegations of files that are opened from now on, or not. With a read delegation a client
    /// believes all it has cached until the server calls it back; other servers give none, nor does NFS 3.
    pub(crate) fn set_delegations(&self, given: bool) -> anyhow::Result<()> {
        // The server and the client are of one kernel. A delegation is a lease.
        let path = "/proc/sys/fs/leases-enable";
        fs::write(path, if given { "1" } else { "0" }).with_context(|| format!("cannot write {path}"))
    }

    /// Has the client hold a delegation of a file, if the server gives any: for a reader like this one. An edge's own
    /// opens ask for none, being `O_DIRECT`, but it shares what the mount has.
    pub(crate) fn take_delegation(&self, name: &str) -> anyhow::Result<()> {
        let mut first = [0];
        File::open(Path::new(MOUNT).join(name))?.read_exact(&mut first)?;
        Ok(())
    }

    /// Delegations that the client has returned so far; `None` where there are none to return, in NFS 3.
    pub(crate) fn delegations_returned(&self) -> anyhow::Result<Option<u64>> {
        let stats = fs::read_to_string("/proc/self/mountstats")?;
        let of_mount = stats.split("\ndevice ").find(|part| part.contains(&format!(" mounted on {MOUNT} ")));
        let of_mount = of_mount.context("the kernel has no statistics of the mount")?;
        let line = of_mount.lines().find_map(|line| line.trim_start().strip_prefix("DELEGRETURN: "));
        let count = line.and_then(|counts| counts.split(' ').next()).map(str::parse);
        Ok(count.transpose()?)
    }

    /// Cuts the server off until what this gives is dropped, or says so.
    pub(crate) fn cut(&self) -> anyhow::Result<Cut> {
        cable("down")?;
        Ok(Cut { since: Instant::now() })
    }
}

/// The server is away.
pub(crate) struct Cut {
    pub(crate) since: Instant,
}

impl Cut {
    /// Brings the server back; says when.
    pub(crate) fn end(self) -> anyhow::Result<Instant> {
        let back = Instant::now();
        cable("up")?;
        Ok(back)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // A second time does no harm, and a guest that ends has no use for it.
        let _ = cable("up");
    }
}

fn cable(state: &str) -> anyhow::Result<()> {
    tool::run("ip", &["link", "set", CABLE, state]).map(drop)
}
