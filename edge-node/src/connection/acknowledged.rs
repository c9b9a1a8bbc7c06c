//! How long a connection stays for what the client has yet to take of it.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::limits::{Deadline, Waiting};
use crate::uring::unacknowledged;
use crate::worker::Worker;

/// How often is looked whether the client has all.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until the client has acknowledged all that was sent, as long as it acknowledges some, and the edge does not end.
pub(crate) async fn until_acknowledged(stream: &TcpStream, worker: &Worker, deadline: &Deadline) {
    let patience = worker.limits.send_timeout;
    let (mut before, mut since) = (u64::MAX, Instant::now());
    // Twice nothing: what was not the socket's is, by the time that is looked again.
    let mut is_empty_before = false;
    while !worker.is_over() {
        let Ok(left) = unacknowledged(stream) else { return };
        // Of a connection that was reset, what is left stays left.
        let is_reset = stream.peer_addr().is_err();
        if is_reset || (left == 0 && is_empty_before) {
            return;
        }
        is_empty_before = left == 0;
        if left < before {
            (before, since) = (left, Instant::now());
        } else if left > 0 && since.elapsed() >= patience {
            return;
        }
        let pause = tokio::time::sleep(LOOK_EVERY);
        if deadline.bound(Waiting::Send, patience, pause).await.is_err() {
            return;
        }
    }
}
