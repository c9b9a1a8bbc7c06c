//! The connection to one member of the cluster at a time: made when it is wanted, tried before it is used, given up when
//! it fails, and the next member taken.
//!
//! The library would balance over all members by itself, and send every second request to one that is dead.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, KvClient, LeaseClient, TlsOptions, WatchClient,
};
use tokio::time::{Instant, timeout_at};

use super::error::EtcdError;
use super::settings::EtcdSettings;

/// For a call and its repetition, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// For one member to answer: short enough to ask another within the call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2500);
/// For one member to be reached, take the password, and know a leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd takes a client for a nuisance that pings more often than each 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// etcd takes 1.5 MiB for a value at most, unless told otherwise, and sends no event in more pieces than that.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Whether a call may be made again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is as good as once.
    Always,
    /// Only where the first was certainly not carried out.
    IfUndone,
}

/// The connection in use, and where others can be had.
pub(super) struct Connections {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// Locked for moments only.
    slot: Mutex<Slot>,
    /// Held by the one that connects for all.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slot {
    live: Option<Live>,
    /// The place of the endpoint that is tried next.
    next: usize,
    made: u64,
}

/// A connection that worked when it was made.
#[derive(Clone)]
pub(super) struct Live {
    /// No other connection of this process has it.
    number: u64,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
}

impl Live {
    pub(super) fn kv(&self) -> KvClient {
        self.kv.clone()
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.lease.clone()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.watch.clone()
    }
}

impl Connections {
    pub(super) fn new(settings: &EtcdSettings) -> Self {
        // Asked for streams that stay open too: a member that is cut off from the others must not keep them.
        let mut options = ConnectOptions::new()
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_require_leader(true);
        if let Some(user) = &settings.user {
            options = options.with_user(&user.name, user.password.reveal());
        }
        if let Some(tls) = &settings.tls {
            let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
            if let Some(own) = &tls.identity {
                with = with.identity(Identity::from_pem(&own.certificate, own.key.as_bytes()));
            }
            options = options.with_tls(with);
        }
        // Not all of a cluster's programs go to the member that is listed first.
        let next = usize::from(rand::random::<u16>()) % settings.endpoints.len();
        let slot = Mutex::new(Slot { next, ..Slot::default() });
        let connecting = tokio::sync::Mutex::default();
        Self { endpoints: settings.endpoints.clone(), options, slot, connecting }
    }

    /// Asks, in good time.
    pub(super) async fn call<T, F>(&self, repeat: Repeat, ask: impl Fn(Live) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let first = match self.attempt(deadline, &ask).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let again = first.is_undone() || (repeat == Repeat::Always && first.condemns_connection());
        if !again || Instant::now() >= deadline {
            return Err(first);
        }
        self.attempt(deadline, &ask).await
    }

    async fn attempt<T, F>(&self, deadline: Instant, ask: &impl Fn(Live) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let live = self.live(deadline).await?;
        let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
        let answer = match timeout_at(until, ask(live.clone())).await {
            Ok(answer) => answer.map_err(EtcdError::from),
            Err(_) => Err(EtcdError::Silent(ATTEMPT_TIMEOUT)),
        };
        if let Err(error) = &answer
            && error.condemns_connection()
        {
            self.give_up(&live);
        }
        answer
    }

    /// The connection in use, or a new one.
    pub(super) async fn live(&self, deadline: Instant) -> Result<Live, EtcdError> {
        let connected = timeout_at(deadline, async {
            if let Some(live) = self.in_use() {
                return Ok(live);
            }
            let _connecting = self.connecting.lock().await;
            match self.in_use() {
                Some(made_meanwhile) => Ok(made_meanwhile),
                None => self.connect_to_any().await,
            }
        });
        connected.await.unwrap_or(Err(EtcdError::Silent(CALL_TIMEOUT)))
    }

    fn in_use(&self) -> Option<Live> {
        self.slot().live.clone()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries each member once.
    async fn connect_to_any(&self) -> Result<Live, EtcdError> {
        let mut last = EtcdError::Silent(CALL_TIMEOUT);
        for _ in 0..self.endpoints.len() {
            let (next, number) = {
                let slot = self.slot();
                (slot.next, slot.made)
            };
            let endpoint = &self.endpoints[next];
            match self.connect(endpoint, number).await {
                Ok(live) => {
                    let mut slot = self.slot();
                    slot.made += 1;
                    slot.live = Some(live.clone());
                    return Ok(live);
                }
                Err(error) => {
                    tracing::debug!(%endpoint, %error, "etcd member not used");
                    self.slot().next = (next + 1) % self.endpoints.len();
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Connects to one member, and sees that it is of use.
    async fn connect(&self, endpoint: &str, number: u64) -> Result<Live, EtcdError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let connecting = async {
            // Gives the password for a token, where there is one.
            let mut client = Client::connect([endpoint], Some(self.options.clone())).await?;
            match client.status().await.map_err(EtcdError::from) {
                Ok(status) if status.leader() == 0 => {
                    return Err(EtcdError::Leaderless(endpoint.to_owned()));
                }
                // It answers, and does not tell everybody.
                Ok(_) | Err(EtcdError::Forbidden(_)) => {}
                Err(error) => return Err(error),
            }
            Ok(Live {
                number,
                kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
                lease: client.lease_client(),
                watch: client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            })
        };
        timeout_at(deadline, connecting).await.unwrap_or(Err(EtcdError::Silent(CONNECT_TIMEOUT)))
    }

    /// Uses a connection no more. Another that was made since is left alone.
    pub(super) fn give_up(&self, broken: &Live) {
        let mut slot = self.slot();
        if slot.live.as_ref().is_some_and(|live| live.number == broken.number) {
            slot.live = None;
            slot.next = (slot.next + 1) % self.endpoints.len();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
