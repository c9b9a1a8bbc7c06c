//! What a token says. Reading is strict: names once, types exact, unknown names ignored.

use std::borrow::Cow;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use super::TokenError;
use crate::file_id::FileId;
use crate::json::{Text, UnknownNames, set_once};

/// Seconds since 1970 UTC, fractions allowed (RFC 7519 §2). Always finite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct NumericDate(f64);

impl NumericDate {
    pub fn from_secs(secs: u64) -> Self {
        Self(secs as f64)
    }

    /// `None` for NaN and infinities.
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        secs.is_finite().then_some(Self(secs))
    }

    /// A clock set before 1970 reads as 1970: everything with an `nbf` is then refused.
    pub fn from_system_time(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()))
    }

    /// The nearest time that the system's clock has; one before 1970 is 1970.
    pub fn to_system_time(self) -> SystemTime {
        let since =
            std::time::Duration::try_from_secs_f64(self.0.max(0.0)).unwrap_or(std::time::Duration::MAX);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH + std::time::Duration::from_secs(1 << 40))
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0
    }
}

impl NumericDate {
    /// Whole seconds below 2^53 are written as integers, which every JWT library reads.
    #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53, as checked")]
    pub(super) fn to_whole_secs(self) -> Option<u64> {
        (self.0.fract() == 0.0 && (0.0..9.0e15).contains(&self.0)).then_some(self.0 as u64)
    }
}

impl Serialize for NumericDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_whole_secs() {
            Some(whole) => serializer.serialize_u64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secs = f64::deserialize(deserializer)?;
        Self::from_secs_f64(secs).ok_or_else(|| de::Error::custom("not a finite number"))
    }
}

/// The claims of a download token, under their names in the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claims<'a> {
    pub file_id: FileId<'a>,
    /// Not valid from this moment on; no skew is allowed.
    pub exp: NumericDate,
    /// Whom the caller says the file is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    /// Which API client asked, as authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<NumericDate>,
    /// Not valid before this moment, less 5 s of skew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<Cow<'a, str>>,
    /// The request id of the call that minted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<Cow<'a, str>>,
    /// The minting coordinator's `public_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<Cow<'a, str>>,
    /// Id and expiry of the durable link it was minted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lnk: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lxp: Option<NumericDate>,
    /// Address or CIDR block that the downloader must come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Cow<'a, str>>,
    /// The name to save as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#fn: Option<Cow<'a, str>>,
    /// Bytes per second for one connection, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The edge it was minted for; any edge serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edg: Option<Cow<'a, str>>,
    /// How often it was sent on to another edge.
    #[serde(skip_serializing_if = "is_zero")]
    pub hop: u8,
    /// Good for HEAD only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub head: bool,
}

fn is_zero(hop: &u8) -> bool {
    *hop == 0
}

impl<'a> Claims<'a> {
    /// The two claims that every token has; the rest absent.
    pub fn new(file_id: FileId<'a>, exp: NumericDate) -> Self {
        Self {
            file_id,
            exp,
            user_id: None,
            cid: None,
            iat: None,
            nbf: None,
            jti: None,
            rid: None,
            iss: None,
            lnk: None,
            lxp: None,
            ip: None,
            r#fn: None,
            rate: None,
            edg: None,
            hop: 0,
            head: false,
        }
    }
}

/// Claims that are being read, member by member. It is filled where it lies, and moved once: claims are 330 bytes, and
/// their copies made up a tenth of opening a token.
pub(super) struct Draft<'a> {
    file_id: Option<Cow<'a, str>>,
    exp: Option<NumericDate>,
    hop: Option<u8>,
    head: Option<bool>,
    /// Its `file_id`, `exp`, `hop` and `head` are put in at the end; until then they are never seen.
    rest: Claims<'a>,
}

/// Where a member's value goes, and what it has to be.
pub(super) enum Place<'d, 'a> {
    Text(&'d mut Option<Cow<'a, str>>),
    Date(&'d mut Option<NumericDate>),
    Number(&'d mut Option<u64>),
    Small(&'d mut Option<u8>),
    Flag(&'d mut Option<bool>),
}

impl<'a> Draft<'a> {
    pub(super) fn new() -> Self {
        let place_holder = FileId::parse("-").expect("a dash is a file id");
        let rest = Claims::new(place_holder, NumericDate(0.0));
        Self { file_id: None, exp: None, hop: None, head: None, rest }
    }

    /// The place of a member; `None` for a name that is no claim.
    pub(super) fn place(&mut self, name: &str) -> Option<Place<'_, 'a>> {
        Some(match name {
            "file_id" => Place::Text(&mut self.file_id),
            "exp" => Place::Date(&mut self.exp),
            "user_id" => Place::Text(&mut self.rest.user_id),
            "cid" => Place::Text(&mut self.rest.cid),
            "iat" => Place::Date(&mut self.rest.iat),
            "nbf" => Place::Date(&mut self.rest.nbf),
            "jti" => Place::Text(&mut self.rest.jti),
            "rid" => Place::Text(&mut self.rest.rid),
            "iss" => Place::Text(&mut self.rest.iss),
            "lnk" => Place::Text(&mut self.rest.lnk),
            "lxp" => Place::Date(&mut self.rest.lxp),
            "ip" => Place::Text(&mut self.rest.ip),
            "fn" => Place::Text(&mut self.rest.r#fn),
            "rate" => Place::Number(&mut self.rest.rate),
            "edg" => Place::Text(&mut self.rest.edg),
            "hop" => Place::Small(&mut self.hop),
            "head" => Place::Flag(&mut self.head),
            _ => return None,
        })
    }

    /// # Errors
    /// A claim is missing that is required, or the file's name is none.
    pub(super) fn finish(self) -> Result<Claims<'a>, TokenError> {
        let Self { file_id: Some(file_id), exp: Some(exp), hop, head, rest: mut claims } = self else {
            return Err(TokenError::Claims);
        };
        claims.file_id = FileId::parse(file_id).map_err(|_| TokenError::FileId)?;
        claims.exp = exp;
        claims.hop = hop.unwrap_or(0);
        claims.head = head.unwrap_or(false);
        Ok(claims)
    }
}

impl<'de> Deserialize<'de> for Draft<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Draft<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut unknown = UnknownNames::default();
        let mut draft = Draft::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match draft.place(&name) {
                Some(Place::Text(place)) => set_once(place, map.next_value::<Text<'de>>()?.0)?,
                Some(Place::Date(place)) => set_once(place, map.next_value()?)?,
                Some(Place::Number(place)) => set_once(place, map.next_value()?)?,
                Some(Place::Small(place)) => set_once(place, map.next_value()?)?,
                Some(Place::Flag(place)) => set_once(place, map.next_value()?)?,
                None => {
                    unknown.insert(name)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(draft)
    }
}
