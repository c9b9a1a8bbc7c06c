//! The edge's own record in etcd: what coordinators know of it. In the admin port's thread, like all that has time.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use sluice_shared::cluster::EdgeId;
use sluice_shared::cluster::announcement::{AnnouncedLoad, AnnouncedState, Announcement, FORMAT};
use sluice_shared::cluster::etcd::{EDGES, RECORD_TTL};
use sluice_shared::etcd::{Etcd, Record, Registration, Standing};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::admin::Status;
use crate::config::Advertised;
use crate::drain::Phase;
use crate::metrics;

/// How often the record may change: every coordinator hears of each change of every edge.
const CHANGE_EVERY: Duration = Duration::from_secs(2);
/// Longer by up to a quarter, so that edges that were started together do not stay in step.
const JITTER: std::ops::Range<f64> = 1.0..1.25;
/// How long the farewell stands before the record is taken back, where draining takes as long: longer than a coordinator
/// takes for a list of all edges.
const FAREWELL_STAYS: Duration = Duration::from_secs(2);
/// Differences below these are no news, whatever part of the load they are.
const TRANSFERS_NEWS: u64 = 1;
const RATE_NEWS: u64 = 1_000_000;

/// What the record is made of.
pub(crate) struct Register {
    pub(crate) id: EdgeId,
    /// Of this process.
    pub(crate) instance: String,
    pub(crate) advertised: Advertised,
    pub(crate) etcd: Etcd,
    pub(crate) status: Arc<Status>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) standing: StandingNote,
}

/// Told how the record stands.
pub(crate) type StandingNote = watch::Sender<Option<Standing>>;

impl Register {
    /// Keeps the record there until the edge drains, then takes it back.
    pub(crate) async fn keep(self) {
        let instance = self.instance.clone();
        let mut meter = RateMeter::new(self.bytes_sent());
        let mut said = self.announcement(&instance, &meter);
        let key = format!("{EDGES}{}", self.id);
        let record = Record::new(key, instance.clone(), said.to_json(), RECORD_TTL);
        let registration = Registration::start(self.etcd.clone(), record);
        let mut standing = registration.standing();
        self.standing.send_replace(Some(standing.borrow_and_update().clone()));
        let mut phase = self.phase.clone();
        let mut look_at = Instant::now() + next_look();
        loop {
            tokio::select! {
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
                Ok(()) = standing.changed() => {
                    self.standing.send_replace(Some(standing.borrow_and_update().clone()));
                }
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + next_look();
                    meter.read(self.bytes_sent());
                    let now = self.announcement(&instance, &meter);
                    if is_news(&said, &now) {
                        registration.set(now.to_json());
                        said = now;
                    }
                }
            }
        }
        // A successor's record comes in its place.
        let is_handed_over = *phase.borrow() == Phase::HandedOver;
        if is_handed_over {
            registration.leave(None).await;
        } else {
            // Says so first: a record that is only gone could have been lost. Who lists anew at this moment would miss a
            // last word that is gone at once.
            let farewell = Announcement { state: AnnouncedState::Draining, ..said }.to_json();
            registration.set(farewell.clone());
            let _ = timeout(FAREWELL_STAYS, phase.wait_for(|phase| *phase == Phase::Over)).await;
            registration.leave(Some(farewell)).await;
        }
        self.standing.send_replace(None);
    }

    fn bytes_sent(&self) -> u64 {
        metrics::body_bytes(&self.status.workers)
    }

    fn announcement(&self, instance: &str, meter: &RateMeter) -> Announcement {
        let load = self.status.load();
        Announcement {
            format: FORMAT,
            id: self.id.clone(),
            url: self.advertised.url.clone(),
            admin_url: self.advertised.admin_url.clone(),
            zone: self.advertised.zone.clone(),
            weight: self.advertised.weight,
            state: if load.degraded { AnnouncedState::Degraded } else { AnnouncedState::Serving },
            load: AnnouncedLoad {
                transfers: load.transfers,
                rate: meter.rate,
                sent: Some(load.body_bytes),
                hits: Some(load.window_hits),
                misses: Some(load.window_misses),
                stuck: Some(load.storage_stuck),
            },
            capacity: self.advertised.capacity,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.to_owned(),
        }
    }
}

fn next_look() -> Duration {
    CHANGE_EVERY.mul_f64(rand::rng().random_range(JITTER))
}

/// Whether others should hear of it: another state, a store that begins or ends to hang, or a load that moved by a tenth.
/// What only grows goes along.
fn is_news(said: &Announcement, now: &Announcement) -> bool {
    said.state != now.state
        || said.load.stuck.is_some_and(|stuck| stuck > 0) != now.load.stuck.is_some_and(|stuck| stuck > 0)
        || has_moved(said.load.transfers, now.load.transfers, TRANSFERS_NEWS)
        || has_moved(said.load.rate, now.load.rate, RATE_NEWS)
}

fn has_moved(from: u64, to: u64, least: u64) -> bool {
    let difference = from.abs_diff(to);
    difference >= least && difference.saturating_mul(10) >= from
}

/// Bytes a second, from one reading to the next.
struct RateMeter {
    rate: u64,
    bytes: u64,
    at: Instant,
}

impl RateMeter {
    fn new(bytes: u64) -> Self {
        Self { rate: 0, bytes, at: Instant::now() }
    }

    fn read(&mut self, bytes: u64) {
        let took = self.at.elapsed().as_millis().max(1);
        let sent = u128::from(bytes.saturating_sub(self.bytes));
        self.rate = u64::try_from(sent * 1000 / took).unwrap_or(u64::MAX);
        (self.bytes, self.at) = (bytes, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_news_and_less_is_not() {
        let table = [
            (0, 0, false),
            (0, 1, true),
            (1, 0, true),
            (9, 10, true),
            (10, 11, true),
            (11, 12, false),
            (100, 109, false),
            (100, 110, true),
            (100, 90, true),
            (100, 0, true),
            (u64::MAX, 0, true),
        ];
        for (from, to, expected) in table {
            assert_eq!(has_moved(from, to, 1), expected, "{from} to {to}");
        }
        assert!(!has_moved(0, RATE_NEWS - 1, RATE_NEWS), "an idle edge's trickle");
    }
}
