//! Files whose every byte follows from name, version and offset, so that any range can be checked without the file.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

/// Bytes made at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes compared at a time; whole words.
const BLOCK_BYTES: usize = 4096;

/// What a file should hold. Two names, or two versions of one, differ in almost every byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    key: u64,
    size: u64,
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("byte {offset} is {found:#04x} and should be {expected:#04x}")]
    Byte { offset: u64, found: u8, expected: u8 },
    #[error("bytes {start}..{end} reach past the end at {size}")]
    PastEnd { start: u64, end: u64, size: u64 },
    #[error("the body has {found} bytes and should have {expected}")]
    Length { found: u64, expected: u64 },
}

impl Content {
    pub fn new(name: &str, size: u64) -> Self {
        Self::version(name, 0, size)
    }

    /// Another content under the same name, for files that are replaced.
    pub fn version(name: &str, version: u64, size: u64) -> Self {
        let key = name.bytes().fold(mix(version), |key, byte| mix(key ^ u64::from(byte)));
        Self { key, size }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range that lies within the file.
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let length = usize::try_from(range.end - range.start)
            .expect("a range to be held in memory is no longer than memory");
        let mut bytes = vec![0; length];
        self.fill(range.start, &mut bytes);
        bytes
    }

    /// Checks bytes that were received from `offset` on.
    ///
    /// # Errors
    /// The first byte that differs, or bytes past the end.
    pub fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), Mismatch> {
        let end = offset + bytes.len() as u64;
        if end > self.size {
            return Err(Mismatch::PastEnd { start: offset, end, size: self.size });
        }
        // To the next word, then by words, in blocks that are few enough to be looked at twice.
        let to_word = usize::from((offset.wrapping_neg() % 8).to_le_bytes()[0]).min(bytes.len());
        let (begun, rest) = bytes.split_at(to_word);
        let blocks = std::iter::once(begun).chain(rest.chunks(BLOCK_BYTES)).filter(|block| !block.is_empty());
        let mut at = offset;
        for found in blocks {
            if self.differs(at, found) {
                return Err(self.mismatch(at, found));
            }
            at += found.len() as u64;
        }
        Ok(())
    }

    /// Whether bytes from `at` on are others than they should be; quickly where `at` begins a word.
    fn differs(&self, at: u64, found: &[u8]) -> bool {
        let mut expected = [0; 8];
        if !at.is_multiple_of(8) {
            let expected = &mut expected[..found.len()];
            self.fill(at, expected);
            return found != expected;
        }
        let (words, rest) = found.as_chunks::<8>();
        let first = at / 8;
        // Nothing is decided before the end: a loop without branches is as fast as memory.
        let difference = words.iter().zip(first..).fold(0, |difference, (found, word)| {
            difference | (u64::from_le_bytes(*found) ^ u64::from_le_bytes(self.word(word)))
        });
        let expected = &mut expected[..rest.len()];
        self.fill(at + (found.len() - rest.len()) as u64, expected);
        difference != 0 || rest != expected
    }

    /// The first byte that is another.
    fn mismatch(&self, at: u64, found: &[u8]) -> Mismatch {
        let mut expected = vec![0; found.len()];
        self.fill(at, &mut expected);
        let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        let index = differs.expect("unequal slices of one length differ somewhere");
        Mismatch::Byte { offset: at + index as u64, found: found[index], expected: expected[index] }
    }

    /// Checks a whole body: every byte, and no byte missing.
    ///
    /// # Errors
    /// A byte differs or the length does.
    pub fn check_whole(&self, bytes: &[u8]) -> Result<(), Mismatch> {
        self.check(0, &bytes[..bytes.len().min(usize::try_from(self.size).unwrap_or(usize::MAX))])?;
        if bytes.len() as u64 == self.size {
            return Ok(());
        }
        Err(Mismatch::Length { found: bytes.len() as u64, expected: self.size })
    }

    /// Writes the file, replacing what is there in place.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < self.size {
            let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
            let chunk = &mut chunk[..left.min(CHUNK_BYTES)];
            self.fill(at, chunk);
            file.write_all(chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) {
        // Words of eight bytes; the first may begin in its middle.
        let mut word = offset / 8;
        let skip = usize::from((offset % 8).to_le_bytes()[0]);
        let (head, body) = bytes.split_at_mut(((8 - skip) % 8).min(bytes.len()));
        if !head.is_empty() {
            head.copy_from_slice(&self.word(word)[skip..skip + head.len()]);
            word += 1;
        }
        for eight in body.chunks_mut(8) {
            eight.copy_from_slice(&self.word(word)[..eight.len()]);
            word += 1;
        }
    }

    /// As wyrand makes numbers (Wang Yi): one multiplication for eight bytes, so that a load test can check bodies as fast
    /// as they come.
    #[allow(clippy::cast_possible_truncation, reason = "a product's halves are wanted, one by one")]
    fn word(&self, at: u64) -> [u8; 8] {
        let state = self.key.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product as u64 ^ (product >> 64) as u64).to_le_bytes()
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_the_same_part_of_the_whole() {
        let content = Content::new("a.bin", 1000);
        let whole = content.bytes(0..1000);
        for (start, end) in [(0, 0), (0, 1), (1, 2), (3, 8), (7, 9), (8, 16), (5, 1000), (999, 1000)] {
            let part = content.bytes(start as u64..end as u64);
            assert_eq!(part, whole[start..end], "{start}..{end}");
            content.check(start as u64, &part).unwrap();
        }
    }

    #[test]
    fn a_wrong_byte_is_found_at_its_offset() {
        let content = Content::new("a.bin", 200_000);
        let mut bytes = content.bytes(10..200_000);
        bytes[150_000] ^= 1;
        let fault = content.check(10, &bytes).unwrap_err();
        assert!(matches!(fault, Mismatch::Byte { offset: 150_010, .. }), "{fault}");
        // Wherever it lies: before the first whole word, at edges of blocks, in what is left at the end.
        for (start, end, wrong) in
            [(3, 9000, 3), (3, 9000, 7), (0, 9000, 4095), (1, 9000, 4096), (5, 8999, 8998)]
        {
            let mut bytes = content.bytes(start..end);
            content.check(start, &bytes).unwrap();
            bytes[usize::try_from(wrong - start).unwrap()] ^= 0x80;
            let fault = content.check(start, &bytes).unwrap_err();
            assert!(matches!(fault, Mismatch::Byte { offset, .. } if offset == wrong), "{fault}");
        }
        assert!(matches!(content.check(1, &content.bytes(0..8)), Err(Mismatch::Byte { .. })));
    }

    #[test]
    fn names_versions_and_lengths_are_told_apart() {
        let content = Content::new("a.bin", 64);
        let bytes = content.bytes(0..64);
        content.check_whole(&bytes).unwrap();
        assert!(Content::new("b.bin", 64).check_whole(&bytes).is_err());
        assert!(Content::version("a.bin", 1, 64).check_whole(&bytes).is_err());
        assert!(matches!(content.check_whole(&bytes[..63]), Err(Mismatch::Length { .. })));
        assert!(matches!(content.check_whole(&[&bytes[..], b"x"].concat()), Err(Mismatch::Length { .. })));
        assert!(matches!(content.check(60, &[0; 5]), Err(Mismatch::PastEnd { .. })));
    }

    #[test]
    fn a_written_file_holds_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::new("a.bin", CHUNK_BYTES as u64 + 3);
        content.write(&folder.path().join("a.bin")).unwrap();
        content.check_whole(&std::fs::read(folder.path().join("a.bin")).unwrap()).unwrap();
    }
}
