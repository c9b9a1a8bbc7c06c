//! SIOCOUTQ: what a socket holds of what it was given. No operation of the ring, but no safe library has it either.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes given to a TCP socket that its peer has not acknowledged, unsent ones included. What they point to in memory
/// has to stay as it is.
///
/// # Errors
/// The kernel's.
pub(crate) fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: for a socket, TIOCOUTQ (SIOCOUTQ) writes one int to the address, which is that of a live local.
    let result = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(u64::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_the_peer_has_is_no_longer_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&sender).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        let mut given = 0;
        while let Ok(count) = sender.write(&[0; 65_536]) {
            given += count as u64;
        }
        let held = unacknowledged(&sender).unwrap();
        assert!(0 < held && held <= given, "{held} of {given}: the receiver's buffer has the rest");
        let mut received = vec![0; usize::try_from(given).unwrap()];
        receiver.read_exact(&mut received).unwrap();
        let began = std::time::Instant::now();
        while unacknowledged(&sender).unwrap() > 0 {
            assert!(began.elapsed().as_secs() < 10, "acknowledged by now");
        }
    }
}
