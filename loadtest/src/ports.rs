//! Free ports, each given to one cluster at a time across all test processes of the machine.
//!
//! Binding port 0 and closing it again is not enough: the number comes from the range of outgoing connections, and
//! another edge that listens with `SO_REUSEPORT` would share it without an error. So the numbers lie below that
//! range, and a lock file stands for each until the cluster ends.

use std::fs::File;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

use crate::hosts::Host;
use crate::lock;

/// Below 32768, where Linux's range of outgoing ports starts (`ip_local_port_range`).
const RANGE: RangeInclusive<u16> = 12_000..=31_999;

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub struct Port {
    host: Host,
    number: u16,
    /// The lock lives as long as the open file.
    _lock: File,
}

impl Port {
    /// Takes a loopback port that nobody listens on and no other test holds.
    ///
    /// # Errors
    /// None is free, or the folder of locks cannot be written.
    pub fn take() -> anyhow::Result<Self> {
        Self::take_on(&Host::local())
    }

    /// The same on a host. On one that is apart nobody listens but whom we start.
    ///
    /// # Errors
    /// As [`Port::take`].
    pub fn take_on(host: &Host) -> anyhow::Result<Self> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let count = u32::from(RANGE.end() - RANGE.start()) + 1;
        // Processes start at different places, so that they seldom try each other's numbers.
        let start = process::id().wrapping_mul(61) + TAKEN.fetch_add(1, Ordering::Relaxed);
        for step in 0..count {
            let offset = u16::try_from(start.wrapping_add(step) % count).context("a port's offset")?;
            let number = RANGE.start() + offset;
            let Some(lock) = lock::take("ports", &number.to_string())? else { continue };
            if host.is_apart() || TcpListener::bind((host.address(), number)).is_ok() {
                return Ok(Self { host: host.clone(), number, _lock: lock });
            }
        }
        bail!("no free port from {} to {}", RANGE.start(), RANGE.end())
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `ADDRESS:PORT`
    pub fn address(&self) -> String {
        format!("{}:{}", self.host.address(), self.number)
    }

    /// `http://ADDRESS:PORT`
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
