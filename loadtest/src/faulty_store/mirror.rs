//! The filesystem: names, attributes and bytes of the source, each asked for when a request is answered.
//!
//! Files and folders only; whatever else the source holds is not there. What becomes of a request is for the rules to
//! say.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};
use rustix::fs::{Mode, OFlags, openat};

use super::rules::{Asked, Call, Fault, Rules};
use super::{Errno, Manner, errno_of};

/// Nothing is believed without asking again.
const AT_ONCE: Duration = Duration::ZERO;
/// Requests that the kernel may have under way without anybody waiting for each.
const BACKGROUND_MAX: u16 = 4096;

pub(super) struct Mirror {
    manner: Manner,
    rules: Arc<Rules>,
    source: Arc<Source>,
}

/// The source as far as it is known, and open.
struct Source {
    nodes: Mutex<Nodes>,
    handles: Mutex<Handles>,
    /// Held, shared, while a request is answered.
    changes: Arc<RwLock<()>>,
    rules: Arc<Rules>,
}

/// Something the kernel knows, by its number.
struct Node {
    /// Opened with `O_PATH`: while this is kept, the source gives its inode to nothing else.
    source: File,
    /// As it was last looked up.
    path: Mutex<String>,
}

#[derive(Default)]
struct Nodes {
    /// With how often the kernel was told of it.
    known: HashMap<u64, (Arc<Node>, u64)>,
    /// The number of everything that ever had one, by device and inode of the source.
    numbers: HashMap<(u64, u64), u64>,
}

#[derive(Default)]
struct Handles {
    open: HashMap<u64, Arc<File>>,
    last: u64,
}

impl Mirror {
    /// # Errors
    /// There is no such folder.
    pub(super) fn new(
        source: &Path,
        manner: Manner,
        rules: Arc<Rules>,
        changes: Arc<RwLock<()>>,
    ) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = File::from(openat(rustix::fs::CWD, source, flags, Mode::empty())?);
        let metadata = root.metadata()?;
        let mut nodes = Nodes::default();
        nodes.numbers.insert((metadata.dev(), metadata.ino()), INodeNo::ROOT.0);
        nodes.known.insert(INodeNo::ROOT.0, (Arc::new(Node { source: root, path: Mutex::default() }), 1));
        let source = Source {
            nodes: Mutex::new(nodes),
            handles: Mutex::default(),
            changes,
            rules: Arc::clone(&rules),
        };
        Ok(Self { manner, rules, source: Arc::new(source) })
    }

    /// Has the rules decide on a request that is about a whole file or folder.
    fn ask(&self, call: Call, path: String, answer: impl FnOnce(&Source, Option<Fault>) + Send + 'static) {
        self.ask_for(call, Asked { path, offset: 0, bytes: 0 }, answer);
    }

    fn ask_for(
        &self,
        call: Call,
        asked: Asked,
        answer: impl FnOnce(&Source, Option<Fault>) + Send + 'static,
    ) {
        let source = Arc::clone(&self.source);
        let answer = move |fault| {
            let _unchanged = source.changes.read().expect("nothing panics under this lock");
            answer(&source, fault);
        };
        self.rules.ask(call, asked, Box::new(answer));
    }
}

