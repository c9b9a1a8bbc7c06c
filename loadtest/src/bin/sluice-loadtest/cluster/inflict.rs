//! Does to a cluster what is planned.

use anyhow::{Context as _, ensure};
use sluice_loadtest::Cluster;
use sluice_loadtest::cluster::Member;
use sluice_loadtest::hosts::Cut;
use sluice_loadtest::process::Signal;

use super::Mounted;
use super::faults::{Action, Deed, Event, Fault, Who};

/// The cluster, and its store where that can be held. The store goes first: an edge that is stuck in it cannot end.
pub(super) struct Victims {
    pub(super) store: Option<Mounted>,
    pub(super) cluster: Cluster,
}

impl Victims {
    /// # Errors
    /// It could not be done.
    pub(super) fn suffer(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match fault.action {
            Action::Of(deed, who) => do_to(self.member(who), deed),
            Action::OnAll(event) => self.happen(event),
        }
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::StickStorage => self.store().map(|mounted| mounted.store.hold_all()),
            Event::ReleaseStorage => self.store().map(|mounted| mounted.store.release()),
            Event::RotateKeys => self.rotate_keys(),
            Event::KillEtcdLeader => {
                let etcd = self.cluster.etcd();
                let leader = etcd.leader()?;
                etcd.member(leader).kill()
            }
            Event::RestartEtcd => self.cluster.etcd().start_stopped(),
            Event::RestartRedis => {
                let redis = self.cluster.redis();
                redis.kill()?;
                redis.start()
            }
        }
    }

    fn member(&mut self, who: Who) -> &mut Member {
        match who {
            Who::Edge(index) => self.cluster.edge(index),
            Who::Coordinator(index) => self.cluster.coordinator_at(index),
        }
    }

    fn store(&self) -> anyhow::Result<&Mounted> {
        self.store.as_ref().context("the cluster has no store that can be held")
    }

    fn rotate_keys(&self) -> anyhow::Result<()> {
        let answer = self.cluster.admin("POST", "/admin/v1/keys/rotate")?;
        ensure!(answer.status() == 200, "rotating: {} {}", answer.status(), answer.text());
        Ok(())
    }
}

fn do_to(member: &mut Member, deed: Deed) -> anyhow::Result<()> {
    match deed {
        Deed::Kill => member.process().kill(),
        Deed::Freeze => member.process().signal(Signal::STOP),
        Deed::Thaw => member.process().signal(Signal::CONT),
        Deed::Drain => member.process().signal(Signal::TERM),
        Deed::Start => member.restart(),
        Deed::Cut => member.host().cut(Cut::Both),
        Deed::Mend => member.host().mend(),
    }
}
