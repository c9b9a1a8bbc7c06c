//! Another token for one that has run out under a living link, or whose edge is gone.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use http::Method;
use sluice_shared::token::{Claims, NumericDate, Scratch, TokenError, open_authentic};

use crate::answer::{Redirection, redirection};
use crate::api::{Api, Wanted, is_bound_to};
use crate::call::Call;
use crate::error::ApiError;
use crate::links::is_counted;
use crate::mint::Terms;
use crate::state::Standing;

/// `GET, HEAD /renew?token=JWE&not=EDGE`
pub(crate) async fn renew(State(api): State<Arc<Api>>, request: Request) -> Result<Redirection, ApiError> {
    let call = Call::without_body(request)?;
    let query = call.query()?;
    let token = query.value("token").ok_or(ApiError::MissingParameter("token"))?;
    let now = SystemTime::now();
    let mut scratch = Scratch::default();
    let claims = open_authentic(token.as_bytes(), &api.minter.keys.load(), &mut scratch)
        .map_err(|_| ApiError::Token)?;
    let life = Life::of(&claims, NumericDate::from_system_time(now))?;
    if claims.ip.as_deref().is_some_and(|binding| !is_bound_to(binding, call.client())) {
        return Err(ApiError::TokenAddress);
    }
    api.check_owner(claims.cid.as_deref(), now)?;
    check_link(&api, &call, claims.lnk.as_deref()).await?;
    let not = query.value("not");
    // Anybody may exclude an edge. Whoever was sent to it knows something of it.
    if let Some(edge) = claims.edg.as_deref().filter(|edge| not == Some(edge)) {
        api.membership.suspect(edge);
    }
    let snapshot = api.snapshot();
    let candidate = api.locate_one(&snapshot, &call, &claims.file_id, not)?;
    let wanted = Wanted {
        file_id: &claims.file_id,
        user_id: claims.user_id.as_deref(),
        client_id: claims.cid.as_deref(),
        head_only: claims.head || call.parts.method == Method::HEAD,
        terms: Terms {
            not_after: Some(life.not_after),
            link: claims.lnk.as_deref().zip(claims.lxp),
            bound_to: claims.ip.as_deref().map(Cow::Borrowed),
            save_as: claims.r#fn.as_deref(),
            rate: claims.rate,
            hop: life.hop,
            ..Terms::default()
        },
    };
    let minted = api.mint(&call, wanted, candidate, now)?;
    Ok(redirection(&minted, candidate.edge(), claims.r#fn.as_deref().unwrap_or(claims.file_id.name())))
}

/// What is left of a token's life.
#[derive(Debug, PartialEq)]
struct Life {
    /// The new token is good until then at most: the link's expiry, or the old token's own where there is no link.
    not_after: NumericDate,
    /// 0 after an expiry; one more than before for a token that is sent on while it lives.
    hop: u8,
}

impl Life {
    fn of(claims: &Claims<'_>, now: NumericDate) -> Result<Self, ApiError> {
        let is_live = match claims.judge(now) {
            Ok(()) => true,
            Err(TokenError::Expired) => false,
            Err(_) => return Err(ApiError::Token),
        };
        let not_after = claims.lxp.unwrap_or(claims.exp);
        if now >= not_after {
            return Err(ApiError::TokenExpired);
        }
        Ok(Self { not_after, hop: if is_live { claims.hop.saturating_add(1) } else { 0 } })
    }
}

/// A link that was taken back, or a counted one that this address never redeemed, renews nothing.
async fn check_link(api: &Api, call: &Call, link: Option<&str>) -> Result<(), ApiError> {
    let Some(link) = link else { return Ok(()) };
    if !is_counted(link) {
        let is_revoked = api.state.is_revoked(link).await;
        return if is_revoked { Err(ApiError::LinkRevoked) } else { Ok(()) };
    }
    match api.state.standing(link, call.subscriber()).await? {
        Standing::Redeemed => Ok(()),
        Standing::Never => Err(ApiError::NotRedeemed),
        Standing::Revoked => Err(ApiError::LinkRevoked),
    }
}

#[cfg(test)]
mod tests {
    use sluice_shared::file_id::FileId;

    use super::*;

    #[test]
    fn a_token_lives_on_no_longer_than_it_or_its_link_may() {
        let date = NumericDate::from_secs;
        // exp, lxp, nbf, hop before; now → not_after, hop
        let table = [
            (100, None, None, 0, 50, Ok((100, 1))),
            (100, None, None, 2, 99, Ok((100, 3))),
            (100, None, None, 0, 100, Err(ApiError::TokenExpired)),
            (100, Some(500), None, 2, 50, Ok((500, 3))),
            (100, Some(500), None, 2, 100, Ok((500, 0))),
            (100, Some(500), None, 255, 50, Ok((500, 255))),
            (100, Some(500), None, 0, 500, Err(ApiError::TokenExpired)),
            (100, None, Some(60), 0, 50, Err(ApiError::Token)),
        ];
        for (exp, lxp, nbf, hop, now, expected) in table {
            let claims = Claims {
                lxp: lxp.map(date),
                nbf: nbf.map(date),
                hop,
                ..Claims::new(FileId::parse("a").unwrap(), date(exp))
            };
            let life = Life::of(&claims, date(now));
            let expected = expected.map(|(not_after, hop)| Life { not_after: date(not_after), hop });
            assert_eq!(life, expected, "exp {exp}, lxp {lxp:?}, now {now}");
        }
    }
}
