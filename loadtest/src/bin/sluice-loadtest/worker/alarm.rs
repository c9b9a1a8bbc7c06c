//! Waking at a moment, to some microseconds: a runtime's own timers tick in milliseconds, which is more than many
//! downloads take.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// For one who waits at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    /// The kernel's timer, which becomes readable as a pipe does.
    timer: pipe::Receiver,
}

impl Alarm {
    /// # Errors
    /// There are no descriptors left, or no runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: pipe::Receiver::from_owned_fd_unchecked(timer)? })
    }

    /// Waits until a moment; not at all where it is past.
    ///
    /// # Errors
    /// The kernel does not let us.
    pub(super) async fn until(&self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.set(left)?;
            self.timer.readable().await?;
            // The count of what has gone off; nothing where it was set anew meanwhile.
            match self.timer.try_read(&mut [0; 8]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    fn set(&self, left: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
