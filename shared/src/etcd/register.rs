//! A process's own record in etcd: there for as long as the process lives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Etcd;
use super::claim::{Claim, IsOver, Rules, Standing};

/// A record to be kept.
pub struct Record {
    /// Relative to the prefix of the settings.
    pub key: String,
    /// Names this process: no other has it, nor has a later one with the same id.
    pub instance: String,
    /// A JSON object that has `instance` among its members.
    pub value: Vec<u8>,
    /// Whole seconds: how long the record outlives a process that dies.
    pub ttl: Duration,
    /// Whether somebody else's value is known to be of a process that is gone, so that its record may be replaced at
    /// once.
    pub is_over: IsOver,
}

impl Record {
    /// A record that waits for whatever process had its key before.
    pub fn new(key: impl Into<String>, instance: impl Into<String>, value: Vec<u8>, ttl: Duration) -> Self {
        Self { key: key.into(), instance: instance.into(), value, ttl, is_over: Box::new(|_| false) }
    }
}

/// The record of this process, kept by a task. It is put back by itself where etcd lost it; a successor's is left alone.
/// Dropped without [`leave`](Registration::leave), it ends with its lease.
pub struct Registration {
    value: watch::Sender<Arc<[u8]>>,
    standing: watch::Receiver<Standing>,
    leave: oneshot::Sender<Option<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Registration {
    /// Keeps a record from now on; etcd need not be there yet. Within a runtime.
    pub fn start(etcd: Etcd, record: Record) -> Self {
        let rules = Rules {
            key: record.key,
            instance: record.instance,
            ttl: record.ttl,
            succeeds_the_silent: true,
            is_over: record.is_over,
        };
        Self::of(etcd, rules, record.value)
    }

    pub(super) fn of(etcd: Etcd, rules: Rules, value: Vec<u8>) -> Self {
        let (value, wanted) = watch::channel(Arc::from(value));
        let (note, standing) = watch::channel(Standing::Seeking);
        let (leave, leaving) = oneshot::channel();
        let task = tokio::spawn(Claim::new(etcd, rules, wanted, note).run(leaving));
        Self { value, standing, leave, task }
    }

    /// Changes the value, soon. Each change is written; it is for the caller to make few.
    pub fn set(&self, value: Vec<u8>) {
        self.value.send_replace(value.into());
    }

    /// How it stands now, and every later change.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Takes the record back, with a last value for who looks at that moment. Takes five seconds at most.
    pub async fn leave(self, farewell: Option<Vec<u8>>) {
        let _ = self.leave.send(farewell);
        let _ = self.task.await;
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("standing", &*self.standing.borrow()).finish_non_exhaustive()
    }
}
