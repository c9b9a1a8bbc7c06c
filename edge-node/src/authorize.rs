//! RequestHead → Grant: the token is opened, and its bindings are held against the request. Who comes with a token that
//! has expired, while its link has not, is sent back to the coordinator that minted it; who comes with a good one to an
//! edge that cannot serve it is sent on by it ([`way_on`]).

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::LazyLock;

use sluice_shared::client_net::ClientNet;
use sluice_shared::cluster::EdgeId;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::{KeyId, KeyRing};
use sluice_shared::revocations::{Instant, Kind, Revocations, Subject};
use sluice_shared::token::{Claims, NumericDate, Scratch, TokenError, open_authentic, open_by_key};
use sluice_shared::units::BaseUrl;

use crate::request::{Method, RequestHead, TokenParameter};

/// How often a client is sent from edge to edge before it is told to wait: where one edge after the other cannot, the
/// fault is likely to be all edges'.
const HOPS_MAX: u8 = 3;

/// Of this process's own, so that nobody can choose whose turn theirs is taken for.
static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);

/// Leave to fetch one file by this request. There is no other way to make one than [`authorize`].
#[derive(Debug)]
pub(crate) struct Grant<'s> {
    pub(crate) file_id: FileId<'s>,
    pub(crate) save_as: Option<Cow<'s, str>>,
    /// The durable link behind the token.
    link: Option<Cow<'s, str>>,
    /// That the token came by.
    pub(crate) key: &'s KeyId,
    pub(crate) who: Who<'s>,
    pub(crate) terms: Terms,
}

impl Grant<'_> {
    /// What marks may hold for, but the key.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            file: self.file_id.as_str(),
            link: self.link.as_deref(),
            user: self.who.user_id.as_deref(),
            client: self.who.cid.as_deref(),
        }
    }

    /// Judges it again: what it gives may have been barred since.
    ///
    /// # Errors
    /// It has been.
    pub(crate) fn judge(&self, revocations: &Revocations, now: Instant) -> Result<(), AuthorizeError> {
        if revocations.is_key_revoked(self.key.as_str(), now) {
            return Err(TokenError::UnknownKey.into());
        }
        unless_barred(revocations, &self.subject(), now)
    }
}

/// Who asks, for logs and accounts: as the token says.
#[derive(Debug)]
pub(crate) struct Who<'s> {
    pub(crate) user_id: Option<Cow<'s, str>>,
    pub(crate) cid: Option<Cow<'s, str>>,
    pub(crate) rid: Option<Cow<'s, str>>,
}

/// What becomes of a request whose token is authentic and whose bindings hold.
#[allow(
    clippy::large_enum_variant,
    reason = "it only passes through; a box would be an allocation a request"
)]
pub(crate) enum Admission<'s> {
    Granted(Grant<'s>),
    SentBack(SentBack<'s>),
}

/// A request that comes with a token for which the coordinator gives another. It holds the token: no `Debug`.
pub(crate) struct SentBack<'s> {
    /// Where to ask; of visible ASCII.
    pub(crate) location: String,
    pub(crate) file_id: FileId<'s>,
    pub(crate) who: Who<'s>,
}

/// Against what a request is judged.
pub(crate) struct Circumstances<'c> {
    pub(crate) client: IpAddr,
    pub(crate) now: NumericDate,
    pub(crate) revocations: &'c Revocations,
    /// Those that clients may be sent back to.
    pub(crate) coordinators: &'c [BaseUrl],
}

/// What holds for what is granted. The hashes are of this process's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Whom reads of the store are charged to, as a hash: the user, else the API client, else the address.
    pub(crate) requester: u64,
    /// Names the token, as a hash.
    pub(crate) token: u64,
    /// Bytes per second, at most.
    pub(crate) rate: Option<NonZeroU64>,
}

/// Why a request is granted nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizeError {
    #[error("no token")]
    NoToken,
    #[error("token given twice")]
    TwoTokens,
    #[error("token refused: {0}")]
    Token(#[from] TokenError),
    #[error("bound to another address")]
    Address,
    #[error("good for HEAD only")]
    HeadOnly,
    #[error("the {} is barred", .0.name())]
    Barred(Kind),
}

