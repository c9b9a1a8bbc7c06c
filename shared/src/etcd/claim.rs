//! A key that is one process's for as long as it lives: held under a lease, renewed, put back where it vanished, and
//! never taken from a process that lives.
//!
//! A key's value is a JSON object that names its holder by `instance`, which no two processes share. Who finds another
//! instance there waits: until the key is gone, or, where the rules allow it, until its lease is no longer renewed.
//! Everything that writes compares first, in one transaction: what a successor wrote is not its predecessor's to change.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::{Backoff, jittered};
use super::{Entry, Etcd, EtcdError, Expected, Replaced, TimeLeft};

/// For giving the key back at the end, another member included where the first does not answer. The lease does it
/// otherwise.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// While another holds the key, it is looked at so often in each of its TTLs.
const LOOKS: u32 = 10;

/// etcd tells what is left of a lease in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// How a claim stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not held yet, or not any more: etcd is away, or the key is still its last holder's.
    Seeking,
    /// Held, until then at least, whatever happens.
    Held { until: Instant, lease: i64 },
    /// Another process holds it, and is alive.
    Taken { instance: String },
}

impl Standing {
    /// Whether nobody else can hold the key at this moment.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { until, .. } if Instant::now() < *until)
    }
}

/// Whether a value's holder is known to be gone, so that its key may be taken at once.
pub(super) type IsOver = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What is claimed, by whom, by which rules.
pub(super) struct Rules {
    pub(super) key: String,
    pub(super) instance: String,
    pub(super) ttl: Duration,
    /// A holder that has missed two renewals loses the key before its lease is over. Never where two holders at a time
    /// would do harm.
    pub(super) succeeds_the_silent: bool,
    pub(super) is_over: IsOver,
}

/// The task that holds a key.
pub(super) struct Claim {
    etcd: Etcd,
    rules: Rules,
    value: watch::Receiver<Arc<[u8]>>,
    standing: watch::Sender<Standing>,
    /// The lease that was granted last.
    lease: Option<i64>,
    /// The value was to be written, and for all that is known was not.
    is_unwritten: bool,
}

/// Why a key is held no longer.
enum Lost {
    /// Try again after a pause.
    Etcd(EtcdError),
    /// Begin anew at once: with another lease, or by looking who holds it.
    Lease,
    Overtaken,
}

impl From<EtcdError> for Lost {
    fn from(error: EtcdError) -> Self {
        match error {
            EtcdError::LeaseOver => Self::Lease,
            other => Self::Etcd(other),
        }
    }
}

impl Claim {
    pub(super) fn new(
        etcd: Etcd,
        rules: Rules,
        value: watch::Receiver<Arc<[u8]>>,
        standing: watch::Sender<Standing>,
    ) -> Self {
        Self { etcd, rules, value, standing, lease: None, is_unwritten: false }
    }

    /// Holds the key until `leaving` says otherwise, with the value to leave it with; then gives it back.
    pub(super) async fn run(mut self, leaving: oneshot::Receiver<Option<Vec<u8>>>) {
        let farewell = tokio::select! {
            farewell = leaving => farewell,
            never = self.keep() => match never {},
        };
        // Where the sender is gone, so is whoever would wait: the lease ends by itself.
        if let Ok(farewell) = farewell {
            let _ = timeout(LEAVE_TIMEOUT, self.leave(farewell)).await;
        }
    }

    /// Takes the key, again and again.
    async fn keep(&mut self) -> Infallible {
        let mut backoff = Backoff::new();
        let mut has_complained = false;
        loop {
            let began = Instant::now();
            let lost = self.hold().await;
            if began.elapsed() > self.rules.ttl {
                backoff.reset();
                has_complained = false;
            }
            let key = &self.rules.key;
            match lost {
                // An etcd that is away for hours is one thing to say.
                Lost::Etcd(error) if has_complained => {
                    tracing::debug!(key, %error, "the record in etcd is still not kept up");
                }
                Lost::Etcd(error) => {
                    has_complained = true;
                    tracing::warn!(key, %error, "the record in etcd is not kept up");
                }
                Lost::Lease => {
                    tracing::warn!(key, "the lease of the record in etcd is over; it is made anew");
                }
                Lost::Overtaken => tracing::warn!(key, "the record in etcd is another process's"),
            }
            self.note(Standing::Seeking);
            sleep(backoff.pause()).await;
        }
    }

