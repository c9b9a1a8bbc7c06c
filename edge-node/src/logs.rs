//! What is written of requests: the access log, a line each, and the usage record, what was delivered to whom.
//!
//! Both are written by threads of their own; a worker hands over what has gathered a few times a second. The access log
//! loses lines rather than hold up a request, and counts them. The usage record loses none.

mod access;
mod file;
mod usage;

pub(crate) use access::{AccessLog, Ended, Outcome, Record, ShownAddress, WorkerLog};
pub(crate) use usage::{Meter, Meters, UsageRecord};
