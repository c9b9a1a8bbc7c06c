//! The store itself: what is mirrored, held, released, delayed, spoilt and counted.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::wait_until;

const MIB: usize = 1 << 20;

/// A store over a folder of its own, and both folders. The store goes first.
struct Mounted {
    store: FaultyStore,
    source: TempDir,
    mount: TempDir,
}

impl Mounted {
    fn new(manner: Manner) -> Self {
        let (source, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = FaultyStore::mount_in(manner, source.path(), mount.path()).unwrap();
        Self { store, source, mount }
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    /// Reads a file in a thread of its own.
    fn read(&self, name: &str) -> JoinHandle<io::Result<Vec<u8>>> {
        let path = self.path(name);
        thread::spawn(move || fs::read(path))
    }

    fn wait_until_held(&self, count: usize) {
        wait_until("requests are held", || Ok(self.store.held() == count)).unwrap();
    }

    /// Opens past the page cache, and maps memory for it that is aligned.
    fn read_direct(&self, name: &str, bytes: usize) -> io::Result<Vec<u8>> {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(self.path(name))?;
        let mut memory = vec![0; bytes + 4096];
        let skip = memory.as_ptr().align_offset(4096);
        let count = file.read_at(&mut memory[skip..skip + bytes], 0)?;
        Ok(memory[skip..skip + count].to_vec())
    }
}

#[test]
fn files_and_folders_are_mirrored_as_they_are_now() {
    let mounted = Mounted::new(Manner::default());
    mounted.write("a.bin", b"one");
    mounted.write("folder/deep/b.bin", &vec![7; 3 * MIB + 5]);
    std::os::unix::fs::symlink("a.bin", mounted.source.path().join("link")).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(mounted.mount.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.bin", "folder"]);
    assert_eq!(fs::read(mounted.path("a.bin")).unwrap(), b"one");
    assert!(fs::read(mounted.path("folder/deep/b.bin")).unwrap() == vec![7; 3 * MIB + 5]);
    assert_eq!(fs::read(mounted.path("link")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(fs::read(mounted.path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(mounted.path("a.bin"), b"no").unwrap_err();

    let mut open = File::open(mounted.path("a.bin")).unwrap();
    let before = open.metadata().unwrap();
    mounted.write("a.new", b"another");
    fs::rename(mounted.source.path().join("a.new"), mounted.source.path().join("a.bin")).unwrap();
    let after = fs::metadata(mounted.path("a.bin")).unwrap();
    let in_source = fs::metadata(mounted.source.path().join("a.bin")).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (7, in_source.modified().unwrap()));
    use std::os::unix::fs::MetadataExt as _;
    assert_ne!(before.ino(), after.ino(), "a replaced file is another one");
    let mut old = Vec::new();
    open.read_to_end(&mut old).unwrap();
    assert_eq!(old, b"one", "who has the old one open keeps it");
    assert_eq!(fs::read(mounted.path("a.bin")).unwrap(), b"another");
    mounted.write("a.bin", b"in place");
    assert_eq!(fs::read(mounted.path("a.bin")).unwrap(), b"in place");
}

type Hold = (&'static str, fn(&FaultyStore));

#[test]
fn what_is_held_waits_and_holds_up_nothing_else() {
    let holds: [Hold; 4] = [
        ("reads", |store| store.hold_reads("stuck/")),
        ("opens", |store| store.hold_opens("stuck/")),
        ("look-ups", |store| store.hold_lookups("stuck/")),
        ("reads chosen", |store| store.hold_reads(Which::that(|asked| asked.path.contains("ck/")))),
    ];
    for (what, hold) in holds {
        let mounted = Mounted::new(Manner::default());
        for file in 0..41 {
            mounted.write(&format!("stuck/{file}"), b"x");
        }
        mounted.write("well", b"well");
        mounted.write("stuck-not", b"well");
        hold(&mounted.store);
        let mut stuck: Vec<_> = (0..40).map(|file| mounted.read(&format!("stuck/{file}"))).collect();
        mounted.wait_until_held(40);
        assert_eq!(mounted.store.held_of("stuck/37"), 1, "{what}");
        assert_eq!(fs::read(mounted.path("well")).unwrap(), b"well", "{what}");
        assert_eq!(fs::read(mounted.path("stuck-not")).unwrap(), b"well", "{what}");
        assert!(stuck.iter().all(|reader| !reader.is_finished()), "{what}");
        assert!(mounted.store.release_one(), "{what}");
        wait_until("one reader goes on", || Ok(stuck.iter().any(JoinHandle::is_finished))).unwrap();
        assert_eq!(mounted.store.held(), 39, "{what}");
        stuck.push(mounted.read("stuck/40"));
        mounted.wait_until_held(40);
        mounted.store.release();
        assert!(stuck.into_iter().all(|reader| reader.join().unwrap().unwrap() == b"x"), "{what}");
        assert!(mounted.store.held() == 0 && !mounted.store.release_one(), "{what}");
        assert_eq!(fs::read(mounted.path("stuck/1")).unwrap(), b"x", "{what}: nothing is held any more");
    }
}

#[test]
fn the_attributes_of_the_root_alone_can_be_held() {
    let mounted = Mounted::new(Manner::default());
    mounted.write("a", b"a");
    mounted.store.hold_attributes(Which::root());
    let root = mounted.mount.path().to_owned();
    let asking = thread::spawn(move || fs::metadata(root).map(|found| found.is_dir()));
    mounted.wait_until_held(1);
    assert_eq!(fs::metadata(mounted.path("a")).unwrap().len(), 1);
    mounted.store.release();
    assert!(asking.join().unwrap().unwrap());
}

#[test]
fn reads_past_the_page_cache_arrive_whole_and_are_counted() {
    for direct in [false, true] {
        let mounted = Mounted::new(Manner { direct, ..Manner::default() });
        mounted.write("a", &vec![1; MIB]);
        mounted.write("b", &vec![2; 2 * MIB]);
        assert!(mounted.read_direct("a", MIB).unwrap() == vec![1; MIB]);
        let store = &mounted.store;
        assert_eq!((store.reads("a"), store.bytes_read("a"), store.opens("a")), (1, MIB as u64, 1));
        assert!(mounted.read_direct("b", 2 * MIB).unwrap() == vec![2; 2 * MIB]);
        assert_eq!((store.reads("b"), store.bytes_read("b")), (2, 2 * MIB as u64));
        assert_eq!((store.most_reads_at_once("b"), store.reads_of_all()), (1, 3));
        assert_eq!((store.reads("c"), store.bytes_read("c"), store.opens("c")), (0, 0, 0));
    }
    let mounted = Mounted::new(Manner { refuses_direct: true, ..Manner::default() });
    mounted.write("a", b"a");
    let refused = mounted.read_direct("a", MIB).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"a");
}

#[test]
fn a_delay_is_each_reads_own() {
    const DELAY: Duration = Duration::from_millis(100);
    let mounted = Mounted::new(Manner::default());
    for file in 0..16 {
        mounted.write(&file.to_string(), &vec![1; MIB]);
    }
    mounted.store.delay(DELAY);
    let began = Instant::now();
    thread::scope(|scope| {
        for file in 0..16 {
            let mounted = &mounted;
            scope.spawn(move || mounted.read_direct(&file.to_string(), MIB).unwrap());
        }
    });
    assert!(began.elapsed() >= DELAY);
    let most = mounted.store.most_reads_at_once_of_all();
    assert!(most > 8, "{most} of 16 reads at the same time");
    assert_eq!(mounted.store.most_reads_at_once("3"), 1);
    mounted.store.delay(Duration::ZERO);
    mounted.read_direct("3", MIB).unwrap();
}

#[test]
fn calls_fail_as_they_are_told_to() {
    // Without this the kernel makes up for a short read itself, by another through the page cache.
    let mounted = Mounted::new(Manner { direct: true, ..Manner::default() });
    mounted.write("bad/a", &vec![1; MIB]);
    mounted.write("well", b"well");
    let store = &mounted.store;
    let errno = |result: io::Result<Vec<u8>>| result.unwrap_err().raw_os_error().map(Errno::from_i32);
    let read = || mounted.read_direct("bad/a", MIB);
    store.fail_reads("bad/", Errno::EIO);
    assert_eq!(errno(read()), Some(Errno::EIO));
    assert_eq!(fs::read(mounted.path("well")).unwrap(), b"well");
    store.mend();
    assert_eq!(read().unwrap().len(), MIB);

    store.fail_next_reads(2, "bad/", Errno::ESTALE);
    assert_eq!((errno(read()), errno(read())), (Some(Errno::ESTALE), Some(Errno::ESTALE)));
    assert_eq!(read().unwrap().len(), MIB);

    store.shorten_next_reads(1, "bad/", 1000);
    assert!(read().unwrap() == [1; 1000]);
    assert_eq!(read().unwrap().len(), MIB);

    store.fail_opens("bad/", Errno::EIO);
    assert_eq!(errno(read()), Some(Errno::EIO));
    store.mend();
    store.fail_lookups("bad/", Errno::EACCES);
    assert_eq!(errno(read()), Some(Errno::EACCES));
    store.mend();
    let open = File::open(mounted.path("bad/a")).unwrap();
    store.fail_attributes("bad/", Errno::EIO);
    assert_eq!(open.metadata().unwrap_err().raw_os_error(), Some(Errno::EIO.into()));
}

#[test]
fn a_change_is_seen_whole_or_not_at_all() {
    let mounted = Mounted::new(Manner { direct: true, ..Manner::default() });
    mounted.write("a", &vec![0; MIB]);
    let path = mounted.source.path().join("a");
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=50u8 {
                mounted.store.change(|| fs::write(&path, vec![round; MIB]).unwrap());
            }
        });
        while !writer.is_finished() {
            let bytes = mounted.read_direct("a", MIB).unwrap();
            assert!(
                bytes.len() == MIB && bytes.iter().all(|byte| *byte == bytes[0]),
                "two changes in one read"
            );
        }
    });
}

#[test]
fn a_dropped_store_lets_go_of_everybody_even_with_files_open() {
    for manner in [Manner::default(), Manner { asynchronous: true, ..Manner::default() }] {
        let mounted = Mounted::new(manner);
        mounted.write("a", b"a");
        mounted.write("b", b"b");
        let _open = File::open(mounted.path("b")).unwrap();
        mounted.store.hold_all();
        let reader = mounted.read("a");
        mounted.wait_until_held(1);
        let Mounted { store, source: _source, mount } = mounted;
        drop(store);
        reader.join().unwrap().expect_err("the store has gone");
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0, "nothing is mounted there any more");
    }
}
