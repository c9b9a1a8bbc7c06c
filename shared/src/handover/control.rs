//! The predecessor's side: a control socket on which a successor asks for the listeners, and takes over.
//!
//! Only processes of the same user, and root's, are talked to. Each is given bounded times, and a few at once are
//! enough: one successor is served, and others are told that one is.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::geteuid;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{self, Message, TalkError, VERSION};
use super::{HandoverError, Identity, Listener, place};

/// For each message to be taken, and for the first to come.
const TALKS_WITHIN: Duration = Duration::from_secs(5);
/// Between a successor's question and its "take over": it sets its memory up, and hears from every edge.
const PREPARES_WITHIN: Duration = Duration::from_secs(120);
/// Conversations at a time; more are closed at once.
const TALKS_MAX: usize = 8;
/// Connections that wait to be heard.
const BACKLOG: i32 = 16;
/// With no descriptor left, how soon to look again.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A control socket. Dropped, nobody can take over any more.
pub struct Control {
    socket: UnixListener,
    offer: Arc<Offer>,
    /// Each gives a successor that has said "take over".
    talks: JoinSet<Option<Departure>>,
}

/// What a successor is given.
struct Offer {
    program: String,
    id: String,
    listeners: Vec<Listener>,
    is_taken: AtomicBool,
}

/// A successor that is ready, and waits for this process to stop accepting.
pub struct Departure {
    stream: UnixStream,
    /// Until it has taken over, or gone.
    _claim: Claim,
}

/// The one place of a successor.
struct Claim(Arc<Offer>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

impl Control {
    /// Makes a control socket in the place of whatever socket is there; within a runtime. `listeners` are what a successor
    /// is given.
    ///
    /// # Errors
    /// The place is not fit, or no socket can be made there.
    pub fn bind(path: &Path, who: Identity<'_>, listeners: Vec<Listener>) -> Result<Self, HandoverError> {
        place::prepare(path)?;
        let failed = |source| HandoverError::Io { path: path.to_owned(), source };
        let socket = bind_private(path).map_err(failed)?;
        let offer = Offer {
            program: who.program.to_owned(),
            id: who.id.to_owned(),
            listeners,
            is_taken: AtomicBool::new(false),
        };
        Ok(Self { socket, offer: Arc::new(offer), talks: JoinSet::new() })
    }

    /// Answers who asks until one of them is ready to take over. Nothing is lost where this is dropped meanwhile, and it
    /// may be called again for a successor that did not come to it.
    pub async fn successor(&mut self) -> Departure {
        loop {
            tokio::select! {
                Some(talked) = self.talks.join_next() => if let Ok(Some(departure)) = talked {
                    return departure;
                },
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) if self.talks.len() < TALKS_MAX => {
                        self.talks.spawn(Arc::clone(&self.offer).talk(stream));
                    }
                    Ok(_) => tracing::warn!("too many ask for the listeners at once; one is not heard"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot hear who asks for the listeners");
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
            }
        }
    }
}

/// Makes the socket under another name, where nobody can connect before it is private, and gives it its own at once.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(name);
    // Of an earlier process with our number, that ended just here.
    let _ = fs::remove_file(&unfinished);
    let made = (|| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(&unfinished)?)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        // The runtime only waits for it and accepts, as it would for a stream's.
        let socket = UnixListener::from_std(StdUnixListener::from(socket))?;
        fs::rename(&unfinished, path)?;
        Ok(socket)
    })();
    made.inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

impl Offer {
    /// A conversation with whoever has connected.
    async fn talk(self: Arc<Self>, stream: UnixStream) -> Option<Departure> {
        match self.negotiate(&stream).await {
            Ok(claim) => Some(Departure { stream, _claim: claim }),
            Err(reason) => {
                tracing::warn!(%reason, "listeners are not handed over; this process goes on");
                if let Some(reason) = reason.told() {
                    let _ = say(&stream, &Message::Refused { reason }, None).await;
                }
                None
            }
        }
    }

