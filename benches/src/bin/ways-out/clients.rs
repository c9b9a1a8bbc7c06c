//! Clients that ask, read the whole answer, and ask again.

use std::io;
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};

use crate::HEAD_BYTES;

/// As wrk reads.
const READ_BYTES: usize = 8192;

/// Runs until the server is gone. Every answer has so many bytes.
pub(crate) fn run(address: SocketAddr, count: usize, answer_bytes: usize) -> io::Result<()> {
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let request = [b'x'; HEAD_BYTES];
    let mut connections = Vec::new();
    for number in 0..count {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&ready, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        rustix::net::send(&stream, &request, SendFlags::NOSIGNAL)?;
        connections.push((stream, 0));
    }
    let mut events = Vec::with_capacity(256);
    let mut room = [0; READ_BYTES];
    loop {
        events.clear();
        epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let number = usize::try_from(event.data.u64()).expect("a connection's number");
            let (stream, received) = &mut connections[number];
            match rustix::net::recv(&*stream, &mut room, RecvFlags::empty()) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Ok(()),
                Ok((bytes, _)) => *received += bytes,
                Err(error) => return Err(error.into()),
            }
            if *received >= answer_bytes {
                *received = 0;
                match rustix::net::send(&*stream, &request, SendFlags::NOSIGNAL) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
