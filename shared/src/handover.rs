//! Upgrades without a lost connection: listening sockets outlive the process that accepts on them.
//!
//! A process that starts takes them from the service manager that holds them ([`Inherited::from_environment`]), or from
//! the process that runs already, its predecessor, over a control socket. The order is always the same:
//!
//! 1. the successor *asks* ([`inherit`]) and is sent every listener; from then on the sockets live whoever ends;
//! 2. it prepares all that can fail, and only then says *take over* ([`Predecessor::take_over`]);
//! 3. the predecessor stops accepting, lets go of what only one process may hold, and answers *released*; who connects
//!    meanwhile waits in the listen queue;
//! 4. the successor accepts, and puts a control socket of its own in the place of the old one.
//!
//! A successor that ends before the third step changes nothing: the predecessor has accepted all the time, and nobody
//! else has. A predecessor that ends at any time leaves its sockets to the successor.

mod control;
mod inherited;
mod message;
mod place;
mod predecessor;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use control::{Control, Departure};
pub use inherited::{Inherited, InheritedError, ListenError, Listener, Role};
pub use place::{check_place, prepare as prepare_place};
pub use predecessor::{Predecessor, inherit};

use self::message::TalkError;

/// Who asks and who is asked: sockets pass between processes of one program under one id only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// `"edge"`, `"coordinator"`.
    pub program: &'a str,
    /// The `id` of its configuration.
    pub id: &'a str,
}

/// Why listening sockets cannot be taken over. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    #[error("`control_socket` {path} cannot be used: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("`control_socket` {path} is no socket; remove it, or choose another path")]
    NoSocket { path: PathBuf },
    #[error(
        "`control_socket` lies in {folder}, which others may write to (owner {owner}, mode {mode:04o}); give it a \
         folder of the program's own user, mode 0700"
    )]
    Folder { folder: PathBuf, owner: u32, mode: u32 },
    #[error("the process that listens at `control_socket` {path} hands nothing over: {reason}")]
    Refused { path: PathBuf, reason: String },
    #[error(
        "the process that listens at `control_socket` {path} cannot be talked to: {source}; end it, then start anew"
    )]
    Talk { path: PathBuf, source: TalkError },
    #[error(transparent)]
    Inherited(#[from] InheritedError),
}
