//! What bounds clients: deadlines on every wait, places for connections and transfers, and the rate of a body.

mod admission;
mod deadline;
mod pace;

pub(crate) use admission::{AddressPlace, Addresses, TokenPlace, Tokens};
pub(crate) use deadline::{Deadline, DeadlineSlot, Deadlines, Late, SWEEP_EVERY, Waiting};
pub(crate) use pace::{LeastRate, Pace};
