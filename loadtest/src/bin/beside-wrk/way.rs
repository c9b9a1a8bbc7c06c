//! A way to a server that takes its time, as networks do: a relay on the server's core that holds each request back. The clients
//! are idle most of the time then, so what they measure is the way and the server, not what waits for their own core.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::servers;

/// Of an answer at a time.
const PIECE_BYTES: usize = 64 << 10;
/// The least delay, as a part of the mean one; the greatest is as far above it.
const LEAST: f64 = 0.2;
/// 2³² over the golden ratio: its multiples, modulo 2³², are spread evenly however many there are (Knuth, The Art of Computer
/// Programming, 6.4), so any few thousand delays have the same quantiles.
const GOLDEN: u32 = 2_654_435_769;

/// A relay to a server; closed when it is dropped.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
}

/// Uniform between 0.2 and 1.8 of the mean. None is twice the mean, so wrk takes none for one behind which others waited and
/// adds no times to what it measured (see [`omission`](crate::omission)).
struct Delays {
    mean: Duration,
    drawn: AtomicU32,
}

impl Way {
    /// To `server`, with delays of this mean.
    pub(crate) fn to(server: SocketAddr, mean: Duration) -> anyhow::Result<Self> {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?);
        let delays = Arc::new(Delays { mean, drawn: AtomicU32::new(0) });
        let here = Arc::clone(&listener);
        let accepting = thread::spawn(move || {
            // Those that it starts have the same core.
            servers::pin_this().expect("a core of this machine");
            // The end is that of the listener.
            while let Ok((client, _)) = here.accept() {
                // A client whose server cannot be reached is closed, and says so.
                let _ = relay(client, server, &delays);
            }
        });
        Ok(Self { address: listener.local_addr()?, listener, accepting: Some(accepting) })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // A listener that is shut down accepts nobody more; what is under way ends with its client.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Delays {
    fn next(&self) -> Duration {
        let drawn = self.drawn.fetch_add(GOLDEN, Ordering::Relaxed);
        let part = f64::from(drawn) / 2_f64.powi(32);
        self.mean.mul_f64(LEAST + 2.0 * (1.0 - LEAST) * part)
    }
}

/// Carries what both say, from threads of its own.
fn relay(client: TcpStream, server: SocketAddr, delays: &Arc<Delays>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let delays = Arc::clone(delays);
    thread::spawn(move || carry(&from_client, &to_server, || thread::sleep(delays.next())));
    thread::spawn(move || carry(&server, &client, || ()));
    Ok(())
}

/// Until either ends, or is broken off.
fn carry(mut from: &TcpStream, mut to: &TcpStream, mut hold: impl FnMut()) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        hold();
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // Fails where it is closed already.
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_evenly() {
        let delays = Delays { mean: Duration::from_millis(10), drawn: AtomicU32::new(0) };
        for _ in 0..3 {
            let mut drawn: Vec<f64> = (0..1000).map(|_| delays.next().as_secs_f64() * 1e3).collect();
            drawn.sort_by(f64::total_cmp);
            for (part, expected) in [(0, 2.0), (500, 10.0), (900, 16.4), (990, 17.84), (999, 18.0)] {
                assert!((drawn[part] - expected).abs() < 0.05, "{} at {part}", drawn[part]);
            }
        }
    }

    #[test]
    fn what_passes_is_whole_and_late() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mean = Duration::from_millis(100);
        let way = Way::to(listener.local_addr().unwrap(), mean).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
            stream.write_all(&vec![7; 3 * PIECE_BYTES]).unwrap();
        });
        let began = std::time::Instant::now();
        let mut client = TcpStream::connect(way.address).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(began.elapsed() >= mean.mul_f64(LEAST));
        assert!(answer.starts_with(b"hello") && answer[5..] == vec![7; 3 * PIECE_BYTES]);
        server.join().unwrap();
        let address = way.address;
        drop(way);
        assert!(TcpStream::connect(address).is_err());
    }
}
