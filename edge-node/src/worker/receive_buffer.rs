//! Received bytes: a head, and what came with it.

use super::pool::{Lent, Reusable};
use crate::request::HEAD_BYTES_MAX;

const BUFFER_BYTES: usize = HEAD_BYTES_MAX + 4096;

/// Bytes as they were received. What is consumed at the front makes room when the buffer is next read into.
pub(crate) struct ReceiveBuffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A lent receive buffer; it comes empty.
pub(crate) type Buffer = Lent<ReceiveBuffer>;

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self { memory: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 }
    }
}

impl Reusable for ReceiveBuffer {
    fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
    }
}

impl ReceiveBuffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Room to read into.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.memory[self.end..]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.reset();
        }
    }

    /// RFC 9112 §2.2: empty lines before a request line are ignored.
    pub(crate) fn skip_empty_lines(&mut self) {
        while self.bytes().starts_with(b"\r\n") {
            self.consume(2);
        }
    }
}
