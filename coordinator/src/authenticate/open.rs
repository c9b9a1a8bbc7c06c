//! No authentication: everybody is let in, as nobody in particular. For networks that are closed by other means.

use http::request::Parts;

use super::{Judgement, Principal, Scheme};

pub(super) struct Open;

impl Scheme for Open {
    fn claims(&self, _: &Parts) -> bool {
        true
    }

    fn judge<'a>(&'a self, _: &'a Parts) -> Judgement<'a> {
        Box::pin(async { Ok(Principal::ANONYMOUS) })
    }
}
