//! Listening sockets: one a worker, all on one address (`SO_REUSEPORT`).

use std::io;
use std::net::{SocketAddr, TcpListener};

use sluice_shared::serve::{BindError, bind};
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `count` listeners to one address; port 0 becomes the same free port for all.
///
/// # Errors
/// The address cannot be listened on. That another process already does is found out by a first, exclusive bind:
/// `SO_REUSEPORT` alone would share the port with it.
pub(crate) fn listeners(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let address = {
        let exclusive = bind(address, "listen")?;
        exclusive.local_addr().unwrap_or(address)
    };
    let fault = |source| BindError { address, key: "listen".to_owned(), source };
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
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_and_said() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let fault = listeners(held.local_addr().unwrap(), 2).unwrap_err().to_string();
        assert!(fault.contains("`listen`") && fault.contains("another port"), "{fault}");
    }

    #[test]
    fn workers_share_one_port() {
        let listeners = listeners("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert!(addresses[0].port() != 0 && addresses.iter().all(|address| *address == addresses[0]));
    }
}
