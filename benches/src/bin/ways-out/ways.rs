//! Where a body lies, and the calls that send it behind a head.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::net::TcpStream;
use std::path::Path;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use rustix::net::SendFlags;
use rustix::net::sockopt::set_tcp_cork;

use crate::HEAD_BYTES;

pub(crate) struct Way {
    pub(crate) name: &'static str,
    calls: Calls,
}

enum Calls {
    /// As nginx with `tcp_nopush`.
    Corked { head: Vec<u8>, body: OwnedFd, bytes: usize },
    /// `MSG_MORE`, `sendfile`.
    Two { head: Vec<u8>, body: OwnedFd, bytes: usize },
    /// `sendfile` of both.
    One { both: OwnedFd, bytes: usize },
    /// Out of the process's memory.
    Copied(Vec<u8>),
}

/// All ways for a body of so many bytes. The folder is on the filesystem whose page cache is measured; a tmpfs of our own
/// takes the right to mount.
pub(crate) fn all(folder: &Path, bytes: usize) -> anyhow::Result<Vec<Way>> {
    let (head, body, both) = (vec![b'h'; HEAD_BYTES], vec![b'b'; bytes], vec![b'a'; HEAD_BYTES + bytes]);
    let on_disk = || -> io::Result<OwnedFd> {
        File::create(folder.join("body"))?.write_all(&body)?;
        Ok(File::open(folder.join("body"))?.into())
    };
    let memfd = |content: &[u8]| -> io::Result<OwnedFd> {
        let file = rustix::fs::memfd_create(c"body", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        file.write_all(content)?;
        Ok(file.into())
    };
    let large = in_large_pages(&body).context("cannot mount a tmpfs (root can)")?;
    Ok(vec![
        Way {
            name: "page_cache_corked",
            calls: Calls::Corked { head: head.clone(), body: on_disk()?, bytes },
        },
        Way { name: "page_cache", calls: Calls::Two { head: head.clone(), body: on_disk()?, bytes } },
        Way { name: "memfd", calls: Calls::Two { head: head.clone(), body: memfd(&body)?, bytes } },
        Way { name: "large_pages", calls: Calls::Two { head, body: large, bytes } },
        Way { name: "memfd_with_head", calls: Calls::One { both: memfd(&both)?, bytes: both.len() } },
        Way { name: "copied", calls: Calls::Copied(both) },
    ])
}

/// A file of a tmpfs of our own, in pages as large as fit it.
fn in_large_pages(content: &[u8]) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "huge", "within_size")?;
    fsconfig_create(&context)?;
    let folder = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, c".", flags, Mode::RUSR | Mode::WUSR)?;
    let bytes = content.len().next_multiple_of(4096) as u64;
    rustix::fs::ftruncate(&file, bytes)?;
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes)?;
    let mut file = File::from(file);
    file.write_all(content)?;
    Ok(file.into())
}

impl Way {
    /// Sends a head and a body.
    pub(crate) fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        match &self.calls {
            Calls::Corked { head, body, bytes } => {
                set_tcp_cork(stream, true)?;
                rustix::io::writev(stream, &[IoSlice::new(head)])?;
                send_file(stream, body, *bytes)?;
                set_tcp_cork(stream, false)?;
            }
            Calls::Two { head, body, bytes } => {
                rustix::net::send(stream, head, SendFlags::MORE | SendFlags::NOSIGNAL)?;
                send_file(stream, body, *bytes)?;
            }
            Calls::One { both, bytes } => send_file(stream, both, *bytes)?,
            Calls::Copied(both) => {
                let mut left = &both[..];
                while !left.is_empty() {
                    match rustix::net::send(stream, left, SendFlags::NOSIGNAL) {
                        Ok(count) => left = &left[count..],
                        Err(Errno::AGAIN) => until_writable(stream)?,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }
}

fn send_file(stream: &TcpStream, file: &OwnedFd, bytes: usize) -> io::Result<()> {
    let mut offset = 0;
    let end = bytes as u64;
    while offset < end {
        let left = usize::try_from(end - offset).expect("less than the whole");
        match rustix::fs::sendfile(stream, file, Some(&mut offset), left) {
            Ok(_) => {}
            Err(Errno::AGAIN) => until_writable(stream)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn until_writable(stream: &TcpStream) -> io::Result<()> {
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
    Ok(())
}
