//! RequestHead → Grant: the token is opened, and its bindings are held against the request.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::LazyLock;

use sluice_shared::client_net::ClientNet;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyRing;
use sluice_shared::token::{NumericDate, Scratch, TokenError, open};

use crate::request::{Method, RequestHead, TokenParameter};

/// Of this process's own, so that nobody can choose whose turn theirs is taken for.
static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);

/// Leave to fetch one file by this request. There is no other way to make one than [`authorize`].
#[derive(Debug)]
pub(crate) struct Grant<'s> {
    pub(crate) file_id: FileId<'s>,
    pub(crate) save_as: Option<Cow<'s, str>>,
    pub(crate) who: Who<'s>,
    pub(crate) terms: Terms,
}

/// Who asks, for logs and accounts: as the token says.
#[derive(Debug)]
pub(crate) struct Who<'s> {
    pub(crate) user_id: Option<Cow<'s, str>>,
    pub(crate) cid: Option<Cow<'s, str>>,
    pub(crate) rid: Option<Cow<'s, str>>,
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
}

/// Opens the request's token.
///
/// # Errors
/// It is missing, repeated, refused, bound to another address, or a HEAD token on a GET.
pub(crate) fn authorize<'s>(
    head: &RequestHead<'_>,
    client: IpAddr,
    keys: &KeyRing,
    now: NumericDate,
    scratch: &'s mut Scratch,
) -> Result<Grant<'s>, AuthorizeError> {
    let token = match head.token() {
        TokenParameter::Given(token) => token,
        TokenParameter::Missing => return Err(AuthorizeError::NoToken),
        TokenParameter::Repeated => return Err(AuthorizeError::TwoTokens),
    };
    let claims = open(&token, keys, now, scratch)?;
    if let Some(bound) = &claims.ip {
        // A binding that cannot be read binds to nobody.
        let net = ClientNet::parse(bound).ok_or(TokenError::Claims)?;
        if !net.contains(client) {
            return Err(AuthorizeError::Address);
        }
    }
    if claims.head && head.method != Method::Head {
        return Err(AuthorizeError::HeadOnly);
    }
    let requester = match (&claims.user_id, &claims.cid) {
        (None, None) => SEED.hash_one(subscriber(client)),
        user_and_client => SEED.hash_one(user_and_client),
    };
    let token = match &claims.jti {
        Some(id) => SEED.hash_one(id),
        None => SEED.hash_one(&token),
    };
    // At no bytes a second nothing is granted.
    let rate = claims.rate.map(|rate| NonZeroU64::new(rate).ok_or(TokenError::Claims)).transpose()?;
    let who = Who { user_id: claims.user_id, cid: claims.cid, rid: claims.rid };
    Ok(Grant { file_id: claims.file_id, save_as: claims.r#fn, who, terms: Terms { requester, token, rate } })
}

/// The part of an address that says who it is: all of IPv4, the /64 of IPv6.
fn subscriber(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.segments()[..4].iter().fold(0, |bits, segment| bits << 16 | u64::from(*segment)),
    }
}
