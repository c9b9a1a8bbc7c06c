//! Things that are lent and come back, so that a request allocates none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use sluice_shared::token::Scratch;

/// Idle things kept, of each kind.
const POOL_MAX: usize = 256;

/// What can be lent again: nothing of one use is left for the next.
pub(crate) trait Reusable: Default {
    fn reset(&mut self);
}

impl Reusable for Vec<u8> {
    fn reset(&mut self) {
        self.clear();
    }
}

impl Reusable for Scratch {
    /// Opening a token writes over all that it then reads.
    fn reset(&mut self) {}
}

/// Things of one kind.
pub(crate) struct Pool<T>(Rc<RefCell<Vec<T>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T: Reusable> Pool<T> {
    pub(crate) fn take(&self) -> Lent<T> {
        let thing = self.0.borrow_mut().pop().unwrap_or_default();
        Lent { thing: Some(thing), pool: Rc::clone(&self.0) }
    }
}

/// A lent thing; it goes back when dropped.
pub(crate) struct Lent<T: Reusable> {
    thing: Option<T>,
    pool: Rc<RefCell<Vec<T>>>,
}

impl<T: Reusable> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("there until dropped")
    }
}

impl<T: Reusable> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("there until dropped")
    }
}

impl<T: Reusable> Drop for Lent<T> {
    fn drop(&mut self) {
        let mut pool = self.pool.borrow_mut();
        if pool.len() < POOL_MAX
            && let Some(mut thing) = self.thing.take()
        {
            thing.reset();
            pool.push(thing);
        }
    }
}
