//! The connection to Redis, which mends itself: where it is broken, questions fail at once, and [`Line::tend`] makes a
//! new one. Nothing here prints the URL, for there may be a password in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::state::StateError;

/// How long connecting may take, and being sure that what was reached is Redis.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that wait to be sent.
const QUEUE_MAX: usize = 1024;

/// A URL that says no place of Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "the URL of Redis is not understood; write redis://USER:PASSWORD@HOST:PORT/DATABASE or unix:///PATH, without TLS"
)]
pub struct RedisUrlError;

/// A connection, or none for now.
pub(super) struct Line {
    client: Client,
    live: ArcSwapOption<MultiplexedConnection>,
    is_well: AtomicBool,
    /// A question failed: time to look.
    trouble: Notify,
}

impl Line {
    pub(super) fn new(url: &str) -> Result<Self, RedisUrlError> {
        // What the parser says may quote from the URL.
        let client = Client::open(url).map_err(|_| RedisUrlError)?;
        Ok(Self {
            client,
            live: ArcSwapOption::empty(),
            is_well: AtomicBool::new(false),
            trouble: Notify::new(),
        })
    }

    pub(super) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// Asks one question, which may take so long.
    pub(super) async fn ask<T, F>(
        &self,
        limit: Duration,
        question: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StateError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let live = self.live.load_full().ok_or(StateError::Away)?;
        match timeout(limit, question(MultiplexedConnection::clone(&live))).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_of_connection(&error) => self.drop_line(&live),
            // Where all are refused, that is said once.
            Ok(Err(error)) if self.is_well() => tracing::error!(%error, "Redis refuses a question"),
            Ok(Err(_)) | Err(_) => {}
        }
        self.trouble.notify_one();
        Err(StateError::Away)
    }

    /// Connects where there is no connection, and asks a question by which the connection is judged.
    pub(super) async fn tend<F>(
        &self,
        limit: Duration,
        question: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<(), LineError>
    where
        F: Future<Output = RedisResult<()>>,
    {
        let asked = async {
            let live = match self.live.load_full() {
                Some(live) => live,
                None => Arc::new(self.connect().await?),
            };
            timeout(limit, question(MultiplexedConnection::clone(&live))).await??;
            Ok(live)
        };
        let asked = asked.await;
        self.is_well.store(asked.is_ok(), Ordering::Relaxed);
        let (live, outcome) = match asked {
            Ok(live) => (Some(live), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.live.store(live);
        outcome
    }

    /// Until a question fails.
    pub(super) async fn trouble(&self) {
        self.trouble.notified().await;
    }

    async fn connect(&self) -> Result<MultiplexedConnection, LineError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Each question has a limit of its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE_MAX);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        Ok(timeout(CONNECT_TIMEOUT, connecting).await??)
    }

    /// Lets go of a connection, unless it has been replaced meanwhile.
    fn drop_line(&self, broken: &Arc<MultiplexedConnection>) {
        self.live.rcu(|live| live.clone().filter(|live| !Arc::ptr_eq(live, broken)));
    }
}

/// Why the connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Whether another connection may help: this one is broken, or ends at a server that is no master any more.
fn is_of_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
            )
        )
}