    async fn negotiate(self: &Arc<Self>, stream: &UnixStream) -> Result<Claim, NotHandedOver> {
        let uid = stream.peer_cred().map_err(TalkError::from)?.uid();
        if uid != geteuid().as_raw() && uid != 0 {
            return Err(NotHandedOver::Foreign(uid));
        }
        let (version, program, id) = match hear(stream, TALKS_WITHIN).await? {
            (Message::Ask { version, program, id }, _) => (version, program, id),
            _ => return Err(TalkError::OutOfTurn.into()),
        };
        if version != VERSION {
            return Err(NotHandedOver::Version(version));
        }
        if (&program, &id) != (&self.program, &self.id) {
            let (own, own_id) = (self.program.clone(), self.id.clone());
            return Err(NotHandedOver::Another { program, id, own, own_id });
        }
        let claim = self.claim().ok_or(NotHandedOver::Taken)?;
        for listener in &self.listeners {
            let message = Message::Listener { role: listener.role, kept: listener.is_kept };
            say(stream, &message, Some(listener.socket.as_fd())).await?;
        }
        say(stream, &Message::Complete { count: self.listeners.len() }, None).await?;
        tracing::info!(listeners = self.listeners.len(), "a successor has the listeners, and prepares");
        match hear(stream, PREPARES_WITHIN).await {
            Ok((Message::TakeOver, _)) => Ok(claim),
            Ok(_) => Err(TalkError::OutOfTurn.into()),
            Err(TalkError::Silent) => Err(NotHandedOver::Late),
            Err(reason) => Err(reason.into()),
        }
    }

    fn claim(self: &Arc<Self>) -> Option<Claim> {
        (!self.is_taken.swap(true, Ordering::AcqRel)).then(|| Claim(Arc::clone(self)))
    }
}

impl Departure {
    /// Whether the successor is still there, which has nothing to say now.
    pub fn is_awaited(&self) -> bool {
        // Straight from the kernel: the runtime's view of the socket may lag behind it.
        matches!(message::receive(&self.stream), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Tells the successor that this process accepts no more, and holds nothing that only one may.
    pub async fn release(self) {
        if let Err(reason) = say(&self.stream, &Message::Released, None).await {
            tracing::warn!(%reason, "the successor does not hear that it may begin");
        }
    }
}

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
enum NotHandedOver {
    #[error("user {0} asked, and only this process's own and root may")]
    Foreign(u32),
    #[error("it speaks version {VERSION} of the handover, and was asked in version {0}; restart it")]
    Version(u32),
    #[error(
        "it is {own} '{own_id}', and was asked for {program:?} {id:?}; give each program its own control_socket"
    )]
    Another { program: String, id: String, own: String, own_id: String },
    #[error("another process is taking over from it already; wait for that one")]
    Taken,
    #[error("the successor was not ready within {PREPARES_WITHIN:?}")]
    Late,
    #[error("the successor cannot be talked to: {0}")]
    Talk(#[from] TalkError),
}

impl NotHandedOver {
    /// What the other side is told; nothing where it has gone, or is nobody to talk to.
    fn told(&self) -> Option<String> {
        match self {
            Self::Foreign(_) | Self::Talk(TalkError::Gone | TalkError::Io(_)) => None,
            Self::Version(_) | Self::Another { .. } | Self::Taken | Self::Late | Self::Talk(_) => {
                Some(self.to_string())
            }
        }
    }
}

async fn say(
    stream: &UnixStream,
    message: &Message,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), TalkError> {
    let sending = stream.async_io(Interest::WRITABLE, || message::send(stream, message, descriptor));
    Ok(timeout(TALKS_WITHIN, sending).await.map_err(|_| TalkError::Silent)??)
}

async fn hear(stream: &UnixStream, within: Duration) -> Result<(Message, Option<OwnedFd>), TalkError> {
    let hearing = stream.async_io(Interest::READABLE, || message::receive(stream));
    timeout(within, hearing).await.map_err(|_| TalkError::Silent)??.message()
}
