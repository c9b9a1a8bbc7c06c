//! Large downloads under way, and for whom: so that what is barred while it is being sent can be ended.
//!
//! Small bodies are not among them: they are the kernel's as soon as they are begun.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sluice_shared::revocations::{Instant, Revocations, Subject};

use crate::authorize::Grant;
use crate::limits::Deadline;

/// One worker's.
#[derive(Default)]
pub(crate) struct Transfers {
    places: RefCell<Vec<Option<Transfer>>>,
    free: RefCell<Vec<usize>>,
    /// The changes of the revocations that were taken in.
    judged: Cell<u64>,
}

struct Transfer {
    file: Box<str>,
    link: Option<Box<str>>,
    user: Option<Box<str>>,
    client: Option<Box<str>>,
    deadline: Rc<Deadline>,
}

/// A transfer's place among the others, for as long as it lasts.
pub(crate) struct TransferPlace {
    transfers: Rc<Transfers>,
    place: usize,
}

impl Transfers {
    /// Has a transfer be ended where it is barred; its connection looks at `deadline`.
    pub(crate) fn watch(self: &Rc<Self>, grant: &Grant<'_>, deadline: Rc<Deadline>) -> TransferPlace {
        let owned = |text: Option<&str>| text.map(Box::from);
        let transfer = Transfer {
            file: grant.file_id.as_str().into(),
            link: owned(grant.link.as_deref()),
            user: owned(grant.who.user_id.as_deref()),
            client: owned(grant.who.cid.as_deref()),
            deadline,
        };
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(places.len());
        if place == places.len() {
            places.push(None);
        }
        places[place] = Some(transfer);
        TransferPlace { transfers: Rc::clone(self), place }
    }

    /// Ends what is barred, where that is wanted, if anything has changed since the last time.
    pub(crate) fn end_barred(&self, changes: u64, revocations: &Revocations, now: Instant) {
        if self.judged.replace(changes) == changes {
            return;
        }
        for transfer in self.places.borrow().iter().flatten() {
            let subject = Subject {
                file: &transfer.file,
                link: transfer.link.as_deref(),
                user: transfer.user.as_deref(),
                client: transfer.client.as_deref(),
            };
            if revocations.bar(&subject, now).is_some_and(|barred| barred.cut) {
                transfer.deadline.cut();
            }
        }
    }
}

impl Drop for TransferPlace {
    fn drop(&mut self) {
        self.transfers.places.borrow_mut()[self.place] = None;
        self.transfers.free.borrow_mut().push(self.place);
    }
}
