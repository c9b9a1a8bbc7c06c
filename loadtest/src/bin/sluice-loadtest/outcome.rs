//! What became of one download, as a worker tells it.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;
use crate::scenario::{FileNumber, Kind};

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) file: FileNumber,
    /// When it should have begun; latencies count from here.
    pub(crate) intended: Instant,
    /// How long the coordinator took to say where to go, from the first request on.
    pub(crate) asked: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) ended: Instant,
    /// The last one that answered, as its URL names it.
    pub(crate) server: Option<Rc<str>>,
    /// Attempts, wanted and not.
    pub(crate) parts: u32,
    /// What broke before it ended.
    pub(crate) breaks: Vec<Cow<'static, str>>,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    Complete,
    /// The client broke off for good, as it was to.
    BrokenOff,
    Failed(Fault),
}
