//! One process of several, chosen by who first made a key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::claim::{Rules, Standing};
use super::register::Registration;
use super::{Etcd, EtcdError};
use crate::token::random_id;

/// A standing candidate: it takes the office when nobody has it, and keeps it while it lives and reaches etcd.
///
/// Of two processes never both believe to have it, as long as their clocks run at one pace: who has it counts its time
/// from before it asked for it, etcd from after. What must not be done twice even so is written by comparing revisions
/// ([`Etcd::replace`]).
#[derive(Debug)]
pub struct Election {
    etcd: Etcd,
    key: String,
    registration: Registration,
}

#[derive(Serialize, Deserialize)]
struct Office<S> {
    id: S,
    instance: S,
}

impl Election {
    /// Stands for `election/{name}` as `id`, which is shown to who asks. Within a runtime.
    pub fn stand(etcd: Etcd, name: &str, id: &str, ttl: Duration) -> Self {
        let (key, instance) = (format!("election/{name}"), random_id());
        let value = serde_json::to_vec(&Office { id, instance: &instance }).expect("two texts are JSON");
        let rules = Rules {
            key: key.clone(),
            instance,
            ttl,
            // Who does not renew may still believe to be in office until the lease is over.
            succeeds_the_silent: false,
            is_over: Box::new(|_| false),
        };
        let registration = Registration::of(etcd.clone(), rules, value);
        Self { etcd, key, registration }
    }

    /// Whether this process has the office at this moment.
    pub fn is_won(&self) -> bool {
        self.registration.standing().borrow().is_held()
    }

    /// How it stands, and every later change. That the office ran out while etcd was away shows in
    /// [`Standing::is_held`], which asks the clock.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.registration.standing()
    }

    /// The `id` of who has the office.
    ///
    /// # Errors
    /// etcd does not tell.
    pub async fn holder(&self) -> Result<Option<String>, EtcdError> {
        let entry = self.etcd.get(&self.key).await?;
        let office = entry.and_then(|entry| serde_json::from_slice::<Office<String>>(&entry.value).ok());
        Ok(office.map(|office| office.id))
    }

    /// Stands no more, and gives the office up where it has it. Takes five seconds at most.
    pub async fn withdraw(self) {
        self.registration.leave(None).await;
    }
}
