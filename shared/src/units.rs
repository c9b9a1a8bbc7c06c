//! Units as people write them in configurations: sizes, durations, shares of memory, web addresses.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};

/// A number of bytes: `65536`, `"64KiB"`, `"1.5 GB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// An amount of memory: bytes, or a share of what the process may use (`"50%"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySize {
    Bytes(u64),
    Percent(u8),
}

/// A span of time: `"1s"`, `"250ms"`, `"10m"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// How often something may happen: `"100/s"`, `"30/m"`, `"500/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: RatePeriod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RatePeriod {
    Second,
    Minute,
    Hour,
}

/// An `http` or `https` base URL of a service, without a path, query, fragment or credentials, and without the
/// trailing slash: `http://edge-1.example:9001`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl(String);

/// Why a text is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("'{0}' is no size; write bytes, or a unit as in \"64KiB\", \"10GB\"")]
    Size(String),
    #[error("'{0}' is no amount of memory; write a size as in \"8GiB\", or a share from \"1%\" to \"95%\"")]
    Memory(String),
    #[error(
        "'{0}' is no duration of at most ten years; write a unit as in \"250ms\", \"30s\", \"10m\", \"1h\""
    )]
    Duration(String),
    #[error("'{0}' is no rate; write a number above 0 and a unit as in \"100/s\", \"30/m\", \"500/h\"")]
    Rate(String),
    #[error("'{0}' is no base URL; write scheme and host only, as in \"http://edge-1.example:9001\"")]
    BaseUrl(String),
}

impl ByteSize {
    fn parse(text: &str) -> Result<Self, UnitError> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| UnitError::Size(text.to_owned()))
    }
}

impl MemorySize {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError::Memory(text.to_owned());
        match text.strip_suffix('%') {
            None => ByteSize::parse(text).map(|size| Self::Bytes(size.0)).map_err(|_| fault()),
            Some(share) => match share.trim().parse() {
                Ok(percent @ 1..=95) => Ok(Self::Percent(percent)),
                _ => Err(fault()),
            },
        }
    }

    /// The bytes this means where `available` may be used.
    pub fn of(self, available: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => available / 100 * u64::from(percent),
        }
    }
}

/// Longer than anything that is waited for, and short enough to add to any clock.
const SPAN_MAX: Duration = Duration::from_secs(3660 * 86_400);

impl Span {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let span = humantime::parse_duration(text).ok().filter(|span| *span <= SPAN_MAX);
        span.map(Self).ok_or_else(|| UnitError::Duration(text.to_owned()))
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl Rate {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError::Rate(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(fault)?;
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(fault)?;
        let per = match unit.trim() {
            "s" => RatePeriod::Second,
            "m" => RatePeriod::Minute,
            "h" => RatePeriod::Hour,
            _ => return Err(fault()),
        };
        Ok(Self { count, per })
    }

    /// Above 0.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / f64::from(self.per.seconds())
    }

    /// As many as come in a second, 1 at least.
    pub fn whole_per_second(self) -> u32 {
        (self.count / self.per.seconds()).max(1)
    }
}

impl RatePeriod {
    fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            RatePeriod::Second => 's',
            RatePeriod::Minute => 'm',
            RatePeriod::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl BaseUrl {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError::BaseUrl(text.to_owned());
        let url = url::Url::parse(text).map_err(|_| fault())?;
        let bare = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !bare {
            return Err(fault());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its host, without the port.
    pub fn host(&self) -> Option<url::Host<String>> {
        url::Url::parse(&self.0).ok()?.host().map(|host| host.to_owned())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for BaseUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A size in a configuration is a whole number of bytes or a text.
struct NumberOrText<T> {
    number: fn(u64) -> T,
    text: fn(&str) -> Result<T, UnitError>,
}

impl<T> de::Visitor<'_> for NumberOrText<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes or a size with its unit")
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Ok((self.number)(number))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let number = u64::try_from(number).map_err(|_| E::custom("a size is not negative"))?;
        Ok((self.number)(number))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText { number: Self, text: Self::parse })
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText { number: Self::Bytes, text: Self::parse })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl serde::Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_size_or_a_share() {
        assert_eq!(MemorySize::parse("50%").unwrap().of(8 << 30), (8 << 30) / 100 * 50);
        assert_eq!(MemorySize::parse("64KiB").unwrap(), MemorySize::Bytes(65536));
        assert_eq!(MemorySize::parse("1 GB").unwrap(), MemorySize::Bytes(1_000_000_000));
        assert_eq!(MemorySize::parse("1048576").unwrap(), MemorySize::Bytes(1 << 20));
        for text in ["0%", "96%", "-5%", "%", "", "ten", "-1"] {
            assert!(MemorySize::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn spans_need_their_unit() {
        assert_eq!(Span::parse("1h 30m").unwrap().0, Duration::from_secs(5400));
        assert_eq!(Span::parse("250ms").unwrap().0, Duration::from_millis(250));
        for text in ["", "10", "-1s", "soon", "999999999999y", "11y"] {
            assert!(Span::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rates_have_a_count_and_a_unit() {
        for (text, per_second, whole) in [("100/s", 100.0, 100), ("30 / m", 0.5, 1), ("7200/h", 2.0, 2)] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.per_second(), rate.whole_per_second()), (per_second, whole), "{text}");
            assert_eq!(Rate::parse(&rate.to_string()).unwrap(), rate);
        }
        for text in ["", "100", "0/s", "-1/s", "1/d", "1.5/s", "/s", "1/"] {
            assert!(Rate::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn base_urls_are_bare() {
        assert_eq!(BaseUrl::parse("http://127.0.0.1:9001/").unwrap().as_str(), "http://127.0.0.1:9001");
        assert_eq!(BaseUrl::parse("https://EDGE.example").unwrap().as_str(), "https://edge.example");
        for text in ["edge-1:9001", "ftp://x", "http://x/path", "http://x/?q", "http://u:p@x", "http://", ""]
        {
            assert!(BaseUrl::parse(text).is_err(), "{text:?}");
        }
    }
}
