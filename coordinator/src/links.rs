//! Durable links: made, redeemed, taken back.
//!
//! A ticket says all that a link is; state knows what it cannot say: who has redeemed a counted link, and that one was
//! taken back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use sluice_shared::cluster::EdgeId;
use sluice_shared::revocations::{Instant, Kind, Target};
use sluice_shared::token::ticket::BIND_REDEEMER;
use sluice_shared::token::{NumericDate, Scratch, SealError, Ticket, random_id};

use crate::answer::{Redirection, redirection};
use crate::api::{Api, Wanted, is_bound_to};
use crate::authenticate::Principal;
use crate::call::Call;
use crate::download::path_behind;
use crate::error::{ApiError, FieldFault};
use crate::metalink;
use crate::mint::{Order, Terms};
use crate::observe::REQUEST_ID_BYTES_MAX;
use crate::state::{LinkRecord, Redeemed, Revocation, Visit};

pub(crate) mod fields;

use fields::NewLink;

/// The ids of counted links begin so: whoever has an authentic token knows by it whether state has to be asked.
const COUNTED: char = 'c';
const UNCOUNTED: char = 'u';
/// What follows is a random id: 16 bytes in base64url.
pub(crate) const LINK_ID_BYTES: usize = 1 + 22;

/// Coordinators' clocks differ, and calls that were under way may have given tokens a moment later.
const MARKED_LONGER: Duration = Duration::from_secs(60);
/// No address is written longer: IPv6 in full.
const LONGEST_ADDRESS: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/// Whether a link's downloads are counted, by its id.
pub(crate) fn is_counted(id: &str) -> bool {
    id.starts_with(COUNTED)
}

#[derive(Serialize)]
struct Created<'a> {
    link: String,
    id: &'a str,
    expires_at: String,
}

