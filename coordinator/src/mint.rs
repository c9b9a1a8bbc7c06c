//! What a token says and how long it is good: the policy over `shared`'s seal.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use metrics::Counter;
use sluice_shared::cluster::EdgeId;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyRing;
use sluice_shared::token::{Claims, NumericDate, SealError, random_id, seal};
use sluice_shared::units::BaseUrl;

/// A sealed token: worth a file to whoever holds it, so never printed.
pub(crate) struct Token(String);

impl Token {
    /// For URLs: base64url and dots need no escapes there.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// What a token is to say.
pub(crate) struct Order<'a> {
    pub(crate) file_id: &'a FileId<'a>,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) request_id: &'a str,
    /// The edge that the caller is sent to; any other serves the token too.
    pub(crate) edge: &'a EdgeId,
    pub(crate) head_only: bool,
    pub(crate) terms: Terms<'a>,
}

/// What binds and limits a token. None of it for a file that was simply asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms<'a> {
    /// Less than the policy's `token_ttl`, where there is reason to.
    pub(crate) ttl_max: Option<Duration>,
    /// It is good for nothing after that, however it is renewed.
    pub(crate) not_after: Option<NumericDate>,
    /// The durable link behind it, and its expiry.
    pub(crate) link: Option<(&'a str, NumericDate)>,
    pub(crate) bound_to: Option<Cow<'a, str>>,
    pub(crate) save_as: Option<&'a str>,
    pub(crate) rate: Option<u64>,
    /// How often its bearer was sent on.
    pub(crate) hop: u8,
}

/// A token, and until when it is good.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) token: Token,
    pub(crate) expires_at: SystemTime,
}

/// Mints with whatever key is current in the key file.
pub(crate) struct Minter {
    pub(crate) keys: Arc<ArcSwap<KeyRing>>,
    /// Tokens minted, for whoever counts them by key.
    pub(crate) count: Arc<AtomicU64>,
    pub(crate) issuer: BaseUrl,
    pub(crate) token_ttl: Duration,
    pub(crate) minted: Counter,
}

impl Minter {
    /// # Errors
    /// The names in the order make the token too long.
    pub(crate) fn mint(&self, order: &Order<'_>, now: SystemTime) -> Result<Minted, SealError> {
        let minted = self.sealed(order, now)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.minted.increment(1);
        Ok(minted)
    }

    /// Whether there is a key to mint with.
    pub(crate) fn check_key(&self) -> Result<(), SealError> {
        self.keys.load().minting().map(drop).ok_or(SealError::NoKey)
    }

    /// Whether an order can be met; its token is given to nobody.
    ///
    /// # Errors
    /// As [`Minter::mint`].
    pub(crate) fn check(&self, order: &Order<'_>, now: SystemTime) -> Result<(), SealError> {
        self.sealed(order, now).map(drop)
    }

    fn sealed(&self, order: &Order<'_>, now: SystemTime) -> Result<Minted, SealError> {
        // Whole seconds: every JWT library reads them, and `expires_at` says the same as `exp`.
        let issued_at = whole_seconds(now);
        let terms = &order.terms;
        let expires_at = self.expiry(issued_at, terms);
        let (lnk, lxp) = terms.link.unzip();
        let claims = Claims {
            user_id: order.user_id.map(Cow::Borrowed),
            cid: order.client_id.map(Cow::Borrowed),
            iat: Some(NumericDate::from_secs(issued_at)),
            jti: Some(random_id().into()),
            rid: Some(order.request_id.into()),
            iss: Some(self.issuer.as_str().into()),
            edg: Some(order.edge.as_str().into()),
            lnk: lnk.map(Cow::Borrowed),
            lxp,
            ip: terms.bound_to.clone(),
            r#fn: terms.save_as.map(Cow::Borrowed),
            rate: terms.rate,
            hop: terms.hop,
            head: order.head_only,
            ..Claims::new(order.file_id.clone(), NumericDate::from_secs(expires_at))
        };
        let token = Token(seal(&claims, self.keys.load().minting().ok_or(SealError::NoKey)?)?);
        Ok(Minted { token, expires_at: UNIX_EPOCH + Duration::from_secs(expires_at) })
    }

