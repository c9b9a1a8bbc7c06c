//! What one transfer of windows reads ahead of itself.

use std::ops::Range;
use std::sync::Arc;

use super::Source;
use crate::cache::{Object, Transfer};

/// A transfer's windows that are asked of the store before it comes to them.
pub(super) struct ReadAhead<'t> {
    object: &'t Arc<Object>,
    source: &'t Source<'t>,
    last: u32,
    depth: Depth,
    /// Windows that this transfer has had filled: for it they are misses, and no sign that they are wanted again.
    /// One bit a window, in turn: fewer than 32 are ever ahead.
    fetched: u32,
    /// Kept from the first window that has to be read.
    counted: Option<Transfer>,
}

impl<'t> ReadAhead<'t> {
    /// For the bytes of `range`, which is not empty.
    pub(super) fn new(object: &'t Arc<Object>, range: &Range<u64>, source: &'t Source<'t>) -> Self {
        let (first, last) = (object.window_at(range.start), object.window_at(range.end - 1));
        let fetched = u32::from(!source.first_was_there) << (first % u32::BITS);
        Self { object, source, last, depth: Depth::default(), fetched, counted: None }
    }

    /// The transfer has come to `window`: asks for it, and for those after it.
    pub(super) fn ask(&mut self, window: u32) {
        let (object, source) = (self.object, self.source);
        let is_late = !object.is_present(window);
        let has_lead = object.is_present(self.last.min(window + self.depth.windows));
        let depth = self.depth.next(is_late, has_lead, source.cache.read_ahead());
        // The one that is waited for is asked for first.
        for wanted in (window + u32::from(!is_late))..=self.last.min(window + depth) {
            if source.cache.prefetch(object, wanted, source.requester) {
                self.fetched |= 1 << (wanted % u32::BITS);
                self.counted.get_or_insert_with(|| source.cache.transfer());
            }
        }
    }

    /// Whether the window was read for this transfer; asked once a window.
    pub(super) fn take_fetched(&mut self, window: u32) -> bool {
        let mine = 1 << (window % u32::BITS);
        let was_fetched = self.fetched & mine != 0;
        self.fetched &= !mine;
        was_fetched
    }
}

/// How many windows are read ahead: more while the transfer waits for the store, fewer while the store is ahead of the
/// client.
#[derive(Default)]
struct Depth {
    windows: u32,
}

impl Depth {
    /// The depth at the next window. It is late if it is not there yet; there is a lead if all that was read ahead is.
    fn next(&mut self, is_late: bool, has_lead: bool, most: u32) -> u32 {
        self.windows = match (is_late, has_lead) {
            (true, _) => self.windows * 2 + 1,
            (false, true) => self.windows.saturating_sub(1),
            (false, false) => self.windows,
        };
        self.windows = self.windows.clamp(1, most.max(1));
        self.windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ahead_follows_who_waits_for_whom() {
        let mut depth = Depth::default();
        let depths = [(false, true), (true, false), (true, false), (true, false), (false, false)]
            .map(|(is_late, has_lead)| depth.next(is_late, has_lead, 4));
        assert_eq!(depths, [1, 3, 4, 4, 4], "it grows for a slow store");
        let depths = [(); 5].map(|()| depth.next(false, true, 4));
        assert_eq!(depths, [3, 2, 1, 1, 1], "and shrinks for a slow client");
        assert_eq!(depth.next(true, false, 1), 1, "and is bounded by all transfers' share");
    }
}
