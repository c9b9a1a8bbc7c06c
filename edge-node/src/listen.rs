//! Listening sockets: one a worker, all on one address (`SO_REUSEPORT`), bound here or inherited. One that was
//! inherited is never closed while somebody may be queued on it: each is some worker's.

use std::io;
use std::net::{SocketAddr, TcpListener};

use sluice_shared::handover::{Inherited, ListenError, Listener, Role};
use sluice_shared::serve::{BindError, bind};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// At least one listener, all on one address.
#[derive(Debug)]
pub(crate) struct Listeners {
    role: Role,
    address: SocketAddr,
    all: Vec<Listener>,
}

impl Listeners {
    /// Takes those that were inherited, or else binds one a worker.
    ///
    /// # Errors
    /// The address cannot be listened on, or what was inherited listens on another.
    pub(crate) fn open(
        inherited: &mut Inherited,
        role: Role,
        configured: SocketAddr,
        workers: usize,
    ) -> Result<Self, ListenError> {
        let all = inherited.take(role, configured)?;
        let Some(first) = all.first() else {
            let bound = bound(role, configured, workers)?;
            let address = bound[0].local_addr().unwrap_or(configured);
            let all = bound.into_iter().map(|socket| Listener::bound(role, socket)).collect();
            return Ok(Self { role, address, all });
        };
        let address = first.socket.local_addr().unwrap_or(configured);
        Ok(Self { role, address, all })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same sockets under other descriptors, for a successor.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn try_clone(&self) -> io::Result<Vec<Listener>> {
        self.all.iter().map(Listener::try_clone).collect()
    }

    /// Sees to it that there is one for each worker. Not before a predecessor has stopped: what is queued on a socket
    /// that only this process has is lost where it ends early.
    pub(crate) fn complete(&mut self, workers: usize) {
        let may_add = SockRef::from(&self.all[0].socket).reuse_port().unwrap_or(false);
        while may_add && self.all.len() < workers {
            match shared(self.address) {
                Ok(socket) => self.all.push(Listener::bound(self.role, socket)),
                Err(error) => {
                    // Not ours to add to: another user's, for example.
                    tracing::warn!(%error, listeners = self.all.len(), workers, "workers have to share listeners");
                    return;
                }
            }
        }
    }

    /// Each worker's listeners: all of them are given out, and nobody goes without.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn deal(self, workers: usize) -> io::Result<Vec<Vec<Listener>>> {
        let mut hands: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
        let shared = self.all.len().min(workers);
        for (place, listener) in self.all.into_iter().enumerate() {
            hands[place % workers].push(listener);
        }
        for place in shared..workers {
            let clone = hands[place % shared][0].try_clone()?;
            hands[place].push(clone);
        }
        Ok(hands)
    }
}

/// Binds `count` listeners to one address; port 0 becomes the same free port for all.
///
/// # Errors
/// The address cannot be listened on. That another process already does is found out by a first, exclusive bind:
/// `SO_REUSEPORT` alone would share the port with it.
fn bound(role: Role, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let address = {
        let exclusive = bind(address, role.key())?;
        exclusive.local_addr().unwrap_or(address)
    };
    let fault = |source| BindError { address, key: role.key().to_owned(), source };
    (0..count).map(|_| shared(address).map_err(fault)).collect()
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::AsFd;

    use super::*;

    fn local() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn inode(listener: &Listener) -> u64 {
        rustix::fs::fstat(listener.socket.as_fd()).unwrap().st_ino
    }

    #[test]
    fn a_port_in_use_is_refused_and_said() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let fault = bound(Role::Listen, held.local_addr().unwrap(), 2).unwrap_err().to_string();
        assert!(fault.contains("`listen`") && fault.contains("another port"), "{fault}");
    }

    #[test]
    fn workers_share_one_port() {
        let listeners = bound(Role::Listen, local(), 3).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert!(addresses[0].port() != 0 && addresses.iter().all(|address| *address == addresses[0]));
    }

    #[test]
    fn every_listener_has_a_worker_and_every_worker_a_listener() {
        for (there, workers) in [(1, 1), (3, 1), (3, 2), (2, 2), (1, 4), (3, 4)] {
            let listeners = Listeners::open(&mut Inherited::default(), Role::Listen, local(), there).unwrap();
            let all: HashSet<_> = listeners.all.iter().map(inode).collect();
            let hands = listeners.deal(workers).unwrap();
            assert_eq!(hands.len(), workers);
            assert!(hands.iter().all(|hand| !hand.is_empty()), "{there} for {workers}");
            assert_eq!(hands.iter().flatten().map(inode).collect::<HashSet<_>>(), all);
        }
    }

    #[test]
    fn further_workers_get_listeners_of_their_own_where_the_port_is_shared() {
        let mut listeners = Listeners::open(&mut Inherited::default(), Role::Listen, local(), 1).unwrap();
        listeners.complete(3);
        assert_eq!(listeners.all.iter().map(inode).collect::<HashSet<_>>().len(), 3);
        let alone = Listener::bound(Role::Listen, bind(local(), "listen").unwrap());
        let mut listeners =
            Listeners { role: Role::Listen, address: alone.socket.local_addr().unwrap(), all: vec![alone] };
        listeners.complete(3);
        assert_eq!(listeners.all.len(), 1, "its owner does not share the port");
    }
}
