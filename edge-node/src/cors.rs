//! Whose pages may read answers: cross-origin resource sharing, as the Fetch standard (§3.2) has browsers ask for it.
//!
//! A download that a link starts needs none of it; a page that fetches by script does. Tokens are in URLs and no cookie
//! counts here, so credentials are never allowed, and a page can read nothing that it had no token for.

use std::sync::Arc;

use crate::request::is_origin;

/// What scripts may read beside what they always may.
macro_rules! exposed {
    () => {
        "Access-Control-Expose-Headers: Accept-Ranges, Content-Disposition, Content-Range, ETag, \
         Repr-Digest, Retry-After\r\n"
    };
}

/// What a page may ask with, and for how long its browser need not ask again (a day; browsers have lower bounds of
/// their own). Whatever a download can be asked by is allowed, so nothing depends on what the page names.
pub(crate) const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, HEAD\r\n\
     Access-Control-Allow-Headers: Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since\r\n\
     Access-Control-Max-Age: 86400\r\n";

/// Which origins are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cors {
    /// None, and nothing is said of it.
    #[default]
    Off,
    Any,
    These(Arc<[String]>),
}

/// What an answer says of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CorsFields<'c> {
    /// Fields, CR LF included, that every answer has whoever asks.
    pub(crate) standing: &'static str,
    /// The origin that asks, where it is one of several that may.
    pub(crate) allow_origin: Option<&'c str>,
}

/// Text that is no origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "has {0:?}, which is no origin; write one as browsers do (\"https://app.example\", lower case, no path, no usual \
     port), or \"*\" alone for all"
)]
pub(crate) struct NoOrigin(String);

impl Cors {
    /// # Errors
    /// One of them is no origin, or `*` is not alone.
    pub(crate) fn settle(origins: Vec<String>) -> Result<Self, NoOrigin> {
        if origins.is_empty() {
            return Ok(Self::Off);
        }
        if origins == ["*"] {
            return Ok(Self::Any);
        }
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(other) => Err(NoOrigin(other.clone())),
            None => Ok(Self::These(origins.into())),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// Fields of every answer. Where answers differ by origin, caches are told so, whoever asked first (§3.2.5).
    pub(crate) fn standing(&self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Any => concat!("Access-Control-Allow-Origin: *\r\n", exposed!()),
            Self::These(_) => concat!("Vary: Origin\r\n", exposed!()),
        }
    }

    /// Fields of an answer to a request of `origin`, if it names one.
    pub(crate) fn fields(&self, origin: Option<&[u8]>) -> CorsFields<'_> {
        let allow_origin = match (self, origin) {
            (Self::These(known), Some(origin)) => {
                known.iter().find(|known| known.as_bytes() == origin).map(String::as_str)
            }
            _ => None,
        };
        CorsFields { standing: self.standing(), allow_origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(origins: &[&str]) -> Result<Cors, NoOrigin> {
        Cors::settle(origins.iter().map(|origin| (*origin).to_owned()).collect())
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for good in ["https://app.example", "http://127.0.0.1:3000", "http://[::1]:81", "https://a.b:8443"] {
            assert!(settle(&[good]).is_ok(), "{good}");
        }
        for bad in [
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://",
            "ftp://a",
            "null",
            "",
            "https://a:443",
            "http://a:80",
            "https://u@a",
            "https://a b",
            "https://a:",
        ] {
            assert!(settle(&[bad]).is_err(), "{bad}");
        }
        assert!(settle(&["*", "https://a"]).is_err());
    }

    #[test]
    fn only_an_origin_that_may_is_named() {
        let cors = settle(&["https://a", "https://b"]).unwrap();
        assert_eq!(cors.fields(Some(b"https://b")).allow_origin, Some("https://b"));
        for other in [None, Some(&b"https://c"[..]), Some(b"null"), Some(b"")] {
            let fields = cors.fields(other);
            assert!(fields.allow_origin.is_none() && fields.standing.starts_with("Vary: Origin\r\n"));
        }
        assert!(settle(&["*"]).unwrap().fields(Some(b"https://c")).standing.contains("Allow-Origin: *\r\n"));
        assert_eq!(settle(&[]).unwrap().standing(), "");
    }
}
