//! Listening sockets that a process was given instead of binding them. None is believed: each has to be what its name
//! and the configuration say, and none is left without somebody who accepts on it.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::fs::fstat;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use serde::{Deserialize, Serialize};

use crate::serve::{BindError, bind};

/// One for every core of the largest machine, and twice that.
pub(super) const LISTENERS_MAX: usize = 1024;

/// What a listener is for; its name is the configuration's key without `_listen`, and `FileDescriptorName=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Listen,
    /// TLS, where `listen` is plain.
    Tls,
    Admin,
}

impl Role {
    fn parse(name: &str) -> Option<Self> {
        [Self::Listen, Self::Tls, Self::Admin].into_iter().find(|role| role.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Tls => "tls",
            Self::Admin => "admin",
        }
    }

    /// The key of the configuration that has its address.
    pub fn key(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Tls => "tls_listen",
            Self::Admin => "admin_listen",
        }
    }
}

/// A listening TCP socket, non-blocking.
#[derive(Debug)]
pub struct Listener {
    pub role: Role,
    pub socket: TcpListener,
    /// A service manager holds it too: what is queued on it when this process ends is served by the next.
    pub is_kept: bool,
}

impl Listener {
    /// A socket that this process has bound itself.
    pub fn bound(role: Role, socket: TcpListener) -> Self {
        Self { role, socket, is_kept: false }
    }

    /// The same socket under another descriptor.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { role: self.role, socket: self.socket.try_clone()?, is_kept: self.is_kept })
    }

    /// Judges a descriptor that somebody else has made.
    ///
    /// # Errors
    /// It is anything but a listening TCP socket.
    pub(super) fn judge(role: Role, descriptor: OwnedFd, is_kept: bool) -> Result<Self, InheritedError> {
        let listens = matches!(socket_type(&descriptor), Ok(SocketType::STREAM))
            && matches!(socket_acceptconn(&descriptor), Ok(true));
        let socket = TcpListener::from(descriptor);
        // Of a socket that is neither IPv4 nor IPv6 this fails.
        if !listens || socket.local_addr().is_err() {
            return Err(InheritedError::NoListener(role.name()));
        }
        socket.set_nonblocking(true).map_err(|_| InheritedError::NoListener(role.name()))?;
        Ok(Self { role, socket, is_kept })
    }

    /// Which socket this is, under whatever descriptor: its inode in the kernel's own filesystem of sockets.
    fn inode(&self) -> Option<u64> {
        fstat(&self.socket).ok().map(|stat| stat.st_ino)
    }
}

/// Why sockets that were given are not taken. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    #[error(
        "LISTEN_FDS is {0:?}, and not a number up to {LISTENERS_MAX}; start by the service manager again"
    )]
    Count(String),
    #[error(
        "{descriptors} descriptors were passed and LISTEN_FDNAMES names {names}; set FileDescriptorName=listen, \
         =tls or =admin in each socket unit"
    )]
    Names { descriptors: usize, names: usize },
    #[error(
        "the descriptor passed as '{0}' is none of 'listen', 'tls' and 'admin'; set FileDescriptorName= in its socket unit, \
         or pass it to another program"
    )]
    Unknown(String),
    #[error(
        "the descriptor passed as '{0}' is no listening TCP socket; set ListenStream= in its socket unit"
    )]
    NoListener(&'static str),
    #[error(
        "the descriptor passed as '{name}' listens on {actual}, and `{key}` is {configured}; make them equal, or end the \
         process that has it first"
    )]
    Address { name: &'static str, key: &'static str, actual: SocketAddr, configured: SocketAddr },
    #[error("{count} different sockets were passed as '{name}', and this program takes one; pass one")]
    Several { name: &'static str, count: usize },
    #[error("the descriptor passed as '{name}' cannot be used: {source}")]
    Io { name: &'static str, source: io::Error },
}

/// What a process was given and has not taken into use yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Listener>);

impl Inherited {
    /// Takes what a service manager has passed by `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (`sd_listen_fds(3)`).
    /// For the first line of `main`, before anything else opens descriptors or starts threads.
    ///
    /// # Errors
    /// Something was passed that is not to be used.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let own = std::process::id().to_string();
        // listenfd takes a missing LISTEN_PID for ours; what was meant for a parent is none of ours.
        if env::var("LISTEN_PID").is_ok_and(|pid| pid == own)
            && let Ok(count) = env::var("LISTEN_FDS")
        {
            let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
            return Self::passed(&count, &names);
        }
        Ok(Self::default())
    }

    fn passed(count: &str, names: &str) -> Result<Self, InheritedError> {
        // listenfd makes a list as long as it is told to.
        let within = |count: &usize| *count <= LISTENERS_MAX;
        let Some(descriptors) = count.parse().ok().filter(within) else {
            return Err(InheritedError::Count(count.to_owned()));
        };
        let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
        if names.len() != descriptors {
            return Err(InheritedError::Names { descriptors, names: names.len() });
        }
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for (index, name) in names.into_iter().enumerate() {
            let role = Role::parse(name).ok_or_else(|| InheritedError::Unknown(name.to_owned()))?;
            let socket = passed.take_tcp_listener(index).ok().flatten();
            let socket = socket.ok_or(InheritedError::NoListener(role.name()))?;
            inherited.add(Listener::judge(role, socket.into(), true)?);
        }
        Ok(inherited)
    }

    /// Adds a listener, unless it is one of these under another descriptor.
    pub(super) fn add(&mut self, listener: Listener) {
        let inode = listener.inode();
        let known = self.0.iter_mut().find(|known| inode.is_some() && known.inode() == inode);
        match known {
            Some(known) => known.is_kept |= listener.is_kept,
            None => self.0.push(listener),
        }
    }

    /// Takes all sockets of a role; each listens on the configured address, whose port may be left open (0).
    ///
    /// # Errors
    /// One listens elsewhere.
    pub fn take(&mut self, role: Role, configured: SocketAddr) -> Result<Vec<Listener>, InheritedError> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|known| known.role == role);
        self.0 = left;
        let taken: Vec<Listener> = taken;
        for listener in &taken {
            let actual = listener.socket.local_addr();
            let actual = actual.map_err(|source| InheritedError::Io { name: role.name(), source })?;
            let is_port = configured.port() == 0 || configured.port() == actual.port();
            if actual.ip() != configured.ip() || !is_port {
                let (name, key) = (role.name(), role.key());
                return Err(InheritedError::Address { name, key, actual, configured });
            }
        }
        Ok(taken)
    }

    /// Takes the only socket of a role, or binds one.
    ///
    /// # Errors
    /// There are several, it listens elsewhere, or the address cannot be bound.
    pub fn take_or_bind(&mut self, role: Role, configured: SocketAddr) -> Result<Listener, ListenError> {
        let mut taken = self.take(role, configured)?;
        match taken.len() {
            0 => Ok(Listener::bound(role, bind(configured, role.key())?)),
            1 => Ok(taken.remove(0)),
            count => Err(InheritedError::Several { name: role.name(), count }.into()),
        }
    }
}

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Inherited(#[from] InheritedError),
}
