//! From one process to the next: how a coordinator takes over from its predecessor, and hands over to its successor.
//! What it must not do is refuse anybody meanwhile: who comes in between waits in the listen queue.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use sluice_shared::blocking;
use sluice_shared::handover::{Departure, Predecessor};
use sluice_shared::serve::Answers;
use tokio::time::timeout;

use crate::config::StateSource;
use crate::service::{Sources, StartError};
use crate::state::{self, State};

/// For every edge to be heard or missed, and Redis to answer, before a predecessor has to stop: the first calls would find
/// no edge, or be refused.
const PREPARES_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between the first answer that closes its connection and the end of accepting: connections in use are closed by an
/// answer and not between two calls. Pools of clients rarely leave one that they use alone for longer.
pub(crate) const PARTING: Duration = Duration::from_secs(1);
/// For calls under way to end before the state is let go of. Callers wait for the successor meanwhile, and nearly all
/// calls take milliseconds.
const CALLS_END_WITHIN: Duration = Duration::from_secs(3);

/// Has the predecessor stop, once this process knows its edges and what several share; opens the state.
///
/// # Errors
/// The predecessor refuses, or the state cannot be used.
pub(crate) async fn take_over(
    predecessor: Predecessor,
    sources: &Sources,
    source: &StateSource,
    nonces_max: usize,
) -> Result<Arc<dyn State>, StartError> {
    let shared = match source {
        StateSource::Redis(_) => Some(state::start(source, nonces_max)?),
        // Only one process can have the file.
        StateSource::Embedded(_) => None,
    };
    let ready = async {
        while !sources.membership.is_settled()
            || sources.keys.missing().is_some()
            || sources.clients.missing().is_some()
            || shared.as_ref().is_some_and(|shared| !shared.is_well())
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if timeout(PREPARES_WITHIN, ready).await.is_err() {
        tracing::warn!(
            "edges or the shared state were not heard in time; the predecessor has to stop all the same"
        );
    }
    blocking::run(|| predecessor.take_over()).await?;
    match shared {
        Some(shared) => Ok(shared),
        None => Ok(state::start_after_another(source, nonces_max).await?),
    }
}

/// Ends what is `served`, lets go of the state, and has the successor begin. Calls that take longer go on without state.
pub(crate) async fn hand_over(served: impl Future<Output = ()>, state: &dyn State, successor: Departure) {
    let mut served = pin!(served);
    let is_ended = timeout(CALLS_END_WITHIN, served.as_mut()).await.is_ok();
    if !is_ended {
        tracing::warn!("calls are under way yet; they go on without the state");
    }
    state.release().await;
    successor.release().await;
    if !is_ended {
        served.await;
    }
}

/// Whether connections are to be closed by their next answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parting(Arc<AtomicBool>);

impl Parting {
    pub(crate) fn set(&self, is_parting: bool) {
        self.0.store(is_parting, Ordering::Release);
    }

    pub(crate) fn of<A: Answers>(&self, answers: A) -> impl Answers {
        PartingAnswers { answers: Arc::new(answers), parting: self.clone() }
    }
}

struct PartingAnswers<A> {
    answers: Arc<A>,
    parting: Parting,
}

impl<A: Answers> Answers for PartingAnswers<A> {
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> impl Future<Output = Response> + Send + use<A> {
        self.answers.answer(request, client)
    }

    fn are_parting(&self) -> bool {
        self.parting.0.load(Ordering::Acquire)
    }
}
