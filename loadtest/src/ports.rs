//! Free loopback ports, each given to one cluster at a time across all test processes of the machine.
//!
//! Binding port 0 and closing it again is not enough: the number comes from the range of outgoing connections, and
//! another edge that listens with `SO_REUSEPORT` would share it without an error. So the numbers lie below that
//! range, and a lock file stands for each until the cluster ends.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

/// Below 32768, where Linux's range of outgoing ports starts (`ip_local_port_range`).
const RANGE: RangeInclusive<u16> = 12_000..=31_999;

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The lock lives as long as the open file.
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on and no other test holds.
    ///
    /// # Errors
    /// None is free, or the folder of locks cannot be written.
    pub fn take() -> anyhow::Result<Self> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join("sluice-loadtest-ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let count = u32::from(RANGE.end() - RANGE.start()) + 1;
        // Processes start at different places, so that they seldom try each other's numbers.
        let start = process::id().wrapping_mul(61) + TAKEN.fetch_add(1, Ordering::Relaxed);
        for step in 0..count {
            let offset = u16::try_from(start.wrapping_add(step) % count).context("a port's offset")?;
            let number = RANGE.start() + offset;
            let path = folder.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port from {} to {}", RANGE.start(), RANGE.end())
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_come_back() {
        let (one, other) = (Port::take().unwrap(), Port::take().unwrap());
        assert_ne!(one.number(), other.number());
        let listener = TcpListener::bind(one.address()).unwrap();
        drop((listener, one, other));
    }
}
