//! What an edge listens on: inherited, taken over from a predecessor, or bound.

use std::net::SocketAddr;

use anyhow::Context;
use sluice_shared::handover::{self, Identity, Inherited, Listener, Predecessor, Role};

use crate::config::Config;
use crate::listen::Listeners;

pub(super) struct Sockets {
    /// Who accepts until it is told not to.
    predecessor: Option<Predecessor>,
    pub(super) admin: Listener,
    plain_or_only: Listeners,
    /// TLS, beside a plain one.
    tls: Option<Listeners>,
}

impl Sockets {
    /// # Errors
    /// An address cannot be listened on, or what was inherited does not fit the configuration.
    pub(super) fn open(config: &Config, who: Identity<'_>, mut inherited: Inherited) -> anyhow::Result<Self> {
        let control_socket = config.control_socket.as_deref();
        let predecessor =
            control_socket.map(|path| handover::inherit(path, who, &mut inherited)).transpose()?;
        let admin = inherited.take_or_bind(Role::Admin, config.admin_listen)?;
        let mut open = |role, address| Listeners::open(&mut inherited, role, address, config.threads);
        let plain_or_only = open(Role::Listen, config.listen)?;
        let beside = config.tls.as_ref().and_then(|tls| tls.listen);
        let tls = beside.map(|address| open(Role::Tls, address)).transpose()?;
        Ok(Self { predecessor: predecessor.flatten(), admin, plain_or_only, tls })
    }

    /// Which listeners speak TLS, where some do.
    pub(super) fn tls_role(config: &Config) -> Role {
        let beside = config.tls.as_ref().and_then(|tls| tls.listen);
        if beside.is_some() { Role::Tls } else { Role::Listen }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.plain_or_only.address()
    }

    pub(super) fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(Listeners::address)
    }

    /// Has a predecessor stop accepting, if there is one; from then on all is this process's.
    ///
    /// # Errors
    /// It does not stop.
    pub(super) fn take_over(&mut self, workers: usize) -> anyhow::Result<()> {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.take_over()?;
        }
        self.plain_or_only.complete(workers);
        if let Some(tls) = &mut self.tls {
            tls.complete(workers);
        }
        Ok(())
    }

    /// The same sockets under other descriptors, for a successor.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn for_successor(&self) -> anyhow::Result<Vec<Listener>> {
        let mut all = self.plain_or_only.try_clone()?;
        if let Some(tls) = &self.tls {
            all.extend(tls.try_clone()?);
        }
        all.push(self.admin.try_clone()?);
        Ok(all)
    }

    /// The admin port's listener, and each worker's.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn deal(self, workers: usize) -> anyhow::Result<(Listener, Vec<Vec<Listener>>)> {
        let mut hands = self.plain_or_only.deal(workers).context("cannot share listeners out")?;
        if let Some(tls) = self.tls {
            for (hand, more) in hands.iter_mut().zip(tls.deal(workers)?) {
                hand.extend(more);
            }
        }
        Ok((self.admin, hands))
    }
}