/// `POST /api/links`
pub(crate) async fn create(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let call = Call::with_body(request).await?;
    let proven = api.authenticator.authenticate(&call).await?;
    let new = NewLink::parse(&proven.body)?;
    proven.principal.may_ask_for(&new.file_id)?;
    let now = SystemTime::now();
    let user = new.user_id.as_deref();
    api.check_barred(&new.file_id, None, user, proven.principal.client_id(), now)?;
    let ttl = ttl(&api, &proven.principal, new.ttl)?;
    // Whole seconds, as in tokens.
    let secs = (now + ttl).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (exp, expires_at) =
        (NumericDate::from_secs(secs), SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
    let kind = if new.max_downloads.is_some() { COUNTED } else { UNCOUNTED };
    let id = format!("{kind}{}", random_id());
    let ticket = Ticket {
        lnk: id.as_str().into(),
        file_id: new.file_id,
        exp,
        user_id: new.user_id.map(Cow::Owned),
        cid: proven.principal.client_id().map(Cow::Borrowed),
        r#fn: new.filename.map(Cow::Owned),
        max: new.max_downloads,
        bind: new.bind_ip.map(Cow::Owned),
        rate: new.rate,
    };
    check_tokens_fit(&api, &ticket, now)?;
    let sealed = ticket.seal(api.tickets.load().minting().ok_or(SealError::NoKey)?)?;
    // Recorded before it is given: a link that its owner could not take back is none.
    let owner = proven.principal.client_id().map(str::to_owned);
    api.state.create_link(&LinkRecord { id: id.clone(), owner, expires_at }).await?;
    let link = format!("{}/d/{sealed}", api.public_url);
    let location = HeaderValue::try_from(&link).expect("URLs and tickets are visible ASCII");
    let expires_at = humantime::format_rfc3339(expires_at).to_string();
    let mut response = (StatusCode::CREATED, Json(Created { link, id: &id, expires_at })).into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    proven.principal.tell(response.headers_mut());
    Ok(response)
}

/// Whether there is room in every token that the link may give: none could be redeemed but by some.
fn check_tokens_fit(api: &Api, ticket: &Ticket<'_>, now: SystemTime) -> Result<(), ApiError> {
    let edge = EdgeId::parse(&"e".repeat(EdgeId::BYTES_MAX)).expect("letters are an id");
    let order = Order {
        file_id: &ticket.file_id,
        user_id: ticket.user_id.as_deref(),
        client_id: ticket.cid.as_deref(),
        request_id: &"r".repeat(REQUEST_ID_BYTES_MAX),
        edge: &edge,
        head_only: true,
        terms: Terms {
            link: Some((&ticket.lnk, ticket.exp)),
            bound_to: ticket.bind.as_deref().map(|bind| match bind {
                BIND_REDEEMER => LONGEST_ADDRESS.into(),
                binding => binding.into(),
            }),
            save_as: ticket.r#fn.as_deref(),
            rate: ticket.rate,
            hop: u8::MAX,
            ..Terms::default()
        },
    };
    Ok(api.minter.check(&order, now)?)
}

fn ttl(api: &Api, principal: &Principal, asked: Option<Duration>) -> Result<Duration, ApiError> {
    let max = principal.max_ttl().map_or(api.links.max_ttl, |max| max.min(api.links.max_ttl));
    match asked {
        None => Ok(api.links.ttl.min(max)),
        Some(ttl) if ttl <= max => Ok(ttl),
        Some(_) => Err(FieldFault::of("ttl", format!("is more than the {} seconds allowed", max.as_secs()))),
    }
}

/// `GET, HEAD /d/{ticket}`
pub(crate) async fn redeem(State(api): State<Arc<Api>>, request: Request) -> Result<Redirection, ApiError> {
    let call = Call::without_body(request)?;
    let now = SystemTime::now();
    let mut scratch = Scratch::default();
    let text = path_behind(&call, "/d/").as_bytes();
    let ticket = Ticket::open(text, &api.tickets.load(), &mut scratch).map_err(|_| ApiError::Link)?;
    if NumericDate::from_system_time(now) >= ticket.exp {
        return Err(ApiError::LinkExpired);
    }
    api.check_owner(ticket.cid.as_deref(), now)?;
    let bound_to = match ticket.bind.as_deref() {
        Some(BIND_REDEEMER) => Some(Cow::Owned(call.client().to_string())),
        Some(binding) if is_bound_to(binding, call.client()) => Some(Cow::Borrowed(binding)),
        Some(_) => return Err(ApiError::LinkAddress),
        None => None,
    };
    let snapshot = api.snapshot();
    // Before anything is counted: a download that nobody can serve, or may have, is none.
    let candidates = api.locate(&snapshot, &call, &ticket.file_id)?;
    let (user, client) = (ticket.user_id.as_deref(), ticket.cid.as_deref());
    api.check_barred(&ticket.file_id, Some(&ticket.lnk), user, client, now)?;
    api.minter.check_key()?;
    let visits = visit(&api, &call, &ticket, now).await?;
    let turn = visits as usize % candidates.len();
    let candidate = candidates.iter().nth(turn).ok_or(ApiError::NoLiveEdge)?;
    let wanted = Wanted {
        file_id: &ticket.file_id,
        user_id: ticket.user_id.as_deref(),
        client_id: ticket.cid.as_deref(),
        head_only: call.parts.method == Method::HEAD,
        terms: Terms {
            not_after: Some(ticket.exp),
            link: Some((&ticket.lnk, ticket.exp)),
            bound_to,
            save_as: ticket.r#fn.as_deref(),
            rate: ticket.rate,
            ..Terms::default()
        },
    };
    let minted = api.mint(&call, wanted, candidate, now)?;
    let name = ticket.r#fn.as_deref().unwrap_or(ticket.file_id.name());
    if metalink::is_wanted(&call.parts.headers) {
        // From the one whose turn it is, as a redirection would be.
        let mut edges: Vec<_> = candidates.iter().map(|candidate| candidate.edge()).collect();
        edges.rotate_left(turn);
        let fact = Box::pin(api.fact(&call, &ticket.file_id, &edges)).await;
        return Ok(metalink::answer(&minted, &edges, name, fact));
    }
    let mut redirection = redirection(&minted, candidate.edge(), name);
    metalink::vary(&mut redirection.response);
    Ok(redirection)
}

/// Counts a visit where it counts; gives how many came before it within the redemption.
async fn visit(api: &Api, call: &Call, ticket: &Ticket<'_>, now: SystemTime) -> Result<u32, ApiError> {
    let Some(downloads_max) = ticket.max else {
        let is_revoked = api.state.is_revoked(&ticket.lnk).await;
        return if is_revoked { Err(ApiError::LinkRevoked) } else { Ok(0) };
    };
    let keep_until = ticket.exp.to_system_time();
    let visit = Visit {
        link: &ticket.lnk,
        who: call.subscriber(),
        downloads_max,
        now,
        open_until: keep_until.min(now + api.links.token_ttl),
        keep_until,
    };
    match api.state.redeem(visit).await? {
        Redeemed::Opened => Ok(0),
        Redeemed::Joined { visits } => Ok(visits),
        Redeemed::Exhausted => Err(ApiError::LinkExhausted),
        Redeemed::Revoked => Err(ApiError::LinkRevoked),
    }
}

/// `DELETE /api/links/{id}`
pub(crate) async fn revoke(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let call = Call::without_body(request)?;
    let principal = api.authenticator.authenticate(&call).await?.principal;
    let id = path_behind(&call, "/api/links/");
    let now = SystemTime::now();
    match api.state.revoke_link(id, principal.client_id(), now).await? {
        Revocation::Revoked => {
            if api.are_marks_shared {
                revoke_tokens(&api, id, now)?;
            }
            let mut response = StatusCode::NO_CONTENT.into_response();
            principal.tell(response.headers_mut());
            Ok(response)
        }
        Revocation::NotYours => Err(ApiError::NoSuchLink),
    }
}

/// Lets edges refuse what was minted from a link. State has it that the link is revoked, and for as long as the link
/// lives; what is marked here may be lost with this process before etcd and the file have it, and who revokes again
/// marks it again.
fn revoke_tokens(api: &Api, id: &str, now: SystemTime) -> Result<(), ApiError> {
    let Ok(target) = Target::new(Kind::Link, id) else { return Ok(()) };
    // No token that lives now lives longer, and no other is minted.
    let until = Instant::of(now + api.links.token_ttl + MARKED_LONGER);
    api.revocations.bar_link(&target, until).map_err(|_| ApiError::MarksFull)
}
