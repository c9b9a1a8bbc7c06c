//! The ring against the kernel: operations whose callers have gone, that come in pieces, and more at once than fit.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// Memory that tells when it is freed.
struct Watched {
    buffer: AlignedBuffer,
    freed: Rc<Cell<bool>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.freed.set(true);
    }
}

// SAFETY: it owns the buffer, which keeps what the trait asks for.
unsafe impl ReadTarget for Watched {
    fn address(&mut self) -> *mut u8 {
        self.buffer.address()
    }

    fn len(&self) -> usize {
        ReadTarget::len(&self.buffer)
    }
}

/// A pipe: reads of it wait for its other end.
fn pipe(closer: Closer) -> (Arc<StoreFd>, fs::File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (Arc::new(StoreFd::from_completion(reader.into_raw_fd(), closer, false)), writer.into())
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain");
}

#[test]
fn an_operation_outlives_the_future_that_waited_for_it() {
    let (closer, mut closed) = tokio::sync::mpsc::unbounded_channel();
    run_on_ring(async move {
        let (reader, mut writer) = pipe(closer);
        let freed = Rc::new(Cell::new(false));
        let target = Watched { buffer: AlignedBuffer::zeroed(4096), freed: Rc::clone(&freed) };
        let reading = read(&reader, target, 0, 4096);
        let cut = tokio::time::timeout(Duration::from_millis(20), reading).await;
        assert!(cut.is_err(), "nothing is in the pipe");
        drop(reader);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!freed.get() && closed.try_recv().is_err(), "the kernel may still write to it");
        writer.write_all(&[7; 4096]).unwrap();
        until(|| freed.get()).await;
        assert!(closed.recv().await.is_some(), "then the descriptor goes to be closed");
    });
}

#[test]
fn what_comes_in_pieces_is_read_until_it_ends() {
    let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
    run_on_ring(async move {
        let (reader, mut writer) = pipe(closer);
        let pieces = std::thread::spawn(move || {
            for piece in [&[1; 1000][..], &[2; 3000], &[3; 500]] {
                writer.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (count, buffer) = read(&reader, AlignedBuffer::zeroed(8192), 0, 8192).await;
        assert_eq!(count.unwrap(), 4500, "until the other end closes");
        let bytes = buffer.as_slice();
        assert!(
            bytes[..1000] == [1; 1000] && bytes[1000..4000] == [2; 3000] && bytes[4000..4500] == [3; 500]
        );
        pieces.join().unwrap();
    });
}

#[test]
fn more_operations_than_the_queues_hold_all_complete() {
    const OPERATIONS: usize = 3 * COMPLETION_ENTRIES as usize;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let root = Root::open(folder.path()).unwrap();
    let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
    run_on_ring(async move {
        let rules = OpenRules { follow_symlinks: false, direct: false };
        let file = Arc::new(open(root, "a", rules, closer).await.unwrap());
        let asked: Vec<_> = (0..OPERATIONS).map(|_| tokio_uring::spawn(statx(Arc::clone(&file)))).collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap().unwrap().version.size, 7);
        }
    });
}

#[test]
fn an_operation_that_fails_gives_its_memory_back() {
    let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
    run_on_ring(async move {
        let (_, writer) = rustix::pipe::pipe().unwrap();
        let unreadable = Arc::new(StoreFd::from_completion(writer.into_raw_fd(), closer, false));
        let freed = Rc::new(Cell::new(false));
        let target = Watched { buffer: AlignedBuffer::zeroed(4096), freed: Rc::clone(&freed) };
        let (result, target) = read(&unreadable, target, 0, 4096).await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(!freed.get());
        drop(target);
        assert!(freed.get());
    });
}
