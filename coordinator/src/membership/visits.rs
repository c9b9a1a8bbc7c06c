//! The edges' entrances, asked in turn for as long as the runtime lives, and what came of it told once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use sluice_shared::cluster::EdgeRecord;
use tokio::time::MissedTickBehavior;

use super::entrance::{self, Change, Entrance};
use super::{Membership, State, UrlFault};

/// How often it is seen whose URL is to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Membership {
    /// Has every edge that serves asked by its public URL, again and again.
    pub(super) async fn visit_entrances(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            for record in self.due_visits(Instant::now()) {
                let this = Arc::clone(&self);
                tokio::spawn(async move {
                    let outcome = this.visitor.visit(&record.id, &record.url).await;
                    this.note_visit(&record, outcome);
                });
            }
        }
    }

    /// The edges that are to be asked by their URLs now. What does not serve is told by its state: of its URL nothing is
    /// said.
    fn due_visits(&self, now: Instant) -> Vec<EdgeRecord> {
        let mut due = Vec::new();
        for watched in self.board().values_mut() {
            if !matches!(watched.health.state(), State::Up | State::Degraded) {
                watched.entrance = Entrance::new(now);
            } else if watched.entrance.take_due(now) {
                due.push(watched.edge.record.clone());
            }
        }
        due
    }

    fn note_visit(&self, asked: &EdgeRecord, outcome: Option<Result<(), UrlFault>>) {
        let (now, jitter) = (Instant::now(), rand::rng().random_range(entrance::JITTER));
        let mut board = self.board();
        let Some(watched) = board.get_mut(&asked.id).filter(|watched| watched.edge.record.url == asked.url)
        else {
            return;
        };
        let Some(outcome) = outcome else { return watched.entrance.postpone(now) };
        let change = watched.entrance.learn(outcome, now, jitter);
        let fault = watched.entrance.fault().cloned();
        drop(board);
        let (edge, url) = (&asked.id, &asked.url);
        match (change, fault) {
            (Some(Change::Faulty), Some(found)) => {
                let (fault, remedy) = (found.kind(), found.remedy());
                tracing::warn!(%edge, %url, fault, %found, remedy, "edge is not reached where clients are sent");
            }
            (Some(Change::Mended), _) => {
                tracing::info!(%edge, %url, "edge is reached where clients are sent");
            }
            _ => {}
        }
    }
}
