//! The records of TLS that the kernel makes of what is sent: how many there are, for a key is good for so many, and
//! whether the last one is whole, for until then it refers to the pages that it is made of.

use std::cell::Cell;

/// Bytes of a record's content, at most (RFC 8446 §5.1).
pub(crate) const RECORD_BYTES_MAX: u64 = 1 << 14;
/// `sendfile` sends by way of a pipe, of so many bytes, and each turn of it may end a record early.
const TURN_BYTES: u64 = 1 << 16;

/// Of one connection.
#[derive(Debug)]
pub(crate) struct Records {
    /// No fewer than there are.
    made: Cell<u64>,
    made_max: u64,
    is_open: Cell<bool>,
}

impl Records {
    /// `made` under the key before; `made_max` is what the key is good for.
    pub(crate) fn new(made: u64, made_max: u64) -> Self {
        Self { made: Cell::new(made), made_max, is_open: Cell::new(false) }
    }

    /// Counts what one call sent, of what it was to send. Records are never smaller than they have to be, but for the
    /// last of a turn and the one that was begun before.
    pub(super) fn count(&self, sent: u64, wanted: u64) {
        let records = sent.div_ceil(RECORD_BYTES_MAX) + sent.div_ceil(TURN_BYTES) + 1;
        self.made.set(self.made.get().saturating_add(records));
        // A call that was cut short leaves its last record for the next to fill.
        self.is_open.set(sent < wanted);
    }

    /// Whether as many bytes may yet be sent.
    pub(super) fn allow(&self, bytes: u64) -> bool {
        let records = bytes.div_ceil(RECORD_BYTES_MAX) + bytes.div_ceil(TURN_BYTES) + 1;
        self.made.get().saturating_add(records) <= self.made_max
    }

    /// Half of what the key is good for is gone: time for the client to come with a new one.
    pub(crate) fn are_half_gone(&self) -> bool {
        self.made.get() > self.made_max / 2
    }

    /// Bytes that the socket has not seen, and that refer to pages nevertheless: at most so many.
    pub(super) fn open_bytes(&self) -> u64 {
        if self.is_open.get() { RECORD_BYTES_MAX } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_no_longer_than_it_is_good_for() {
        let records = Records::new(2, 100);
        assert!(!records.are_half_gone());
        // 64 records of full size, and as many more as may have been cut.
        records.count(1 << 20, 1 << 20);
        assert!(records.are_half_gone());
        assert!(!records.allow(1 << 20));
        assert!(records.allow(1 << 16));
        for _ in 0..2 {
            records.count(1 << 16, 1 << 16);
        }
        assert!(!records.allow(1 << 16));
        assert!(records.allow(1));
        records.count(1, 1);
        records.count(1, 1);
        assert!(!records.allow(1));
    }

    #[test]
    fn a_key_without_a_limit_is_never_used_up() {
        let records = Records::new(u64::MAX - 1, u64::MAX);
        records.count(u64::MAX, u64::MAX);
        assert!(records.allow(u64::MAX));
    }

    #[test]
    fn what_was_cut_short_leaves_a_record_open() {
        let records = Records::new(0, 100);
        assert_eq!(records.open_bytes(), 0);
        records.count(5, 10);
        assert_eq!(records.open_bytes(), RECORD_BYTES_MAX);
        records.count(5, 5);
        assert_eq!(records.open_bytes(), 0);
    }
}