impl Filesystem for Mirror {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("the kernel's FUSE has no {what}"));
        let mut capability = |flag, what| config.add_capabilities(flag).map_err(|_| refused(what));
        // A look-up that is held must not hold up others in the same folder.
        capability(InitFlags::FUSE_PARALLEL_DIROPS, "parallel look-ups")?;
        // What was replaced is not read from the page cache.
        capability(InitFlags::FUSE_AUTO_INVAL_DATA, "invalidation of what changed")?;
        if self.manner.asynchronous {
            capability(InitFlags::FUSE_ASYNC_DIO, "asynchronous direct reads")?;
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_congestion_threshold(BACKGROUND_MAX);
        // Reads are as large as writes may be, and those are as large as the kernel takes unless it is told less.
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(parent) = self.source.node(parent) else { return reply.error(Errno::ESTALE) };
        let Some(name) = name.to_str().map(str::to_owned) else { return reply.error(Errno::ENOENT) };
        let path = parent.path_of(&name);
        self.ask(Call::Lookup, path.clone(), move |source, fault| {
            match unspoilt(fault).and_then(|()| source.look_up(&parent, &name, path)) {
                Ok(attributes) => reply.entry(&AT_ONCE, &attributes, Generation(0)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn forget(&self, _request: &Request, number: INodeNo, times: u64) {
        self.source.forget(number, times);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let Some(node) = self.source.node(number) else { return reply.error(Errno::ESTALE) };
        self.ask(Call::Attributes, node.path(), move |_, fault| {
            match unspoilt(fault).and_then(|()| node.attributes(number)) {
                Ok(attributes) => reply.attr(&AT_ONCE, &attributes),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(node) = self.source.node(number) else { return reply.error(Errno::ESTALE) };
        let manner = self.manner;
        let is_direct = flags.0.cast_unsigned() & OFlags::DIRECT.bits() != 0;
        self.ask(Call::Open, node.path(), move |source, fault| {
            if manner.refuses_direct && is_direct {
                return reply.error(Errno::EINVAL);
            }
            let how = if manner.direct { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
            match unspoilt(fault).and_then(|()| source.open(&node)) {
                Ok(handle) => reply.opened(handle, how),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (node, file) = (self.source.node(number), self.source.handle(handle));
        let (Some(node), Some(file)) = (node, file) else { return reply.error(Errno::EBADF) };
        let path = node.path();
        let asked = Asked { path: path.clone(), offset, bytes: size as usize };
        self.ask_for(Call::Read, asked, move |source, fault| {
            let most = match fault {
                Some(Fault::Error(errno)) => return reply.error(errno),
                Some(Fault::Short(bytes)) => bytes.min(size as usize),
                None => size as usize,
            };
            match read_at(&file, offset, most) {
                Ok(bytes) => {
                    source.rules.brought(&path, bytes.len());
                    reply.data(&bytes);
                }
                Err(error) => reply.error(errno_of(&error)),
            }
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.source.handles().open.remove(&handle.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(node) = self.source.node(number) else { return reply.error(Errno::ESTALE) };
        let names = match node.names() {
            Ok(names) => names,
            Err(error) => return reply.error(errno_of(&error)),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (name, kind)) in (offset + 1..).zip(names.into_iter().skip(skipped)) {
            // Whoever wants a number looks the name up.
            if reply.add(INodeNo(u64::MAX), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

impl Source {
    fn look_up(&self, parent: &Node, name: &str, path: String) -> Result<FileAttr, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found =
            openat(&parent.source, name, flags, Mode::empty()).map_err(|error| errno_of(&error.into()))?;
        let found = File::from(found);
        let metadata = found.metadata().map_err(|error| errno_of(&error))?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(Errno::ENOENT);
        }
        let mut nodes = self.nodes();
        let unused = nodes.numbers.len() as u64 + 1;
        let number = *nodes.numbers.entry((metadata.dev(), metadata.ino())).or_insert(unused);
        let new = || (Arc::new(Node { source: found, path: Mutex::default() }), 0);
        let (node, times) = nodes.known.entry(number).or_insert_with(new);
        *times += 1;
        node.set_path(path);
        Ok(attributes(INodeNo(number), &metadata))
    }

    fn forget(&self, number: INodeNo, times: u64) {
        let mut nodes = self.nodes();
        if let Some((_, told)) = nodes.known.get_mut(&number.0) {
            *told = told.saturating_sub(times);
            if *told == 0 && number != INodeNo::ROOT {
                nodes.known.remove(&number.0);
            }
        }
    }

    fn open(&self, node: &Node) -> Result<FileHandle, Errno> {
        let file = File::open(node.link()).map_err(|error| errno_of(&error))?;
        let mut handles = self.handles();
        handles.last += 1;
        let handle = handles.last;
        handles.open.insert(handle, Arc::new(file));
        Ok(FileHandle(handle))
    }

    fn node(&self, number: INodeNo) -> Option<Arc<Node>> {
        self.nodes().known.get(&number.0).map(|(node, _)| Arc::clone(node))
    }

    fn handle(&self, handle: FileHandle) -> Option<Arc<File>> {
        self.handles().open.get(&handle.0).cloned()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().expect("nothing panics under this lock")
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().expect("nothing panics under this lock")
    }
}

impl Node {
    fn attributes(&self, number: INodeNo) -> Result<FileAttr, Errno> {
        let metadata = self.source.metadata().map_err(|error| errno_of(&error))?;
        Ok(attributes(number, &metadata))
    }

    fn path(&self) -> String {
        self.path.lock().expect("nothing panics under this lock").clone()
    }

    fn set_path(&self, path: String) {
        *self.path.lock().expect("nothing panics under this lock") = path;
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = self.path();
        if !path.is_empty() {
            path.push('/');
        }
        path + name
    }

    /// Opens to what the descriptor stands for, whatever has its name by now.
    fn link(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.source.as_raw_fd()).into()
    }

    fn names(&self) -> io::Result<Vec<(String, FileType)>> {
        let mut names = vec![(".".to_owned(), FileType::Directory), ("..".to_owned(), FileType::Directory)];
        for entry in fs::read_dir(self.link())? {
            let entry = entry?;
            let kind = match entry.file_type()? {
                kind if kind.is_dir() => FileType::Directory,
                kind if kind.is_file() => FileType::RegularFile,
                _ => continue,
            };
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, kind));
            }
        }
        Ok(names)
    }
}

fn unspoilt(fault: Option<Fault>) -> Result<(), Errno> {
    match fault {
        Some(Fault::Error(errno)) => Err(errno),
        Some(Fault::Short(_)) | None => Ok(()),
    }
}

/// As many bytes as there are, up to `most`.
fn read_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn attributes(number: INodeNo, metadata: &Metadata) -> FileAttr {
    let time = |secs: i64, nanos: i64| {
        let (secs, nanos) = (u64::try_from(secs).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        UNIX_EPOCH + Duration::new(secs, nanos)
    };
    let changed = time(metadata.ctime(), metadata.ctime_nsec());
    FileAttr {
        ino: number,
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: time(metadata.atime(), metadata.atime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: changed,
        crtime: changed,
        kind: if metadata.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: u16::try_from(metadata.permissions().mode() & 0o7777).expect("12 bits fit 16"),
        nlink: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