    /// Takes the key and holds it; returns when it is lost.
    async fn hold(&mut self) -> Lost {
        match self.try_hold().await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn try_hold(&mut self) -> Result<Infallible, Lost> {
        let expected = self.wait_until_free().await?;
        let asked_at = Instant::now();
        let (lease, ttl) = self.etcd.grant(self.rules.ttl).await?;
        self.lease = Some(lease);
        let value = self.value.borrow_and_update().clone();
        self.is_unwritten = false;
        if let Replaced::Changed(_) = self.etcd.swap(&self.rules.key, expected, &value, lease).await? {
            // Somebody was faster: the next round looks who. The lease holds nothing, and ends by itself.
            return Err(Lost::Overtaken);
        }
        tracing::info!(key = self.rules.key, lease, "the record in etcd is made");
        let mut until = asked_at + ttl;
        self.note(Standing::Held { until, lease });
        let mut renew_at = Instant::now() + jittered(ttl / 3);
        loop {
            let done = tokio::select! {
                () = sleep_until(renew_at) => {
                    let renewed = self.renew(lease, ttl, &mut until).await;
                    renew_at = Instant::now() + jittered(ttl / 3);
                    renewed
                }
                // Puts off no renewal: a record that changes all the time is renewed like any other.
                Ok(()) = self.value.changed(), if !self.is_unwritten => self.put(lease).await,
            };
            match done {
                Ok(()) => {}
                // Tried again while the lease lasts; the record stands that long.
                Err(Lost::Etcd(error)) if Instant::now() < until => {
                    tracing::debug!(key = self.rules.key, %error, "the record in etcd is not kept up yet");
                    renew_at = renew_at.min(Instant::now() + jittered(ttl / 20));
                }
                Err(lost) => return Err(lost),
            }
        }
    }

    /// Renews the lease, and looks whether the record is still there and ours.
    async fn renew(&mut self, lease: i64, ttl: Duration, until: &mut Instant) -> Result<(), Lost> {
        let asked_at = Instant::now();
        self.etcd.renew(lease).await?;
        *until = asked_at + ttl;
        let found = self.etcd.get(&self.rules.key).await?;
        if self.is_unwritten || found.is_none_or(|entry| entry.lease != lease) {
            self.put(lease).await?;
        }
        self.note(Standing::Held { until: *until, lease });
        Ok(())
    }

    /// Writes the value as it is wanted now, over our own record or none.
    async fn put(&mut self, lease: i64) -> Result<(), Lost> {
        let value = self.value.borrow_and_update().clone();
        self.is_unwritten = true;
        let written = self.etcd.swap(&self.rules.key, Expected::Lease(lease), &value, lease).await;
        let written = match written {
            // Removed by hand, or with an etcd that was put back to an earlier state.
            Ok(Replaced::Changed(None)) => {
                self.etcd.swap(&self.rules.key, Expected::Absent, &value, lease).await
            }
            other => other,
        };
        if let Replaced::Changed(_) = written? {
            return Err(Lost::Overtaken);
        }
        self.is_unwritten = false;
        Ok(())
    }

    /// Waits until the key may be taken; gives what it has to be for that.
    async fn wait_until_free(&mut self) -> Result<Expected, EtcdError> {
        // A lease when it was first seen, and last.
        let mut seen: Option<Seen> = None;
        loop {
            let Some(entry) = self.etcd.get(&self.rules.key).await? else { return Ok(Expected::Absent) };
            if self.is_free(&entry) {
                return Ok(Expected::Revision(entry.mod_revision));
            }
            let Some(now) = self.etcd.time_left(entry.lease).await? else {
                // About to be removed.
                sleep(self.rules.ttl / LOOKS / 2).await;
                continue;
            };
            if self.rules.succeeds_the_silent && now.left < now.granted / 3 {
                return Ok(Expected::Revision(entry.mod_revision));
            }
            let known = seen.take().filter(|seen| seen.lease == entry.lease);
            let is_renewed = known.as_ref().is_some_and(|seen| seen.was_renewed(now));
            let over_by = known.map_or(Instant::now() + now.left + SECOND, |seen| seen.over_by);
            seen = Some(Seen { lease: entry.lease, left: now.left, over_by });
            if is_renewed {
                self.note_taken(&entry);
            }
            sleep(jittered(self.rules.ttl / LOOKS)).await;
        }
    }

    /// Whether nobody that lives holds the key.
    fn is_free(&self, entry: &Entry) -> bool {
        // What no lease ends, no process of ours keeps.
        entry.lease == 0
            || instance_of(&entry.value).is_some_and(|instance| instance == self.rules.instance)
            || (self.rules.is_over)(&entry.value)
    }

    fn note_taken(&self, entry: &Entry) {
        let instance = instance_of(&entry.value).unwrap_or_default();
        let instance: String = instance.chars().filter(char::is_ascii_graphic).take(64).collect();
        if self.rules.succeeds_the_silent && !matches!(*self.standing.borrow(), Standing::Taken { .. }) {
            tracing::error!(
                key = self.rules.key,
                instance,
                "another process that lives has this id; stop it, or give this one an id of its own"
            );
        }
        self.note(Standing::Taken { instance });
    }

    fn note(&self, standing: Standing) {
        self.standing.send_if_modified(|known| {
            let is_news = *known != standing;
            if is_news {
                *known = standing;
            }
            is_news
        });
    }

    /// Ends our own lease, and our own record with it. Another's under the same key stays.
    async fn leave(&mut self, farewell: Option<Vec<u8>>) {
        let Some(lease) = self.lease else { return };
        if let Some(farewell) = farewell {
            let _ = self.etcd.swap(&self.rules.key, Expected::Lease(lease), &farewell, lease).await;
        }
        match self.etcd.revoke(lease).await {
            Ok(()) => tracing::info!(key = self.rules.key, "the record in etcd is taken back"),
            Err(error) => {
                tracing::warn!(key = self.rules.key, %error, "the record in etcd is left to its lease");
            }
        }
        self.note(Standing::Seeking);
    }
}

/// A lease that another holds.
struct Seen {
    lease: i64,
    left: Duration,
    /// Not renewed since it was first seen, it would be over by then.
    over_by: Instant,
}

impl Seen {
    fn was_renewed(&self, now: TimeLeft) -> bool {
        now.left > self.left || Instant::now() > self.over_by
    }
}

/// Whose a record is.
fn instance_of(value: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Held<'v> {
        #[serde(borrow)]
        instance: Cow<'v, str>,
    }
    serde_json::from_slice::<Held<'_>>(value).ok().map(|held| held.instance)
}
