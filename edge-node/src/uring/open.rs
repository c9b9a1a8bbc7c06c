//! OPENAT2: a path beneath the root → a descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use io_uring::{opcode, types};
use rustix::fs::{CWD, Mode, OFlags};

use super::{Closer, Stable, StoreFd, submit};

/// The folder that everything is opened beneath. It is opened at start, and anew where another is mounted.
#[derive(Clone)]
pub(crate) struct Root(Arc<OwnedFd>);

impl Root {
    /// # Errors
    /// No such folder, no permission, no folder.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd =
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(Arc::new(fd)))
    }

    /// Whether both are one descriptor.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether nobody else has this descriptor, so that dropping it closes it.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) fn raw(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How files are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenRules {
    /// Symbolic links that stay beneath the root are followed; otherwise none is.
    pub(crate) follow_symlinks: bool,
    /// Past the page cache of the store's filesystem, which the content cache would only double.
    pub(crate) direct: bool,
}

/// Opens a file for reading. `O_NONBLOCK`: a FIFO must not wait for its writer.
///
/// # Errors
/// The kernel's; `EXDEV` and `ELOOP` where the path leaves the root or meets a link that is not followed.
pub(crate) async fn open(root: Root, path: &str, rules: OpenRules, closer: Closer) -> io::Result<StoreFd> {
    let path = CString::new(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let direct = if rules.direct { libc::O_DIRECT } else { 0 };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | direct;
    let mut resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    if !rules.follow_symlinks {
        resolve |= libc::RESOLVE_NO_SYMLINKS;
    }
    let how = types::OpenHow::new().flags(u64::from(flags.cast_unsigned())).resolve(resolve);
    let owned = Stable::new((path, how, root));
    let parts = owned.get();
    let entry = opcode::OpenAt2::new(parts.2.raw(), parts.0.as_ptr(), &raw const parts.1).build();
    // SAFETY: path and `how` stay where they are in `owned`, which also keeps the root open.
    let opening = unsafe { submit(entry, owned) };
    // In a task of its own: were this future dropped, the descriptor would still be received, and closed.
    let opened = tokio_uring::spawn(async move {
        let (result, _owned) = opening.await;
        result.map(|fd| StoreFd::from_completion(fd.cast_signed(), closer, rules.direct))
    });
    opened.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use sluice_shared::confinement::{Confined, Confinement};

    use super::*;
    use crate::uring::run_on_ring;

    const RULES: OpenRules = OpenRules { follow_symlinks: false, direct: false };

    #[test]
    fn nothing_outside_the_root_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("a", root.join("in")).unwrap();
        symlink(folder.path().join("secret"), root.join("abs")).unwrap();
        let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
        let beneath = Root::open(&root).unwrap();
        let errno = |path: &'static str, follow_symlinks| {
            let (root, closer) = (beneath.clone(), closer.clone());
            let rules = OpenRules { follow_symlinks, ..RULES };
            let opened = run_on_ring(async move { open(root, path, rules, closer).await });
            opened.err().and_then(|error| error.raw_os_error())
        };
        assert_eq!(errno("a", false), None);
        assert_eq!(errno("in", true), None);
        assert_eq!(errno("in", false), Some(libc::ELOOP));
        assert_eq!(errno("out", false), Some(libc::ELOOP));
        assert_eq!(errno("out", true), Some(libc::EXDEV));
        assert_eq!(errno("abs", true), Some(libc::EXDEV));
        assert_eq!(errno("../secret", true), Some(libc::EXDEV));
        assert_eq!(errno("/etc/passwd", true), Some(libc::EXDEV));
        assert_eq!(errno("none", false), Some(libc::ENOENT));
        assert_eq!(errno("a/b", false), Some(libc::ENOTDIR));
    }

    #[test]
    fn a_ring_of_a_confined_thread_is_confined_with_its_own_threads() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["root", "else"] {
            fs::create_dir(folder.path().join(place)).unwrap();
            fs::write(folder.path().join(place).join("a"), "a").unwrap();
        }
        let errno = |place: &str| {
            let root = folder.path().join(place);
            let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
            let opened =
                run_on_ring(async move { open(Root::open(&root).unwrap(), "a", RULES, closer).await });
            opened.err().and_then(|error| error.raw_os_error())
        };
        let confined = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let mut confinement = Confinement::default();
                confinement.reads(&folder.path().join("root"));
                let confined = confinement.bind();
                matches!(confined, Confined::Yes { .. }).then(|| (errno("root"), errno("else")))
            });
            confined.join().unwrap()
        });
        // Where the kernel confines nobody, nothing is claimed.
        assert_eq!(confined.unwrap_or((None, Some(libc::EACCES))), (None, Some(libc::EACCES)));
        assert_eq!(errno("else"), None);
    }
}
