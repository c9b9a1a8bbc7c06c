//! A file's SHA-256 where its publisher wrote it beside it, as `sha256sum NAME > NAME.sha256` does.
//!
//! The sidecar is a file of the store like any other: it is opened beneath the root in a place among the store's
//! operations, read once, and believed only if it did not change meanwhile. Looking for it is a task of its own, one a
//! file at a time: where it hangs, the place and that task hang with it, and nobody waits for longer than
//! [`PATIENCE`], on the file's first opening alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::file::File;
use super::files::Files;
use crate::store::{Purpose, Verdict};
use crate::uring::{AlignedBuffer, FileKind, Version, statx};

pub(super) const SUFFIX: &str = ".sha256";
/// A hash, and the longest name that a file system has, escaped.
const BYTES_MAX: u64 = 1024;
/// From one look for a file's hash to the next: it is written after the file, and may come late.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a file that is new waits for its hash.
const PATIENCE: Duration = Duration::from_millis(100);
/// Its places in the store are not the file's own.
const OTHER: u64 = 0x5ea5_1dec_a5e5_1dec;

/// SHA-256.
pub(crate) type Digest = [u8; 32];

/// A look for a file's hash.
pub(super) struct Look(watch::Receiver<bool>);

impl Look {
    /// Waits for its end, as long as it is worth it.
    pub(super) async fn ended(mut self) {
        // It goes on by itself: what it finds late is used later.
        let _ = timeout(PATIENCE, self.0.wait_for(|ended| *ended)).await;
    }
}

/// Looks, on this worker's ring, for what the file's hash is in this version; `None` where it is looked for already, or
/// was lately, or nobody wants to know.
pub(super) fn look(files: &Arc<Files>, file: &Arc<File>, version: Version, requester: u64) -> Option<Look> {
    if !files.config().sha256_sidecars || file.id.ends_with(SUFFIX) {
        return None;
    }
    if !file.begin_look(&version, files.now_ms()) {
        return None;
    }
    let (done, ended) = watch::channel(false);
    let (files, file) = (Arc::clone(files), Arc::clone(file));
    tokio_uring::spawn(async move {
        let found = find(&files, &file, &version, requester).await;
        if file.end_look(version, found) {
            files.tell_workers(&file);
        }
        let _ = done.send(true);
    });
    Some(Look(ended))
}

/// What could not be told.
struct NotTold;

async fn find(
    files: &Arc<Files>,
    file: &File,
    version: &Version,
    requester: u64,
) -> Result<Option<Digest>, super::ResolveError> {
    let mut slot = files.store.ask_to_fetch(Purpose { file: file.fingerprint ^ OTHER, requester });
    let granted = timeout(files.config().storage_timeout, slot.granted()).await;
    granted.map_err(|_| super::ResolveError::Timeout)?;
    slot.begin();
    let (opened, stat) = match files.store.open(&format!("{}{SUFFIX}", file.path)).await {
        Ok(opened) => opened,
        Err(error) => {
            let error = super::ResolveError::from(error);
            return if error.is_about_the_file() { Ok(None) } else { Err(error) };
        }
    };
    let own = stat.version;
    // One that is older than its file is of another version.
    if stat.kind != FileKind::Regular || own.size > BYTES_MAX || own.modified < version.modified {
        return Ok(None);
    }
    let length = usize::try_from(own.size).expect("at most a kilobyte");
    let (read, buffer) = files.store.read(&opened, AlignedBuffer::zeroed(length), 0, length).await;
    let after = statx(Arc::clone(&opened)).await;
    match Verdict::of(&own, length, &read, &after) {
        Verdict::Same => Ok(parse(&buffer.as_slice()[..length], file.name()).ok()),
        Verdict::Another => Ok(None),
        Verdict::Failed(errno) => Err(super::ResolveError::Storage(errno)),
    }
}

/// The hash in a sidecar's text: one line, of `sha256sum` (`HEX  NAME`, `HEX *NAME`), of BSD's (`SHA256 (NAME) = HEX`),
/// or a hash alone. A name has to be the file's.
fn parse(text: &[u8], name: &str) -> Result<Digest, NotTold> {
    let text = std::str::from_utf8(text).map_err(|_| NotTold)?;
    let line = text.strip_suffix('\n').unwrap_or(text).trim_end_matches('\r');
    let (hex, named) = match line.strip_prefix("SHA256 (") {
        Some(rest) => {
            let (named, hex) = rest.rsplit_once(") = ").ok_or(NotTold)?;
            (hex, Some(named))
        }
        None => match line.split_once(' ') {
            Some((hex, rest)) => (hex, Some(rest.strip_prefix([' ', '*']).ok_or(NotTold)?)),
            None => (line, None),
        },
    };
    let is_its = |named: &str| named.rsplit('/').next() == Some(name);
    if !named.is_none_or(is_its) {
        return Err(NotTold);
    }
    decode(hex).ok_or(NotTold)
}

fn decode(hex: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    let digits = hex.as_bytes();
    if digits.len() != digest.len() * 2 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_the_usual_tools_is_read_and_nothing_else() {
        let hex = "0aB1".repeat(16);
        let expected = [0x0a, 0xb1].repeat(16);
        for good in [
            "HEX",
            "HEX\n",
            "HEX\r\n",
            "HEX  a b.bin\n",
            "HEX *a b.bin\n",
            "HEX  ./folder/a b.bin\n",
            "SHA256 (a b.bin) = HEX\n",
            "SHA256 (./a b.bin) = HEX",
        ] {
            let found = parse(good.replace("HEX", &hex).as_bytes(), "a b.bin").ok();
            assert_eq!(found.as_ref().map(<[u8; 32]>::as_slice), Some(&*expected), "{good:?}");
        }
        for bad in [
            "",
            "\n",
            "HEXHEX",
            "HE",
            "HEX  other.bin\n",
            "HEX a b.bin\n",
            "HEX  a b.bin\nHEX  c.bin\n",
            "HEX\n\n",
            "\\HEX  a b.bin\n",
            "SHA256 (other.bin) = HEX\n",
            "SHA256 (a b.bin) = \n",
            "MD5 (a b.bin) = HEX\n",
            "HEX  \n",
            "HEX  a b.bin ",
        ] {
            assert!(parse(bad.replace("HEX", &hex).as_bytes(), "a b.bin").is_err(), "{bad:?}");
        }
        assert!(parse(&[0xff; 64], "a").is_err());
        assert!(parse("g".repeat(64).as_bytes(), "a").is_err());
        assert!(parse("é".repeat(32).as_bytes(), "a").is_err());
    }
}
