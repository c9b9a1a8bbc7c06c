//! What the handlers of the API work with, and the two steps that most of them take: locate, mint.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use sluice_shared::client_net::ClientNet;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyRing;
use sluice_shared::revocations::{Instant, Kind, RevocationBook, Subject};
use sluice_shared::units::BaseUrl;

use crate::authenticate::{Authenticator, Failures};
use crate::call::Call;
use crate::clients::Clients;
use crate::config::LinkRules;
use crate::config::access::{Sealed, Timed};
use crate::error::ApiError;
use crate::membership::Membership;
use crate::metalink::{Fact, Facts};
use crate::mint::{Minted, Minter, Order, Terms};
use crate::popular::Popular;
use crate::routing::hot::HotFiles;
use crate::routing::{CANDIDATES_MAX, Candidate, Candidates, Edge, Question, Snapshot, place_of};
use crate::state::State;

pub(crate) const USER_ID_BYTES_MAX: usize = 256;
/// A token for the coordinator's own question to an edge is used at once; edges allow no skew on expiry.
const QUESTION_TTL: Duration = Duration::from_secs(30);

pub(crate) struct Api {
    pub(crate) authenticator: Authenticator,
    pub(crate) clients: Arc<Clients>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) hot: Arc<HotFiles>,
    pub(crate) popular: Arc<Popular>,
    pub(crate) facts: Facts,
    pub(crate) minter: Minter,
    pub(crate) state: Arc<dyn State>,
    pub(crate) tickets: Arc<ArcSwap<KeyRing>>,
    pub(crate) public_url: BaseUrl,
    pub(crate) links: LinkRules,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) timed: Option<Timed>,
    pub(crate) failures: Arc<Failures>,
    pub(crate) revocations: Arc<RevocationBook>,
    /// Whether edges hear of what is revoked.
    pub(crate) are_marks_shared: bool,
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
    /// Whether operators have barred what is asked for, or whoever asks.
    pub(crate) fn check_barred(
        &self,
        file: &FileId<'_>,
        link: Option<&str>,
        user: Option<&str>,
        client: Option<&str>,
        now: SystemTime,
    ) -> Result<(), ApiError> {
        let subject = Subject { file: file.as_str(), link, user, client };
        match self.revocations.load().bar(&subject, Instant::of(now)) {
            // As where its owner has taken it back.
            Some(barred) if barred.by == Kind::Link => Err(ApiError::LinkRevoked),
            Some(barred) => Err(ApiError::Barred(barred.by)),
            None => Ok(()),
        }
    }

    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.membership.snapshot()
    }

    /// The file's edges for a caller, best first; never none.
    pub(crate) fn locate<'s>(
        &self,
        snapshot: &'s Snapshot,
        call: &Call,
        file: &FileId<'_>,
    ) -> Result<Candidates<'s>, ApiError> {
        self.pick(snapshot, call, file, CANDIDATES_MAX, None)
    }

    /// The file's edge for a caller, and none that is called `not`.
    pub(crate) fn locate_one<'s>(
        &self,
        snapshot: &'s Snapshot,
        call: &Call,
        file: &FileId<'_>,
        not: Option<&str>,
    ) -> Result<Candidate<'s>, ApiError> {
        self.pick(snapshot, call, file, 1, not)?.first().ok_or(ApiError::NoLiveEdge)
    }

    fn pick<'s>(
        &self,
        snapshot: &'s Snapshot,
        call: &Call,
        file: &FileId<'_>,
        wanted: usize,
        not: Option<&str>,
    ) -> Result<Candidates<'s>, ApiError> {
        let now = self.membership.at(call.received().instant);
        let start = snapshot.start(place_of(file), call.client());
        let fan_out = self.hot.observe(start.key(), now);
        self.popular.note(start.key(), file, &self.hot, now);
        let candidates = snapshot.pick(&Question { start, now, not, fan_out, wanted });
        if candidates.is_empty() { Err(ApiError::NoLiveEdge) } else { Ok(candidates) }
    }

    /// A token for the edge that the caller is sent to, which is assigned the file.
    pub(crate) fn mint(
        &self,
        call: &Call,
        wanted: Wanted<'_>,
        candidate: Candidate<'_>,
        now: SystemTime,
    ) -> Result<Minted, ApiError> {
        let link = wanted.terms.link.map(|(link, _)| link);
        self.check_barred(wanted.file_id, link, wanted.user_id, wanted.client_id, now)?;
        let order = Order {
            file_id: wanted.file_id,
            user_id: wanted.user_id,
            client_id: wanted.client_id,
            request_id: call.request_id(),
            edge: &candidate.edge().record.id,
            head_only: wanted.head_only,
            terms: wanted.terms,
        };
        let minted = self.minter.mint(&order, now)?;
        candidate.assign(self.membership.at(call.received().instant));
        Ok(minted)
    }

    /// What edges say of a file, in half a second at most. Nobody is charged for the question, and no edge is assigned
    /// anything by it; its token is given to nobody but them, and is good for HEAD alone.
    pub(crate) async fn fact(&self, call: &Call, file_id: &FileId<'_>, edges: &[&Edge]) -> Option<Fact> {
        let first = edges.first()?;
        let token = || {
            let order = Order {
                file_id,
                user_id: None,
                client_id: None,
                request_id: call.request_id(),
                edge: &first.record.id,
                head_only: true,
                terms: Terms { ttl_max: Some(QUESTION_TTL), ..Terms::default() },
            };
            Some(self.minter.mint(&order, SystemTime::now()).ok()?.token.as_str().to_owned())
        };
        self.facts.of(file_id.as_str(), edges, token).await
    }

    /// Whether the client that made a link or asked for a token, if one did, may still call.
    pub(crate) fn check_owner(&self, client_id: Option<&str>, now: SystemTime) -> Result<(), ApiError> {
        let Some(client_id) = client_id else { return Ok(()) };
        let client = self.clients.client(client_id)?;
        let is_good = client.is_some_and(|client| client.bar(now).is_none());
        is_good.then_some(()).ok_or(ApiError::LinkOwner)
    }
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
