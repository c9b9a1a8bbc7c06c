//! What is said on a control socket: JSON, a packet each (`SOCK_SEQPACKET`), so that nothing has to be framed, and a
//! descriptor comes with the message that says what it is.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::Role;

/// What this program speaks. Another number is refused by name: neither guesses what the other means.
pub(super) const VERSION: u32 = 1;
/// Ids, names and reasons are short.
const PACKET_BYTES_MAX: usize = 4096;
/// Descriptors that one packet may bring before it is cut. One is right; more are received to be closed.
const RIGHTS_MAX: usize = 4;

/// A message of either side. Later versions may add fields; they are read past.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Successor: who it is. The answer is every listener and `Complete`, or `Refused`.
    Ask { version: u32, program: String, id: String },
    /// Predecessor, with one descriptor.
    Listener { role: Role, kept: bool },
    /// Predecessor: that many listeners were sent.
    Complete { count: usize },
    /// Predecessor: why not.
    Refused { reason: String },
    /// Successor: it is ready.
    TakeOver,
    /// Predecessor: it accepts no more, and holds nothing that only one process may.
    Released,
}

/// Why a conversation ends.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    #[error("it went away")]
    Gone,
    #[error("it does not answer in time")]
    Silent,
    #[error("what it says is no message of version {VERSION}")]
    Malformed,
    #[error("what it says is out of turn")]
    OutOfTurn,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for TalkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                Self::Gone
            }
            _ => Self::Io(error),
        }
    }
}

/// A packet as it came.
pub(super) struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// It was longer than a message may be, or brought more descriptors.
    is_cut: bool,
}

impl Packet {
    /// The message, and the descriptor that belongs to it: one with a listener, none with all others.
    ///
    /// # Errors
    /// The peer has ended the conversation, or what it says is no message.
    pub(super) fn message(mut self) -> Result<(Message, Option<OwnedFd>), TalkError> {
        if self.bytes.is_empty() {
            return Err(TalkError::Gone);
        }
        let parsed = serde_json::from_slice(&self.bytes).ok().filter(|_| !self.is_cut);
        let message: Message = parsed.ok_or(TalkError::Malformed)?;
        let expected = usize::from(matches!(message, Message::Listener { .. }));
        if self.descriptors.len() != expected {
            return Err(TalkError::Malformed);
        }
        Ok((message, self.descriptors.pop()))
    }
}

/// Sends one message, whole.
pub(super) fn send(
    socket: impl AsFd,
    message: &Message,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if descriptor.is_some() {
        control.push(SendAncillaryMessage::ScmRights(descriptor.as_slice()));
    }
    // A peer that is gone is an error, and no SIGPIPE.
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one packet; an empty one where the peer has gone.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Packet> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RIGHTS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    bytes.truncate(received.bytes);
    let is_cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Packet { bytes, descriptors, is_cut })
}
