//! What the handlers of the API work with, and the two steps that most of them take: locate, mint.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::Guard;
use bytes::Bytes;
use sluice_shared::client_net::ClientNet;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::units::BaseUrl;

use crate::authenticate::Authenticator;
use crate::call::Call;
use crate::clients::ClientsFile;
use crate::config::LinkRules;
use crate::config::access::{Sealed, Timed};
use crate::error::ApiError;
use crate::membership::Membership;
use crate::mint::{Minted, Minter, Order, Terms};
use crate::routing::{Edge, Snapshot};
use crate::state::State;

pub(crate) const USER_ID_BYTES_MAX: usize = 256;

pub(crate) struct Api {
    pub(crate) authenticator: Authenticator,
    pub(crate) clients: Arc<ClientsFile>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) minter: Minter,
    pub(crate) state: Arc<dyn State>,
    pub(crate) tickets: Arc<KeyFile>,
    pub(crate) public_url: BaseUrl,
    pub(crate) links: LinkRules,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) timed: Option<Timed>,
    /// What is offered, for programs to read: JSON.
    pub(crate) document: Bytes,
}

/// What a token is minted for.
pub(crate) struct Wanted<'a> {
    pub(crate) file_id: &'a FileId<'a>,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) head_only: bool,
    pub(crate) terms: Terms<'a>,
}

impl Api {
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.membership.snapshot()
    }

    pub(crate) fn mint(
        &self,
        call: &Call,
        wanted: Wanted<'_>,
        edge: &Edge,
        now: SystemTime,
    ) -> Result<Minted, ApiError> {
        let order = Order {
            file_id: wanted.file_id,
            user_id: wanted.user_id,
            client_id: wanted.client_id,
            request_id: call.request_id(),
            edge: &edge.record.id,
            head_only: wanted.head_only,
            terms: wanted.terms,
        };
        let minted = self.minter.mint(&order, now)?;
        edge.picks.increment(1);
        Ok(minted)
    }

    /// Whether a client that made a link or asked for a token may still call.
    pub(crate) fn is_client_good(&self, client_id: Option<&str>, now: SystemTime) -> bool {
        let Some(client_id) = client_id else { return true };
        self.clients.set().client(client_id).is_some_and(|client| client.bar(now).is_none())
    }
}

/// The file's edges, best first; never none.
pub(crate) fn locate<'s>(snapshot: &'s Snapshot, file: &FileId<'_>) -> Result<Vec<&'s Edge>, ApiError> {
    let candidates: Vec<_> = snapshot.candidates(file).iter().collect();
    if candidates.is_empty() { Err(ApiError::NoLiveEdge) } else { Ok(candidates) }
}

/// Whether a binding holds for an address. One that cannot be read binds to nobody.
pub(crate) fn is_bound_to(binding: &str, client: IpAddr) -> bool {
    ClientNet::parse(binding).is_some_and(|net| net.contains(client))
}

pub(crate) fn user_id(text: &str) -> Result<&str, ApiError> {
    is_user_id(text).then_some(text).ok_or(ApiError::UserId(USER_ID_BYTES_MAX))
}

pub(crate) fn is_user_id(text: &str) -> bool {
    (1..=USER_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