/// Opens the request's token.
///
/// # Errors
/// It is missing, repeated, refused, bound to another address, a HEAD token on a GET, or what it gives is barred.
pub(crate) fn authorize<'s>(
    head: &RequestHead<'_>,
    keys: &'s KeyRing,
    circumstances: &Circumstances<'_>,
    scratch: &'s mut Scratch,
) -> Result<Admission<'s>, AuthorizeError> {
    let token = match head.token() {
        TokenParameter::Given(token) => token,
        TokenParameter::Missing => return Err(AuthorizeError::NoToken),
        TokenParameter::Repeated => return Err(AuthorizeError::TwoTokens),
    };
    let (claims, key) = open_by_key(&token, keys, scratch)?;
    if let Err(error) = claims.judge(circumstances.now) {
        let coordinator = way_back(&claims, circumstances).ok_or(error)?;
        check_bindings(&claims, head.method, circumstances)?;
        let location = renewal(coordinator, &token);
        let who = Who { user_id: claims.user_id, cid: claims.cid, rid: claims.rid };
        return Ok(Admission::SentBack(SentBack { location, file_id: claims.file_id, who }));
    }
    check_bindings(&claims, head.method, circumstances)?;
    let requester = match (&claims.user_id, &claims.cid) {
        (None, None) => SEED.hash_one(subscriber(circumstances.client)),
        user_and_client => SEED.hash_one(user_and_client),
    };
    let token = match &claims.jti {
        Some(id) => SEED.hash_one(id),
        None => SEED.hash_one(&token),
    };
    // At no bytes a second nothing is granted.
    let rate = claims.rate.map(|rate| NonZeroU64::new(rate).ok_or(TokenError::Claims)).transpose()?;
    let who = Who { user_id: claims.user_id, cid: claims.cid, rid: claims.rid };
    let terms = Terms { requester, token, rate };
    Ok(Admission::Granted(Grant {
        file_id: claims.file_id,
        save_as: claims.r#fn,
        link: claims.lnk,
        key,
        who,
        terms,
    }))
}

/// The coordinator that gives another token for one that does not hold, if there is one.
#[cold]
fn way_back<'c>(claims: &Claims<'_>, circumstances: &Circumstances<'c>) -> Option<&'c BaseUrl> {
    if claims.is_renewable(circumstances.now) { coordinator_of(claims, circumstances) } else { None }
}

/// The way to another edge for a request that `edge` cannot serve, if its token is good for it and the coordinator that
/// minted it is one of ours.
#[cold]
pub(crate) fn way_on<'s>(
    head: &RequestHead<'_>,
    keys: &KeyRing,
    circumstances: &Circumstances<'_>,
    edge: &EdgeId,
    scratch: &'s mut Scratch,
) -> Option<SentBack<'s>> {
    let TokenParameter::Given(token) = head.token() else { return None };
    let claims = open_authentic(&token, keys, scratch).ok()?;
    claims.judge(circumstances.now).ok()?;
    check_bindings(&claims, head.method, circumstances).ok()?;
    if claims.hop >= HOPS_MAX {
        return None;
    }
    let coordinator = coordinator_of(&claims, circumstances)?;
    let location = format!("{}&not={edge}", renewal(coordinator, &token));
    let who = Who { user_id: claims.user_id, cid: claims.cid, rid: claims.rid };
    Some(SentBack { location, file_id: claims.file_id, who })
}

/// Where an authentic token is exchanged for another: it is base64url and dots, which need no escapes.
fn renewal(coordinator: &BaseUrl, token: &[u8]) -> String {
    format!("{coordinator}/renew?token={}", String::from_utf8_lossy(token))
}

/// The coordinator that minted a token, if it is one that clients may be sent to.
fn coordinator_of<'c>(claims: &Claims<'_>, circumstances: &Circumstances<'c>) -> Option<&'c BaseUrl> {
    let issuer = claims.iss.as_deref()?;
    circumstances.coordinators.iter().find(|known| known.as_str() == issuer)
}

/// What holds for a token whatever its age.
fn check_bindings(
    claims: &Claims<'_>,
    method: Method,
    circumstances: &Circumstances<'_>,
) -> Result<(), AuthorizeError> {
    if let Some(bound) = &claims.ip {
        // A binding that cannot be read binds to nobody.
        let net = ClientNet::parse(bound).ok_or(TokenError::Claims)?;
        if !net.contains(circumstances.client) {
            return Err(AuthorizeError::Address);
        }
    }
    if claims.head && method != Method::Head {
        return Err(AuthorizeError::HeadOnly);
    }
    let subject = Subject {
        file: claims.file_id.as_str(),
        link: claims.lnk.as_deref(),
        user: claims.user_id.as_deref(),
        client: claims.cid.as_deref(),
    };
    unless_barred(circumstances.revocations, &subject, Instant::of(circumstances.now.to_system_time()))
}

fn unless_barred(
    revocations: &Revocations,
    subject: &Subject<'_>,
    now: Instant,
) -> Result<(), AuthorizeError> {
    match revocations.bar(subject, now) {
        Some(barred) => Err(AuthorizeError::Barred(barred.by)),
        None => Ok(()),
    }
}

/// The part of an address that says who it is: all of IPv4, the /64 of IPv6.
fn subscriber(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.segments()[..4].iter().fold(0, |bits, segment| bits << 16 | u64::from(*segment)),
    }
}
