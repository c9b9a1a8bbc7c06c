//! The marks of one kind, in parts that copies share: a change copies the part that it is in, and no more.

use std::array;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Instant, Kind, Mark};

const PARTS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    parts: [Arc<HashMap<Box<str>, Mark>>; PARTS],
    len: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self { parts: array::from_fn(|_| Arc::default()), len: 0 }
    }
}

impl Marks {
    pub(super) fn get(&self, value: &str) -> Option<&Mark> {
        self.parts[part_of(value)].get(value)
    }

    pub(super) fn insert(&mut self, value: &str, mark: Mark) {
        let part = Arc::make_mut(&mut self.parts[part_of(value)]);
        self.len += usize::from(part.insert(value.into(), mark).is_none());
    }

    /// Drops what ended long ago.
    pub(super) fn forget(&mut self, kind: Kind, now: Instant) {
        for part in &mut self.parts {
            if part.values().any(|mark| mark.is_forgotten(kind, now)) {
                let part = Arc::make_mut(part);
                let before = part.len();
                part.retain(|_, mark| !mark.is_forgotten(kind, now));
                self.len -= before - part.len();
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Mark)> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(value, mark)| (&**value, mark))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Links are the many, and their ids are random, but for the first character and the spare bits of the last.
fn part_of(value: &str) -> usize {
    value.as_bytes().get(value.len() / 2).map_or(0, |byte| usize::from(*byte) % PARTS)
}
