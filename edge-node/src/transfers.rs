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
    key: Box<str>,
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
        let Subject { file, link, user, client } = grant.subject();
        let transfer = Transfer {
            key: grant.key.as_str().into(),
            file: file.into(),
            link: owned(link),
            user: owned(user),
            client: owned(client),
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
            let is_cut = revocations.bar(&subject, now).is_some_and(|barred| barred.cut);
            if is_cut || revocations.is_key_cut(&transfer.key, now) {
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sluice_shared::file_id::FileId;
    use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
    use sluice_shared::revocations::{Kind, Mark, Target};
    use sluice_shared::token::{Claims, NumericDate, Scratch, seal};

    use super::*;
    use crate::authorize::{Admission, Circumstances, authorize};
    use crate::limits::Deadlines;
    use crate::request::RequestHead;

    /// Whether a mark refuses a grant that was given before it, and whether it ends its transfer.
    fn judged(kind: Kind, value: &str, cut: bool) -> (bool, bool) {
        let key = TokenKey::new(KeyId::parse("k").unwrap(), KeyState::Current, Secret::new([7; 32]));
        let keys = KeyRing::new(vec![key]).unwrap();
        let exp = NumericDate::from_system_time(SystemTime::now() + std::time::Duration::from_secs(60));
        let claims = Claims {
            lnk: Some("l".into()),
            user_id: Some("u".into()),
            cid: Some("c".into()),
            ..Claims::new(FileId::parse("a/b").unwrap(), exp)
        };
        let token = seal(&claims, keys.current()).unwrap();
        let head = format!("GET /download?token={token} HTTP/1.1\r\nHost: e\r\n\r\n");
        let head = RequestHead::parse(head.as_bytes()).unwrap();
        let circumstances = Circumstances {
            client: [127, 0, 0, 1].into(),
            now: NumericDate::from_system_time(SystemTime::now()),
            revocations: &Revocations::default(),
            coordinators: &[],
        };
        let mut scratch = Scratch::default();
        let Ok(Admission::Granted(grant)) = authorize(&head, &keys, &circumstances, &mut scratch) else {
            panic!("nothing is barred yet");
        };
        let now = Instant::now();
        let mut revocations = Revocations::default();
        let until = Instant(now.0 + 60_000);
        revocations.merge(&Target::new(kind, value).unwrap(), Mark { set: now, until, cut });
        let (transfers, deadline) = (Rc::new(Transfers::default()), Rc::new(Deadlines::default()).slot());
        let place = transfers.watch(&grant, deadline.shared());
        transfers.end_barred(1, &revocations, now);
        drop(place);
        (grant.judge(&revocations, now).is_err(), deadline.is_cut())
    }

    #[test]
    fn whatever_a_token_says_and_comes_by_can_be_barred_and_cut() {
        let table = [
            (Kind::Link, "l"),
            (Kind::User, "u"),
            (Kind::Client, "c"),
            (Kind::File, "a/b"),
            (Kind::Prefix, "a"),
            (Kind::Key, "k"),
        ];
        for (kind, value) in table {
            for cut in [false, true] {
                assert_eq!(judged(kind, value, cut), (true, cut), "{kind:?}");
                assert_eq!(judged(kind, "other", cut), (false, false), "{kind:?}");
            }
        }
    }
}