    /// The policy's life, unless the terms want a shorter one. A part of a second that is left is lost.
    fn expiry(&self, issued_at: u64, terms: &Terms<'_>) -> u64 {
        let ttl = terms.ttl_max.map_or(self.token_ttl, |max| max.min(self.token_ttl));
        let expires_at = issued_at + ttl.as_secs();
        terms.not_after.map_or(expires_at, |limit| expires_at.min(whole_seconds(limit.to_system_time())))
    }
}

/// Since 1970. A clock set before reads as 1970.
fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use sluice_shared::keys::KeyFile;
    use sluice_shared::token::{Scratch, open};

    use super::*;

    fn minter(folder: &std::path::Path) -> Minter {
        Minter {
            keys: Arc::clone(KeyFile::load_or_create(&folder.join("keys.jwks.json")).unwrap().ring()),
            count: Arc::default(),
            issuer: BaseUrl::parse("http://c.example").unwrap(),
            token_ttl: Duration::from_secs(900),
            minted: Counter::noop(),
        }
    }

    #[test]
    fn a_token_says_what_was_ordered_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let minter = minter(folder.path());
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_999);
        let file_id = FileId::parse("a/b.bin").unwrap();
        let edge = EdgeId::parse("edge-1").unwrap();
        for (client_id, head_only) in [(None, false), (Some("AK1"), true)] {
            let order = Order {
                file_id: &file_id,
                user_id: Some("u"),
                client_id,
                request_id: "r-1",
                edge: &edge,
                head_only,
                terms: Terms::default(),
            };
            let minted = minter.mint(&order, now).unwrap();
            assert_eq!(minted.expires_at, UNIX_EPOCH + Duration::from_secs(1_800_000_900));
            assert_eq!(
                format!("{minted:?}").matches(minted.token.as_str()).count(),
                0,
                "Debug shows no token"
            );
            let mut scratch = Scratch::default();
            let ring = minter.keys.load();
            let now = NumericDate::from_system_time(now);
            let claims = open(minted.token.as_str().as_bytes(), &ring, now, &mut scratch).unwrap();
            let expected = Claims {
                user_id: Some("u".into()),
                cid: client_id.map(Cow::Borrowed),
                iat: Some(NumericDate::from_secs(1_800_000_000)),
                jti: claims.jti.clone(),
                rid: Some("r-1".into()),
                iss: Some("http://c.example".into()),
                edg: Some("edge-1".into()),
                head: head_only,
                ..Claims::new(file_id.clone(), NumericDate::from_secs(1_800_000_900))
            };
            assert_eq!(claims, expected);
            assert_eq!(claims.jti.as_ref().map(|jti| jti.len()), Some(22));
        }
    }

    #[test]
    fn no_token_outlives_its_terms() {
        let folder = tempfile::tempdir().unwrap();
        let minter = minter(folder.path());
        let issued_at = 1000;
        let secs = |secs| Duration::from_secs(secs);
        let date = |secs| NumericDate::from_secs_f64(secs);
        let table = [
            (None, None, 1900),
            (Some(secs(60)), None, 1060),
            (Some(secs(7200)), None, 1900),
            (None, date(1500.9), 1500),
            (Some(secs(60)), date(1030.0), 1030),
            (None, date(5000.0), 1900),
        ];
        for (ttl_max, not_after, expected) in table {
            let terms = Terms { ttl_max, not_after, ..Terms::default() };
            assert_eq!(minter.expiry(issued_at, &terms), expected, "{terms:?}");
        }
    }

    #[test]
    fn every_token_has_an_id_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let minter = minter(folder.path());
        let order = Order {
            file_id: &FileId::parse("a").unwrap(),
            user_id: None,
            client_id: None,
            request_id: "r",
            edge: &EdgeId::parse("e").unwrap(),
            head_only: false,
            terms: Terms::default(),
        };
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let minted = minter.mint(&order, SystemTime::now()).unwrap();
            let mut scratch = Scratch::default();
            let ring = minter.keys.load();
            let now = NumericDate::from_system_time(SystemTime::now());
            let claims = open(minted.token.as_str().as_bytes(), &ring, now, &mut scratch).unwrap();
            assert_eq!(claims.user_id, None);
            ids.insert(claims.jti.unwrap().into_owned());
        }
        assert_eq!(ids.len(), 100);
    }
}
