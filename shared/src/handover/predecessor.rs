//! The successor's side: asks the process that runs already for its listeners, and tells it when to stop. Blocks, for
//! bounded times: it belongs to the start of a program.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::inherited::LISTENERS_MAX;
use super::message::{self, Message, TalkError, VERSION};
use super::{HandoverError, Identity, Inherited, InheritedError, Listener, place};

/// For each message of a predecessor, which has nothing to do for it but to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// For it to stop: it lets calls under way end first.
const RELEASES_WITHIN: Duration = Duration::from_secs(30);

/// The process whose listeners this one has. Dropped, it goes on as if nothing was asked.
#[derive(Debug)]
pub struct Predecessor {
    socket: OwnedFd,
    path: PathBuf,
}

/// Adds to `inherited` what the process that listens at `path` accepts on. `None` where nobody does: the first start,
/// or a socket that a process left behind.
///
/// # Errors
/// The place is not fit, or whoever listens there refuses, or does not answer.
pub fn inherit(
    path: &Path,
    who: Identity<'_>,
    inherited: &mut Inherited,
) -> Result<Option<Predecessor>, HandoverError> {
    place::prepare(path)?;
    let failed = |source: io::Error| HandoverError::Io { path: path.to_owned(), source };
    let Some(socket) = connect_to(path).map_err(failed)? else { return Ok(None) };
    let predecessor = Predecessor { socket, path: path.to_owned() };
    predecessor.ask(who, inherited)?;
    Ok(Some(predecessor))
}

fn connect_to(path: &Path) -> io::Result<Option<OwnedFd>> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for direction in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, direction, Some(ANSWERS_WITHIN))?;
    }
    match connect(&socket, &address).map_err(io::Error::from) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Predecessor {
    fn ask(&self, who: Identity<'_>, inherited: &mut Inherited) -> Result<(), HandoverError> {
        let ask = Message::Ask { version: VERSION, program: who.program.to_owned(), id: who.id.to_owned() };
        self.say(&ask).map_err(|source| self.talk(source))?;
        for received in 0..=LISTENERS_MAX {
            match self.hear().map_err(|source| self.talk(source))? {
                (Message::Listener { role, kept }, Some(descriptor)) => {
                    inherited.add(Listener::judge(role, descriptor, kept)?);
                }
                (Message::Complete { count }, _) if count == received && count > 0 => return Ok(()),
                (Message::Refused { reason }, _) => return Err(self.refused(&reason)),
                _ => return Err(self.talk(TalkError::OutOfTurn)),
            }
        }
        Err(InheritedError::Count(format!("more than {LISTENERS_MAX}")).into())
    }

    /// Says that this process is ready, and waits until the predecessor has stopped. One that has gone has stopped; one
    /// that does not answer in time may go on accepting on the same sockets, which does no harm by itself.
    ///
    /// # Errors
    /// It refuses: it goes on, and this process has to end.
    pub fn take_over(self) -> Result<(), HandoverError> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(RELEASES_WITHIN))
            .map_err(|error| self.talk(TalkError::Io(error.into())))?;
        // Whatever it said before it went is still to be heard.
        let _ = self.say(&Message::TakeOver);
        match self.hear() {
            Ok((Message::Released, _)) => Ok(()),
            Ok((Message::Refused { reason }, _)) => Err(self.refused(&reason)),
            Ok(_) => Err(self.talk(TalkError::OutOfTurn)),
            Err(reason) => {
                tracing::warn!(%reason, "the predecessor did not say that it has stopped; its listeners are taken over");
                Ok(())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn say_take_over_and_die(self) {
        self.say(&Message::TakeOver).expect("the predecessor lives");
    }

    fn say(&self, message: &Message) -> Result<(), TalkError> {
        Ok(message::send(&self.socket, message, None)?)
    }

    fn hear(&self) -> Result<(Message, Option<OwnedFd>), TalkError> {
        message::receive(&self.socket)?.message()
    }

    fn talk(&self, source: TalkError) -> HandoverError {
        HandoverError::Talk { path: self.path.clone(), source }
    }

    fn refused(&self, reason: &str) -> HandoverError {
        let shown = |one: char| if one.is_control() { '\u{fffd}' } else { one };
        HandoverError::Refused { path: self.path.clone(), reason: reason.chars().map(shown).collect() }
    }
}
